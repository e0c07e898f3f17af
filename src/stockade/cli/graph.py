"""``stockade graph``: the map as a table: who talked to whom, what policy permits, what a draft would permit."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from stockade.cli.exits import Exit
from stockade.cli.files import read_files
from stockade.cli.flows import CARRIED, MARKS, Since, Source, Until
from stockade.cli.moments import span, stamp
from stockade.cli.output import Span, View, bold, columns, line
from stockade.cli.session import connect, deliver
from stockade.cli.settings import NO_FLAGS, Common
from stockade.wire.amounts import size
from stockade.wire.graph import GraphEdge, GraphReply, GraphRequest, ObservedView, PermittedView

HEADERS = ("", "FROM", "TO", "ON", "CONNECTIONS", "DENIED", "BYTES", "PERMITTED", "NEEDED", "PENDING")
HEADERS_NOW = HEADERS[:-2]
PORTS = 3
"""Ports that are named on one line."""
NOT_ASSESSED = Span("?", "magenta")


def graph(
    *,
    by: Annotated[str | None, Parameter(help="The zoom: labels, workload, process, with commas (app,role).")] = None,
    source: Source = None,
    to: Annotated[str | None, Parameter(help="The destination, likewise.")] = None,
    select: Annotated[str | None, Parameter(help="Only edges of which either end matches this selector.")] = None,
    verdict: Annotated[
        str | None, Parameter(help="Only edges on which some connection was: allowed, denied, …")
    ] = None,
    since: Since = None,
    until: Until = None,
    draft: Annotated[
        list[Path] | None, Parameter(help="A draft's folder or files: what it needs and would decide.")
    ] = None,
    unseen: Annotated[bool, Parameter(negative="", help="Also what is permitted and was not seen.")] = False,
    limit: Annotated[int | None, Parameter(help="At most so many nodes and edges (2000).")] = None,
    common: Common = NO_FLAGS,
) -> int:
    """The map as a table: edges with what was observed, what is permitted, and what a draft would permit.

    Each connection counts once, although both its ends tell of it. Exits 2 where anything was denied.
    """
    settings, client = connect(common)
    asked: dict[str, Any] = {"by": by, "from": source, "to": to, "select": select, "verdict": verdict}
    asked |= {"since": since, "until": until, "limit": limit, "unseen": unseen or None}
    if draft:
        reply = client.call("draft-graph", GraphReply, GraphRequest(files=read_files(draft)), **asked)
    else:
        reply = client.call("graph", GraphReply, **asked)
    deliver(settings, reply, lambda it: graph_view(it, drafted=bool(draft)))
    return Exit.LOOK if reply.total is not None and reply.total.denied else Exit.DONE


def graph_view(reply: GraphReply, *, drafted: bool = False) -> View:
    """One line an edge, the most urgent first; then who was not seen, and what is not as asked."""
    names = {each.id: each.text for each in reply.nodes}
    yield line(
        bold(f"{_count(len(reply.nodes), 'node')}, {_count(len(reply.edges), 'edge')}"),
        f" by {', '.join(reply.by)}; {span(reply.until - reply.since)} until {stamp(reply.until)}, "
        f"version {reply.version}",
    )
    rows = [_row(each, names, drafted=drafted) for each in sorted(reply.edges, key=_urgency)]
    yield from columns(HEADERS if drafted else HEADERS_NOW, rows)
    if not rows:
        yield line("No flows in that time.")
    ends = {end for each in reply.edges for end in (each.source, each.destination)}
    if alone := [each for each in reply.nodes if each.id not in ends]:
        yield line()
        yield line(f"Not seen: {', '.join(f'{each.text} ({each.workloads})' for each in alone)}")
    if reply.partial_before is not None and reply.partial_before > reply.since:
        yield line(f"Before {stamp(reply.partial_before)} not all is kept.")
    for each in reply.notes:
        yield line(NOT_ASSESSED, f" {each}")


def _urgency(each: GraphEdge) -> tuple[int, int, int, str, str]:
    seen = each.observed.seen if each.observed else None
    counts = (-seen.denied, -seen.would_deny, -seen.connections) if seen else (0, 0, 1)
    return *counts, each.source, each.destination


def _row(each: GraphEdge, names: dict[str, str], *, drafted: bool) -> Sequence[Span | str]:
    it = each.observed
    mark = MARKS.get(it.verdict.value, CARRIED) if it else Span(" ")
    seen = (
        (_ports(it), str(it.seen.connections), str(it.seen.denied), size(it.seen.bytes_out + it.seen.bytes_in))
        if it
        else ("–", "0", "0", "–")
    )
    row = (mark, names[each.source], names[each.destination], *seen, _strand(each.permitted))
    return (*row, _strand(each.needed), each.pending.value if each.pending else "–") if drafted else row


def _ports(it: ObservedView) -> str:
    named = [each.service or each.on for each in it.ports[:PORTS]]
    return ", ".join(named) + (f" +{it.ports_count - PORTS}" if it.ports_count > PORTS else "")


def _strand(it: PermittedView | None) -> Span | str:
    if it is None:
        return NOT_ASSESSED
    if not it.pairs:
        return "nothing"
    return it.on if it.pairs == it.of else f"{it.on} ({it.pairs} of {it.of} pairs)"


def _count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"
