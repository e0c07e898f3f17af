"""``stockade workloads``."""

from collections.abc import Iterator
from typing import Annotated

import msgspec
from cyclopts import Parameter

from stockade.cli.exits import Exit
from stockade.cli.moments import span, stamp
from stockade.cli.output import UNKNOWN, Span, View, columns, line, remark, show
from stockade.cli.seen import laid, met, ran, way
from stockade.cli.session import connect, deliver
from stockade.cli.settings import NO_FLAGS, Common, Format
from stockade.core.model.census import Listening
from stockade.core.model.inventory import Attachment
from stockade.core.model.labels import Label, LabelSource
from stockade.wire.api import Gone, InSync, Seen, WatchLine, WorkloadDetail, WorkloadsReply, WorkloadView

HEADERS = ("", "NAME", "KIND", "HOST", "MODE", "ADDRESSES", "LABELS")


def workloads(
    name: Annotated[str | None, Parameter(help="Only this one, by name or id, with all that is seen of it.")] = None,
    *,
    select: Annotated[str | None, Parameter(help='Only what a selector matches, as in "app = shop".')] = None,
    watch: Annotated[
        bool, Parameter(negative="", help="Stay, and show each change as it comes; Ctrl-C ends it.")
    ] = False,
    long: Annotated[bool, Parameter(negative="", help="With ids, images, times and who set each label.")] = False,
    common: Common = NO_FLAGS,
) -> int:
    """Every workload with its labels; of one, by name, the ports that it listens on and who holds them as well.

    Of a host also its links, routes and neighbours. With --watch -o json each change is one JSON object a line.
    """
    settings, client = connect(common)
    if name is not None:
        deliver(settings, client.call("workload", WorkloadDetail, workload=name), detail_view)
        return Exit.DONE
    if watch:
        for change in client.watch():
            _one_change(change, settings.output)
        return Exit.DONE
    reply = client.call("workloads", WorkloadsReply, select=select)
    deliver(settings, reply, long_view if long else short_view)
    return Exit.DONE


def short_view(reply: WorkloadsReply) -> View:
    """One line each."""
    yield from columns(HEADERS, map(_row, reply.workloads))
    if not reply.workloads:
        yield line("No workloads.")


def long_view(reply: WorkloadsReply) -> View:
    """One paragraph each."""
    for each in reply.workloads:
        yield line(Span(each.name, "bold"), f"  {each.kind.value}, {each.state.value}")
        yield from columns(("", ""), _facts(each), indent="  ")
        for label in each.labels:
            yield line(f"  {_label(label)}", Span(f"  {_said_of(each, label)}", "dim"))
        for label in each.conflicts:
            yield line(f"  {_label(label)}", Span(f"  lost: {_said_of(each, label)}", "yellow"))


def detail_view(reply: WorkloadDetail) -> View:
    """One workload, and what its host's kernel shows of it."""
    yield from long_view(WorkloadsReply(revision=reply.revision, workloads=(reply.workload,)))
    yield from columns(("", ""), [fact for fact in _seen(reply) if fact[1]], indent="  ")
    if reply.looked_at is None:
        yield line(UNKNOWN, " not assessed: its host's agent has not sent what the kernel shows")
        return
    yield from _listing("Listens on", [(_where(each), ran(each.process) or "–") for each in reply.listening])
    if not reply.listening:
        yield line("Listens on nothing.")
    yield from _listing("Links", [(each.name, laid(each)) for each in reply.interfaces])
    yield from _listing("Routes", [(each.to, way(each)) for each in reply.routes])
    yield from _listing("Neighbours", [(each.mac, met(each)) for each in reply.neighbours])
    for each in reply.refused:
        yield line(UNKNOWN, f" not assessed: {each.what}: {each.why}")
    yield line(Span(f"As the kernel showed it at {stamp(reply.looked_at)}.", "dim"))


def _seen(reply: WorkloadDetail) -> Iterator[tuple[str, str]]:
    yield "first process", ran(reply.process)
    for each in (end for end in reply.endpoints if end.attachment is not Attachment.HOST):
        bridge = f" of {each.bridge}" if each.bridge else ""
        yield "at", " ".join(filter(None, (each.attachment.value, f"{each.port}{bridge}", each.mac)))
    delays = dict(reply.heard)
    told = (f"{each} (after {span(delays[each])})" if delays.get(each) is not None else each for each in reply.sources)
    yield "seen by", ", ".join(told)
    yield from ((f"fact {key}", value) for key, value in reply.facts)


def _where(each: Listening) -> str:
    return f"{each.protocol.name.lower()}/{each.port}" + (f" on {each.address}" if each.address else "")


def _listing(title: str, rows: list[tuple[str, str]]) -> View:
    if rows:
        yield line(title)
        yield from columns(("", ""), rows, indent="  ")


def said_by(label: Label) -> str:
    """Return whose word a label is, and the rule or person that set it."""
    if label.source is LabelSource.OPERATOR:
        return f"from {label.by}, an operator" if label.by else "from an operator"
    whose = {LabelSource.RULE: "policy", LabelSource.SELF: "itself"}.get(label.source, f"the {label.source.value}")
    return f"from {whose}, by rule {label.by}" if label.by else f"from {whose}"


def _said_of(each: WorkloadView, label: Label) -> str:
    """Return whose word a label of a workload is; its own document's is said by place."""
    document = f"{each.written.file}:{each.written.line}" if each.written else None
    return f"from its document, {label.by}" if document and label.by == document else said_by(label)


def _facts(each: WorkloadView) -> list[tuple[str, str]]:
    facts = [
        ("id", each.id),
        ("host", each.host or ""),
        ("written", f"{each.written.file}:{each.written.line}" if each.written else ""),
        ("addresses", ", ".join(each.addresses)),
        ("mode", _mode(each)),
        ("shares the network of", each.owner or ""),
        ("image", each.image),
        ("created", stamp(each.created) if each.created is not None else ""),
    ]
    return [fact for fact in facts if fact[1]]


def _row(each: WorkloadView) -> tuple[Span | str, ...]:
    labels = " ".join(map(_label, each.labels))
    mark = Span(" ") if each.labels else UNKNOWN
    return mark, each.name, each.kind.value, each.host or "–", _mode(each), ", ".join(each.addresses) or "–", labels


def _mode(each: WorkloadView) -> str:
    words = ["quarantined"] if each.quarantined else []
    words += ["held"] if each.held else []
    return ", ".join([*words, each.mode.value if each.mode else "–"])


def _label(label: Label) -> str:
    return f"{label.key}={label.value}"


def _one_change(change: WatchLine, form: Format) -> None:
    if form is not Format.TABLE:
        print(msgspec.json.encode(change).decode(), flush=True)
    elif isinstance(change, InSync):
        remark(f"in sync at revision {change.revision}; changes follow")
    elif isinstance(change, Gone):
        show([line(Span("-", "red"), f" {change.name}  gone  {change.id}")])
    elif isinstance(change, Seen):
        show([line(Span("+", "green"), " ", GAP.join(_text(cell) for cell in _row(change.workload)[1:]))])


GAP = "  "


def _text(cell: Span | str) -> str:
    return cell.text if isinstance(cell, Span) else cell
