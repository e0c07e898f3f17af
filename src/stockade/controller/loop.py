"""The controller: events in, stored and folded; intents out, to the hosts that they change something for.

One writer: every step is stored before anybody sees it, and two steps never interleave. A step that cannot be stored
never happened. Compiling follows the newest snapshot and may leap over ones in between: output depends on state.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TypeVar

from stockade.controller.alarms import Alarms
from stockade.controller.bell import Bell
from stockade.controller.births import BirthCounts
from stockade.controller.findings import REMEMBERED, FindingBoard, reopened
from stockade.controller.flows import FlowIntake
from stockade.controller.intake import admit, changes, vanished
from stockade.controller.parts import Parts
from stockade.controller.roster import Roster
from stockade.core.compile.compiler import affected
from stockade.core.fold import Folding, fold
from stockade.core.model.event import Event, PolicyActivated
from stockade.core.model.flow_table import FlowBatch
from stockade.core.model.ids import HostId, Version, WorkloadId
from stockade.core.model.intent import Intent
from stockade.core.model.snapshot import Snapshot
from stockade.errors import StockadeError
from stockade.logs import log_of
from stockade.seams.clock import Clock
from stockade.seams.store import Birth, Commit, Entry, Loaded, Realised, Store, StoredVersion, StoreFailed, Unconfirmed
from stockade.wire import AgentMessage, Assignment, Counters, Findings, Outcome, Recorded, Report, Surveyed

CHECKPOINT_EVERY = 1000
"""Events between checkpoints: what a restart replays at most."""
ITSELF = "stockade"
"""The author of what nobody asked for just then: the first version, a return to the confirmed one, a lapse."""

T = TypeVar("T")
log = log_of("controller")


class Controller:
    """State and the one way to change it. Use ``open_controller``, and ``running`` for its background work."""

    def __init__(self, store: Store, clock: Clock, parts: Parts, loaded: Loaded) -> None:
        self.store = store
        self.clock = clock
        self.parts = parts
        self.started = clock.now()
        self.roster = Roster(loaded.realised)
        self.births = BirthCounts()
        self.findings = FindingBoard(loaded.accepted)
        self.alarms = Alarms()
        self.flows: FlowIntake | None = None
        """Where flows are kept; None where they are not."""
        self.unconfirmed: Unconfirmed | None = loaded.unconfirmed
        self.stalled = ""
        """Why the newest snapshot could not be compiled; hosts keep what they had. Empty where it was."""
        self.unstored = ""
        """Why the last step could not be stored; empty where it was."""
        self.changed = Bell()
        """Rings whenever the snapshot, an assignment or an outcome changed."""
        self.closing = asyncio.Event()
        self.snapshot = fold((each.event for each in loaded.events), loaded.snapshot)
        self._folding = Folding(self.snapshot)
        self._generations = dict(loaded.generations)
        self._since_checkpoint = len(loaded.events)
        self._lock = asyncio.Lock()
        self._compiled: Snapshot | None = None
        self._compiling = asyncio.Lock()
        self._touched: tuple[set[WorkloadId], set[HostId]] = (set(), set())

    # From agents

    async def take(self, message: AgentMessage) -> int:
        """Take what an agent says; return the last generation of its reports that is stored."""
        match message:
            case Report():
                return await self.submit(message)
            case Outcome():
                await self.note(message)
            case Counters():
                self.roster.counters[message.host] = message
            case Surveyed():
                self.roster.censuses[message.host] = message.census
            case Findings():
                await self.exclusively(lambda: self._find(message))
            case Recorded(batch=batch):
                await self._record(batch)
        return self._generations.get(message.host, 0)

    async def submit(self, report: Report) -> int:
        """Store and fold a report, once: a generation that is not newer is acknowledged and ignored."""
        return await self.exclusively(lambda: self._submit(report))

    async def _submit(self, report: Report) -> int:
        last = self._generations.get(report.host, 0)
        if report.generation <= last:
            return last
        admit(report, self.snapshot)
        events = self._telling((*vanished(report, self.snapshot), *report.events))
        await self.commit(Commit(events=events, generation=(report.host, report.generation)))
        self._generations[report.host] = report.generation
        return report.generation

    def _telling(self, events: tuple[Event, ...]) -> tuple[Event, ...]:
        """Leave out events that change nothing at their place."""
        folding, telling = Folding(self.snapshot), []
        for event in events:
            before = folding.snapshot
            if changes(event, before, folding.apply(event)):
                telling.append(event)
            else:
                folding.snapshot = before
        return tuple(telling)

    async def note(self, outcome: Outcome) -> None:
        """Record what became of an assignment, and births. What is older than what is known changes nothing."""
        await self.exclusively(lambda: self._note(outcome))

    async def _note(self, outcome: Outcome) -> None:
        record = self.roster.judge(outcome, self.clock.now())
        records = () if record is None else (record,)
        births = tuple(Birth(outcome.host, each) for each in outcome.births)
        audit = (_failure(record),) if record and record.error and not self._failing(record) else ()
        await self.commit(Commit(realised=records, births=births, audit=audit))
        if record is not None:
            self.roster.confirm(record)
        for each in outcome.births:
            self.births.add(each)
        self.changed.ring()

    async def _find(self, said: Findings) -> None:
        """Log what was raised and cleared on a host, and what is more than was accepted; then show it."""
        outgrown = self.findings.outgrown(said)
        more = tuple(reopened(each, "more was found", ITSELF) for each in outgrown)
        if entries := (*self.findings.entries(said, ITSELF), *more):
            await self.commit(Commit(audit=entries, reopened=tuple(each.id for each in outgrown)))
        self.findings.reopen(outgrown)
        self.findings.take(said)
        self.changed.ring()

    async def _record(self, batch: FlowBatch) -> None:
        """Store flows, beside everything else: they change no state."""
        if self.flows is None:
            raise StockadeError(
                "this controller keeps no flows",
                kept="The host keeps them, as many as it has room for.",
                remedy="Start the controller with a flow store.",
            )
        await self.flows.taken_in(batch, self.snapshot)

    def _failing(self, record: Realised) -> bool:
        """Tell whether this failure is known already: a host that retries is not news each time."""
        known = self.roster.realised.get(record.host)
        return known is not None and known.error == record.error

    def generation(self, host: HostId) -> int:
        """Return the last stored generation of a host's reports: a new agent goes on after it."""
        return self._generations.get(host, 0)

    # To agents

    async def assignment(self, host: HostId, since: str = "", wait: float | None = 0) -> Assignment | None:
        """Return what a host shall enforce, as soon as it is not ``since``; None where ``wait`` seconds passed."""
        deadline = None if wait is None else self.clock.monotonic() + wait
        while not self.closing.is_set():
            rung = self.changed.rung
            intent = self.roster.wanted.get(host)
            if intent is not None and intent.fingerprint != since:
                return Assignment(intent)
            left = None if deadline is None else deadline - self.clock.monotonic()
            if left is not None and left <= 0:
                return None
            await self.changed.wait(rung, left)
        return None

    async def assignments(self, host: HostId, since: str = "") -> AsyncIterator[Assignment]:
        """Yield what a host shall enforce, each time that it changes; the newest only, where it was slow."""
        while (assigned := await self.assignment(host, since, None)) is not None:
            since = assigned.intent.fingerprint
            yield assigned

    # Writing: for ``lifecycle`` and ``labels`` too

    async def exclusively(self, job: Callable[[], Awaitable[T]]) -> T:
        """Run one step with nobody else writing. It ends even if whoever asked has gone."""
        return await asyncio.shield(asyncio.ensure_future(self._alone(job)))

    async def _alone(self, job: Callable[[], Awaitable[T]]) -> T:
        async with self._lock:
            return await job()

    async def commit(self, commit: Commit) -> None:
        """Store one step, then let it be seen. Only within ``exclusively``. ``StockadeError``: it never happened."""
        before = self.snapshot
        try:
            touched = self._fold(commit.events)
            await asyncio.to_thread(self.store.commit, commit, after=before.revision, at=self.clock.now())
        except BaseException as problem:
            self._folding = Folding(before)
            self.unstored = problem.message if isinstance(problem, StoreFailed) else self.unstored
            raise
        self.snapshot, self.unstored = self._folding.snapshot, ""
        self._touch(*touched)
        if commit.confirmed or commit.unconfirmed is not None:
            self.unconfirmed = commit.unconfirmed
        self._since_checkpoint += len(commit.events)
        if commit.events:
            self.changed.ring()

    def _fold(self, events: tuple[Event, ...]) -> tuple[set[WorkloadId], set[HostId]]:
        """Fold events; return the workloads and hosts that they may have changed."""
        workloads: set[WorkloadId] = set()
        hosts: set[HostId] = set()
        for event in events:
            some_workloads, some_hosts = affected(event, self._folding.snapshot)
            workloads |= some_workloads
            hosts |= some_hosts
            self._folding.apply(event)
        return workloads, hosts

    def _touch(self, workloads: set[WorkloadId], hosts: set[HostId]) -> None:
        """Remember what the next compiling must look at again."""
        self._touched[0].update(workloads)
        self._touched[1].update(hosts)

    # Publishing

    async def publish(self) -> tuple[HostId, ...]:
        """Compile the newest snapshot and assign it; return the hosts that must hear of it."""
        async with self._compiling:
            snapshot = self.snapshot
            if self._compiled is snapshot:
                return ()
            (workloads, hosts), self._touched = self._touched, (set(), set())
            try:
                intents = await asyncio.to_thread(self.parts.compile, snapshot, workloads, hosts)
            except Exception as problem:  # noqa: BLE001 - whatever goes wrong, hosts keep what they have, and it shows
                self._touch(workloads, hosts)
                self._stall(problem)
                return ()
            finally:
                self._compiled = snapshot
            self.stalled = ""
            return await self._assign(snapshot, intents)

    async def _assign(self, snapshot: Snapshot, intents: Mapping[HostId, Intent]) -> tuple[HostId, ...]:
        self.findings.forget(self.roster.wanted.keys() - intents.keys())
        moved = self.roster.publish(intents, snapshot.revision)
        if records := self.roster.caught_up(self.clock.now()):
            await self.exclusively(lambda: self._catch_up(records))
        if moved:
            log.info("assigned", revision=snapshot.revision, version=snapshot.version, hosts=list(moved))
        self.changed.ring()
        return moved

    async def _catch_up(self, records: tuple[Realised, ...]) -> None:
        """Record that hosts for which a new version changes nothing have it in force."""
        try:
            await self.commit(Commit(realised=records))
        except StockadeError as problem:
            log.warning("not recorded", error=problem.message)
        self.roster.record(records)

    def _stall(self, problem: Exception) -> None:
        self.stalled = str(problem) or type(problem).__name__
        unforeseen = not isinstance(problem, StockadeError)
        log.error("cannot compile", error=self.stalled, kept="every host keeps what it enforces", exc_info=unforeseen)

    async def follow(self) -> None:
        """Publish and checkpoint after every change, until closing."""
        while not self.closing.is_set():
            rung = self.changed.rung
            try:
                await self.publish()
                await self._checkpoint(CHECKPOINT_EVERY)
            except Exception as problem:
                log.error("cannot publish", error=str(problem), exc_info=not isinstance(problem, StockadeError))
            await self.changed.wait(rung, 1.0)

    async def _checkpoint(self, after: int) -> None:
        if self._since_checkpoint < max(after, 1):
            return
        snapshot, self._since_checkpoint = self.snapshot, 0
        await asyncio.to_thread(self.store.checkpoint, snapshot)

    async def realised(self, version: Version, wait: float) -> tuple[HostId, ...]:
        """Wait until every host has ``version`` or a later one in force; return those that do not in time."""
        deadline = self.clock.monotonic() + wait
        while True:
            rung = self.changed.rung
            waiting = (
                self.roster.waiting() if self._compiled_version() >= version else tuple(sorted(self.snapshot.hosts))
            )
            left = deadline - self.clock.monotonic()
            if not waiting or left <= 0 or self.closing.is_set():
                return waiting
            await self.changed.wait(rung, left)

    def _compiled_version(self) -> Version:
        return self._compiled.version if self._compiled is not None else Version(-1)

    async def close(self) -> None:
        """End every wait, and leave a checkpoint behind. What is in force stays in force."""
        self.closing.set()
        self.changed.ring()
        async with self._lock:
            try:
                await self._checkpoint(1)
            except StockadeError as problem:
                log.warning("no checkpoint", error=problem.message, kept=problem.kept)


async def open_controller(store: Store, clock: Clock, parts: Parts) -> Controller:
    """Read the store, put in the built-in policy where it is new, and compile. Nothing runs yet."""
    loaded = await asyncio.to_thread(store.load)
    controller = Controller(store, clock, parts, loaded)
    controller.findings.remember(await asyncio.to_thread(store.audit, REMEMBERED))
    if await asyncio.to_thread(store.version, Version(0)) is None:
        await controller.exclusively(lambda: _begin(controller))
    await controller.publish()
    return controller


async def _begin(controller: Controller) -> None:
    """Store version 0: the built-in policy of a new installation, under which nothing is dropped."""
    draft = controller.parts.read(())
    first = StoredVersion(
        number=Version(0),
        author=ITSELF,
        note="built in",
        at=controller.clock.now(),
        hash=draft.hash,
        policy=draft.policy,
        canonical=draft.canonical,
    )
    await controller.commit(
        Commit(
            events=(PolicyActivated(Version(0), draft.policy),),
            version=first,
            audit=(Entry(ITSELF, "begin", "version 0"),),
        )
    )


@asynccontextmanager
async def following(controller: Controller) -> AsyncIterator[Controller]:
    """Publish in the background; on leaving, end every wait and write a checkpoint."""
    task = asyncio.create_task(controller.follow())
    try:
        yield controller
    finally:
        await controller.close()
        await task


def _failure(record: Realised) -> Entry:
    return Entry(ITSELF, "realise", record.host, "failed", record.error)
