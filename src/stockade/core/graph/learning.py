"""What is ordinary, learnt window by window: the same as a baseline of all of them, and bounded.

Only what began more than ``settle`` windows ago is ordinary: what is new stays new for that long. What was not met for
``keep`` windows is forgotten. Of each kind at most ``most`` are remembered, those met last; ``forgot`` counts the rest.
"""

from collections.abc import Container, Hashable, Iterable
from typing import Any, Generic, TypeVar

from stockade.core.graph.baseline import SEGMENT, WINDOW, Baseline, Habit, Way, breadth, habit, segment, way
from stockade.core.graph.merge import merged
from stockade.core.graph.scans import Target, failed, target
from stockade.core.graph.zoom import Zoom
from stockade.core.model.flow import StoredFlow
from stockade.core.model.ids import WorkloadId

SETTLE = 24
KEEP = 8 * 24 + SETTLE
MOST = 100_000
T = TypeVar("T", bound=Hashable)


class _Met(Generic[T]):
    """In which windows each thing was met: a bit for each, the newest window's the lowest."""

    def __init__(self, keep: int, most: int) -> None:
        self.of: dict[T, int] = {}
        self.forgot = 0
        self._within = (1 << keep) - 1
        self._most = most

    def pass_(self, windows: int) -> None:
        """Some windows have begun since."""
        self.of = {each: kept for each, bits in self.of.items() if (kept := bits << windows & self._within)}

    def meet(self, found: Iterable[T]) -> None:
        """Meet things in the newest window."""
        for each in found:
            self.of[each] = self.of.get(each, 0) | 1
        if len(self.of) > self._most:
            last = sorted(self.of, key=lambda each: _last(self.of[each]))
            self.forgot += len(last) - self._most
            self.of = {each: self.of[each] for each in last[: self._most]}

    def settled(self, windows: int) -> frozenset[T]:
        """Return what was met before the last few windows."""
        return frozenset(each for each, bits in self.of.items() if bits >> windows)


def _last(bits: int) -> int:
    return bits & -bits


class Learning:
    """Takes windows in order, oldest first. ``by``: the dimensions that make a segment."""

    def __init__(
        self,
        *,
        by: Zoom = SEGMENT,
        window: float = WINDOW,
        settle: int = SETTLE,
        keep: int = KEEP,
        most: int = MOST,
    ) -> None:
        self.by, self.window, self.settle, self.keep = by, window, settle, keep
        self.newest: int | None = None
        """The number of the last window taken: its beginning in windows since the epoch."""
        self._oldest = 0
        self._segments: _Met[str] = _Met(keep, most)
        self._ways: _Met[Way] = _Met(keep, most)
        self._habits: _Met[Habit] = _Met(keep, most)
        self._answered: _Met[Target] = _Met(keep, most)
        self._every: tuple[_Met[Any], ...] = (self._segments, self._ways, self._habits, self._answered)
        self._widest: dict[int, dict[str, int]] = {}
        self._made: Baseline | None = None

    @property
    def forgot(self) -> int:
        """How many ways, habits and targets were more than can be remembered."""
        return self._ways.forgot + self._habits.forgot + self._answered.forgot

    def hear(self, number: int, flows: Iterable[StoredFlow], told: Container[WorkloadId] = frozenset()) -> None:
        """Take all flows of a window that is later than any before. ``told``: as for ``merged``."""
        self._advance(number)
        self._made = None
        passed = [each for each in merged(flows, told) if each.seen.passed and not failed(each)]
        if not passed:
            return
        self._segments.meet({segment(end, self.by) for each in passed for end in (each.source, each.destination)})
        self._ways.meet({way(each, self.by) for each in passed})
        self._habits.meet({habit(each, self.by) for each in passed})
        self._answered.meet({target(each) for each in passed})
        widest: dict[str, int] = {}
        for found in breadth(passed).values():
            mine = segment(found[0].source, self.by)
            widest[mine] = max(widest.get(mine, 0), len(found))
        self._widest[number] = widest

    def _advance(self, number: int) -> None:
        if self.newest is None:
            self.newest = self._oldest = number
            return
        passed, self.newest = min(number - self.newest, self.keep), number
        for each in self._every:
            each.pass_(passed)
        self._oldest = max(self._oldest, number - self.keep + 1)
        self._widest = {at: found for at, found in self._widest.items() if at >= self._oldest}

    def baseline(self) -> Baseline | None:
        """Return what is ordinary; None while nothing is old enough. Targets count from when they first answered."""
        if self._made is None:
            self._made = self._baseline()
        return self._made

    def _baseline(self) -> Baseline | None:
        ways = self._ways.settled(self.settle)
        if self.newest is None or not ways:
            return None
        counts = [(self._ways.of[each] >> self.settle).bit_count() for each in ways]
        return Baseline(
            since=self._oldest * self.window,
            until=(self.newest + 1 - self.settle) * self.window,
            window=self.window,
            by=self.by,
            segments=self._segments.settled(self.settle),
            ways=ways,
            habits=self._habits.settled(self.settle),
            answered=self._answered.settled(0),
            widest=tuple(sorted(self._widest_settled().items())),
            once=sum(count == 1 for count in counts),
            occurrences=sum(counts),
        )

    def windows(self, kind: Way) -> int:
        """Return in how many windows a kind of connection was met."""
        return self._ways.of.get(kind, 0).bit_count()

    def _widest_settled(self) -> dict[str, int]:
        widest: dict[str, int] = {}
        for number, found in self._widest.items():
            if self.newest is not None and number <= self.newest - self.settle:
                for mine, count in found.items():
                    widest[mine] = max(widest.get(mine, 0), count)
        return widest
