"""What a page about flows is asked: the API's own names, each read and judged, what is wrong said where it stands."""

from collections.abc import Callable, Mapping

import msgspec

from stockade.controller.flow_queries import (
    dimensions,
    end_filter,
    judging_ends,
    measure,
    said,
    services,
    verdicts,
    vias,
)
from stockade.controller.refused import Refused
from stockade.core import select
from stockade.core.graph.zoom import port_text
from stockade.core.model.labels import NAME
from stockade.core.model.selector import Equal
from stockade.core.model.snapshot import Snapshot
from stockade.seams.flow_store import TOLD
from stockade.web.asking import command
from stockade.web.pages.asking import Asking
from stockade.web.words import calendar, link
from stockade.wire.moments import moment

PATH = "/flows"
SUGGEST = "/policies/suggest"
WHICH = ("from", "to", "on", "verdict", "rule", "host", "process", "end", "via", "service")
SHOWN = ("since", "at", "by", "order", "limit", "follow")
LATELY = "1h"
NOW = "now"


class Mistake(msgspec.Struct, frozen=True):
    """What is wrong with a field: where in it, and what could stand there."""

    message: str
    remedy: str = ""
    text: str = ""
    offset: int = 0
    length: int = 0


class FlowAsking(msgspec.Struct, frozen=True):
    """Which flows a page shows, and how. ``given`` holds the texts as they were written, without empty ones.

    ``since`` and ``until`` are seconds since the epoch; ``until`` None: up to now. A span is counted back from
    ``until``.
    """

    given: Mapping[str, str]
    since: float
    until: float | None
    mistakes: Mapping[str, Mistake]

    def text(self, name: str) -> str:
        """Return a text as it was written; empty where it was not."""
        return self.given.get(name, "")

    @property
    def which(self) -> dict[str, str]:
        """Which flows, as the API is asked."""
        until = {"until": number(self.until)} if self.until is not None else {}
        return {name: self.given[name] for name in WHICH if name in self.given} | {"since": number(self.since)} | until

    def here(self, path: str = PATH, /, **changes: object) -> str:
        """Return the page's address with something changed; what was paged or selected is left."""
        return link(path, **{**self.given, **changes})

    @property
    def suggest(self) -> str:
        """Return the page that suggests a policy from what is shown, for the end that a selector was given for."""
        named = next((self.text(each) for each in ("to", "from") if _is_selector(self.text(each))), "")
        return link(SUGGEST, select=named, since=self.text("since"), at=self.text("at"))

    def command(self) -> str:
        """Return the command line that says the same."""
        words = [f"--{name}={self.given[name]}" for name in (*WHICH, "by", "order") if name in self.given]
        if self.until is not None:
            words += [f"--since={calendar(self.since)}", f"--at={calendar(self.until)}"]
        elif "since" in self.given:
            words += [f"--since={self.given['since']}"]
        return command("flows", *words)


def read_asking(asking: Asking, snapshot: Snapshot, now: float) -> FlowAsking:
    """Read what a page was asked; ``until`` is another name of ``at``."""
    given = {name: asking.text(name) for name in (*WHICH, *SHOWN) if asking.text(name)}
    if (until := asking.text("until")) and "at" not in given:
        given["at"] = until
    if given.get("at") == NOW:
        del given["at"]
    judged: Mapping[str, Callable[[str], object]] = {
        "from": lambda text: end_filter(text, snapshot),
        "to": lambda text: end_filter(text, snapshot),
        "on": lambda text: services(text, snapshot),
        "verdict": verdicts,
        "end": judging_ends,
        "via": vias,
        "by": dimensions,
        "order": measure,
    }
    mistakes = {name: wrong for name in judged if name in given and (wrong := _wrong(judged[name], given[name]))}
    at, since = _moment("at", given, now, mistakes), _moment("since", {"since": LATELY, **given}, now, mistakes)
    if at is not None and "since" not in mistakes:
        since = _moment("since", {"since": LATELY, **given}, at, mistakes)
    return FlowAsking(given, max(since or 0.0, 0.0), at, mistakes)


def _is_selector(text: str) -> bool:
    try:
        select.parse(text)
    except select.SelectorError:
        return False
    return True


def number(seconds: float) -> str:
    """Return a moment as the API takes it, to the microsecond."""
    return f"{seconds:.6f}".rstrip("0").rstrip(".")


def _wrong(judge: Callable[[str], object], text: str) -> Mistake | None:
    try:
        judge(text)
    except Refused as problem:
        at = problem.__cause__
        if isinstance(at, select.SelectorError):
            near = f'; did you mean "{at.nearest}"?' if at.nearest else ""
            return Mistake(f"{at.message}{near}", problem.remedy, text, at.offset, at.length)
        return Mistake(problem.message, problem.remedy)
    return None


def _moment(name: str, given: Mapping[str, str], now: float, mistakes: dict[str, Mistake]) -> float | None:
    if name not in given:
        return None
    try:
        return moment(given[name], now)
    except ValueError:
        what = f'"{given[name]}" is no moment'
        mistakes[name] = Mistake(what, "Write 30m, 2h or 7d for so long ago, or 2026-03-01T12:00 in UTC.")
        return None


# From what was summed up to what was

UNITS = {"minute": 60, "hour": 3600, "day": 86_400}
NAMED = ("verdict", "rule", "host", "end", "via")
SAID = ("process", "service")
"""What may be absent, and be called anything."""
ENDS = {"source": "from", "destination": "to"}
Value = str | int | None


def narrowed(asked: FlowAsking, by: tuple[str, ...], values: tuple[Value, ...]) -> str:
    """Return the page of the single flows behind a group; empty where no filter says exactly that."""
    found: dict[str, object] = {"by": "", "order": "", "follow": ""}
    named = dict(zip(by, values, strict=True))
    for name, value in named.items():
        field = ENDS.get(name.partition(".")[0], "")
        before = str(found.get(field, "")) or asked.text(field)
        if (change := _narrower(name, value, named, before)) is None:
            return ""
        found |= change
    return asked.here(**found)


def _narrower(name: str, value: Value, named: Mapping[str, Value], before: str) -> dict[str, object] | None:
    """Return what asks for one value of a group besides the others; None where nothing does."""
    end, _, what = name.partition(".")
    if value is None:
        return None
    if what:
        return _of_end(ENDS[end], what, str(value), before)
    if name in UNITS:
        return {"since": calendar(int(value)), "at": calendar(int(value) + UNITS[name])}
    if name in ("protocol", "port"):
        on = port_text(int(named.get("protocol") or 0), int(named.get("port") or 0))
        return {"on": on} if {"protocol", "port"} <= set(named) and not on.startswith("protocol ") else None
    if name in SAID:
        text = said(str(value))
        return {name: text} if text == text.strip() else None  # what is around a field's text is left out
    return {name: str(value).replace(" ", "-") if name == "verdict" else value} if name in NAMED and value else None


def _of_end(field: str, what: str, value: str, before: str) -> dict[str, object] | None:
    """A workload, address or network says more than any selector before it; a label narrows one."""
    if what in ("workload", "address"):
        return {field: value}
    if what == "network":
        return {field: f"network:{value}"}
    if what == NAME and value.startswith(TOLD):
        return {field: value}
    more = select.text(Equal(what.removeprefix("label."), value))
    try:
        return {field: select.text(select.parse(f"({before}) and {more}" if before else more))}
    except select.SelectorError:
        return {field: before} if before else None
