"""``stockade reach``."""

from collections.abc import Iterable
from typing import Annotated

from cyclopts import Parameter

from stockade.cli.exits import Exit
from stockade.cli.output import View, bold, columns, line
from stockade.cli.problems import short
from stockade.cli.session import connect, deliver
from stockade.cli.settings import NO_FLAGS, Common
from stockade.core.plan.values import Reachable
from stockade.wire.api import ReachReply

NAMED = 5
"""Declared workloads that are named; of more it says how many."""


def reach(
    of: Annotated[str, Parameter(help='Workload name or id, or a selector as in "role = db".')],
    *,
    common: Common = NO_FLAGS,
) -> int:
    """Who may reach a workload, and what it may reach."""
    settings, client = connect(common)
    deliver(settings, client.call("reach", ReachReply, of=of), reach_view)
    return Exit.DONE


def reach_view(reply: ReachReply) -> View:
    """Inbound, then outbound."""
    it = reply.reach
    yield line(bold(it.of), f"  {', '.join(it.workloads) or 'no workload'}  at version {it.version}")
    for name, where in it.written[:NAMED]:
        yield line(f"  {name}  from its document, {where.file}:{where.line}; no agent judges there, its peers do")
    if len(it.written) > NAMED:
        yield line(f"  and {len(it.written) - NAMED} more from documents")
    yield from _side("May be reached by", it.inbound)
    yield from _side("May reach", it.outbound)


def _side(title: str, found: Iterable[Reachable]) -> View:
    yield line()
    yield line(bold(title))
    rows = [(each.peer, each.on, _many(each.workloads), _why(each)) for each in found]
    yield from columns(("", "", "", ""), rows, indent="  ")
    if not rows:
        yield line("  nothing")


def _many(workloads: int) -> str:
    """Networks and the unknown have no number."""
    return f"{workloads} workload" + ("" if workloads == 1 else "s") if workloads else "–"


def _why(each: Reachable) -> str:
    if each.rule is None:
        return "a mode's default" + (f" {short(each.where)}" if each.where else "")
    return (f"{short(each.where)}  " if each.where else "") + each.rule
