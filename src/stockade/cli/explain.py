"""``stockade explain``: a verdict, end by end."""

from collections.abc import Iterator
from itertools import zip_longest
from typing import Annotated

from cyclopts import Parameter

from stockade.cli.exits import Exit
from stockade.cli.output import ALLOWED, DENIED, UNKNOWN, Line, Span, View, bold, columns, line
from stockade.cli.problems import short
from stockade.cli.session import connect, deliver
from stockade.cli.settings import NO_FLAGS, Common
from stockade.cli.workloads import said_by
from stockade.core.model.packet import Direction
from stockade.core.plan.values import EndVerdict, Explanation, NamedEnd
from stockade.wire.api import ExplainReply

NAMED = 3
"""Pairs named of those that a change would open besides; the others are counted."""


def explain(
    source: Annotated[str, Parameter(help="Workload name or id, or an address.")],
    destination: Annotated[str, Parameter(help="Workload name or id, or an address.")],
    port: Annotated[str, Parameter(help="As policy writes it: tcp/5432, icmp, or a service's name.")],
    *,
    common: Common = NO_FLAGS,
) -> int:
    """Why a connection is allowed or denied: each end, the deciding rule, the labels, the smallest change.

    Exits 2 where it is denied, 3 where nothing of ours judges it.
    """
    settings, client = connect(common)
    reply = client.call("explain", ExplainReply, source=source, destination=destination, on=port)
    deliver(settings, reply, explain_view)
    if not reply.explanation.ends:
        return Exit.NOT_ASSESSED
    return Exit.DONE if reply.explanation.allowed else Exit.LOOK


def explain_view(reply: ExplainReply) -> View:
    """The result, then why, then what to do."""
    it = reply.explanation
    yield _head(it, _in_force(reply))
    yield line()
    yield from _ends(it)
    yield from _labels(it)
    yield from _flip(it)
    for chain in it.foreign:
        yield line(f"  besides   {chain} may still drop it")


def _head(it: Explanation, force: str) -> Line:
    if not it.ends:
        return line(UNKNOWN, bold(" NOT JUDGED"), ": no enforcement point of ours is on the way")
    if it.allowed:
        return line(ALLOWED, Span(" ALLOWED", "bold green"), f"    version {it.version}{force}")
    denier = next(end for end in it.ends if not end.allowed)
    word = "on arrival at" if denier.direction is Direction.INGRESS else "on departure from"
    name = _title(_named(it, denier.direction))
    where = f" at {denier.host}," if denier.host else ""
    return line(DENIED, Span(" DENIED", "bold red"), f"{where} {word} {name}    version {it.version}{force}")


def _in_force(reply: ExplainReply) -> str:
    behind = [host for host, version in reply.realised if version != reply.explanation.version]
    if not reply.realised:
        return ""
    if behind:
        return f", not yet in force on {', '.join(behind)}"
    hosts = [host for host, _ in reply.realised]
    return f", in force on {hosts[0]}" if len(hosts) == 1 else f", in force on all {len(hosts)} hosts"


def _ends(it: Explanation) -> View:
    rows = [(_verb(end), _title(_named(it, end.direction)), end.host or "–", *_said(end)) for end in it.ends]
    yield from columns(("", "", "", "", ""), rows, indent="  ")
    if it.nearest:
        lacks = f" (lacks: {', '.join(it.nearest.lacks)})" if it.nearest.lacks else ""
        yield line(f"  nearest   {short(it.nearest.where)}  {it.nearest.rule}  {it.nearest.text}{lacks}")


def _verb(end: EndVerdict) -> str:
    return "leaves" if end.direction is Direction.EGRESS else "enters"


def _said(end: EndVerdict) -> tuple[Span, str]:
    place = f" ({short(end.where)})" if end.where and short(end.where) not in end.because else ""
    rule = f"  {end.rule}" if end.rule and end.rule not in end.because else ""
    return Span("allowed", "green") if end.allowed else Span("denied", "red"), f"{end.because}{place}{rule}"


def _named(it: Explanation, direction: Direction) -> NamedEnd:
    return it.source if direction is Direction.EGRESS else it.destination


def _title(end: NamedEnd) -> str:
    """The workload's name, with what was typed where that is something else: its address, its id."""
    return end.text if end.name in ("", end.text) else f"{end.name} ({end.text})"


def _labels(it: Explanation) -> View:
    rows = list(_label_rows(it.source)) + list(_label_rows(it.destination))
    if not rows:
        return
    yield line()
    laid = [("because" if not at else "", *row) for at, row in enumerate(rows)]
    yield from columns(("", "", "", ""), laid, indent="  ")


def _label_rows(end: NamedEnd) -> Iterator[tuple[str, str, str]]:
    name = end.name or end.text
    if end.workload and not end.labels:
        yield name, "is unknown", "nobody has labelled it yet"
    for label, origin in zip_longest(end.labels, end.origins):
        yield name, f"has {label.key}={label.value}", origin or said_by(label)


def _flip(it: Explanation) -> View:
    if it.flip is None:
        return
    yield line()
    place = f"{short(it.flip.where)}  " if it.flip.where else ""
    rule = f"{it.flip.rule}  " if it.flip.rule else ""
    yield line("  to allow  ", place, rule, it.flip.text)
    also = ", ".join(f"{source} → {destination}" for source, destination in it.flip.also[:NAMED])
    more = it.flip.also_count - NAMED
    if also:
        yield line("            would also open  ", also, f" and {more} more" if more > 0 else "")
