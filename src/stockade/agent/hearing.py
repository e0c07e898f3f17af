"""How soon each source told: discovery delays. Pure.

A delay runs from when the source says that a workload came to be until the agent heard of it. What a source lists when
it first answers was there before and is no discovery; what it lists after it was away is one. A delay below zero,
from a clock that was set, is not known. Memory is bounded by the workloads that are there.
"""

from bisect import bisect_left
from collections import deque

from stockade.core.model.census import DELAY_BOUNDS, SourceTally
from stockade.core.model.ids import WorkloadId
from stockade.core.percentiles import percentile
from stockade.seams.runtime import Gone, Listed, Lost, RuntimeEvent, Seen

NEWEST = 1024
"""Delays of which the percentiles are taken."""


class Hearing:
    """The first words of every source about every workload that is there."""

    def __init__(self) -> None:
        self._sources: dict[str, _Source] = {}

    def hear(self, source: str, event: RuntimeEvent, now: float) -> None:
        """Take note of when a source said something."""
        said = self._sources.setdefault(source, _Source())
        match event:
            case Seen():
                said.note(event, now)
            case Gone(id=gone):
                said.first.pop(gone, None)
            case Listed(seen=seen):
                said.list(seen, now)
            case Lost(reason=reason):
                said.interrupted += 1
                said.lost = reason

    def first(self, source: str, id_: WorkloadId) -> float | None:
        """Return how many seconds a source took to tell of a workload; None where that cannot be told."""
        return self._sources[source].first.get(id_) if source in self._sources else None

    def tallies(self) -> tuple[SourceTally, ...]:
        """Return how each source did, by name."""
        return tuple(each.tally(name) for name, each in sorted(self._sources.items()))


class _Source:
    def __init__(self) -> None:
        self.first: dict[WorkloadId, float | None] = {}
        self.interrupted = 0
        self.lost = ""
        self._listed = False
        self._buckets = [0] * (len(DELAY_BOUNDS) + 1)
        self._sum = 0.0
        self._newest: deque[float] = deque(maxlen=NEWEST)

    def list(self, seen: tuple[Seen, ...], now: float) -> None:
        self.lost = ""
        present = {each.sighting.id for each in seen}
        for gone in self.first.keys() - present:
            del self.first[gone]
        for each in seen:
            if self._listed:
                self.note(each, now)
            else:
                self.first.setdefault(each.sighting.id, None)
        self._listed = True

    def note(self, seen: Seen, now: float) -> None:
        if seen.sighting.id in self.first:
            return
        delay = now - seen.at
        self.first[seen.sighting.id] = delay if delay >= 0 else None
        if delay >= 0:
            self._buckets[bisect_left(DELAY_BOUNDS, delay)] += 1
            self._sum += delay
            self._newest.append(delay)

    def tally(self, name: str) -> SourceTally:
        ordered = sorted(self._newest)
        return SourceTally(
            name,
            discovered=sum(self._buckets),
            delay_sum=self._sum,
            buckets=tuple(self._buckets),
            p50=percentile(ordered, 0.50),
            p99=percentile(ordered, 0.99),
            interrupted=self.interrupted,
            lost=self.lost,
        )
