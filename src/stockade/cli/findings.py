"""``stockade findings``."""

from typing import Annotated

from cyclopts import Parameter

from stockade.cli.exits import Exit
from stockade.cli.moments import stamp
from stockade.cli.output import DENIED, UNKNOWN, WOULD_DENY, Span, View, bold, dim, line
from stockade.cli.session import connect, deliver
from stockade.cli.settings import NO_FLAGS, Common
from stockade.core.model.finding import Severity
from stockade.wire.api import FindingsReply, HostFinding, HostUnassessed

MARKS = {Severity.HIGH: DENIED, Severity.MEDIUM: WOULD_DENY, Severity.LOW: UNKNOWN}


def findings(
    host: Annotated[str | None, Parameter(help="Only this host's.")] = None,
    *,
    common: Common = NO_FLAGS,
) -> int:
    """What could lead traffic past policy, or change what enforces it: worst first, each with its remedy.

    Exits 2 where there are any, 3 where there are none but something could not be assessed.
    """
    settings, client = connect(common)
    reply = client.call("findings", FindingsReply, host=host)
    deliver(settings, reply, findings_view)
    if reply.findings:
        return Exit.LOOK
    return Exit.NOT_ASSESSED if reply.unassessed else Exit.DONE


def findings_view(reply: FindingsReply) -> View:
    """Three lines a finding: what, what was seen, what to do; then what nobody could judge."""
    for each in reply.findings:
        yield from _finding(each)
    if not reply.findings:
        yield line("No findings.")
    if reply.unassessed:
        yield line()
        yield line(bold("Not assessed"), dim("  never to be taken for clean"))
    for unknown in reply.unassessed:
        yield from _unassessed(unknown)


def _finding(each: HostFinding) -> View:
    where = dim(f"  {each.host}, since {stamp(each.since)}")
    yield line(MARKS[each.severity], f" {each.severity.value:<6}  ", bold(each.check), f"  {each.object}", where)
    yield line(f"    {each.seen}")
    yield line(dim(f"    do: {each.remedy}"))


def _unassessed(each: HostUnassessed) -> View:
    yield line(UNKNOWN, f" {each.check or 'every check'}  ", Span(each.host, "dim"))
    yield line(f"    {each.why}")
    if each.remedy:
        yield line(dim(f"    do: {each.remedy}"))
