"""``stockade flows``: what talked to what, what became of it, and by which rule."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
from cyclopts import Parameter, Token

from stockade.cli.client import Client
from stockade.cli.exits import Exit
from stockade.cli.flow_export import export as write
from stockade.cli.moments import stamp
from stockade.cli.output import ALLOWED, DENIED, WOULD_DENY, Span, View, columns, line, remark, show
from stockade.cli.session import connect, deliver
from stockade.cli.settings import NO_FLAGS, Common, Format
from stockade.controller.flow_files import FlowFile
from stockade.core.model.flow import EXPORTER
from stockade.seams.flow_store import TOLD
from stockade.wire.amounts import size
from stockade.wire.flows import FlowEndView, FlowGroupsReply, FlowGroupView, FlowsReply, FlowStoreReply, FlowView
from stockade.wire.moments import moment, seconds

HEADERS = ("TIME", "", "FROM", "TO", "ON", "AT", "PROGRAM", "CONNECTIONS", "PACKETS", "BYTES", "RULE")
SUMS = ("CONNECTIONS", "PACKETS", "BYTES OUT", "BYTES IN", "LAST")
LATELY = "1h"
MARKS = {"allowed": ALLOWED, "denied": DENIED, "would be denied": WOULD_DENY}
CARRIED = Span("·")


def _moment(_type: object, tokens: Sequence[Token]) -> float:
    return moment(tokens[0].value, time.time())


Moment = Annotated[float | None, Parameter(converter=_moment)]
Source = Annotated[
    str | None,
    Parameter(
        name="--from",
        help="The source: a selector, name, address or prefix, network:NAME, dns:NAME, known or unknown.",
    ),
]
To = Annotated[str | None, Parameter(help="The destination, likewise.")]
On = Annotated[str | None, Parameter(help="Ports as policy writes them (tcp/443), or services' names.")]
Verdicts = Annotated[str | None, Parameter(help="allowed, denied, would-be-denied, carried; with commas.")]
Decider = Annotated[str | None, Parameter(help="The deciding rule: policy/rule, or default, held, forged, …")]
Host = Annotated[str | None, Parameter(help="Only what this host saw.")]
Process = Annotated[
    str | None, Parameter(help="A program at the judging end; =TEXT: exactly what is shown; none: not known.")
]
End = Annotated[str | None, Parameter(help="At which end it was judged: source or destination.")]
ViaWay = Annotated[str | None, Parameter(name="--via", help="How it came: direct, translated, proxy; with commas.")]
OpenedTo = Annotated[
    str | None, Parameter(name="--service", help="What it was opened to, as address:port; none: to its destination.")
]
Since = Annotated[Moment, Parameter(help=f"From then on: 30m, 2h, 7d ago, or 2026-03-01T12:00 in UTC ({LATELY}).")]
Until = Annotated[Moment, Parameter(name=["--until", "--at"], help="Up to then: as it was at that time.")]
By = Annotated[
    str | None,
    Parameter(help="Sum up by these, with commas: source.app, destination.role, port, rule, process, minute, day, …"),
]
Follow = Annotated[bool, Parameter(name=["--follow", "-f"], negative="", help="Stay, and show flows as they come.")]
Store = Annotated[bool, Parameter(negative="", help="Where flows are kept, how many, and what was lost.")]


def flows(
    *,
    source: Source = None,
    to: To = None,
    on: On = None,
    verdict: Verdicts = None,
    rule: Decider = None,
    host: Host = None,
    process: Process = None,
    end: End = None,
    via: ViaWay = None,
    service: OpenedTo = None,
    since: Since = None,
    until: Until = None,
    by: By = None,
    order: Annotated[str | None, Parameter(help="With --by: bytes, packets, last, … (connections).")] = None,
    top: Annotated[int | None, Parameter(help="At most so many (50).")] = None,
    follow: Follow = False,
    export: Annotated[FlowFile | None, Parameter(help="Write all: csv, json (an object a line) or parquet.")] = None,
    file: Annotated[Path | None, Parameter(help="With --export: the file to write; by default stdout.")] = None,
    store: Store = False,
    common: Common = NO_FLAGS,
) -> int:
    """Recorded flows, newest first: who talked to whom, what became of it, by which rule.

    Each end that Stockade judges tells of a connection, so that one between two of them is shown twice, under either
    end's rule; what it carried is told, without a rule, when it ends. Exits 2 where anything was denied.
    """
    settings, client = connect(common)
    which: dict[str, Any] = {"from": source, "to": to, "on": on, "verdict": verdict, "rule": rule, "host": host}
    which |= {"process": process, "end": end, "via": via, "service": service}
    if store:
        deliver(settings, client.call("flow-store", FlowStoreReply), store_view)
        return Exit.DONE
    if follow:
        return _follow(client, which, settings.output)
    which |= {"since": since if since is not None else _lately(until), "until": until}
    if export is not None:
        write(client, which, export, file)
        return Exit.DONE
    if by is not None:
        reply = client.call("flow-groups", FlowGroupsReply, by=by, order=order, limit=top or 50, **which)
        deliver(settings, reply, groups_view)
        return Exit.DONE
    found = client.call("flows", FlowsReply, limit=top or 50, **which)
    deliver(settings, found, flows_view)
    return Exit.LOOK if any(each.verdict.value == "denied" for each in found.flows) else Exit.DONE


def _lately(until: float | None) -> float:
    return (until or time.time()) - seconds(LATELY)


# Shown


def flows_view(reply: FlowsReply) -> View:
    """One line a flow."""
    yield from columns(HEADERS, map(_row, reply.flows))
    if not reply.flows:
        yield line("No flows in that time.")
    if reply.after is not None:
        yield line("There are more: --top, or --by to sum up.")
    if reply.partial_before is not None:
        yield line(f"Before {stamp(reply.partial_before)} flows are only kept summed up: --by.")


def _row(each: FlowView) -> Sequence[Span | str]:
    towards = _named(each.destination) + (f" (by {each.service})" if each.service else "")
    return (
        stamp(each.last).removesuffix(" UTC"),
        MARKS.get(each.verdict.value, CARRIED),
        each.source.name,
        towards,
        each.on,
        _at(each),
        each.process,
        str(each.connections or each.ended),
        str(each.packets),
        size(each.bytes_out + each.bytes_in),
        each.rule or each.verdict.value,
    )


def _named(end: FlowEndView) -> str:
    """Return what an end is called; a name that a resolver told stands behind the address, and says what it is."""
    return f"{end.name} ({TOLD}{end.told})" if end.told else end.name


def _at(each: FlowView) -> str:
    """Return at which end a flow was seen, or by which device on its way."""
    if each.host.startswith(EXPORTER):
        return f"device {each.host.removeprefix(EXPORTER)}"
    return "source" if each.end.value == "egress" else "destination"


def groups_view(reply: FlowGroupsReply) -> View:
    """One line a group."""
    heads = tuple(name.upper() for name in reply.by)
    yield from columns((*heads, *SUMS), (_sums(reply.by, each) for each in reply.groups))
    if not reply.groups:
        yield line("No flows in that time.")
    if reply.total > len(reply.groups):
        yield line(f"The first {len(reply.groups)} of {reply.total}: --top.")
    if reply.partial_before is not None:
        yield line(f"Before {stamp(reply.partial_before)} nothing is kept any more.")


def _sums(by: Sequence[str], each: FlowGroupView) -> Sequence[str]:
    values = (_value(name, value) for name, value in zip(by, each.values, strict=True))
    counts = (str(each.connections), str(each.packets), size(each.bytes_out), size(each.bytes_in))
    return (*values, *counts, stamp(each.last).removesuffix(" UTC"))


def _value(name: str, value: str | int | None) -> str:
    if value is None:
        return "–"
    return stamp(int(value)) if name in ("minute", "hour", "day") else str(value)


def store_view(reply: FlowStoreReply) -> View:
    """Where flows are, how many, and what is missing of them."""
    limit = f" of {size(reply.limit)}" if reply.limit else ""
    yield line(f"Flows are kept in ClickHouse {reply.version} ({reply.where}): {size(reply.bytes)}{limit}")
    rows = [
        (each.resolution, str(each.rows), size(each.bytes), f"{each.days} days", stamp(each.oldest), stamp(each.newest))
        for each in reply.kept
    ]
    yield from columns(("KEPT", "ROWS", "BYTES", "FOR", "OLDEST", "NEWEST"), rows)
    for host, behind in reply.skews:
        way = "behind" if behind > 0 else "ahead"
        yield line(f"The clock of {host} is {abs(behind):.1f} s {way}; its times are put right.")
    yield from _exporters(reply)
    if reply.losses:
        yield line()
        lost = [(stamp(each.at), each.host, each.where, f"{each.count} {each.what}") for each in reply.losses]
        yield from columns(("LOST", "HOST", "WHERE", "WHAT"), lost)


def _exporters(reply: FlowStoreReply) -> View:
    if not reply.exporters and not reply.refused:
        return
    yield line()
    rows = [
        (
            each.address, ", ".join(each.versions) or "–", stamp(each.heard), str(each.records), str(each.lost),
            str(each.unread), f"1 of {each.sampling}" if each.sampling > 1 else "all",
        )
        for each in reply.exporters
    ]  # fmt: skip
    yield from columns(("EXPORTER", "SPEAKS", "LAST HEARD", "RECORDS", "LOST", "NOT READ", "PACKETS SEEN"), rows)
    for each in reply.exporters:
        if each.behind:
            way = "behind" if each.behind > 0 else "ahead"
            yield line(f"The clock of {each.address} is {abs(each.behind):.1f} s {way}; its times are put right.")
    if reply.refused:
        yield line(f"{reply.refused} datagrams came from whom netflow-exporters does not name, and were not read.")


# Followed


def _follow(client: Client, which: dict[str, Any], form: Format) -> int:
    remark("flows follow as they come; Ctrl-C ends it")
    for each in client.watch_flows(**which):
        if form is Format.TABLE:
            cells = [cell if isinstance(cell, Span) else Span(cell) for cell in _row(each)]
            show([line(*[part for cell in cells for part in (cell, Span("  "))])])
        else:
            print(msgspec.json.encode(each).decode(), flush=True)
    return Exit.DONE
