"""Policies: every version, one version line by line and how far it is in force, back to an earlier one."""

from typing import Any

from stockade.core.model.ids import Version
from stockade.errors import StockadeError
from stockade.web.asking import Desk, command
from stockade.web.forms import Form
from stockade.web.frame import Goto, View
from stockade.web.pages.asking import Asking
from stockade.wire.api import (
    ConfirmRequest,
    HistoryReply,
    PlanReply,
    PlanRequest,
    PolicyReply,
    RollbackRequest,
    VersionReply,
)

PATH = "/policies"
ROWS = 200


async def page(desk: Desk, asking: Asking) -> View:
    """Every version, newest first."""
    reply = await desk.ask("history", HistoryReply, limit=str(ROWS))
    status = await desk.status()
    values = {"versions": reply.versions, "pending": status.pending, "hosts": status.hosts, "drafted": _drafted(asking)}
    return View("policies", "Policies", "policies.html", values, (command("history"),))


async def version_page(desk: Desk, asking: Asking) -> View:
    """One version: where it is in force, its files, what a return to it would change."""
    version = asking.text("version")
    reply = await desk.ask("policy", PolicyReply, version=version)
    status = await desk.status()
    values: dict[str, Any] = {
        "version": reply.version,
        "files": reply.files,
        "canonical": reply.canonical,
        "hosts": status.hosts,
        "pending": status.pending if status.pending and status.pending.version == reply.version.number else None,
        "plan": None if reply.version.active else await _return_plan(desk, reply),
        "drafted": _drafted(asking),
    }
    number = str(reply.version.number)
    commands = (command("policy", "show", number), *(() if reply.version.active else (command("rollback", number),)))
    return View("policies", f"Version {number}", "version.html", values, commands, still=not reply.version.active)


async def _return_plan(desk: Desk, reply: PolicyReply) -> PlanReply | None:
    """Say what a return would change; None where today's inventory or program cannot plan it."""
    try:
        return await desk.ask("plan", PlanReply, PlanRequest(files=reply.files, pairs=0), shown=False)
    except StockadeError:
        return None


async def rollback(desk: Desk, asking: Asking, form: Form) -> View | Goto:
    """Make a version active again, as a new one."""
    version = asking.text("version")
    number = Version(int(version)) if version.isascii() and version.isdigit() and len(version) < 16 else Version(-1)
    reply = await desk.ask("rollback", VersionReply, RollbackRequest(version=number, note=form.text("note"), wait=0))
    return Goto(f"{PATH}/{reply.version.number}")


async def confirm(desk: Desk, _asking: Asking, form: Form) -> View | Goto:
    """Keep the version that waits."""
    version = form.text("version")
    number = Version(int(version)) if version.isascii() and version.isdigit() and len(version) < 16 else None
    reply = await desk.ask("confirm", VersionReply, ConfirmRequest(version=number))
    return Goto(f"{PATH}/{reply.version.number}")


def _drafted(asking: Asking) -> bool:
    return asking.session.draft is not None
