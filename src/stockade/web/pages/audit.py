"""Audit: who did what, when, and what came of it."""

from stockade.web.asking import Desk, command
from stockade.web.frame import View
from stockade.web.pages.asking import Asking
from stockade.wire.api import AuditReply

PATH = "/audit"
ROWS = 100
MOST = 1000


async def page(desk: Desk, asking: Asking) -> View:
    """The log, newest first."""
    before, last = asking.number("before", 0), min(asking.number("last", ROWS), MOST) or ROWS
    reply = await desk.ask("audit", AuditReply, last=str(last), before=str(before) if before else "")
    oldest = reply.entries[-1].number if reply.entries else 0
    values = {"entries": reply.entries, "before": before, "last": last, "older": oldest if oldest > 1 else 0}
    return View("audit", "Audit", "audit.html", values, (command("log", "--last", str(last)),))
