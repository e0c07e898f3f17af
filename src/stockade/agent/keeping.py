"""What is in force is kept on disk, by nobody who has anything else to do: the newest, as fast as the disk is."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

from stockade.agent.state import AssignmentFile
from stockade.core.model.intent import Intent
from stockade.logs import log_of
from stockade.wire import Assignment

SETTLE = 0.5
"""Seconds after which what was kept is made to outlive a power cut."""
AGAIN = 15.0
"""Seconds before what could not be kept is tried again, unless there is something newer before."""

log = log_of("agent")
T = TypeVar("T")


class Keeping:
    """Takes what is to be kept; ``run`` writes it down and ``settle`` makes it last, both until cancelled."""

    def __init__(self, file: AssignmentFile) -> None:
        self._file = file
        self._newest: Intent | None = None
        """What is in force and not on disk."""
        self._asked, self._written = asyncio.Event(), asyncio.Event()
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="disk")
        self.failed = 0
        """How often it could not be kept."""

    async def read(self) -> Assignment | None:
        """Return what was kept by whoever ran before; ``OSError`` where the disk does not say."""
        return await self._on_disk(self._file.read)

    def keep(self, intent: Intent) -> None:
        """Take note of what is in force now."""
        self._newest = intent
        self._asked.set()

    async def run(self) -> None:
        """Write down the newest, again and again."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(AGAIN if self._newest else None):
                    await self._asked.wait()
            self._asked.clear()
            await self._keep()

    async def settle(self) -> None:
        """Have it outlive a power cut: once for all that is written within a moment, and nobody waits for it."""
        while True:
            await self._written.wait()
            await asyncio.sleep(SETTLE)
            self._written.clear()
            try:
                await asyncio.to_thread(self._file.settle)
            except OSError as problem:
                log.warning("assignment-not-settled", detail=str(problem))

    async def finish(self) -> None:
        """Write down what is left. Once, when ``run`` has been cancelled."""
        await self._keep()
        await asyncio.to_thread(self._disk.shutdown)

    async def _keep(self) -> None:
        """A disk that is full costs the next start its head start, and nothing else."""
        newest = self._newest
        if newest is None:
            return
        try:
            await self._on_disk(lambda: self._file.write(Assignment(newest)))
        except OSError as problem:
            self.failed += 1
            kept_on = "enforcement goes on; a restart waits for the controller, and what the kernel holds stays"
            log.error("assignment-not-kept", detail=str(problem), kept=kept_on, remedy="free some space")
            return
        if self._newest is newest:
            self._newest = None
        self._written.set()

    async def _on_disk(self, job: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._disk, job)
