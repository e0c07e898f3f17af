"""Findings: what could lead traffic past policy or change what enforces, and what could not be assessed."""

from datetime import UTC, datetime

from stockade.core.model.finding import Severity
from stockade.web.asking import Desk, command
from stockade.web.frame import View
from stockade.web.pages.asking import Asking
from stockade.web.pages.flow_asking import PATH as FLOWS
from stockade.web.words import link
from stockade.wire.anomalies import Evidence, EvidenceFlow
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
        "flows_command": flows_command,
        "flows_link": flows_link,
    }
    return View("findings", "Findings", "findings.html", values, (command("findings"),))


def _span(evidence: Evidence) -> tuple[str, str]:
    moments = (datetime.fromtimestamp(at, UTC) for at in (evidence.since, evidence.until + 1))
    since, until = (each.strftime("%Y-%m-%dT%H:%M:%S") for each in moments)
    return since, until


def flows_command(evidence: Evidence) -> str:
    """Return the command line that lists the flows behind the first of some evidence."""
    (each, *_), (since, until) = evidence.flows, _span(evidence)
    ends = ("--from", each.source, "--to", each.destination, "--on", each.on)
    return command("flows", *ends, "--since", since, "--until", until)


def flows_link(evidence: Evidence, each: EvidenceFlow | None = None) -> str:
    """Return the page of the flows between two ends in the time of an anomaly; all of that time's without them."""
    since, until = _span(evidence)
    ends = {"from": each.source, "to": each.destination, "on": each.on} if each else {}
    return link(FLOWS, **ends, since=since, at=until)
