"""Enforcement points: what should be in force where, what is, who changed it, and what the machine can."""

from collections.abc import Iterable
from typing import Any

import msgspec

from stockade.core.model.ids import RuleId
from stockade.core.model.policy import Where
from stockade.errors import StockadeError
from stockade.web.asking import Desk, command
from stockade.web.frame import View
from stockade.web.pages.asking import Asking
from stockade.wire.api import DoctorReply, FindingsReply, Judged, RulesReply, RuleText

PATH = "/points"
MACHINE = "/points/machine"
RULES = 400
"""Shown at once."""
TEXT = 100_000
"""Characters of a ruleset that are shown."""
WORST_FIRST = (Judged.PROBLEM, Judged.WARNING, Judged.NOT_ASSESSED, Judged.GOOD)


class Written(msgspec.Struct, frozen=True):
    """A rule of a policy at a point: where it stands, what it decided, the kernel's rules that it became."""

    rule: RuleId
    where: Where | None
    packets: int | None
    texts: tuple[str, ...] = ()


async def page(desk: Desk, asking: Asking) -> View:
    """Every point; beside them the one that was asked for, with its rules."""
    show = asking.text("show")
    status = await desk.ask("status", type(await desk.status()))
    values: dict[str, Any] = {
        "hosts": status.hosts,
        "show": show,
        "drawer": await _drawer(desk, show) if show else None,
    }
    commands = (command("status"), *((command("rules", show),) if show else ()))
    return View("points", "Enforcement points", "points.html", values, commands)


async def _drawer(desk: Desk, host: str) -> dict[str, Any]:
    try:
        rules = await desk.ask("rules", RulesReply, host=host)
        found = await desk.ask("findings", FindingsReply, host=host)
    except StockadeError as problem:
        return {"problem": problem, "name": host}
    written = grouped(rules.rules)
    return {
        "problem": None,
        "name": host,
        "rules": rules,
        "text": rules.text[:TEXT],
        "cut": len(rules.text) > TEXT,
        "written": written[:RULES],
        "count": len(written),
        "skeleton": sum(each.rule is None for each in rules.rules),
        "findings": found.findings,
        "unassessed": found.unassessed,
    }


def grouped(rules: Iterable[RuleText]) -> list[Written]:
    """Return each rule of a policy once, in the order of the kernel's, with all that it became."""
    found: dict[RuleId, Written] = {}
    for each in rules:
        if each.rule is None:
            continue
        before = found.get(each.rule) or Written(each.rule, each.where, each.packets)
        found[each.rule] = msgspec.structs.replace(before, texts=(*before.texts, each.text))
    return list(found.values())


async def machine_page(desk: Desk, _asking: Asking) -> View:
    """What works on the machine that this runs on, what will not, and why."""
    reply = await desk.ask("doctor", DoctorReply)
    checks = sorted(reply.checks, key=lambda each: WORST_FIRST.index(each.judged))
    # Still: to look takes seconds of the machine's time.
    return View("points", "This machine", "machine.html", {"checks": checks}, (command("doctor"),), still=True)
