"""``stockade births``."""

from collections.abc import Sequence
from typing import Annotated

from cyclopts import Parameter

from stockade.cli.exits import Exit
from stockade.cli.moments import span
from stockade.cli.output import Span, View, columns, line
from stockade.cli.session import connect, deliver
from stockade.cli.settings import NO_FLAGS, Common
from stockade.wire.api import BirthsReply, BirthView

HEADERS = ("WORKLOAD", "HOST", "NOTICED", "ISOLATED", "ALLOWED", "LEAK", "DEAD", "LABELS")


def births(
    workload: Annotated[str | None, Parameter(help="Only this one, by name or id.")] = None,
    *,
    last: Annotated[int | None, Parameter(help="At most so many (20).")] = None,
    common: Common = NO_FLAGS,
) -> int:
    """Birth records: how soon after its creation each new workload was contained.

    Exits 2 where one leaked: it could send, for a while, what policy denies.
    """
    settings, client = connect(common)
    reply = client.call("births", BirthsReply, last=last, workload=workload)
    deliver(settings, reply, births_view)
    return Exit.LOOK if any(each.leak for each in reply.births) else Exit.DONE


def births_view(reply: BirthsReply) -> View:
    """One line a birth; moments are counted from its creation."""
    yield from columns(HEADERS, map(_row, reply.births))
    if not reply.births:
        yield line("No births yet.")


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


def _after(each: BirthView, moment: float | None) -> str:
    start = each.created if each.created is not None else each.noticed
    if moment is None or start is None:
        return "–"
    return f"{'+' if moment >= start else ''}{span(moment - start)}"


def _leak(seconds: float | None) -> Span:
    if seconds is None:
        return Span("–")
    return Span(span(seconds), "red") if seconds else Span("none", "green")
