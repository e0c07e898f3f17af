"""``stockade births``."""

from collections.abc import Sequence
from typing import Annotated

import msgspec
from cyclopts import Parameter

from stockade.cli.exits import Exit
from stockade.cli.moments import span
from stockade.cli.output import GAP, Span, View, columns, line, remark, show
from stockade.cli.session import connect, deliver
from stockade.cli.settings import NO_FLAGS, Common, Format
from stockade.wire.api import BirthsReply, BirthView, RuntimeBirths

HEADERS = ("WORKLOAD", "HOST", "NOTICED", "ISOLATED", "ALLOWED", "LEAK", "DEAD", "LABELS")
SUMMARY = ("RUNTIME", "BIRTHS", "LEAKED", "WAITING", "NOTICED P50", "P99", "DEAD P50", "P99")


def births(
    workload: Annotated[str | None, Parameter(help="Only this one, by name or id.")] = None,
    *,
    last: Annotated[int | None, Parameter(help="At most so many (20).")] = None,
    slowest: Annotated[bool, Parameter(negative="", help="Those first that waited longest for what they may.")] = False,
    watch: Annotated[
        bool, Parameter(negative="", help="Stay, and show each birth as it comes; Ctrl-C ends it.")
    ] = False,
    common: Common = NO_FLAGS,
) -> int:
    """Birth records: how soon after its creation each new workload was contained.

    Exits 2 where one leaked: it could send, for a while, what policy denies.
    With --watch -o json each birth is one JSON object a line, told again when its record is complete.
    """
    settings, client = connect(common)
    if watch:
        remark("births follow as they come")
        for birth in client.watch_births():
            _one_birth(birth, settings.output)
        return Exit.DONE
    reply = client.call("births", BirthsReply, last=last, workload=workload, slowest=slowest or None)
    deliver(settings, reply, births_view)
    return Exit.LOOK if any(each.leak for each in reply.births) else Exit.DONE


def births_view(reply: BirthsReply) -> View:
    """One line a birth, moments counted from its creation; then one line a runtime."""
    yield from columns(HEADERS, map(_row, reply.births))
    if not reply.births:
        yield line("No births yet.")
    if reply.runtimes:
        yield line()
        yield from columns(SUMMARY, map(_sum, reply.runtimes))


def _one_birth(birth: BirthView, form: Format) -> None:
    if form is Format.TABLE:
        cells = (each.text if isinstance(each, Span) else each for each in _row(birth))
        pairs = zip(HEADERS, cells, strict=True)
        show([line(GAP.join(cell if at < 2 else f"{head.lower()} {cell}" for at, (head, cell) in enumerate(pairs)))])
    else:
        print(msgspec.json.encode(birth).decode(), flush=True)


def _row(each: BirthView) -> Sequence[Span | str]:
    labels = " ".join(f"{label.key}={label.value}" for label in each.labels) or ("none: held" if each.held else "none")
    return (
        each.name,
        each.host,
        _after(each, each.noticed),
        _after(each, each.isolated),
        _after(each, each.allowed),
        _leak(each.leak),
        span(each.dead),
        labels,
    )


def _sum(each: RuntimeBirths) -> Sequence[Span | str]:
    counts = (str(each.births), Span(str(each.leaked), "red" if each.leaked else ""), str(each.waiting))
    return (
        each.runtime or "–",
        *counts,
        *map(span, (each.noticed_p50, each.noticed_p99, each.dead_p50, each.dead_p99)),
    )


def _after(each: BirthView, moment: float | None) -> str:
    start = each.created if each.created is not None else each.noticed
    if moment is None or start is None:
        return "–"
    return f"{'+' if moment >= start else ''}{span(moment - start)}"


def _leak(seconds: float | None) -> Span:
    if seconds is None:
        return Span("–")
    return Span(span(seconds), "red") if seconds else Span("none", "green")
