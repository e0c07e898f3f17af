"""Findings: what could lead traffic past policy or change what enforces, and what could not be assessed."""

from datetime import UTC, datetime

from stockade.controller.refused import Refused, Why
from stockade.core.model.finding import Severity
from stockade.core.model.ids import FindingId
from stockade.web.asking import Desk, command
from stockade.web.forms import Form
from stockade.web.frame import Goto, View
from stockade.web.pages.asking import Asking
from stockade.web.pages.flow_asking import PATH as FLOWS
from stockade.web.words import link
from stockade.wire.anomalies import Evidence, EvidenceFlow
from stockade.wire.api import AcceptedReply, AcceptRequest, FindingsReply, ReopenRequest
from stockade.wire.moments import later

PATH = "/findings"
ACCEPT, REOPEN = "/findings/accept", "/findings/reopen"


async def page(desk: Desk, asking: Asking) -> View:
    """Worst first, with the remedy beside each; what is accepted below. One of them may be about to be accepted."""
    host, severity, deciding = asking.text("host"), asking.text("severity"), asking.text("accept")
    reply = await desk.ask("findings", FindingsReply, host=host)
    found = tuple(each for each in reply.findings if not severity or each.severity.value == severity)
    values = {
        "host": host,
        "severity": severity,
        "severities": [each.value for each in Severity],
        "findings": found,
        "unassessed": reply.unassessed if not severity else (),
        "all_found": len(reply.findings),
        "accepted": tuple(each for each in reply.accepted if not severity or each.severity.value == severity),
        "deciding": next((each for each in reply.findings if deciding and each.id == deciding), None),
        "flows_command": flows_command,
        "flows_link": flows_link,
    }
    still = values["deciding"] is not None
    return View("findings", "Findings", "findings.html", values, (command("findings"),), still=still)


async def accept(desk: Desk, _asking: Asking, form: Form) -> View | Goto:
    """Accept a finding as it is now."""
    until = form.text("until").strip()
    request = AcceptRequest(id=FindingId(form.text("id")), why=form.text("why"), until=_until(desk, until))
    await desk.ask("accept-finding", AcceptedReply, request)
    return Goto(link(PATH, host=form.text("host")))


async def reopen(desk: Desk, _asking: Asking, form: Form) -> View | Goto:
    """Accept a finding no more."""
    await desk.ask("reopen-finding", AcceptedReply, ReopenRequest(id=FindingId(form.text("id"))))
    return Goto(link(PATH, host=form.text("host")))


def _until(desk: Desk, text: str) -> float | None:
    try:
        return later(text, desk.installation.controller.clock.now()) if text else None
    except ValueError as problem:
        raise Refused(Why.INVALID, str(problem), remedy="Write 12h, 30d or 2027-03-01, or nothing.") from problem


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
