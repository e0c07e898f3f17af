"""Enforcement points: what should be in force where, what is, who changed it, and what the machine can."""

from typing import Any

from stockade.errors import StockadeError
from stockade.web.asking import Desk, command
from stockade.web.frame import View
from stockade.web.pages.asking import Asking
from stockade.wire.api import DoctorReply, FindingsReply, Judged, RulesReply

PATH = "/points"
MACHINE = "/points/machine"
RULES = 400
"""Shown at once."""
WORST_FIRST = (Judged.PROBLEM, Judged.WARNING, Judged.NOT_ASSESSED, Judged.GOOD)


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
    written = [each for each in rules.rules if each.rule]
    return {
        "problem": None,
        "name": host,
        "rules": rules,
        "written": written[:RULES],
        "count": len(written),
        "skeleton": len(rules.rules) - len(written),
        "findings": found.findings,
        "unassessed": found.unassessed,
    }


async def machine_page(desk: Desk, _asking: Asking) -> View:
    """What works on the machine that this runs on, what will not, and why."""
    reply = await desk.ask("doctor", DoctorReply)
    checks = sorted(reply.checks, key=lambda each: WORST_FIRST.index(each.judged))
    return View("points", "This machine", "machine.html", {"checks": checks}, (command("doctor"),))
