"""Looks at the last hour of flows now and then, beside what was ordinary in the days before: findings, with evidence.

What is ordinary is learnt from what the store keeps, hour by hour, and never kept anywhere else: a restart learns it
again. All of it runs beside the event loop, reads a bounded number of sums, and takes a tenth of the time at most.
"""

import asyncio
import math
from collections import Counter
from collections.abc import Container, Iterator

from msgspec.structs import replace

from stockade.controller.anomaly_reading import KINDS, singly, summed
from stockade.controller.findings import EVERYWHERE
from stockade.controller.loop import Controller
from stockade.core.graph.anomalies import CHECKS, COMPARED, Found, anomalies, finding, uncounted
from stockade.core.graph.anomaly import Anomaly, AnomalyKind, NotLookedFor
from stockade.core.graph.baseline import way
from stockade.core.graph.learning import Learning
from stockade.core.graph.merge import Telling
from stockade.core.graph.scans import target, target_of
from stockade.core.model.finding import Severity, Unassessed
from stockade.core.model.flow import StoredFlow
from stockade.core.model.ids import WorkloadId
from stockade.core.model.snapshot import Snapshot
from stockade.errors import StockadeError
from stockade.logs import log_of
from stockade.seams.flow_store import FlowStore, Resolution
from stockade.wire import Findings

SOONEST, EVERY = 10.0, 60.0
"""Seconds between looks: the less a look takes, the sooner is the next; each minute, where that can be,"""
SHARE, LIGHTLY = 0.1, 0.01
"""and the share of the time that looking may take, and that more than one look in a minute may take."""
SINGLES = 256
"""The most pairs of ends whose flows one look reads singly."""
MOST = 200
"""The most anomalies that are shown at once."""
STEADY = 24
"""What was met in so many hours since it was new is no longer suspicious."""

log = log_of("controller")


class AnomalyWatch:
    """One installation's. ``look`` is one look; ``run`` looks until the controller closes."""

    def __init__(self, controller: Controller, store: FlowStore, learning: Learning | None = None) -> None:
        self.learning = learning or Learning()
        self._controller = controller
        self._store = store
        self._alarms = controller.alarms
        self._taken = -1

    async def run(self) -> None:
        """Look every minute, sooner where a look takes little, and less often where it takes long."""
        clock = self._controller.clock
        while not self._controller.closing.is_set():
            began, learnt = clock.monotonic(), False
            try:
                learnt = await self.round()
            except StockadeError as problem:
                log.warning("anomalies not looked for", error=problem.message, kept=problem.kept)
                await self._say((), _unassessed(_everything(f"flows cannot be read: {problem.message}")))
            took = clock.monotonic() - began
            await asyncio.sleep(pause(took, learnt=learnt))

    async def round(self) -> bool:
        """Learn one hour more, and say so; else look where there is something to be seen. A store that sleeps may."""
        flows, now = self._controller.flows, self._controller.clock.now()
        if flows is None or not flows.taken:
            return False
        if await asyncio.to_thread(self._learn, now):
            return True
        if flows.taken != self._taken or self._alarms.open:
            self._taken = flows.taken
            await self.look()
        return False

    # Learning

    async def catch_up(self) -> None:
        """Learn everything that there is before the last hour."""
        while await asyncio.to_thread(self._learn, self._controller.clock.now()):
            pass

    def _learn(self, now: float) -> bool:
        """Learn the next hour that is not part of what is looked at; tell whether there was one. Blocks.

        What was unusual then is remembered, as it would be had nobody been away.
        """
        if (number := self._next_hour(now)) is None:
            return False
        since = number * self.learning.window
        told = Telling(self._controller.snapshot)
        flows = summed(self._store, since, since + self.learning.window)
        if not self._alarms.looked and flows:
            found, _ = self._compared(flows, since, since + self.learning.window, told)
            self._alarms.take(found.anomalies, since + self.learning.window)
        self.learning.hear(number, flows or (), told)
        return True

    def _next_hour(self, now: float) -> int | None:
        last = math.floor(now / self.learning.window) - 2
        if self.learning.newest is not None:
            following = self.learning.newest + 1
        else:
            following = max(self._oldest(), last - self.learning.keep)
        return following if following <= last else None

    def _oldest(self) -> int:
        """Return the hour of the oldest flow that is kept; far from now where there is none."""
        kept = {each.resolution: each.oldest for each in self._store.stats().kept}
        oldest = kept.get(Resolution.HOUR)
        return math.floor(oldest / self.learning.window) if oldest is not None else 2**62

    # Looking

    async def look(self) -> None:
        """Look at the last hour, and say what was found."""
        controller, began = self._controller, self._controller.clock.monotonic()
        now = controller.clock.now()
        found = await asyncio.to_thread(self._found, controller.snapshot, now)
        self._alarms.take(found.anomalies, now)
        self._alarms.looked = now
        await self._say(tuple(self._alarms.open.values()), _unassessed(found.not_looked_for))
        self._alarms.took = controller.clock.monotonic() - began

    def _found(self, snapshot: Snapshot, now: float) -> Found:
        """Blocks."""
        told, since = Telling(snapshot), now - self.learning.window
        flows = summed(self._store, since, now)
        if flows is None:
            return Found((), _everything(f"more than {KINDS} kinds of flows were recorded in an hour"))
        found, missed = self._compared(flows, since, now, told)
        return replace(found, not_looked_for=tuple(self._untold(found, missed)))

    def _compared(
        self, flows: tuple[StoredFlow, ...], since: float, until: float, told: Container[WorkloadId]
    ) -> tuple[Found, int]:
        """Compare a time with what is ordinary: singly, where it matters when connections began. Blocks.

        Return also of how many pairs of ends not all was read so.
        """
        baseline = self.learning.baseline()
        candidates, complete = uncounted(flows, baseline, told), True
        if some := candidates[:SINGLES]:
            wanted = {target(each) for each in some}
            single, complete = singly(self._store, some, since, until)
            flows = (*(each for each in flows if target_of(each) not in wanted), *single)
        missed = max(0, len(candidates) - SINGLES) if complete else len(candidates)
        return anomalies(flows, baseline, told), missed

    def _untold(self, found: Found, missed: int) -> Iterator[NotLookedFor]:
        """Yield what was not looked for, in words that say until when."""
        if self.learning.baseline() is None:
            hours = self.learning.settle * self.learning.window / 3600
            why = f"what is ordinary is learnt from flows that are older than {hours:.0f} h, and none are"
            yield from (NotLookedFor(each, why) for each in COMPARED)
            return
        yield from found.not_looked_for
        if missed:
            why = f"more flows were to be read singly than can be: {missed} pairs of ends were not looked at as a whole"
            yield NotLookedFor(AnomalyKind.BEACON, why)
        if self.learning.forgot:
            why = f"{self.learning.forgot} kinds of connections were more than can be remembered"
            yield NotLookedFor(AnomalyKind.FIRST_SEEN, why)

    async def _say(self, found: tuple[Anomaly, ...], unassessed: tuple[Unassessed, ...]) -> None:
        order = list(Severity)
        every = sorted(map(finding, found), key=lambda each: (order.index(each.severity), each))
        missed = Counter(each.check for each in every[MOST:])
        more = tuple(Unassessed(check, f"{count} more are not shown: there are {len(every)} in all")
                     for check, count in sorted(missed.items()))  # fmt: skip
        await self._controller.take(Findings(EVERYWHERE, tuple(sorted(every[:MOST])), (*unassessed, *more)))

    # What nothing is to be learnt from

    def suspicious(self, since: float, until: float) -> tuple[Anomaly, ...]:
        """Return the anomalies of a time, but for edges that were new and have gone on for a day's hours since."""
        return tuple(each for each in self._alarms.during(since, until) if not self._steady(each))

    def _steady(self, found: Anomaly) -> bool:
        ways = {way(each, self.learning.by) for each in found.traffic}
        return found.kind is AnomalyKind.FIRST_SEEN and all(self.learning.windows(each) >= STEADY for each in ways)


def pause(took: float, *, learnt: bool) -> float:
    """Return the seconds from the end of a look that took so long to the next; what is left to be learnt waits less."""
    usual = 0.0 if learnt else min(EVERY, max(SOONEST, took / LIGHTLY))
    return max(usual, took / SHARE - took)


def _everything(why: str) -> tuple[NotLookedFor, ...]:
    return tuple(NotLookedFor(each, why) for each in CHECKS)


def _unassessed(missed: tuple[NotLookedFor, ...]) -> tuple[Unassessed, ...]:
    return tuple(sorted(Unassessed(CHECKS[each.kind][0], each.why) for each in missed))
