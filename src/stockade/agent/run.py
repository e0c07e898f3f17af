"""The loop around ``machine``: sources, the kernel, the controller and the clock on one side, values on the other.

Enforcement outlives this loop: stopping it, or killing it, changes nothing in the kernel. What fails here is said
aloud and tried again; no part that fails takes another with it.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from stockade.agent.counting import counted
from stockade.agent.flows.recorder import Recorder
from stockade.agent.inspecting import inspecting
from stockade.agent.introducing import in_turn
from stockade.agent.keeping import Keeping
from stockade.agent.machine import Machine
from stockade.agent.state import AssignmentFile
from stockade.agent.sweep import Ahead, slices
from stockade.agent.tampering import Changes, deserted, tampering
from stockade.agent.values import (
    Assigned,
    Command,
    Commit,
    Committed,
    Drifted,
    Elapsed,
    Failed,
    Forget,
    Greeted,
    Happening,
    Heard,
    HostObserved,
    Inspected,
    KeepBirths,
    Observe,
    Observed,
    Remark,
    Save,
    Say,
    SetTimer,
    SourceSaid,
    Sweep,
    Timer,
    Unheard,
)
from stockade.core.compile.nft.render import superseded
from stockade.core.model.ids import HostId
from stockade.core.model.intent import Intent
from stockade.core.model.policy import Births, Where
from stockade.errors import StockadeError
from stockade.logs import log_of
from stockade.memory import give_back
from stockade.seams.clock import Clock
from stockade.seams.gate import Gate, Knock
from stockade.seams.inspection import Inspection
from stockade.seams.kernel import Kernel, KernelRefused
from stockade.seams.link import ControllerLink
from stockade.seams.neighbours import Introduction, Neighbours
from stockade.seams.runtime import Lost, Runtime
from stockade.seams.survey import Survey
from stockade.wire import Counters, Outcome, Surveyed

LOOK_AGAIN = 5.0
"""Seconds between looks at our tables where nobody tells of changes to them."""
LOOK_ANYWAY = 30.0
"""The same where somebody does."""
COUNT_EVERY = 5.0
GIVE_BACK = 60.0
"""Seconds between two times that memory is given back."""
SWEEP = 0.1
"""Seconds after a change of rules before what it leaves of connections is swept; their packets are refused at once."""
AGAIN, AGAIN_AT_MOST = 0.5, 15.0
"""Seconds before a part that failed is begun again; doubled each time that it fails soon after."""
STARTING = 1.0
"""Seconds for which a start waits for a disk that does not say what was in force."""
NO_LOSSES: tuple[tuple[str, int], ...] = ()

log = log_of("agent")
T = TypeVar("T")


class Agent:
    """One host's agent, running. ``looks`` yields the host as the kernel shows it, first at once.

    ``changes`` subscribes to what others do to our tables; without it they are looked at oftener. ``holder`` returns
    a descriptor that becomes readable when nobody holds them any more. ``losses`` says what the sources had to leave
    out, by their names. ``neighbours`` tells endpoints that were just admitted of their neighbours. At the ``gate``
    runtimes ask before they start anything. ``surveys`` yields what the kernel shows of who is there, first at once.
    ``inspection`` looks at what stands around our tables; without it nothing is judged there, and nobody is told that
    it is clean. ``recorder`` tells of flows.
    """

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
        changes: Callable[[], Changes] | None = None,
        holder: Callable[[], int] | None = None,
        losses: Callable[[], tuple[tuple[str, int], ...]] = lambda: NO_LOSSES,
        neighbours: Neighbours | None = None,
        gate: Gate | None = None,
        surveys: Callable[[], AsyncIterator[Survey]] | None = None,
        inspection: Inspection | None = None,
        recorder: Recorder | None = None,
    ) -> None:
        self._host = host
        self._runtimes = runtimes
        self._looks = looks
        self._kernel = kernel
        self._link = link
        self._keeping = Keeping(state)
        self._clock = clock
        self._changes = changes
        self._holder = holder
        self._losses = losses
        self._neighbours = neighbours
        self._gate = gate
        self._surveys = surveys
        self._inspection = inspection
        self._recorder = recorder
        self._happenings: asyncio.Queue[Happening] = asyncio.Queue()
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="kernel")
        self._introducer = ThreadPoolExecutor(1, thread_name_prefix="neighbours")
        self._tasks: set[asyncio.Task[None]] = set()
        self._timers: dict[Timer, asyncio.TimerHandle] = {}
        self._ahead = Ahead(kernel)
        self._sweeping = False
        self._generation: int | None = None
        self._switched: Intent | None = None  # the newest intent that the kernel was given, as soon as it is
        self._learnt: Intent | None = None
        self._since = ""
        self.machine = Machine(host, tuple(each.name for each in runtimes))
        self.errors = 0
        """How often the kernel refused, or could not be asked."""

    async def run(self) -> None:
        """Run until cancelled. What is enforced stays enforced."""
        await asyncio.wait({self._background(self._remember())}, timeout=STARTING)
        for name, part in self._parts():
            self._background(self._always(name, part))
        try:
            while True:
                await self._take(await self._happenings.get())
        finally:
            await self._stop()

    async def _remember(self) -> None:
        """Begin with what is on disk, unless the kernel holds something newer: no controller need answer for it."""
        try:
            kept = await self._keeping.read()
        except OSError as problem:
            log.warning("assignment-unreadable", detail=str(problem), remedy="what the kernel holds stays in force")
            return
        if kept is None:
            return
        pause = AGAIN
        while (old := await self._is_superseded(kept.intent)) is None and not self._since:
            await asyncio.sleep(pause)
            pause = min(pause * 2, AGAIN_AT_MOST)
        if old is None:
            return
        if old:
            waits = "what the kernel holds stays in force; births and changes wait for the controller"
            log.warning("assignment-superseded", detail="it was not kept in time", kept=waits)
        else:
            self._since = self._since or kept.intent.fingerprint
            self._learn(kept.intent)
        self._happen(Assigned(kept, from_disk=True, superseded=old))

    async def _is_superseded(self, intent: Intent) -> bool | None:
        """Tell whether the kernel holds another intent's tables; None where it does not say."""
        try:
            return superseded(intent, await self._in_kernel(self._kernel.observe))
        except (KernelRefused, OSError, EOFError) as problem:
            self.errors += 1
            log.warning("kernel-not-read", detail=str(problem))
            return None

    def _parts(self) -> Iterator[tuple[str, Callable[[], Awaitable[None]]]]:
        yield "controller", self._follow_controller
        yield "links", self._follow_host
        for runtime in self._runtimes:
            yield runtime.name, partial(self._follow, runtime)
        yield "counters", self._count
        yield "memory", self._rest
        yield "tables", self._look_again
        yield "disk", self._keeping.run
        yield "settling", self._keeping.settle
        if self._surveys is not None:
            yield "census", self._survey
        if self._changes is not None:
            yield "changes", self._watch
        if self._holder is not None:
            yield "holder", self._keep
        if self._gate is not None:
            yield "gate", self._attend
        if self._inspection is not None:
            yield "findings", self._inspect
        if self._recorder is not None:
            yield "flows", self._recorder.run

    async def _take(self, happening: Happening) -> None:
        try:
            for command in self.machine.handle(happening, self._clock.now()):
                await self._carry_out(command)
        except Exception as problem:
            kept = "what is enforced stays enforced"
            log.error("not-handled", what=type(happening).__name__, detail=repr(problem), kept=kept, exc_info=True)

    async def _stop(self) -> None:
        for timer in self._timers.values():
            timer.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._keeping.finish()
        for each in (self._worker, self._introducer):
            await asyncio.to_thread(each.shutdown, wait=True, cancel_futures=True)

    # Commands

    async def _carry_out(self, command: Command) -> None:
        match command:
            case Observe():
                self._background(self._ask_kernel(self._observe))
            case Commit(ahead=ahead):
                if ahead is not None:
                    self._learn(ahead)
                self._background(self._ask_kernel(lambda: self._commit(command)))
            case Forget(addresses=addresses):
                self._background(self._end("not-forgotten", lambda: self._kernel.forget(addresses)))
            case Sweep(intent=intent):
                self._switched = intent
                if not self._sweeping:
                    self._sweeping = True
                    self._background(self._sweep_soon())
            case Say():
                self._background(self._say(command))
            case Save(intent=intent):
                self._learn(intent)
                self._keeping.keep(intent)
            case KeepBirths(births=births, where=where):
                self._background(self._keep_births(births, where))
            case SetTimer(timer=timer, seconds=seconds):
                self._set(timer, seconds)
            case Remark(event=event, detail=detail):
                log.warning(event, detail=detail)

    async def _in_kernel(self, job: Callable[[], T]) -> T:
        """Do one thing with the kernel, in its one thread, in the order in which they were asked for."""
        return await asyncio.get_running_loop().run_in_executor(self._worker, job)

    async def _ask_kernel(self, job: Callable[[], Happening]) -> None:
        """A failure is an event like any other."""
        try:
            happened = await self._in_kernel(job)
        except (KernelRefused, OSError, EOFError) as problem:
            happened = Failed(str(problem) or type(problem).__name__)
        except Exception as problem:
            log.error("kernel-adapter-failed", detail=repr(problem), exc_info=True)
            happened = Failed(repr(problem))
        self.errors += isinstance(happened, Failed)
        self._happen(happened)

    def _somebody_wrote(self) -> bool:
        """Tell whether anybody but us may have written to the ruleset since our tables were read or written."""
        try:
            return self._generation is None or self._kernel.generation() != self._generation
        except OSError:
            return True

    def _observe(self) -> Happening:
        self._generation = None
        generation = self._kernel.generation()
        ruleset = self._kernel.observe()
        self._ahead.doubt(ruleset)
        self._generation = generation
        return Observed(ruleset)

    def _write(self, batch: str) -> None:
        """Ours is one generation: where there were more, somebody else wrote too."""
        before, self._generation = self._generation, None
        ours = self._kernel.generation() == before
        self._kernel.commit(batch)
        after = self._kernel.generation()
        self._generation = after if ours and before is not None and after == before + 1 else None

    def _commit(self, command: Commit) -> Happening:
        """Entries of addresses that get another owner go first, and once more after: the old one may have been talking.

        What nobody has any more is judged as nobody's from the switch on; its entries go before somebody gets it.
        """
        if command.ahead is not None:
            self._switched = command.ahead
            self._ahead.look(command.ahead)
        if command.forget:
            self._kernel.forget(command.forget)
        self._write(command.batch)
        if after := (*command.forget, *command.left):
            self._kernel.forget(after)
        at_once, later = in_turn(command.admitted)
        for each in at_once:
            self._introduce(each)
        for each in later:
            self._introducer.submit(self._introduce, each)
        return Committed()

    def _learn(self, intent: Intent) -> None:
        """What the kernel tells of flows from here on may name what is in this intent."""
        if self._recorder is not None and intent is not self._learnt:
            self._recorder.learn(intent)
            self._learnt = intent

    async def _end(self, otherwise: str, job: Callable[[], int]) -> int:
        try:
            return await self._in_kernel(job)
        except (OSError, KernelRefused) as problem:
            self.errors += 1
            log.warning(otherwise, detail=str(problem), kept="their packets are judged as policy says now")
            return 0

    async def _sweep_soon(self) -> None:
        """Once for all that comes into force within a moment: a birth need not wait for what the one before left."""
        await asyncio.sleep(SWEEP)
        self._sweeping = False
        if self._switched is not None:
            await self._sweep(self._switched)

    async def _sweep(self, intent: Intent) -> None:
        """Sweep slice by slice, so that a change need not wait for it, until the kernel is given another intent."""
        ended, going = 0, slices(self._kernel, intent)
        while (some := await self._end("not-swept", lambda: self._slice(going, intent))) >= 0:
            ended += some
        log.info("swept", ended=ended, version=intent.version, revision=intent.revision)

    def _slice(self, going: Iterator[int], intent: Intent) -> int:
        return next(going, -1) if self._switched is intent else -1

    def _introduce(self, introduction: Introduction) -> None:
        """Where it cannot be done, the endpoint asks again by itself, after a second."""
        if self._neighbours is not None:
            try:
                self._neighbours.introduce(introduction)
            except OSError as problem:
                log.debug("not-introduced", port=introduction.port, detail=str(problem))

    async def _keep_births(self, births: Births, where: Where) -> None:
        if self._gate is not None:
            try:
                await asyncio.to_thread(self._gate.keep, births, where)
            except OSError as problem:
                kept = "while this agent runs, the gate asks it; without it, the gate goes by what was kept before"
                log.error("births-not-kept", detail=str(problem), kept=kept)

    async def _say(self, command: Say) -> None:
        message = command.message
        if isinstance(message, Outcome):
            log.info("outcome", version=message.version, revision=message.revision, error=message.error)
        try:
            self._happen(Heard(message, await self._link.say(message)))
        except (OSError, StockadeError) as problem:
            log.warning("controller-unheard", kind=type(message).__name__, detail=str(problem))
            self._happen(Unheard(message, str(problem) if isinstance(problem, StockadeError) else ""))

    def _set(self, timer: Timer, seconds: float) -> None:
        if running := self._timers.pop(timer, None):
            running.cancel()
        loop = asyncio.get_running_loop()
        self._timers[timer] = loop.call_later(seconds, self._happen, Elapsed(timer))

    # Happenings

    def _happen(self, happening: Happening) -> None:
        self._happenings.put_nowait(happening)

    async def _follow(self, runtime: Runtime) -> None:
        try:
            async for event in runtime.events():
                self._happen(SourceSaid(runtime.name, event))
        except Exception as problem:
            self._happen(SourceSaid(runtime.name, Lost(str(problem) or type(problem).__name__)))
            raise

    async def _follow_host(self) -> None:
        async for look in self._looks():
            self._happen(look)

    async def _follow_controller(self) -> None:
        self._happen(Greeted(await self._link.generation()))
        async for assignment in self._link.assignments(self._since):
            self._since = assignment.intent.fingerprint
            self._happen(Assigned(assignment))

    async def _look_again(self) -> None:
        while True:
            await asyncio.sleep(LOOK_AGAIN if self._changes is None else LOOK_ANYWAY)
            if await self._in_kernel(self._somebody_wrote):
                self._happen(Drifted())

    async def _watch(self) -> None:
        if self._changes is not None:
            self._happen(Drifted())
            async for by in tampering(self._changes):
                self._happen(Drifted(by))

    async def _inspect(self) -> None:
        if self._inspection is not None:
            async for facts in inspecting(self._inspection, self._clock):
                self._happen(Inspected(facts))

    async def _keep(self) -> None:
        """What nobody holds anybody may change: have it held again at once, and look at what happened meanwhile."""
        if self._holder is not None:
            async for _ in deserted(self._holder):
                self._happen(Drifted())

    async def _attend(self) -> None:
        """Answer runtimes that ask before a start, and take their word for where it is met."""
        if self._gate is not None:
            async for event in self._gate.attend(self._may_start, lambda: self.machine.starting):
                self._happen(SourceSaid("gate", event))

    def _may_start(self, knock: Knock) -> str:
        """Asked in other threads: it looks at what is in force, and at nothing that is being changed."""
        if reason := self.machine.refusal():
            log.warning("not-started", container=knock.container, by=knock.by, reason=reason)
        return reason

    async def _count(self) -> None:
        """Tell the controller, every few seconds, what the kernel counted and how full its connection table is."""
        while True:
            await asyncio.sleep(COUNT_EVERY)
            try:
                await self._link.say(await self._in_kernel(self._counters))
            except (OSError, KernelRefused, EOFError, StockadeError) as problem:
                log.debug("not-counted", detail=str(problem))

    async def _survey(self) -> None:
        """Tell the controller what the kernel shows of who is there. What it did not hear it hears with the next."""
        if self._surveys is not None:
            async for survey in self._surveys():
                census = self.machine.census(survey, self._clock.now())
                try:
                    await self._link.say(Surveyed(self._host, census))
                except (OSError, StockadeError) as problem:
                    log.debug("census-unheard", detail=str(problem))

    async def _rest(self) -> None:
        """Give back what a start takes, and every burst, and the process would keep."""
        while True:
            await asyncio.sleep(GIVE_BACK)
            await asyncio.to_thread(give_back)

    def _counters(self) -> Counters:
        intent = self.machine.realised
        rules = counted(intent, self._kernel.counters()) if intent else ()
        fill = self._kernel.fill()
        lost = (("kernel", self.errors), ("disk", self._keeping.failed), ("tracking", fill.lost), *self._losses())
        if self._recorder is not None:
            lost += self._recorder.losses()
        return Counters(self._host, rules, lost, fill.entries, fill.limit)

    # Parts

    async def _always(self, name: str, part: Callable[[], Awaitable[None]]) -> None:
        """Run one part for ever. When it fails or ends, say so and begin it again, after longer and longer pauses."""
        pause = AGAIN
        while True:
            began = self._clock.monotonic()
            try:
                await part()
            except (OSError, StockadeError) as problem:
                log.warning("part-interrupted", part=name, detail=str(problem))
            except Exception as problem:
                log.error("part-failed", part=name, detail=repr(problem), exc_info=True)
            lasted = self._clock.monotonic() - began
            pause = AGAIN if lasted > AGAIN_AT_MOST else min(pause * 2, AGAIN_AT_MOST)
            await asyncio.sleep(pause)

    def _background(self, work: "Awaitable[object]") -> "asyncio.Task[None]":
        task = asyncio.create_task(self._quietly(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _quietly(self, work: "Awaitable[object]") -> None:
        try:
            await work
        except Exception as problem:
            log.error("not-done", detail=repr(problem), exc_info=True)
