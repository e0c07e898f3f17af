"""Connections over time, laid out: one lane a verdict, each on its own scale, so that few denials are seen. Pure."""

from collections.abc import Iterable

import msgspec

from stockade.core.model.flow import Verdict
from stockade.wire.flows import FlowGroupView

LANES = (Verdict.DENIED, Verdict.WOULD_DENY, Verdict.ALLOWED)
"""The lowest and steadiest place is for what matters least; what is denied comes first."""
STEPS = (("minute", 60, 3 * 3600), ("hour", 3600, 8 * 86_400), ("day", 86_400, None))
"""What is grouped by, its seconds, and up to which span it is."""
MOST = 420
"""Columns: the newest of more."""
HEIGHT, LEAST = 100, 4
"""Of a lane, and of what is more than nothing."""


class Lane(msgspec.Struct, frozen=True):
    """One verdict: connections and height in each column, the highest and the sum of them."""

    verdict: Verdict
    counts: tuple[int, ...]
    heights: tuple[int, ...]
    most: int
    total: int


class Histogram(msgspec.Struct, frozen=True):
    """Columns of ``seconds`` each, which begin at ``starts``; lanes for what there was any of."""

    unit: str
    seconds: int
    starts: tuple[int, ...]
    lanes: tuple[Lane, ...]

    @property
    def told(self) -> tuple[int, ...]:
        """The places of columns in which there was anything."""
        return tuple(at for at in range(len(self.starts)) if any(each.counts[at] for each in self.lanes))


def step(since: float, until: float) -> tuple[str, int]:
    """Return what to group a time by, and its seconds."""
    return next((name, unit) for name, unit, most in STEPS if most is None or until - since <= most)


def histogram(since: float, until: float, groups: Iterable[FlowGroupView]) -> Histogram:
    """Lay out groups by ``step`` and verdict, in this order; columns without any are there, too."""
    name, unit = step(since, until)
    counts: dict[Verdict, dict[int, int]] = {each: {} for each in LANES}
    for group in groups:
        at, verdict = int(group.values[0] or 0), Verdict(group.values[1])
        if verdict in counts:
            counts[verdict][at] = group.connections
    starts = _starts(since, until, unit, [at for found in counts.values() for at in found])
    lanes = (_lane(verdict, [counts[verdict].get(at, 0) for at in starts]) for verdict in LANES)
    return Histogram(name, unit, starts, tuple(each for each in lanes if each.total))


def _starts(since: float, until: float, unit: int, told: list[int]) -> tuple[int, ...]:
    if not told:
        return ()
    last = max(int(until) // unit * unit, *told)
    first = max(min(int(since) // unit * unit, *told), last - (MOST - 1) * unit)
    return tuple(range(first, last + 1, unit))


def _lane(verdict: Verdict, counts: list[int]) -> Lane:
    most = max(counts, default=0)
    heights = tuple(max(round(each / most * HEIGHT), LEAST) if each else 0 for each in counts)
    return Lane(verdict, tuple(counts), heights, most, sum(counts))
