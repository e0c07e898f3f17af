"""The flows of one host: read in a thread of their own, put on disk, sent in order until the controller has them.

Nothing here delays enforcement. What cannot be recorded is counted and told with the next batch that can.
"""

import asyncio
import contextlib
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

import msgspec

from stockade.agent.flows.names import NOBODY, names
from stockade.agent.flows.recording import MOST, Recording, address, local_socket
from stockade.agent.flows.resolvers import Resolvers
from stockade.agent.flows.spool import Spool
from stockade.agent.flows.told import Told
from stockade.core.budget import Budget
from stockade.core.model.flow import FlowLoss
from stockade.core.model.flow_table import FlowBatch
from stockade.core.model.ids import HostId
from stockade.core.model.intent import Intent
from stockade.errors import StockadeError
from stockade.logs import log_of
from stockade.seams.clock import Clock
from stockade.seams.flow_store import FlowsRefused
from stockade.seams.flows import FlowSource, Programs
from stockade.seams.link import ControllerLink
from stockade.wire import Recorded

EVERY = 2.0
"""Seconds of a batch, where not too much happens."""
AGAIN, AGAIN_AT_MOST = 1.0, 30.0
"""Seconds until a batch is sent again that was not taken; doubled each time."""
ANSWERS = 1000
"""Answers of resolvers that are read in a second."""
UNKEPT = 8
"""Batches kept in memory while the disk takes none."""

log = log_of("flows")


class Recorder:
    """``source`` opens the kernel's voice anew; ``OSError`` where it cannot be heard. ``run`` for ever.

    ``programs`` tells who holds the sockets of connections; without it nobody is named.
    """

    def __init__(self, host: HostId, *, source: Callable[[], FlowSource], link: ControllerLink, spool: Spool,
                 clock: Clock, programs: Programs | None = None) -> None:  # fmt: skip
        self._host = host
        self._open = source
        self._link = link
        self._spool = spool
        self._clock = clock
        self._programs = programs
        self._stream = uuid.uuid4().hex
        self._number = 0
        self._names = NOBODY
        self._intents: deque[Intent] = deque()
        self._recording = Recording()
        self._resolvers = Resolvers()
        self._told_names = Told()
        self._answers = Budget(ANSWERS)
        self._unkept: deque[FlowBatch] = deque()
        self._lost: Counter[tuple[str, str]] = Counter()
        """Everything lost since this began, by where and what."""
        self._told: Counter[tuple[str, str]] = Counter()
        self._before: Counter[tuple[str, str]] = Counter()
        """What sources that were closed had lost."""
        self._waiting = asyncio.Event()
        self._ended = False

    def learn(self, intent: Intent) -> None:
        """An intent is about to be in force: what is heard from now on may speak of it. From any thread."""
        self._intents.append(intent)

    def losses(self) -> tuple[tuple[str, int], ...]:
        """Return what was lost since this began, under a name for each kind."""
        return tuple((f"{where} {what}", count) for (where, what), count in sorted(self._lost.items()) if count)

    async def run(self) -> None:
        """Read and send until cancelled. Raises ``OSError`` where the kernel cannot be heard; begin again then."""
        loop = asyncio.get_running_loop()
        worker = ThreadPoolExecutor(1, thread_name_prefix="flows")
        source = await loop.run_in_executor(worker, self._begin)
        sending = asyncio.create_task(self._send())
        self._ended = False
        try:
            self._waiting.set()  # what an earlier one left
            while True:
                await loop.run_in_executor(worker, self._gather, source)
                self._waiting.set()
        finally:
            self._ended = True
            sending.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await sending
            await asyncio.to_thread(worker.shutdown, wait=True)
            self._put(source, self._clock.now())
            self._before = Counter({(where, what): self._lost[where, what] for where, what, _ in source.losses()})
            source.close()

    # In the thread

    def _begin(self) -> FlowSource:
        """Hear the kernel; for how long nobody did is a loss like any other."""
        source = self._open()
        with contextlib.suppress(OSError):
            if (silent := self._spool.heard()) > EVERY:
                self._lost["recorder", "seconds unheard"] += round(silent)
        return source

    def _gather(self, source: FlowSource) -> None:
        """Read for a while, and put what was heard on disk."""
        began, since = self._clock.monotonic(), self._clock.now()
        while not self._ended and len(self._recording) < MOST:
            left = EVERY - (self._clock.monotonic() - began)
            if left <= 0:
                break
            heard = source.read(left)
            now = self._clock.now()
            self._hear(heard.answers, now)
            self._recording.decided(heard.decisions, now)
            self._meet()
            self._recording.ended(heard.ended, now)
        self._put(source, since)
        with contextlib.suppress(OSError):
            self._spool.heard()

    def _hear(self, answers: list[bytes], now: float) -> None:
        """Learn what resolvers told this host's own ends; of very many answers, some."""
        if not answers:
            return
        self._name()
        some = answers[: self._answers.allows(self._clock.monotonic())]
        self._lost["dns", "answers not read"] += len(answers) - len(some)
        self._answers.spend(len(some))
        found = (each for packet in some for each in self._resolvers.read(packet))
        self._told_names.hear((each for each in found if address(each.asker) in self._names.workloads), now)
        self._lost["dns", "connections not followed"] = self._resolvers.lost

    def _meet(self) -> None:
        """Look for the programs of connections that are new: at once, since their sockets may live shortly."""
        fresh = self._recording.fresh()
        if self._programs is None or not fresh:
            return
        self._name()
        ends = [(one, socket) for one in fresh if (socket := local_socket(one, self._names)) is not None]
        for (one, _), program in zip(ends, self._programs.look([socket for _, socket in ends]), strict=True):
            if program:
                self._recording.met(one, program)

    def _name(self) -> None:
        while self._intents:
            self._names = names(self._intents.popleft(), self._names)

    def _put(self, source: FlowSource, since: float) -> None:
        self._name()
        until = self._clock.now()
        self._count(source)
        lost = tuple(
            FlowLoss(where, what, count - self._told[where, what])
            for (where, what), count in sorted(self._lost.items())
            if count > self._told[where, what]
        )
        flows = self._recording.take(self._names, self._told_names)
        if not len(flows) and not lost:
            return
        first = min(flows.rows.column("first"), default=since)
        batch = FlowBatch(self._host, self._stream, self._number, min(since, first), until, until, flows, lost)
        self._number += 1
        self._told = Counter(self._lost)
        self._unkept.append(batch)
        self._keep()

    def _keep(self) -> None:
        """Put on disk what is not there yet, oldest first."""
        while self._unkept:
            try:
                self._spool.put(self._unkept[0])
            except OSError as problem:
                log.warning("flows-not-kept", detail=str(problem), waiting=len(self._unkept), kept="they are in memory")
                while len(self._unkept) > UNKEPT:
                    gone = self._unkept.popleft()
                    self._lost["disk", "flows"] += len(gone.flows)
                    self._unsay(gone.lost)
                return
            self._unkept.popleft()

    def _unsay(self, losses: Iterable[FlowLoss]) -> None:
        """What a lost batch would have told is told with the next."""
        for each in losses:
            self._told[each.where, each.what] -= each.count

    def _count(self, source: FlowSource) -> None:
        for where, what, count in source.losses():
            self._lost[where, what] = self._before[where, what] + count
        if self._programs is not None:
            self._lost["programs", "not looked for"] = self._programs.unlooked
        self._lost["spool", "flows"] = self._spool.dropped
        self._unsay(self._spool.unsaid())
        self._lost["spool", "damaged batches"] = self._spool.damaged

    # In the loop

    async def _send(self) -> None:
        """Send what waits, oldest first, each until it is taken."""
        pause = AGAIN
        while True:
            found = await asyncio.to_thread(self._spool.first)
            if found is None:
                self._waiting.clear()
                await self._waiting.wait()
                continue
            path, batch = found
            try:
                await self._link.say(Recorded(msgspec.structs.replace(batch, at=self._clock.now())))
            except FlowsRefused as problem:
                log.warning("flows-refused", detail=str(problem), flows=len(batch.flows), kept="nothing of them")
                self._lost["controller", "refused flows"] += len(batch.flows)
                await asyncio.to_thread(self._spool.done, path)
            except (OSError, StockadeError) as problem:
                log.debug("flows-unheard", detail=str(problem), waiting=len(self._spool))
                await asyncio.sleep(pause)
                pause = min(pause * 2, AGAIN_AT_MOST)
            else:
                pause = AGAIN
                await asyncio.to_thread(self._spool.done, path)
