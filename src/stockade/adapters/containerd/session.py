"""One connection to a containerd, from the first listing until it breaks.

Events are subscribed to before anything is listed. containerd does not say when a subscription is in force, so
everything is listed once more a moment later, and again now and then. An event is only ever a hint about whom to ask
again: what is told comes from questions that began after the last event about that container. Two events are told at
once, without asking: its first process's death, and its removal. What a shim does not answer changes nothing that was
told.

A pid is believed when the task is asked about again after the process was opened and has not ended: its shim, which is
its parent, then still has it, and so its number was nobody else's in between.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import Executor
from functools import partial
from typing import NoReturn, ParamSpec, TypeVar

import msgspec

from stockade.adapters.containerd import sight
from stockade.adapters.containerd.api import (
    ContainerdApi,
    ContainerdLost,
    ContainerdSettings,
    Late,
    NotFound,
    Refused,
)
from stockade.adapters.containerd.processes import Held, inode_of
from stockade.adapters.containerd.sight import Known, Network
from stockade.adapters.containerd.wire import Container, Happened, Key, Task
from stockade.core.model.inventory import WorkloadState
from stockade.seams.clock import Clock
from stockade.seams.following import Outbox, cause
from stockade.seams.places import Places
from stockade.seams.runtime import Gone, Listed, Seen

CONTAINER_TOPICS = ("create", "update", "delete")
TASK_TOPICS = ("create", "start", "paused", "resumed", "exit", "delete")
FILTERS = (
    *(f'topic=="/containers/{each}"' for each in CONTAINER_TOPICS),
    *(f'topic=="/tasks/{each}"' for each in TASK_TOPICS),
)
REFRESHED = 16
"""How many places are looked at again with each listing although nothing happened: a link may have come since."""

TRIES = 3
"""How often a task is looked at that has another process each time, before it is left for later."""

_T = TypeVar("_T")
_P = ParamSpec("_P")


class Mark(msgspec.Struct, frozen=True):
    """Why a container is asked about again: since when, and for the how manieth time."""

    at: float
    count: int = 0


class Session:
    """``run`` never returns: it raises ``ContainerdLost`` when the connection is no more."""

    def __init__(
        self,
        api: ContainerdApi,
        site: sight.Site,
        outbox: Outbox,
        *,
        clock: Clock,
        places: Places,
        threads: Executor,
        memory: dict[Key, Known],
        host_network: str,
        settings: ContainerdSettings,
    ) -> None:
        """``memory``: what was last known, kept by the caller from one session to the next."""
        self.listed = False
        self._api = api
        self._site = site
        self._outbox = outbox
        self._clock = clock
        self._places = places
        self._threads = threads
        self._memory = memory
        self._host_network = host_network
        self._settings = settings
        self._ledger = sight.Ledger(site)
        self._told: dict[Key, Seen] = {}
        self._marks: dict[Key, Mark] = {}
        """What was found of a container since an older mark is obsolete."""
        self._queue: asyncio.Queue[Key] = asyncio.Queue()
        self._queued: set[Key] = set()
        self._looked: dict[Key, int] = {}
        """When each place was last looked at, as a number that only grows."""
        self._looks = 0
        self._listed_at = 0.0
        self._group = asyncio.TaskGroup()

    async def run(self) -> NoReturn:
        """List, then follow."""
        try:
            await self._api.open()
            async with self._api.events(FILTERS) as events:
                await self._attend(events)
        except NotFound as problem:
            raise ContainerdLost(f"containerd does not know what it should: {problem}") from problem
        finally:
            self._api.close()
        raise ContainerdLost("containerd ended its events stream")

    async def _attend(self, events: AsyncIterator[Happened]) -> None:
        try:
            async with self._group as group:
                group.create_task(self._read(events))
                group.create_task(self._watch_pulse())
                await self._list()
                for _ in range(self._settings.questions):
                    group.create_task(self._ask_about_marked())
                group.create_task(self._list_again())
        except BaseExceptionGroup as problems:
            raise cause(problems, ContainerdLost, NotFound) from problems

    # Events

    async def _read(self, events: AsyncIterator[Happened]) -> None:
        async for event in events:
            if not event.process:
                self._heed(event)

    def _heed(self, event: Happened) -> None:
        key = event.key
        self._mark(key, event.at)
        if not self.listed or event.at <= self._listed_at:
            return
        known = self._ledger.get(key)
        match event.topic:
            case "/tasks/exit" if known is not None:
                self._take(Known(known.container, WorkloadState.STOPPED, event.at))
            case "/containers/delete":
                self._forget(key, event.at)
            case _:
                pass

    # Whom to ask again

    def _mark(self, key: Key, at: float) -> None:
        self._marks[key] = Mark(at, self._marks[key].count + 1 if key in self._marks else 0)
        if key not in self._queued:
            self._queued.add(key)
            self._queue.put_nowait(key)

    def _look_again_soon(self, key: Key, mark: Mark) -> None:
        """A network may be laid after a process was started, and no event tells of it."""
        young = self._clock.now() - mark.at < self._settings.growing
        if young and self._ledger.is_placeless(key):
            self._group.create_task(self._mark_later(key))

    async def _mark_later(self, key: Key) -> None:
        await asyncio.sleep(self._settings.patience)
        if mark := self._marks.get(key):
            self._mark(key, mark.at)

    async def _ask_about_marked(self) -> None:
        while True:
            key = await self._queue.get()
            self._queued.discard(key)
            mark = self._marks.get(key)
            if mark is None:
                continue
            try:
                container = await self._api.container(key)
                self._introduce(container, mark.at)
                known = await self._look(container, mark.at)
            except NotFound:
                self._forget(key, mark.at)
            except (Late, Refused):
                await self._api.ping()  # containerd lives: it is this container's shim that does not answer
                self._group.create_task(self._mark_later(key))
            else:
                if self._marks.get(key) == mark:
                    self._take(known)
                    self._look_again_soon(key, mark)

    # What is told

    def _introduce(self, container: Container, at: float) -> None:
        """Tell of a newborn before anything else is asked: its labels are to be in force when its process starts."""
        if container.key in self._marks and container.key not in self._told:
            self._take(Known(container, self._state(container.key, None), at))

    def _take(self, known: Known) -> None:
        self._memory[known.container.key] = known
        touched = self._ledger.put(known)
        if self.listed:
            self._tell(touched)

    def _forget(self, key: Key, at: float) -> None:
        for kept in (self._marks, self._looked, self._memory):
            kept.pop(key, None)
        if self._told.pop(key, None) is not None:
            self._outbox.put(Gone(sight.workload_id(self._site, key), at))
        self._tell(self._ledger.drop(key))

    def _tell(self, touched: Iterable[Key]) -> None:
        for key in sorted(touched):
            seen, told = self._ledger.seen(key), self._told.get(key)
            self._told[key] = seen
            if told is None or (told.sighting, told.marks) != (seen.sighting, seen.marks):
                self._outbox.put(seen)

    # Listing

    async def _list(self) -> None:
        await self._api.ping()  # by its answer containerd has, as good as surely, begun with the subscription before
        at = self._listed_at = self._clock.now()
        found = await self._list_containers()
        for key in self._memory.keys() - {each.key for each in found}:
            del self._memory[key]
        await self._look_at_all(found, at)
        self.listed = True
        self._told = {key: self._ledger.seen(key) for key in self._ledger}
        self._outbox.put(Listed(tuple(sorted(self._told.values(), key=lambda seen: seen.sighting.id))))

    async def _list_containers(self) -> list[Container]:
        return [each for namespace in await self._api.namespaces() for each in await self._api.containers(namespace)]

    async def _look_at_all(self, containers: Iterable[Container], at: float) -> None:
        free = asyncio.Semaphore(self._settings.questions)

        async def look(container: Container) -> None:
            async with free:
                self._take(await self._first_look(container, at))

        async with asyncio.TaskGroup() as group:
            for container in containers:
                group.create_task(look(container))

    async def _first_look(self, container: Container, at: float) -> Known:
        """Ask about a container. One whose shim does not answer is what it was, as far as that is still so."""
        try:
            return await self._look(container, at)
        except (Late, Refused):
            await self._api.ping()
            self._mark(container.key, at)
            was = self._memory.get(container.key, Known(container, WorkloadState.CREATED, at))
            there = was.network is not None and inode_of(f"/proc/{was.pid}/ns/net") == was.network.inode
            return msgspec.structs.replace(was, container=container, at=at, network=was.network if there else None)

    async def _list_again(self) -> None:
        await asyncio.sleep(self._settings.settle)
        while True:
            await self._compare()
            await asyncio.sleep(self._settings.resync)

    async def _compare(self) -> None:
        """List, and ask about those that are not as they were told."""
        at = self._clock.now()
        containers = {each.key: each for each in await self._list_containers()}
        tasks = await self._list_tasks(sorted({key.namespace for key in containers}))
        for key in sorted({*self._ledger, *containers}):
            if self._differs(key, containers.get(key), tasks):
                self._mark(key, at)
        for key in self._stalest():
            self._looked.pop(key, None)
            self._mark(key, at)

    async def _list_tasks(self, namespaces: Iterable[str]) -> dict[Key, Task]:
        found: dict[Key, Task] = {}
        for namespace in namespaces:
            try:
                found |= await self._api.tasks(namespace)
            except (Late, Refused):
                await self._api.ping()  # a shim does not answer: its container, and others, will be asked about
        return found

    def _differs(self, key: Key, container: Container | None, tasks: "dict[Key, Task]") -> bool:
        known, task = self._ledger.get(key), tasks.get(key)
        if known is None or container is None or known.container != container:
            return True
        pid = task.pid if task is not None and task.lives else 0
        state = self._state(key, task)
        return (known.pid, known.state) != (pid, state) or self._ledger.is_placeless(key)

    def _stalest(self) -> list[Key]:
        return sorted(self._looked, key=lambda key: self._looked[key])[:REFRESHED]

    async def _watch_pulse(self) -> None:
        """A daemon that hangs says nothing on its events stream, just as an idle one."""
        while True:
            await asyncio.sleep(self._settings.heartbeat)
            await self._api.ping()

    # One container, whole

    async def _look(self, container: Container, at: float) -> Known:
        key = container.key
        task = await self._api.task(key)
        network = None
        for _ in range(TRIES):
            if network is None and task is not None and task.lives:
                network, task = await self._network(key, task)
        pid = task.pid if task is not None and task.lives else 0
        return Known(container, self._state(key, task), at, pid, network)

    def _state(self, key: Key, task: Task | None) -> WorkloadState:
        was = self._memory.get(key)
        return sight.state_of(task, lived=was is not None and was.state is not WorkloadState.CREATED)

    async def _network(self, key: Key, task: Task) -> tuple[Network | None, Task | None]:
        """Return the network namespace of a task's process, and the task as it is after that was found out."""
        try:
            held = Held(task.pid)
        except OSError:
            return None, await self._api.task(key)
        with held:
            network = self._kept(key, task, held.inode) or await self._look_within(key, held)
            now = await self._api.task(key)
            if now is not None and now.lives and now.pid == task.pid and held.lives():
                return network, now
        return None, now

    def _kept(self, key: Key, task: Task, inode: int) -> Network | None:
        """Return what is known of a place already, where nothing says that it has changed."""
        known = self._ledger.get(key)
        if known is None or known.network is None or key not in self._looked or self._ledger.is_placeless(key):
            return None
        # One that is being started may be looked at before its network is laid.
        started = known.state is WorkloadState.RUNNING
        return known.network if started and (known.pid, known.network.inode) == (task.pid, inode) else None

    async def _look_within(self, key: Key, held: Held) -> Network:
        if held.inode == inode_of(self._host_network):
            return Network(held.inode, is_host=True)
        self._looks += 1
        try:
            place = await self._aside(self._places, held.path)
        except OSError:
            return Network(held.inode)
        self._looked[key] = self._looks
        return Network(held.inode, place=place)

    async def _aside(self, read: Callable[_P, _T], *words: _P.args, **named: _P.kwargs) -> _T:
        """Run what blocks in a thread kept for that: one that others fill would delay a birth."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, partial(read, *words, **named))
