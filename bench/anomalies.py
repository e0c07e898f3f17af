"""Anomalies: false alarms on a shop's days, what is found of an attack, and what a look costs.

Replayed into a real flow store, by a clock that the benchmark moves: days to learn from, a day in peace, a day with an
attacker's walk. An alarm about something that was meant is a false one, be it ever so new. The watch is the
controller's own, findings, store and all (``python -m bench.anomalies``). Its limits were chosen with some seeds' days;
what is told is of other seeds'.
"""

import asyncio
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import closing
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TypeVar

import msgspec

from bench.chance import rate_between
from bench.figures import Figure, at_least, at_most, percentile, program
from stockade.adapters.clickhouse.apart import FlowStoreApart
from stockade.adapters.sql import open_store
from stockade.controller.anomalies import SHARE, AnomalyWatch
from stockade.controller.flows import FlowIntake
from stockade.controller.loop import Controller, open_controller
from stockade.controller.wiring import standard_parts
from stockade.core.graph.anomalies import CHECKS
from stockade.core.graph.anomaly import AnomalyKind
from stockade.core.graph.scans import Target, called, target
from stockade.core.model.finding import Severity
from stockade.core.model.flow import StoredFlow
from stockade.core.model.flow_table import kept
from stockade.core.suggest.statistics import share
from stockade.seams.flow_store import FlowStore, Retention, StoredBatch
from stockade.testing.shop_day import DAY, HOUR, POINT, Shop, Visit, recorded

BEGAN = 1_700_006_400.0
"""Midnight of the first day."""
LEARNT, LEARNT_QUICK = 4, 2
"""Days before the one in peace; the last of them is not ordinary yet when it begins."""
CHOSEN_WITH = (1, 2, 3)
"""The seeds whose days were looked at when limits were chosen: never among those that are told of."""
SEEDS, SEEDS_QUICK = tuple(range(21, 27)), (21,)
"""Held out: no limit was changed after they were seen."""
EVERY, EVERY_QUICK = 600.0, 1800.0
"""Seconds of the shop's time between looks; the controller looks each minute."""
KINDS, KINDS_QUICK = 90_000, 9_000
AT_ONCE = 100_000
RETENTION = Retention(raw=10_000, minute=10_000, hour=10_000)
LOUD, LOW, LOOK = 0.5, 4.0, 6.0
"""False alarms a day at most, medium or high and low; seconds of each minute that a look may take."""
STEPS: tuple[tuple[str, AnomalyKind, float, Callable[[Shop, float], Iterator[Visit]]], ...] = (
    ("scan", AnomalyKind.SCAN, 9.0, Shop.scan),
    ("beacon", AnomalyKind.BEACON, 10.2, Shop.beacon),
    ("lateral movement", AnomalyKind.MOVEMENT, 13.0, Shop.movement),
    ("fan-out", AnomalyKind.FAN_OUT, 16.1, Shop.spread),
)
"""The attacker's walk: what, as what it should be found, at which hour of the day."""
Alarm = tuple[AnomalyKind, str]
T = TypeVar("T")


class Clock:
    """Moved by hand; what is timed is timed by the real one."""

    def __init__(self, now: float) -> None:
        self.wall = now

    def now(self) -> float:
        """Return the shop's time."""
        return self.wall

    def monotonic(self) -> float:
        """Return the machine's."""
        return time.monotonic()


class Replayed(msgspec.Struct):
    """What came of one seed's days."""

    quiet: set[Alarm]
    beside: set[Alarm]
    """What was found on the attacker's day that nothing of the attack shows."""
    steps: dict[str, bool]
    looks: list[float]
    work: list[float]
    learnt: float
    hours: int
    rows: int


def main() -> None:
    """Print every figure as it is measured."""
    program(__doc__, figures)


def figures(*, quick: bool) -> Iterator[Figure]:
    """Yield the figures."""
    runs = [_in_a_store(partial(_replayed, seed=seed, quick=quick)) for seed in (SEEDS_QUICK if quick else SEEDS)]
    yield from told(runs)
    yield from _in_a_store(partial(_large, count=KINDS_QUICK if quick else KINDS))


def told(runs: list[Replayed]) -> Iterator[Figure]:
    """Yield what came of all seeds' days."""
    yield from _false(runs)
    yield from _found(runs)
    yield from _cost(runs)


def _false(runs: list[Replayed]) -> Iterator[Figure]:
    peace, attack = (Counter(kind for each in runs for kind, _ in getattr(each, of)) for of in ("quiet", "beside"))
    rows = f"{runs[0].rows // 1000},000 rows each, with errands and releases"
    for what, alarms, days in (
        ("a day in peace", peace, len(runs)),
        ("the attacker's day, beside the attack", attack, len(runs)),
        ("either", peace + attack, 2 * len(runs)),
    ):
        loud = sum(count for kind, count in alarms.items() if CHECKS[kind][1] is not Severity.LOW)
        low, name = alarms.total() - loud, f"false alarms on {what}"
        limits = ((loud, "medium and high", LOUD, rows), (low, "low", LOW, "a release makes three"))
        for count, which, limit, more in limits:
            yield at_most(f"{name}, {which}", count / days, "a day", limit, f"{_beside(count, days)}; {more}")
        for kind in AnomalyKind:
            count = alarms[kind]
            yield Figure(f"{name}: {kind.value}", count / days, "a day", compared_with=_beside(count, days))


def _beside(count: int, days: int) -> str:
    low, high = rate_between(count, days)
    return f"{count} in {days} days; 95 %: {low:.2f} to {high:.2f} a day"


def _found(runs: list[Replayed]) -> Iterator[Figure]:
    for step, kind, *_ in STEPS:
        hits = share(sum(each.steps[step] for each in runs), len(runs))
        beside = f"{hits.count} of {hits.of}; 95 %: {hits.low:.2f} to {hits.high:.2f}"
        yield at_least(f"{step} found as {kind.value}", hits.rate, "of runs", 1.0, beside)


def _cost(runs: list[Replayed]) -> Iterator[Figure]:
    looks, work = ([took for each in runs for took in getattr(each, name)] for name in ("looks", "work"))
    beside = "the last hour of a shop of some 35 workloads, read from the store"
    yield Figure("a look, p50", percentile(looks, 0.5), "s", compared_with=beside)
    yield at_most("a look, p99", percentile(looks, 0.99), "s", LOOK, "a tenth of each minute")
    yield Figure("a look, the controller's own work, p50", percentile(work, 0.5), "s", compared_with="processor time")
    each = sum(each.learnt for each in runs) / sum(each.hours for each in runs)
    yield Figure("an hour learnt again after a restart", each, "s", compared_with="216 of them at most")


# -- the days ---------------------------------------------------------------------------------------------------------


async def _replayed(store: FlowStore, controller: Controller, *, seed: int, quick: bool) -> Replayed:
    shop, learnt = Shop(seed), LEARNT_QUICK if quick else LEARNT
    days = [visit for number in range((learnt + 2) * 24) for visit in shop.hour(number)]
    attack = {step: list(make(shop, (learnt + 1) * DAY + hour * HOUR)) for step, _, hour, make in STEPS}
    _put(store, recorded([*days, *(visit for some in attack.values() for visit in some)], BEGAN))
    clock, watch = controller.clock, AnomalyWatch(controller, store)
    assert isinstance(clock, Clock)
    clock.wall = BEGAN + learnt * DAY
    began = time.perf_counter()
    await watch.catch_up()
    took = time.perf_counter() - began
    it = Replayed(set(), set(), dict.fromkeys(attack, False), [], [], took, learnt * 24, len(days) // (learnt + 2) * 3)
    targets = {step: {_target(each) for each in visits} for step, visits in attack.items()}
    every = EVERY_QUICK if quick else EVERY
    for number in range(int(2 * DAY / every)):
        clock.wall += every
        await watch.catch_up()
        began, worked = time.perf_counter(), time.process_time()
        await watch.look()
        it.looks.append(time.perf_counter() - began)
        it.work.append(time.process_time() - worked)
        _note(controller, it, targets, peace=number < int(DAY / every))
    return it


def _note(controller: Controller, it: Replayed, targets: dict[str, set[Target]], *, peace: bool) -> None:
    """Sort out what is open: what the attack shows, and what it does not."""
    for (kind, subject), each in controller.alarms.open.items():
        shown = {target(one) for one in each.traffic}
        if peace:
            it.quiet.add((kind, subject))
        elif not any(shown & some for some in targets.values()):
            it.beside.add((kind, subject))
        for step, wanted, *_ in STEPS:
            it.steps[step] |= kind is wanted and bool(shown & targets[step])
    it.beside -= it.quiet


def _target(visit: Visit) -> Target:
    return (called(visit.source.end), called(visit.destination.end), visit.protocol, visit.port)


async def _large(store: FlowStore, controller: Controller, *, count: int) -> tuple[Figure, ...]:
    """One look at an hour of so many kinds of flows, each of which is new."""
    shop = Shop(1)
    people = [shop.new(f"app-{number % 500}", "web") for number in range(3000)]
    visits = [
        Visit(number * HOUR / count, people[number % 3000], people[(number * 7 + 1 + number // 3000) % 3000], 443)
        for number in range(count // 3)
    ]
    _put(store, recorded(visits, BEGAN))
    clock, watch = controller.clock, AnomalyWatch(controller, store)
    assert isinstance(clock, Clock)
    clock.wall = BEGAN + HOUR
    began, worked = time.perf_counter(), time.process_time()
    await watch.look()
    took, work = time.perf_counter() - began, time.process_time() - worked
    beside = f"an hour of {count:,} kinds of flows; looks are then {took / SHARE:.0f} s apart"
    return (
        Figure("a look at a large hour", took, "s", compared_with=beside),
        Figure("a look at a large hour, the controller's own work", work, "s", compared_with="processor time"),
    )


def _put(store: FlowStore, flows: Iterable[StoredFlow]) -> None:
    rows, number = iter(flows), 0
    while some := tuple(islice(rows, AT_ONCE)):
        number += 1
        store.put([StoredBatch(POINT, "bench", number, max(each.tally.last for each in some), kept(some))])


def _in_a_store(made: Callable[[FlowStore, Controller], Awaitable[T]]) -> T:
    """Run something with a flow store and a controller of its own."""
    with tempfile.TemporaryDirectory(prefix="stockade-bench-") as folder:
        state = open_store(f"sqlite:///{folder}/state.db")
        with closing(FlowStoreApart(Path(folder) / "flows", retention=RETENTION)) as flows, closing(state):

            async def run() -> T:
                controller = await open_controller(state, Clock(BEGAN), standard_parts(state.secret(), tuple))
                controller.flows = FlowIntake(flows, controller.clock)
                return await made(flows, controller)

            return asyncio.run(run())


if __name__ == "__main__":
    main()
