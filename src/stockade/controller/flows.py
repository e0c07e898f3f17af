"""Batches of flows from hosts → the flow store: each end becomes whoever it is now, each time the controller's."""

import asyncio
import ipaddress
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

from stockade.controller.together import Together
from stockade.controller.whose import Whose
from stockade.core.model.flow_table import FlowBatch, FlowTable
from stockade.core.model.ids import HostId
from stockade.core.model.snapshot import Snapshot
from stockade.seams.clock import Clock
from stockade.seams.flow_store import FlowsRefused, FlowStore, StoredBatch

SAME_CLOCK = 0.5
"""Seconds that a host's clock may differ, the way to here included, and count as right."""
LOOKED_UP_FOR = 1.0
"""Seconds for which other hosts' addresses are whose they were: looking them all up costs time where there are many."""

TAKERS = 64
"""Batches that are taken in at once: they are put together, and wait for one another."""


class FlowIntake:
    """Takes what hosts recorded. Safe from several threads.

    What it raises is ``FlowStoreFailed``; ``FlowsRefused`` where the batch is at fault.
    """

    def __init__(self, store: FlowStore, clock: Clock) -> None:
        self.store = store
        self._clock = clock
        self._lock = threading.Lock()
        self._together = Together(store.put)
        self._takers = ThreadPoolExecutor(TAKERS, thread_name_prefix="flows")
        self._listeners: list[Callable[[StoredBatch], None]] = []
        self._whose: Whose | None = None
        self._looked_up: Snapshot | None = None
        self._since = 0.0
        self.taken = 0
        """Flows stored since the start."""
        self.skews: dict[HostId, float] = {}
        """Seconds by which each host's clock is behind this one's, where that is more than nothing."""

    async def taken_in(self, batch: FlowBatch, snapshot: Snapshot) -> None:
        """Store a batch, once, beside everything else."""
        await asyncio.get_running_loop().run_in_executor(self._takers, self.take, batch, snapshot)

    def take(self, batch: FlowBatch, snapshot: Snapshot) -> None:
        """Store a batch, once. Blocks."""
        now = self._clock.now()
        behind = now - batch.at
        self.skews[batch.host] = behind = behind if abs(behind) > SAME_CLOCK else 0.0
        _check(batch)
        with self._lock:
            ends = tuple(map(self._known(snapshot).kept, batch.flows.ends))
        rows = batch.flows.rows.moved(behind) if behind else batch.flows.rows
        flows = FlowTable(ends, batch.flows.kinds, rows)
        stored = StoredBatch(batch.host, batch.stream, batch.number, batch.until + behind, flows, batch.lost)
        if self._together.put(stored) and len(flows):
            with self._lock:
                self.taken += len(flows)
            self._tell(stored)

    def listen(self, told: Callable[[StoredBatch], None]) -> Callable[[], None]:
        """Have each batch told as soon as it is stored, from whichever thread stored it; return what ends that."""
        self._listeners.append(told)
        return lambda: self._listeners.remove(told)

    def _tell(self, batch: StoredBatch) -> None:
        for told in tuple(self._listeners):
            told(batch)

    def trim(self) -> None:
        """Forget what is older or more than is kept. Nothing is done until something was stored."""
        if self.taken:
            self.store.trim(self._clock.now())

    def _known(self, snapshot: Snapshot) -> Whose:
        """Return who is where under a snapshot."""
        now, known = self._clock.monotonic(), self._whose
        stale = self._looked_up is not snapshot and now - self._since > LOOKED_UP_FOR
        if known is None or stale:
            known = Whose(snapshot)
            self._looked_up, self._since = snapshot, now
        elif known.snapshot is not snapshot:
            known = Whose(snapshot, known)
        self._whose = known
        return known


def _check(batch: FlowBatch) -> None:
    """``FlowsRefused`` where columns or addresses are none: a point that is broken, or not one of ours."""
    if not batch.flows.rows.even:
        raise FlowsRefused.broken(f"a batch of {batch.host}", "its columns are not equally long", of="batch")
    for each in batch.flows.ends:
        if not _is_address(each.address):
            why = f"it holds an address that is none, {each.address[:80]!r}"
            raise FlowsRefused.broken(f"a batch of {batch.host}", why, of="batch")


@lru_cache(maxsize=1 << 16)
def _is_address(text: str) -> bool:
    """Tell whether it is one. The same ones come again and again."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
