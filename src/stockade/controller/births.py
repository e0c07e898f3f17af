"""Counts births for metrics. The records themselves are in the store."""

from bisect import bisect_left
from itertools import accumulate

from stockade.core.model.ids import WorkloadId
from stockade.wire import BirthRecord

BOUNDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
"""Upper bounds of the dead window's histogram, in seconds."""
REMEMBERED = 100_000
"""Workloads whose births are told apart; beyond, an old one whose record comes again is counted again."""


class BirthCount:
    """Each birth once, however often its record is sent while it fills."""

    def __init__(self) -> None:
        self.count = 0
        self.leaked = 0
        self.dead_seconds = 0.0
        self._dead = [0] * (len(BOUNDS) + 1)
        self._seen: dict[WorkloadId, BirthRecord] = {}

    def add(self, record: BirthRecord) -> None:
        """Take a record, or what has been added to one."""
        before = self._seen.pop(record.workload, None)
        self._seen[record.workload] = record
        if len(self._seen) > REMEMBERED:
            del self._seen[next(iter(self._seen))]
        self.count += before is None
        self.leaked += _leaks(record) and not (before is not None and _leaks(before))
        dead = _dead(record)
        if dead is not None and (before is None or _dead(before) is None):
            self.dead_seconds += dead
            self._dead[bisect_left(BOUNDS, dead)] += 1

    def buckets(self) -> list[tuple[str, float]]:
        """Return the dead windows counted up to each bound, as a histogram wants them."""
        bounds = (*(str(bound) for bound in BOUNDS), "+Inf")
        return list(zip(bounds, map(float, accumulate(self._dead)), strict=True))


def _leaks(record: BirthRecord) -> bool:
    return record.created is not None and record.isolated is not None and record.isolated > record.created


def _dead(record: BirthRecord) -> float | None:
    if record.created is None or record.allowed is None:
        return None
    return max(record.allowed - record.created, 0.0)
