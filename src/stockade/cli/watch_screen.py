"""The board of ``stockade watch`` as lines for a screen of any size. Pure."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import cast

from stockade.cli.moments import stamp
from stockade.cli.output import ALLOWED, DENIED, UNKNOWN, WOULD_DENY, Line, Span, bold, dim, line
from stockade.cli.watch_board import Board, Edge, Mode, Told, filter_text
from stockade.wire.api import StatusReply
from stockade.wire.flows import FlowView

MARKS = {"allowed": ALLOWED, "denied": DENIED, "would be denied": WOULD_DENY}
HELP = "q quit  f filter  p pause  g group by  s sort  ↑↓ select  ⏎ explain"
NUMBERS = 35
"""Columns that an edge's numbers take."""


def screen(board: Board, columns: int, rows: int, now: float) -> list[Line]:
    """Return as many lines as there are rows: health, edges, flows, what happened, keys."""
    head, foot = list(_head(board)), list(_foot(board))
    room = max(rows - len(head) - len(foot), 0)
    if board.mode is Mode.DETAIL:
        body = [cast("Line", each) for each in board.detail[board.scroll : board.scroll + room]]
    else:
        body = list(_body(board, columns, room, now))
    return [*head, *body[:room], *[()] * (room - len(body)), *foot][:rows]


def _body(board: Board, columns: int, room: int, now: float) -> Iterator[Line]:
    told = min(len(board.told), max(room // 6, 1)) if room > 8 else 0
    least = max((room - told) // 3, 0) if room > 5 else 0
    edges = min(room - told - least, max(len(board.edges), 1) + 2)
    flows = room - told - edges if least else 0
    yield from _edges(board, columns, edges, now)
    if flows:
        yield from _flows(board, columns, flows)
    yield from (_told(each) for each in list(board.told)[-told:] if told)


# Health


def _head(board: Board) -> Iterator[Line]:
    status = board.status
    if status is None:
        yield line(UNKNOWN, bold(" Stockade"), f"  {board.trouble or 'asking'}")
        yield ()
        return
    yield line(*_health(board, status))
    modes = "  ".join(f"{mode.value} {count}" for mode, count in status.modes) or "nobody is judged"
    unknown = f" ({status.unknown} unlabelled)" if status.unknown else ""
    quarantined = f"  quarantine {', '.join(status.quarantines)}" if status.quarantines else ""
    yield line(dim("modes "), modes, dim(f"   workloads {status.workloads}{unknown}"), Span(quarantined, "red"))


def _health(board: Board, status: StatusReply) -> Iterator[Span | str]:
    at_odds = [host.id for host in status.hosts if host.error or not host.current]
    wrong = board.trouble or status.stalled or status.unstored or (f"not in force on {at_odds[0]}" if at_odds else "")
    mark = UNKNOWN if board.trouble else WOULD_DENY if wrong or status.pending else ALLOWED
    yield from (mark, bold(f" version {status.version}"))
    yield f" in force on {len(status.hosts) - len(at_odds)} of {len(status.hosts)} hosts"
    if status.pending:
        yield Span("  waits to be confirmed", "yellow")
    counted = ", ".join(f"{count} {severity.value}" for severity, count in status.findings)
    unassessed = f", {status.unassessed} not assessed" if status.unassessed else ""
    yield dim("   findings ")
    yield Span(counted or "none", "red" if counted else "")
    yield dim(unassessed)
    if wrong:
        yield Span(f"   {wrong}", "yellow")


# Edges


def _edges(board: Board, columns: int, room: int, now: float) -> Iterator[Line]:
    shown = board.shown(now)
    which = filter_text(board.which) or "everything"
    held = dim(f"  standing still, {board.missed} flows since") if board.paused_at is not None else Span("")
    yield line(dim(f"{which}  by {board.by.value}, {board.order.value} first, {len(shown)} edges"), held)
    if room < 3:
        return
    wide = max(columns - NUMBERS - 2, 12)
    yield line(dim(f"  {'FROM → TO':<{wide}}{'ON':<10} {'/S':>6} {'CONNS':>8} {'DENIED':>7}"))
    if not shown:
        yield line(dim("  no flows yet"))
        return
    chosen = board.selected(now)
    at = next((index for index, each in enumerate(shown) if each is chosen), 0)
    first = max(0, at - (room - 3))
    for each in shown[first : first + room - 2]:
        yield _edge(each, wide, now, selected=each is chosen)


def _edge(each: Edge, wide: int, now: float, *, selected: bool) -> Line:
    ends = fitted(f"{each.key.source} → {each.key.destination}", wide - 1)
    numbers = f" {fitted(each.key.on, 10)} {each.rate(now):>6.1f} {each.connections:>8} {each.denied:>7}"
    mark = MARKS.get(each.verdict, UNKNOWN)
    style = "reverse" if selected else ""
    return (mark, Span(" "), Span(ends, style), Span(numbers, style))


def fitted(text: str, wide: int) -> str:
    """Return a text just so wide; where it is cut, that is seen."""
    return text.ljust(wide) if len(text) <= wide else f"{text[: max(wide - 1, 0)]}…"


# Flows, and what happened


def _flows(board: Board, columns: int, room: int) -> Iterator[Line]:
    yield line(dim("FLOWS"))
    lately = list(board.flows)[-(room - 1) :] if room > 1 else []
    yield from (flow_line(each, columns) for each in lately)
    yield from (() for _ in range(room - 1 - len(lately)))


def flow_line(each: FlowView, columns: int = 0) -> Line:
    """Return a flow as one line; ``columns``: fitted to so many."""
    ends = f"{each.source.name} → {each.destination.name} {each.on}"
    rule = each.rule or each.verdict.value
    at = datetime.fromtimestamp(each.last, UTC).strftime("%H:%M:%S")
    if columns:
        ends = fitted(ends, max(columns - 14 - min(len(rule), columns // 3), 10))
    return line(dim(f"{at} "), MARKS.get(each.verdict.value, Span("·")), f" {ends} ", dim(rule))


def _told(each: Told) -> Line:
    at = datetime.fromtimestamp(each.at, UTC).strftime("%H:%M:%S")
    return line(dim(f"{at} "), Span(each.what, "red" if each.bad else "cyan"), f" {each.text}")


def told_line(each: Told) -> Line:
    """Return something that happened, as one line of many."""
    return line(f"{stamp(each.at)}  {each.what}  {each.text}")


def _foot(board: Board) -> Iterator[Line]:
    if board.mode is Mode.FILTER:
        if board.mistake:
            yield line(DENIED, f" {board.mistake}")
        yield line(bold("filter "), board.writing, Span(" ", "reverse"))
        yield line(dim("as for stockade flows: from, to, on, verdict, rule, host.  ⏎ follow  esc leave  ^U clear"))
        return
    if board.mode is Mode.DETAIL:
        yield line(dim("↑↓ scroll  esc back"))
        return
    yield line(dim(HELP))


def keys_and_marks() -> Sequence[Line]:
    """Return what the keys and marks mean."""
    return (
        line(HELP),
        line(ALLOWED, " allowed  ", DENIED, " denied  ", WOULD_DENY, " would be denied  ", UNKNOWN, " unknown"),
    )
