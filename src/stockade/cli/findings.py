"""``stockade findings``."""

import shlex
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from itertools import groupby
from typing import Annotated

from cyclopts import Parameter

from stockade.cli.exits import Exit
from stockade.cli.moments import stamp
from stockade.cli.output import ALLOWED, DENIED, UNKNOWN, WOULD_DENY, Span, View, bold, dim, line
from stockade.cli.session import connect, deliver
from stockade.cli.settings import NO_FLAGS, Common
from stockade.core.model.finding import Severity
from stockade.wire.anomalies import Evidence, EvidenceFlow
from stockade.wire.api import FindingsReply, HostFinding, HostUnassessed

FLOWS = 5
"""Flows of a finding's evidence that are listed."""
MARKS = {Severity.HIGH: DENIED, Severity.MEDIUM: WOULD_DENY, Severity.LOW: UNKNOWN}


def findings(
    host: Annotated[str | None, Parameter(help="Only this host's.")] = None,
    *,
    common: Common = NO_FLAGS,
) -> int:
    """What could lead traffic past policy, or change what enforces it; what is unusual in traffic. Worst first.

    Exits 2 where there are any, 3 where there are none but something could not be assessed.
    """
    settings, client = connect(common)
    reply = client.call("findings", FindingsReply, host=host)
    deliver(settings, reply, findings_view)
    if reply.findings:
        return Exit.LOOK
    return Exit.NOT_ASSESSED if reply.unassessed else Exit.DONE


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


def _finding(each: HostFinding) -> View:
    where = dim(f"  {place(each.host)}, since {stamp(each.since)}")
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
