"""The draft: policy files as text, what is wrong with them by line, what they would change, and the step that applies.

The same plan and the same apply as the command line's. What was planned is what is applied, or nothing is.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import msgspec

from stockade.controller.refused import Refused, Why
from stockade.core.model.problem import Problem
from stockade.errors import StockadeError
from stockade.web.asking import Desk, command
from stockade.web.forms import Form
from stockade.web.frame import Goto, View
from stockade.web.pages.asking import Asking
from stockade.wire.api import ApplyRequest, File, PlanReply, PlanRequest, PolicyReply, VersionReply
from stockade.wire.replay import ReplayView

PATH = "/policies/draft"
MOST_FILES = 1000
WEEK = 7 * 86_400.0
SPANS = ((3600, "1 h"), (86_400, "1 day"), (604_800, "7 days"), (2_592_000, "30 days"))
"""Of what was recorded and can be judged by a draft."""
SHORTEST_NAME = "policy.yaml"
STARTER = """\
apiVersion: stockade.dev/v1
kind: Policy
metadata: {name: my-app}
spec:
  scope: app = my-app
  rules:
    - name: web-to-api
      allow: {from: role = web, to: role = api, on: [tcp/8080]}
"""


async def page(desk: Desk, asking: Asking) -> View:
    """The draft as it was left; else what is active, to begin with."""
    files = asking.session.draft
    if files is None:
        files = (await desk.ask("policy", PolicyReply, version="active", shown=False)).files
        return _view(desk, files, None)
    return msgspec.structs.replace(_view(desk, files, await _planned(desk, files)), status=200)


async def edit(desk: Desk, asking: Asking, form: Form) -> View | Goto:
    """Do what the button says: plan, apply, add or remove a file, discard the draft."""
    step, _, which = form.text("step").partition(" ")
    if step == "discard":
        asking.session.draft = None
        return Goto(PATH)
    files = _files(form)
    if step == "add":
        files = (*files, File(_free_name(files), "" if files else STARTER))
    elif step == "remove":
        files = tuple(each for at, each in enumerate(files) if str(at) != which)
    asking.session.draft = files
    if step in {"add", "remove"}:
        return _view(desk, files, None)
    if step == "replay":
        return _view(desk, files, await _planned(desk, files, _seconds(form.text("replay")) or WEEK))
    if step != "apply":
        return _view(desk, files, await _planned(desk, files))
    return await _apply(desk, asking, form, files)


async def _planned(desk: Desk, files: Sequence[File], replay: float | None = None) -> PlanReply:
    return await desk.ask("plan", PlanReply, PlanRequest(files=tuple(files), pairs=20, replay=replay))


async def _apply(desk: Desk, asking: Asking, form: Form, files: tuple[File, ...]) -> View | Goto:
    request = ApplyRequest(
        files=files,
        note=form.text("note").strip(),
        expect=form.text("expect"),
        confirm=_seconds(form.text("confirm")),
        accept_narrower=form.flag("accept_narrower"),
        wait=0,
    )
    try:
        reply = await desk.ask("apply", VersionReply, request)
    except StockadeError as problem:
        return _view(desk, files, await _planned(desk, files), problem)
    asking.session.draft = None
    return Goto(f"/policies/{reply.version.number}")


def _view(desk: Desk, files: Sequence[File], reply: PlanReply | None, problem: StockadeError | None = None) -> View:
    plan = reply.plan if reply else None
    by_file: dict[str, list[Problem]] = defaultdict(list)
    for each in plan.problems if plan else ():
        by_file[each.where.file].append(each)
    named = {each.name for each in files}
    values: dict[str, Any] = {
        "files": files,
        "plan": plan,
        "problems": by_file,
        "elsewhere": [each for file, found in by_file.items() if file not in named for each in found],
        "problem": problem,
        "replay": reply.replay if reply else None,
        "spans": SPANS if desk.installation.controller.flows is not None else (),
    }
    wrong = problem is not None or (plan is not None and bool(plan.problems))
    judged = (_replaying(reply.replay),) if reply is not None and reply.replay is not None else ()
    commands = (command("plan", "policies/"), *judged, command("apply", "policies/", "--note", "why"))
    return View("policies", "Draft", "draft.html", values, commands, status=422 if wrong else 200, still=True)


def _replaying(found: ReplayView) -> str:
    return command("plan", "policies/", f"--replay={round((found.until - found.since) / 3600)}h")


def _files(form: Form) -> tuple[File, ...]:
    names, texts = form.every("name"), form.every("text")
    if len(names) != len(texts) or len(names) > MOST_FILES:
        raise Refused(Why.MALFORMED, "the files of this form do not fit together")
    # A browser ends lines as mail does; a place in a file counts lines, and a file says what it said.
    files = tuple(File(name.strip(), text.replace("\r\n", "\n")) for name, text in zip(names, texts, strict=True))
    if len({each.name for each in files}) != len(files) or not all(each.name for each in files):
        raise Refused(Why.INVALID, "two files have one name, or one has none", remedy="Go back, and name each of them.")
    return files


def _free_name(files: Sequence[File]) -> str:
    taken = {each.name for each in files}
    names = (SHORTEST_NAME, *(f"policy-{number}.yaml" for number in range(2, MOST_FILES + 3)))
    return next(each for each in names if each not in taken)


def _seconds(text: str) -> float | None:
    if not text.strip():
        return None
    try:
        return float(text)
    except ValueError:
        raise Refused(Why.MALFORMED, f'"{text[:20]}" is no number of seconds') from None
