"""One user's containers, from the first listing until Podman cannot be asked.

The events are begun before anything is listed, and reach back a little. An event is only ever a hint about whom to ask
again, three apart that are told at once: a creation, the last process's death, a removal. Podman holds a container's
lock while it starts it, and answers a question about it only then; so the question that a creation raises is answered
at the very moment at which the container runs. Events may be lost (a log that was rotated away, a journal that was
cut); so everything is listed again now and then.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from concurrent.futures import Executor
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn, Protocol, TypeVar

import msgspec

from stockade.adapters.podman import sight
from stockade.adapters.podman.asking import Answer, Asking, Late, PodmanLost, PodmanSettings
from stockade.adapters.podman.owning import owned
from stockade.adapters.podman.wire import Container, Event, Listing, PodListing
from stockade.adapters.podman.written import written
from stockade.core.model.ids import WorkloadId
from stockade.core.model.inventory import WorkloadState
from stockade.decoding import ready
from stockade.seams.clock import Clock
from stockade.seams.places import Place, Places
from stockade.seams.runtime import Seen

BEGUN = frozenset({"init", "start", "restart"})
CHANGED = frozenset({"create", "rename", "update", "restore", "connect", "disconnect"})
ENDED = frozenset({"died", "remove"})
REMEMBERED = 1024
NOWHERE = Place("")
"""Of a network namespace that is gone, not there yet, or not this user's."""

_T = TypeVar("_T")


class Told(Protocol):
    """Who hears what a store holds."""

    def seen(self, seen: Seen) -> None:
        """A container is so now."""
        ...

    def gone(self, workload: WorkloadId, at: float) -> None:
        """A container is no more."""
        ...

    def listed(self, seen: Iterable[Seen]) -> None:
        """These are all."""
        ...


class Mark(msgspec.Struct, frozen=True):
    """Why a container is asked about: since when, for the how manieth time, how often it had died by then."""

    at: float
    count: int = 0
    deaths: int = 0


class Store:
    """``run`` never returns: it raises ``PodmanLost`` when Podman cannot be asked any more."""

    def __init__(
        self,
        asking: Asking,
        site: sight.Site,
        told: Told,
        *,
        clock: Clock,
        places: Places,
        threads: Executor,
        settings: PodmanSettings,
        processes: Path,
    ) -> None:
        self.listed = False
        self._asking = asking
        self._site = site
        self._hearer = told
        self._clock = clock
        self._places = places
        self._threads = threads
        self._settings = settings
        self._processes = processes
        self._told: dict[str, Seen] = {}
        self._listings: dict[str, Listing] = {}
        self._pods: dict[str, str] = {}
        self._marks: dict[str, Mark] = {}
        """An answer to a question that was asked at an older mark is obsolete."""
        self._waiting: dict[str, None] = {}
        """Whom to ask about, the oldest first."""
        self._alone: set[str] = set()
        """Whom to ask about by themselves: a question with others was not answered in time."""
        self._filled = asyncio.Event()
        self._found: dict[str, tuple[int, Place]] = {}
        """By container: the pid of its first process, and where its network namespace is met."""
        self._decode = msgspec.json.Decoder(ready(Event))
        self._heeded: dict[tuple[str, str, float], bool] = {}
        """Events that came by one of two ways."""
        self._listed_at = 0.0
        self._group = asyncio.TaskGroup()

    async def run(self) -> NoReturn:
        """List, then follow."""
        since = datetime.fromtimestamp(self._clock.now() - self._settings.overlap, UTC).isoformat()
        async with self._asking.lines("events", "--stream", "--format", "json", "--since", since) as talk:
            try:
                async with self._group as group:
                    group.create_task(self._read(talk.lines))
                    if not self._site.uid:
                        group.create_task(self._read_early(talk.pid))
                    await self._list()
                    for _ in range(self._settings.questions):
                        group.create_task(self._ask_marked())
                    group.create_task(self._list_again())
            except BaseExceptionGroup as problems:
                raise _first(problems) from problems
        raise PodmanLost(f"{self._asking.account.owner} ended its events")

    # Events

    async def _read(self, lines: AsyncIterator[bytes]) -> None:
        async for line in lines:
            if line.strip():
                try:
                    event = self._decode.decode(line)
                except msgspec.MsgspecError as problem:
                    raise PodmanLost(f"{self._asking.account.owner} told an event that is none: {problem}") from problem
                self._heed_once(event)

    async def _read_early(self, pid: int) -> None:
        """Heed what is written as soon as it is. What is not understood there is left to who reads it properly."""
        async for line in written(pid):
            with contextlib.suppress(msgspec.MsgspecError):
                self._heed_once(self._decode.decode(line))

    def _heed_once(self, event: Event) -> None:
        """Heed an event when it comes the first time, by whichever way; by the other it comes once more, or never."""
        key = (event.id, event.action, event.at)
        if self._heeded.pop(key, False):
            return
        self._heeded[key] = True
        if len(self._heeded) > REMEMBERED:
            self._heeded.pop(next(iter(self._heeded)))
        self._heed(event)

    def _heed(self, event: Event) -> None:
        if event.kind == "pod" and event.action == "create":
            self._pods[event.id] = event.name
        if event.kind not in ("container", "network") or not event.id:
            return
        fresh = self.listed and event.at > self._listed_at
        if event.action in ENDED:
            self._heed_end(event, fresh)
        elif event.action in CHANGED or (event.action in BEGUN and not self._runs(event.id)):
            self._mark(event.id, event.at)
            if event.action == "create" and fresh and event.id not in self._told:
                self._tell(event.id, Seen(sight.newborn(self._site, event), event.at, marks=self._named(event.id)))

    def _heed_end(self, event: Event, fresh: bool) -> None:
        told = self._told.get(event.id)
        if not fresh or told is None:
            self._mark(event.id, event.at, died=True)
        elif event.action == "remove":
            self._forget(event.id, event.at)
        else:
            self._outdate(event.id, event.at)
            self._found.pop(event.id, None)
            self._tell(event.id, Seen(sight.stopped(told.sighting), event.at, marks=self._named(event.id)))

    def _runs(self, container: str) -> bool:
        """Tell whether what was told already says that a container runs, and where."""
        told = self._told.get(container)
        return told is not None and told.sighting.state is WorkloadState.RUNNING and not sight.incomplete(told)

    # Whom to ask again

    def _mark(self, container: str, at: float, *, died: bool = False) -> None:
        self._outdate(container, at, died=died)
        self._waiting[container] = None
        self._filled.set()

    def _outdate(self, container: str, at: float, *, died: bool = True) -> None:
        """Make every question that was asked about a container until now obsolete."""
        last = self._marks.get(container, Mark(0.0))
        self._marks[container] = Mark(at, last.count + 1, last.deaths + died)

    async def _mark_later(self, container: str) -> None:
        await asyncio.sleep(self._settings.patience)
        if mark := self._marks.get(container):
            self._mark(container, mark.at)

    async def _ask_marked(self) -> None:
        while True:
            await self._filled.wait()
            asked = {container: self._marks[container] for container in self._take() if container in self._marks}
            if asked:
                await self._ask(asked)

    def _take(self) -> list[str]:
        """Take whom to ask about next: everybody who waits, up to a bound, or one who is to be asked about alone."""
        waiting = list(self._waiting)
        alone = next((each for each in waiting if each in self._alone), None)
        taken = [alone] if alone else waiting[: self._settings.batch]
        for container in taken:
            self._waiting.pop(container)
        self._alone.difference_update(taken)
        if not self._waiting:
            self._filled.clear()
        return taken

    async def _ask(self, asked: Mapping[str, Mark]) -> None:
        try:
            found = await self._inspect(asked)
        except Late:
            self._alone.update(asked)
            for container in asked:
                self._group.create_task(self._mark_later(container))
            return
        for container, mark in asked.items():
            if container in found:
                seen = await self._seen(found[container], mark.at)
                if self._holds(container, mark, seen):
                    self._tell(container, seen)
                    self._ask_again_where_incomplete(container, seen)
            elif self._marks.get(container) == mark:
                self._forget(container, mark.at)

    def _holds(self, container: str, mark: Mark, seen: Seen) -> bool:
        """Tell whether an answer is still true: nothing happened since it was asked for, or what it knows of."""
        now = self._marks.get(container)
        begun = seen.sighting.state is WorkloadState.RUNNING and now is not None and now.deaths == mark.deaths
        return now == mark or begun

    def _ask_again_where_incomplete(self, container: str, seen: Seen) -> None:
        if sight.incomplete(seen):
            self._group.create_task(self._mark_later(container))

    # What is told

    def _tell(self, container: str, seen: Seen) -> None:
        told = self._told.get(container)
        self._told[container] = seen
        if told is None or (told.sighting, told.published, told.marks) != (seen.sighting, seen.published, seen.marks):
            self._hearer.seen(seen)

    def _forget(self, container: str, at: float) -> None:
        self._marks.pop(container, None)
        self._found.pop(container, None)
        if self._told.pop(container, None) is not None:
            self._hearer.gone(sight.workload_id(self._site, container), at)

    # Listing

    async def _list(self) -> None:
        at = self._listed_at = self._clock.now()
        await self._list_pods()
        await self._fetch_listings()
        found: dict[str, Container] = {}
        for some in _slices(list(self._listings), self._settings.batch):
            found |= await self._inspect(some)
        self._told = {container: await self._seen(found[container], at) for container in sorted(found)}
        self.listed = True
        self._hearer.listed(self._told.values())
        for container, seen in self._told.items():
            self._marks.setdefault(container, Mark(at))
            self._ask_again_where_incomplete(container, seen)

    async def _fetch_listings(self) -> None:
        listings = _decoded(await self._asking.ask("ps", "--all", "--format", "json"), list[Listing], "ps")
        self._listings = {listing.id: listing for listing in listings}

    async def _list_pods(self) -> None:
        listings = _decoded(await self._asking.ask("pod", "ps", "--format", "json"), list[PodListing], "pod ps")
        self._pods = {listing.id: listing.name for listing in listings}

    async def _list_again(self) -> None:
        while True:
            await asyncio.sleep(self._settings.resync)
            before, at = self._listings, self._clock.now()
            try:
                await self._list_pods()
                await self._fetch_listings()
            except Late:
                continue  # somebody is being started; events are followed meanwhile
            for container in sorted(self._told.keys() | self._listings.keys()):
                unknown = (container in self._told) != (container in self._listings)
                if unknown or self._listings.get(container) != before.get(container):
                    self._mark(container, at)

    # One container, whole

    async def _inspect(self, containers: Iterable[str]) -> dict[str, Container]:
        """Return what Podman says of these, by id; who is left out is no more."""
        answer = await self._asking.ask("container", "inspect", *containers)
        if answer.complaint and "no such" not in answer.complaint:
            raise PodmanLost(f"{self._asking.account.owner} says: {answer.complaint}")
        found = _decoded(Answer(answer.printed or b"[]"), list[Container], "container inspect")
        return {container.id: container for container in found}

    async def _seen(self, container: Container, at: float) -> Seen:
        owner = sight.owner(self._site, container)
        if owner is not None or not sight.running(container):
            self._found.pop(container.id, None)
            seen = sight.sighting(self._site, container, self._pods, owner, ())
            return Seen(seen, at, marks=self._named(container.id))
        place = await self._place(container)
        places = sight.endpoints(self._site, container, place)
        seen = sight.sighting(self._site, container, self._pods, owner, places)
        own = (place.mark,) if place.mark else ()
        return Seen(seen, at, sight.published(self._site, container), (*self._named(container.id), *own))

    async def _place(self, container: Container) -> Place:
        """Look into a container's network namespace: once in its life, unless a network came or went."""
        pid = container.state.pid
        known, place = self._found.get(container.id, (0, NOWHERE))
        macs = {each.mac_address.lower() for each in (container.network_settings.networks or {}).values()}
        if known != pid or not place.mark or not macs.issubset(each.mac for each in place.endpoints):
            place = await asyncio.get_running_loop().run_in_executor(self._threads, self._look, container)
            self._found[container.id] = (pid, place)
        return place

    def _look(self, container: Container) -> Place:
        path = self._processes / str(container.state.pid) / "ns" / "net"
        try:
            if not self._site.uid:
                return self._places(str(path))
            with owned(path, self._site.uid) as own:
                return Place(self._places(str(own)).mark)
        except OSError:
            return NOWHERE

    def _named(self, container: str) -> tuple[str, ...]:
        return sight.named(self._site, container)


# Small steps


def _decoded(answer: Answer, kind: type[_T], words: str) -> _T:
    if answer.complaint:
        raise PodmanLost(f"`podman {words}` says: {answer.complaint}")
    try:
        return msgspec.json.decode(answer.printed, type=ready(kind))
    except msgspec.MsgspecError as problem:
        raise PodmanLost(f"`podman {words}` printed what we do not understand: {problem}") from problem


def _slices(whole: list[str], size: int) -> Iterator[list[str]]:
    return (whole[start : start + size] for start in range(0, len(whole), size))


def _first(problems: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return what broke: a mistake of ours before anything that Podman did."""
    leaves = list(_leaves(problems))
    return next((each for each in leaves if not isinstance(each, PodmanLost)), leaves[0])


def _leaves(problem: BaseException) -> Iterator[BaseException]:
    if isinstance(problem, BaseExceptionGroup):
        for each in problem.exceptions:
            yield from _leaves(each)
    else:
        yield problem
