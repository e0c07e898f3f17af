"""``stockade findings``."""

import shlex
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import groupby
from typing import Annotated

from cyclopts import Parameter, Token

from stockade.cli.client import Client
from stockade.cli.exits import Exit
from stockade.cli.moments import stamp
from stockade.cli.output import ALLOWED, DENIED, UNKNOWN, WOULD_DENY, Span, View, bold, dim, line
from stockade.cli.session import connect, deliver
from stockade.cli.settings import NO_FLAGS, Common
from stockade.core.model.finding import Severity
from stockade.core.model.ids import FindingId
from stockade.errors import StockadeError
from stockade.wire.anomalies import Evidence, EvidenceFlow
from stockade.wire.api import (
    AcceptedFinding,
    AcceptedReply,
    AcceptRequest,
    FindingsReply,
    HostFinding,
    HostUnassessed,
    ReopenRequest,
)
from stockade.wire.moments import later

FLOWS = 5
"""Flows of a finding's evidence that are listed."""
MARKS = {Severity.HIGH: DENIED, Severity.MEDIUM: WOULD_DENY, Severity.LOW: UNKNOWN}


def _later(_type: object, tokens: Sequence[Token]) -> float:
    return later(tokens[0].value, time.time())


Accept = Annotated[str | None, Parameter(help="Accept the finding of this id, as it is now; with --why.")]
Why = Annotated[str | None, Parameter(help="With --accept or --reopen: the reason, for whoever reads it later.")]
Until = Annotated[
    float | None,
    Parameter(converter=_later, help="With --accept: for how long (12h, 30d), or until 2027-03-01; else for good."),
]
Reopen = Annotated[str | None, Parameter(help="Accept the finding of this id no more.")]
Accepted = Annotated[bool, Parameter(negative="", help="What is accepted: by whom, why, until when.")]


def findings(
    host: Annotated[str | None, Parameter(help="Only this host's.")] = None,
    *,
    accept: Accept = None,
    why: Why = None,
    until: Until = None,
    reopen: Reopen = None,
    accepted: Accepted = False,
    common: Common = NO_FLAGS,
) -> int:
    """What could lead traffic past policy, or change what enforces it; what is unusual in traffic. Worst first.

    What is accepted is counted, and listed by --accepted; it is open again once more or worse is found of it. Exits 2
    where there are any that nobody accepts, 3 where there are none but something could not be assessed.
    """
    settings, client = connect(common)
    if accept is not None or reopen is not None:
        deliver(settings, _decided(client, accept, reopen, why, until), decided_view)
        return Exit.DONE
    if why is not None or until is not None:
        raise StockadeError("--why and --until go with --accept", kept="Nothing was changed.")
    reply = client.call("findings", FindingsReply, host=host)
    deliver(settings, reply, accepted_view if accepted else findings_view)
    if reply.findings:
        return Exit.LOOK
    return Exit.NOT_ASSESSED if reply.unassessed else Exit.DONE


def _decided(
    client: Client, accept: str | None, reopen: str | None, why: str | None, until: float | None
) -> AcceptedReply:
    if accept is not None and reopen is not None:
        raise StockadeError("a finding is either accepted or reopened", kept="Nothing was changed.")
    if accept is not None:
        request = AcceptRequest(id=FindingId(accept), why=why or "", until=until)
        return client.call("accept-finding", AcceptedReply, request)
    if until is not None:
        raise StockadeError("--until goes with --accept", kept="Nothing was changed.")
    return client.call("reopen-finding", AcceptedReply, ReopenRequest(id=FindingId(reopen or ""), why=why or ""))


def decided_view(reply: AcceptedReply) -> View:
    """What was decided of one finding, and how it is taken back."""
    each = reply.accepted
    yield from _accepted(each)
    yield line(dim(f"    to take it back: stockade findings --reopen {each.id}"))


def accepted_view(reply: FindingsReply) -> View:
    """What is accepted, whether it is found now or not."""
    for each in reply.accepted:
        yield from _accepted(each)
    if not reply.accepted:
        yield line("No finding is accepted.")


def _accepted(each: AcceptedFinding) -> View:
    until = f"until {stamp(each.until)}" if each.until is not None else "for good"
    now = each.finding.seen if each.finding is not None else "not found just now"
    found = Span(f" {each.severity.value:<6}  ", "dim")
    yield line(found, bold(each.check), f"  {each.object}", dim(f"  {place(each.host)}  {each.id}"))
    yield line(f"    {now}")
    yield line(f"    accepted by {each.by} on {stamp(each.at)}, {until}: {each.why}")


def findings_view(reply: FindingsReply) -> View:
    """A finding: what, what was seen, what to do, and what shows it; then what nobody could judge."""
    for each in reply.findings:
        yield from _finding(each)
    if not reply.findings:
        yield line("No findings.")
    if reply.unassessed:
        yield line()
        yield line(bold("Not assessed"), dim("  never to be taken for clean"))
    for host, why, some in _alike(reply.unassessed):
        yield from _unassessed(host, why, some)
    if count := sum(each.finding is not None for each in reply.accepted):
        yield line()
        yield line(dim(f"{count} accepted: stockade findings --accepted"))


def _finding(each: HostFinding) -> View:
    where = dim(f"  {place(each.host)}, since {stamp(each.since)}  {each.id}")
    yield line(MARKS[each.severity], f" {each.severity.value:<6}  ", bold(each.check), f"  {each.object}", where)
    yield line(f"    {each.seen}")
    yield line(dim(f"    do: {each.remedy}"))
    if each.evidence is not None:
        yield from _evidence(each.evidence)


def place(host: str) -> str:
    """Return where a finding is: a host, or what no host is."""
    return "traffic" if host == "*" else host


def _evidence(shown: Evidence) -> View:
    numbers = "  ".join(f"{what} {number:g}" for what, number in shown.numbers)
    yield line(dim(f"    until {stamp(shown.until)}  {numbers}"))
    for each in shown.flows[:FLOWS]:
        ends = f"{each.source_name} → {each.destination_name}"
        yield line("    ", _mark(each), f" {ends} {each.on}", dim(f"  {each.passed + each.denied} connections"))
    if shown.flows:
        first = shown.flows[0]
        more = f"{shown.total - FLOWS} more; " if shown.total > FLOWS else ""
        yield line(dim(f"    {more}{flows_command(first, shown)}"))


def flows_command(each: EvidenceFlow, shown: Evidence) -> str:
    """Return the command that lists the flows of one pair of ends, in the time of an anomaly."""
    since, until = (
        datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S") for at in (shown.since, shown.until + 1)
    )
    ends = ("--from", each.source, "--to", each.destination, "--on", each.on)
    return shlex.join(["stockade", "flows", *ends, "--since", since, "--until", until])


def _mark(each: EvidenceFlow) -> Span:
    return ALLOWED if each.passed else DENIED


def _alike(unassessed: Iterable[HostUnassessed]) -> Iterator[tuple[str, HostUnassessed, list[str]]]:
    """Yield what could not be judged for one reason together."""
    for _, some in groupby(unassessed, key=lambda each: (each.host, each.why, each.remedy)):
        found = list(some)
        yield found[0].host, found[0], [each.check or "every check" for each in found]


def _unassessed(host: str, each: HostUnassessed, checks: list[str]) -> View:
    yield line(UNKNOWN, f" {', '.join(checks)}  ", Span(place(host), "dim"))
    yield line(f"    {each.why}")
    if each.remedy:
        yield line(dim(f"    do: {each.remedy}"))
