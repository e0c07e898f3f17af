"""Findings: what could lead traffic past policy or change what enforces, and what could not be assessed."""

from stockade.core.model.finding import Severity
from stockade.web.asking import Desk, command
from stockade.web.frame import View
from stockade.web.pages.asking import Asking
from stockade.wire.api import FindingsReply

PATH = "/findings"


async def page(desk: Desk, asking: Asking) -> View:
    """Worst first, with the remedy beside each."""
    host, severity = asking.text("host"), asking.text("severity")
    reply = await desk.ask("findings", FindingsReply, host=host)
    found = tuple(each for each in reply.findings if not severity or each.severity.value == severity)
    values = {
        "host": host,
        "severity": severity,
        "severities": [each.value for each in Severity],
        "findings": found,
        "unassessed": reply.unassessed if not severity else (),
        "all_found": len(reply.findings),
    }
    return View("findings", "Findings", "findings.html", values, (command("findings"),))
