"""The loop around ``machine``: sources, the kernel, the controller and the clock on one side, values on the other.

Enforcement outlives this loop: stopping it, or killing it, changes nothing in the kernel.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import structlog

from stockade.agent.counting import counted
from stockade.agent.machine import Machine
from stockade.agent.state import AssignmentFile
from stockade.agent.sweep import look_ahead, sweep
from stockade.agent.values import (
    Acknowledged,
    Assigned,
    Command,
    Commit,
    Committed,
    Drifted,
    Failed,
    Happening,
    HostObserved,
    Observe,
    Observed,
    Remark,
    Save,
    Say,
    SourceSaid,
    Sweep,
    Tick,
    Unheard,
    Wake,
)
from stockade.core.model.ids import HostId
from stockade.errors import StockadeError
from stockade.seams.clock import Clock
from stockade.seams.kernel import Kernel, KernelRefused
from stockade.seams.link import ControllerLink
from stockade.seams.runtime import Runtime
from stockade.wire import Counters

LOOK_AGAIN = 5.0
"""Seconds between looks at our tables where nobody tells of changes to them."""
COUNT_EVERY = 5.0
RECONNECT = 1.0

log: Any = structlog.get_logger("agent")


class Agent:
    """One host's agent, running. ``looks`` yields the host as the kernel shows it, first at once."""

    def __init__(
        self,
        host: HostId,
        *,
        runtimes: Sequence[Runtime],
        looks: Callable[[], AsyncIterator[HostObserved]],
        kernel: Kernel,
        link: ControllerLink,
        state: AssignmentFile,
        clock: Clock,
    ) -> None:
        self._host = host
        self._runtimes = runtimes
        self._looks = looks
        self._kernel = kernel
        self._link = link
        self._state = state
        self._clock = clock
        self._happenings: asyncio.Queue[Happening] = asyncio.Queue()
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="kernel")
        self._tasks: set[asyncio.Task[None]] = set()
        self.machine = Machine(host, tuple(each.name for each in runtimes))
        self.errors = 0

    async def run(self) -> None:
        """Run until cancelled. What is enforced stays enforced."""
        generation = await self._patiently(self._link.generation)
        self.machine = Machine(self._host, tuple(each.name for each in self._runtimes), generation)
        if (last := await asyncio.to_thread(self._state.read)) is not None:
            self._happenings.put_nowait(Assigned(last, from_disk=True))
        self._background(self._follow_controller(last.intent.fingerprint if last else ""))
        self._background(self._follow_host())
        self._background(self._watch_tables())
        for runtime in self._runtimes:
            self._background(self._follow(runtime))
        self._background(self._count())
        try:
            while True:
                happening = await self._happenings.get()
                for command in self.machine.handle(happening, self._clock.now()):
                    await self._carry_out(command)
        finally:
            await self._stop()

    async def _stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._worker.shutdown(wait=True)

    # Commands

    async def _carry_out(self, command: Command) -> None:
        match command:
            case Observe():
                await self._ask_kernel(lambda: Observed(self._kernel.observe()))
            case Commit():
                await self._ask_kernel(lambda: self._commit(command))
            case Sweep(intent=intent):
                self._background(self._sweep(lambda: sweep(self._kernel, intent)))
            case Say(message=message):
                self._background(self._say(command))
                log.debug("say", kind=type(message).__name__)
            case Save(assignment=assignment):
                await self._save(lambda: self._state.write(assignment))
            case Wake(at=at):
                self._background(self._wake(at))
            case Remark(event=event, detail=detail):
                log.warning(event, detail=detail)

    async def _ask_kernel(self, job: Callable[[], Happening]) -> None:
        """Do one thing with the kernel, in its one thread; a failure is an event like any other."""
        try:
            happened = await asyncio.get_running_loop().run_in_executor(self._worker, job)
        except (KernelRefused, OSError, EOFError) as problem:
            self.errors += 1
            happened = Failed(str(problem))
        self._happenings.put_nowait(happened)

    def _commit(self, command: Commit) -> Happening:
        """Entries of addresses that change hands go first, and once more after: their owner may have been talking."""
        if command.ahead is not None:
            look_ahead(self._kernel, command.ahead)
        if command.forget:
            self._kernel.forget(command.forget)
        self._kernel.commit(command.batch)
        if command.forget:
            self._kernel.forget(command.forget)
        return Committed()

    async def _sweep(self, job: Callable[[], int]) -> None:
        try:
            ended = await asyncio.get_running_loop().run_in_executor(self._worker, job)
        except OSError as problem:
            log.warning("not-swept", detail=str(problem))
        else:
            log.debug("swept", ended=ended)

    async def _save(self, job: Callable[[], None]) -> None:
        """A disk that is full costs the next start its head start, and nothing else."""
        try:
            await asyncio.to_thread(job)
        except OSError as problem:
            log.error("assignment-not-kept", detail=str(problem), remedy="enforcement goes on; free some space")

    async def _say(self, command: Say) -> None:
        try:
            generation = await self._link.say(command.message)
        except (OSError, StockadeError) as problem:
            log.warning("controller-unheard", detail=str(problem))
            self._happenings.put_nowait(Unheard())
        else:
            self._happenings.put_nowait(Acknowledged(generation))

    async def _wake(self, at: float) -> None:
        await asyncio.sleep(max(0.0, at - self._clock.now()))
        self._happenings.put_nowait(Tick())

    # Happenings

    async def _follow(self, runtime: Runtime) -> None:
        async for event in runtime.events():
            self._happenings.put_nowait(SourceSaid(runtime.name, event))

    async def _follow_host(self) -> None:
        async for look in self._looks():
            self._happenings.put_nowait(look)

    async def _follow_controller(self, since: str) -> None:
        while True:
            try:
                async for assignment in self._link.assignments(since):
                    since = assignment.intent.fingerprint
                    self._happenings.put_nowait(Assigned(assignment))
            except OSError as problem:
                log.warning("controller-away", detail=str(problem))
            await asyncio.sleep(RECONNECT)

    async def _watch_tables(self) -> None:
        while True:
            await asyncio.sleep(LOOK_AGAIN)
            self._happenings.put_nowait(Drifted())

    async def _count(self) -> None:
        """Tell the controller, every few seconds, what the kernel counted and how full its connection table is."""
        while True:
            await asyncio.sleep(COUNT_EVERY)
            with contextlib.suppress(OSError, KernelRefused, EOFError, StockadeError):
                await self._link.say(await asyncio.get_running_loop().run_in_executor(self._worker, self._counters))

    def _counters(self) -> Counters:
        intent = self.machine.realised
        rules = counted(intent, self._kernel.counters()) if intent else ()
        fill = self._kernel.fill()
        lost = (("kernel", self.errors), ("tracking", fill.lost))
        return Counters(self._host, rules, lost, fill.entries, fill.limit)

    async def _patiently(self, ask: Callable[[], Awaitable[int]]) -> int:
        while True:
            try:
                return await ask()
            except OSError as problem:
                log.warning("controller-away", detail=str(problem))
                await asyncio.sleep(RECONNECT)

    def _background(self, work: "Awaitable[None]") -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: "asyncio.Future[None]") -> None:
        """A part that failed is said aloud; the others go on."""
        self._tasks.discard(task)
        if not task.cancelled() and (problem := task.exception()) is not None:
            log.error("part-failed", detail=repr(problem))
