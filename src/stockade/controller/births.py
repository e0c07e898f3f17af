"""Births counted for metrics, and what became of many, by runtime. The records themselves are in the store. Pure."""

from bisect import bisect_left
from collections.abc import Iterable
from itertools import accumulate

from stockade.core.model.ids import WorkloadId
from stockade.core.percentiles import percentile
from stockade.seams.store import Birth
from stockade.wire import BirthRecord
from stockade.wire.api import RuntimeBirths

BOUNDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
"""Upper bounds of the dead window's histogram, in seconds."""
REMEMBERED = 100_000
"""Workloads whose births are told apart; beyond, an old one whose record comes again is counted again."""


class BirthCounts:
    """Births by the runtime that started them."""

    def __init__(self) -> None:
        self.of: dict[str, BirthCount] = {}

    def add(self, record: BirthRecord) -> None:
        """Take a record, or what has been added to one."""
        self.of.setdefault(record.runtime, BirthCount()).add(record)


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


def by_runtime(births: Iterable[Birth]) -> tuple[RuntimeBirths, ...]:
    """Return what became of births, for each runtime."""
    found: dict[str, list[BirthRecord]] = {}
    for birth in births:
        found.setdefault(birth.record.runtime, []).append(birth.record)
    return tuple(_summary(runtime, found[runtime]) for runtime in sorted(found))


def _summary(runtime: str, records: list[BirthRecord]) -> RuntimeBirths:
    dead = sorted(each for each in map(_dead, records) if each is not None)
    noticed = sorted(
        max(each.noticed - each.created, 0.0)
        for each in records
        if each.noticed is not None and each.created is not None
    )
    return RuntimeBirths(
        runtime=runtime,
        births=len(records),
        leaked=sum(map(_leaks, records)),
        waiting=sum(each.allowed is None for each in records),
        noticed_p50=percentile(noticed, 0.50),
        noticed_p99=percentile(noticed, 0.99),
        dead_p50=percentile(dead, 0.50),
        dead_p99=percentile(dead, 0.99),
    )


def dead_for(birth: Birth) -> float:
    """Return for how long a workload could not do what it may; one that still cannot comes last, and so first."""
    seconds = _dead(birth.record)
    return float("inf") if seconds is None else seconds


def _leaks(record: BirthRecord) -> bool:
    return record.created is not None and record.isolated is not None and record.isolated > record.created


def _dead(record: BirthRecord) -> float | None:
    if record.created is None or record.allowed is None:
        return None
    return max(record.allowed - record.created, 0.0)
