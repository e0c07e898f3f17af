"""The ear's thread: hears devices, and has what they tell stored every few seconds. What the store refuses is kept.

Nothing here delays anything else. What cannot be kept is counted.
"""

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple

import msgspec

from stockade.adapters.netflow import Ear
from stockade.controller.exporters.exporters import Exporters, Network
from stockade.controller.flows import FlowIntake
from stockade.core.model.flow_table import FlowBatch
from stockade.core.model.snapshot import Snapshot
from stockade.logs import log_of
from stockade.seams.clock import Clock
from stockade.seams.flow_store import FlowsRefused, FlowStoreFailed

EVERY = 5.0
"""Seconds between two times that what was heard is stored; a record waits for its other half as long, or twice."""
PATIENCE = 0.5
UNSTORED = 64
"""Batches that are kept while the store takes none."""

log = log_of("netflow")


class Devices(NamedTuple):
    """Where devices are heard, and which."""

    ear: Ear
    allowed: tuple[Network, ...]


class Hearing:
    """Runs until ``stop``, in whichever thread calls ``run``."""

    def __init__(self, devices: Devices, intake: FlowIntake, snapshot: Callable[[], Snapshot], clock: Clock) -> None:
        self.exporters = self._exporters = Exporters(devices.allowed)
        self._ear = devices.ear
        self._intake = intake
        self._snapshot = snapshot
        self._clock = clock
        self._stopping = threading.Event()
        self._unstored: deque[FlowBatch] = deque()
        self._lost = 0

    def stop(self) -> None:
        """Have ``run`` return soon. From any thread."""
        self._stopping.set()

    def close(self) -> None:
        """Let go of the socket."""
        self._ear.close()

    def run(self) -> None:
        """Hear and store until stopped; what was heard by then is stored."""
        last = self._clock.monotonic()
        while not self._stopping.is_set():
            for data, sender in self._ear.read(PATIENCE):
                self._exporters.hear(data, sender, self._clock.now())
            if self._clock.monotonic() - last >= EVERY or self._exporters.full:
                last = self._clock.monotonic()
                self._store()
        self._store(everything=True)

    def _store(self, *, everything: bool = False) -> None:
        self._exporters.lose("datagrams that the kernel had no room for", self._ear.dropped)
        self._exporters.lose("flows that could not be stored", self._lost)
        self._unstored += self._exporters.take(self._clock.now(), everything=everything)
        while self._unstored:
            try:
                self._intake.take(msgspec.structs.replace(self._unstored[0], at=self._clock.now()), self._snapshot())
            except FlowsRefused as problem:
                log.warning("exported-flows-refused", detail=problem.message)
                self._lost += len(self._unstored[0].flows)
            except FlowStoreFailed as problem:
                log.warning("exported-flows-not-stored", detail=problem.message, waiting=len(self._unstored))
                while len(self._unstored) > UNSTORED:
                    gone = self._unstored.popleft()
                    self._lost += len(gone.flows)
                    self._exporters.unsay(gone)
                return
            self._unstored.popleft()


@asynccontextmanager
async def hearing(made: Hearing | None) -> AsyncIterator[None]:
    """Hear in a thread while the block runs; None: nobody."""
    if made is None:
        yield
        return
    running = asyncio.create_task(asyncio.to_thread(made.run))
    try:
        yield
    finally:
        made.stop()
        with contextlib.suppress(asyncio.CancelledError):
            await running
        made.close()
