"""Suggest: a policy from what was seen, with what each rule rests on, what is left out and why, how far to trust it.

Changes nothing. What is suggested can be taken into the draft, and goes from there the way of every draft.
"""

from typing import Any

from stockade.controller.refused import Refused, Why
from stockade.core import select
from stockade.core.model.selector import Equal
from stockade.core.policy.words import is_name
from stockade.errors import StockadeError
from stockade.web.asking import Desk, command
from stockade.web.forms import Form
from stockade.web.frame import Goto, View
from stockade.web.pages import draft
from stockade.web.pages.asking import Asking
from stockade.web.pages.flow_asking import Mistake, read_asking
from stockade.web.taking import replaced, taken
from stockade.web.words import BUILT_IN, calendar, link
from stockade.wire.api import File, LabelsReply, PolicyReply
from stockade.wire.suggestions import SuggestReply, SuggestRequest

PATH = "/policies/suggest"
SINCE = "7d"
LEFT_OUT = 200
"""Listed at once."""
FIELDS = ("select", "since", "at", "name", "within", "enforce", "tighten")


async def page(desk: Desk, asking: Asking) -> View:
    """A suggestion, or the question for one."""
    given = {name: asking.text(name) for name in FIELDS if asking.text(name)}
    now = desk.installation.controller.clock.now()
    timed = Asking({"since": given.get("since", SINCE), "at": given.get("at", "")}, asking.session)
    time = read_asking(timed, desk.installation.controller.snapshot, now)
    values: dict[str, Any] = {"given": given, "mistakes": dict(time.mistakes), "reply": None, "problem": None}
    values |= {"live": _live(desk), "apps": await _apps(desk), "name": _name(desk, given), "listed": LEFT_OUT}
    values |= {"kept": desk.installation.controller.flows is not None, "replaces": ()}
    values["here"] = lambda **changes: link(PATH, **{**given, **changes})
    if (wrong := _mistake(given)) is not None:
        values["mistakes"]["select"] = wrong
    asked = values["kept"] and bool(given.get("select") or given.get("tighten")) and not values["mistakes"]
    if asked:
        request = _request(given, values["name"], time.since, time.until)
        try:
            if not request.tighten:
                _free(desk, request.name)
            values["reply"] = reply = await desk.ask("suggest", SuggestReply, request)
            values["replaces"] = replaced(await _files(desk, asking), reply.text)
        except StockadeError as problem:
            values["problem"] = problem
    bad = bool(values["mistakes"] or values["problem"])
    said = _command(given, values["name"], time.since if time.until is not None else None, time.until)
    return View("policies", "Suggest", "suggest.html", values, (said,), status=422 if bad else 200, still=True)


async def take(desk: Desk, asking: Asking, form: Form) -> View | Goto:
    """Put what was suggested into the draft: exactly what was shown."""
    text, name = form.text("text").replace("\r\n", "\n"), form.text("name")
    if not is_name(name) or not text.strip():
        raise Refused(Why.MALFORMED, "this is no suggestion", remedy="Suggest it again.")
    asking.session.draft = taken(await _files(desk, asking), text, name)
    return Goto(draft.PATH)


async def _files(desk: Desk, asking: Asking) -> tuple[File, ...]:
    if asking.session.draft is not None:
        return tuple(asking.session.draft)
    return (await desk.ask("policy", PolicyReply, version="active", shown=False)).files


def _request(given: dict[str, str], name: str, since: float, until: float | None) -> SuggestRequest:
    return SuggestRequest(
        name=name,
        selector=given.get("select", ""),
        since=since,
        until=until,
        within=bool(given.get("within")),
        enforce=bool(given.get("enforce")),
        tighten=bool(given.get("tighten")),
    )


def _mistake(given: dict[str, str]) -> Mistake | None:
    if not (text := given.get("select", "")) or given.get("tighten"):
        return None
    try:
        select.parse(text)
    except select.SelectorError as problem:
        near = f'; did you mean "{problem.nearest}"?' if problem.nearest else ""
        return Mistake(f"{problem.message}{near}", problem.remedy, text, problem.offset, problem.length)
    return None


def _name(desk: Desk, given: dict[str, str]) -> str:
    """Return the policy's name: as asked for, else after what is selected; never that of a live one."""
    if wanted := given.get("tighten") or given.get("name"):
        return wanted
    try:
        selected = select.parse(given.get("select", ""))
    except select.SelectorError:
        return "suggested"
    value = selected.value if isinstance(selected, Equal) and is_name(selected.value) else ""
    kind = "ringfence" if given.get("within") else "suggested"
    names = [f"{kind}-{value}", *(f"{kind}-{value}-{count}" for count in range(2, 1000))] if value else [kind]
    return next((each for each in names if each not in _live(desk) and is_name(each)), kind)


def _free(desk: Desk, name: str) -> None:
    if name in _live(desk):
        raise Refused(
            Why.CONFLICT, f"there is a policy called {name}", remedy="Choose another name, or tighten that policy."
        )


def _live(desk: Desk) -> list[str]:
    policies = desk.installation.controller.snapshot.policy.policies
    return sorted(each.name for each in policies if each.where.file != BUILT_IN)


async def _apps(desk: Desk) -> list[str]:
    """Return the selector of every app there is."""
    reply = await desk.ask("labels", LabelsReply, shown=False)
    return sorted({select.text(Equal("app", each.value)) for each in reply.labels if each.key == "app"})


def _command(given: dict[str, str], name: str, since: float | None, until: float | None) -> str:
    times = [f"--since={calendar(since)}"] if since is not None else [f"--since={given.get('since', SINCE)}"]
    times += [f"--until={calendar(until)}"] if until is not None else []
    if given.get("tighten"):
        return command("suggest", "--tighten", name, *times)
    enforce = ("--enforce",) if given.get("enforce") else ()
    if given.get("within"):
        app = given.get("select", "").removeprefix("app = ") or "APP"
        return command("ringfence", app, *times, *(enforce or ("--no-enforce",)))
    return command("suggest", given.get("select", "app = shop"), f"--name={name}", *times, *enforce)
