"""``stockade workloads``."""

from typing import Annotated

import msgspec
from cyclopts import Parameter

from stockade.cli.exits import Exit
from stockade.cli.moments import stamp
from stockade.cli.output import UNKNOWN, Span, View, columns, line, remark, show
from stockade.cli.session import connect, deliver
from stockade.cli.settings import NO_FLAGS, Common, Format
from stockade.core.model.labels import Label, LabelSource
from stockade.wire.api import Gone, InSync, Seen, WatchLine, WorkloadsReply, WorkloadView

HEADERS = ("", "NAME", "KIND", "HOST", "MODE", "ADDRESSES", "LABELS")


def workloads(
    *,
    select: Annotated[str | None, Parameter(help='Only what a selector matches, as in "app = shop".')] = None,
    watch: Annotated[
        bool, Parameter(negative="", help="Stay, and show each change as it comes; Ctrl-C ends it.")
    ] = False,
    long: Annotated[bool, Parameter(negative="", help="With ids, images, times and who set each label.")] = False,
    common: Common = NO_FLAGS,
) -> int:
    """Every workload with its labels.

    With --watch -o json each change is one JSON object a line.
    """
    settings, client = connect(common)
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
