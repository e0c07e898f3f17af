"""``Runtime`` over the kernel's census: what has a network namespace of its own is told of, whoever made it.

Woken by what changes the host's links and mounts; looks by itself now and then, as often as a bounded share of one
processor allows. A namespace is told of when it has been there for a moment: whoever makes it is about to tell of it.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import msgspec

from stockade.adapters.namespaces.census import Census, Home, Settings
from stockade.adapters.namespaces.mounts import MountWatch
from stockade.adapters.namespaces.processes import look
from stockade.adapters.namespaces.programs import Room
from stockade.core.model.census import Process
from stockade.core.model.ids import HostId, WorkloadId
from stockade.core.model.inventory import Facts, Sighting, WorkloadKind
from stockade.seams.clock import Clock
from stockade.seams.places import Places
from stockade.seams.runtime import Gone, Listed, Lost, RuntimeEvent, Seen

TOGETHER = 0.01
"""Seconds between looks, at least."""
NO_LINK, NESTED = "none", "nested"
"""The fact ``network`` of a namespace without an endpoint here: it has no link, or its links end elsewhere."""


class Whereabouts(msgspec.Struct, frozen=True):
    """A network namespace, by its mark: its name, its first process, and the ids of all."""

    mark: str
    name: str
    process: Process | None
    within: tuple[int, ...]


class NamespacesRuntime:
    """Implements ``seams.runtime.Runtime``. ``heed`` wakes it; ``places`` runs in a thread."""

    name = "namespaces"

    def __init__(
        self,
        host: HostId,
        *,
        places: Places,
        clock: Clock,
        uplinks: Iterable[str] = (),
        settings: Settings = Settings(),  # noqa: B008 - frozen
    ) -> None:
        """``uplinks``: ports that lead out of the host and not to a workload of it."""
        self.census = Census(places, uplinks=uplinks, settings=settings)
        self.changed = asyncio.Event()
        """Set whenever something was told."""
        self._host = host
        self._clock = clock
        self._settings = settings
        self._woken = asyncio.Event()
        self._moved: set[str] = set()
        self._strangers: frozenset[str] = frozenset()
        self._remounted = True
        self._told: dict[WorkloadId, Seen] = {}
        self._spoken: dict[int, _Spoken] = {}
        """By inode: what was last said of each, since most is said again at every look."""
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="namespaces")

    def heed(self, port: str) -> None:
        """Take note that a link of the host appeared, changed or went."""
        self._moved.add(port)
        self._woken.set()

    def heed_strangers(self, ports: Iterable[str]) -> None:
        """Take note of all ports of the host whose other end is elsewhere."""
        self._strangers = frozenset(ports)

    def whereabouts(self) -> tuple[Whereabouts, ...]:
        """Return how each namespace of this host is met, by mark."""
        homes = sorted(self.census.homes.copy().values(), key=lambda home: home.place.mark)
        return tuple(
            Whereabouts(home.place.mark, home.name, _process(home), self.census.within(home.inode))
            for home in homes
            if home.ours
        )

    def rooms(self) -> dict[str, Room]:
        """Return the namespace behind each link of the host; the host's own under no name. From any thread."""
        homes = [home for home in self.census.homes.copy().values() if home.ours]
        found = {each.port: Room(home.path, home.inode) for home in homes for each in home.place.endpoints if each.port}
        return {**found, "": Room(None, self.census.own)}

    def members(self, inode: int) -> tuple[int, ...]:
        """Return the processes of a namespace, the newest first. From any thread."""
        return self.census.members(inode)

    def own_processes(self) -> tuple[int, ...]:
        """Return the processes that live in the host's own network namespace."""
        return self.census.within(self.census.own)

    def refused(self) -> tuple[str, ...]:
        """Return the processes of which this one may not know where they live, by pid."""
        found = ((pid, look(pid)) for pid in sorted(self.census.refused.copy()))
        return tuple(f"process {pid} ({seen.name})" for pid, seen in found if seen is not None)

    async def events(self) -> AsyncIterator[RuntimeEvent]:
        """Yield ``Listed`` first, then changes, for ever; ``Lost`` where ``/proc`` cannot be read, until it can."""
        mounts = MountWatch(self._heed_mounts)
        try:
            listed, thorough_at = False, 0.0
            while True:
                began = self._clock.monotonic()
                thorough = not listed or began - thorough_at >= self._apart(thorough=True)
                try:
                    found = await self._look(thorough=thorough, patient=listed)
                except OSError as problem:
                    yield Lost(f"/proc cannot be read: {problem.strerror or problem}")
                    listed = False
                else:
                    if thorough:
                        thorough_at = began
                    for event in self._news(found, listed=listed):
                        self.changed.set()
                        yield event
                    listed = True
                await self._pause()
        finally:
            mounts.close()

    async def _look(self, *, thorough: bool, patient: bool) -> dict[WorkloadId, Seen]:
        moved, self._moved = frozenset(self._moved), set()
        remounted, self._remounted = self._remounted, False
        now = self._clock.now()
        looked = asyncio.get_running_loop().run_in_executor(
            self._thread,
            lambda: self.census.look(now, thorough=thorough, mounts=remounted, moved=moved, strangers=self._strangers),
        )
        await looked
        patience = self._settings.patience if patient else 0.0
        homes = [home for home in self.census.homes.values() if home.ours]
        told = [home for home in homes if now - home.found >= patience or self._id(home) in self._told]
        self._spoken = {home.inode: self._said(home) for home in told}
        return {each.seen.sighting.id: each.seen for each in self._spoken.values()}

    def _apart(self, *, thorough: bool) -> float:
        """Return how far apart looks are while nothing happens, so that they never take more than their share."""
        least = self._settings.thorough if thorough else self._settings.pause
        return max(least, self.census.costs[thorough] / self._settings.share)

    async def _pause(self) -> None:
        """Wait until something happens, or it is time to look anyway."""
        busy = self.census.costs[False] / self._settings.busy_share
        await asyncio.sleep(max(TOGETHER, busy, self.census.spent / self._settings.within_share))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(self._waits(), self._apart(thorough=False))):
                await self._woken.wait()
                await asyncio.sleep(self._settings.together)
        self._woken.clear()

    def _waits(self) -> float:
        """Return how long until somebody's patience ends: a namespace that was found and not told of yet."""
        now = self._clock.now()
        found = [home.found for home in self.census.homes.values() if home.ours and home.inode not in self._spoken]
        return max(min((each + self._settings.patience - now for each in found), default=3600.0), TOGETHER)

    def _news(self, found: dict[WorkloadId, Seen], *, listed: bool) -> Iterator[RuntimeEvent]:
        before, self._told = self._told, found
        if not listed:
            yield Listed(tuple(found[each] for each in sorted(found)))
            return
        for gone in sorted(before.keys() - found.keys()):
            yield Gone(gone, self._clock.now())
        for each in sorted(found):
            if each not in before or not _same(before[each], found[each]):
                yield found[each]

    def _heed_mounts(self) -> None:
        self._remounted = True
        self._woken.set()

    # One namespace, as a sighting

    def _id(self, home: Home) -> WorkloadId:
        return WorkloadId(f"netns:{self._host}:{home.place.mark.partition(':')[2]}")

    def _said(self, home: Home) -> "_Spoken":
        """Return what is said of a namespace: the very same as before where nothing has changed about it."""
        by = (home.place, home.first, home.mounts, home.file, home.since)
        before = self._spoken.get(home.inode)
        return before if before is not None and before.by == by else _Spoken(by, self._seen(home))

    def _seen(self, home: Home) -> Seen:
        place, first = home.place, home.first
        facts = {"process": first.name if first else "", "unit": first.unit if first else ""}
        if not place.endpoints:
            facts["network"] = NESTED if place.beyond > 0 else NO_LINK
        sighting = Sighting(
            self._id(home),
            home.name,
            WorkloadKind.NAMESPACE,
            self._host,
            endpoints=place.endpoints,
            facts=Facts(
                runtime="namespace",
                labels=tuple(sorted((key, value) for key, value in facts.items() if value)),
            ),
            created=home.since,
        )
        container = (f"container:{first.container}",) if first and first.container else ()
        return Seen(sighting, home.since, marks=(place.mark, *container))


class _Spoken(NamedTuple):
    """What was said of a namespace, and all that it follows from."""

    by: tuple[object, ...]
    seen: Seen


def _process(home: Home) -> Process | None:
    return Process(home.first.pid, home.first.name, home.first.unit) if home.first else None


def _same(one: Seen, other: Seen) -> bool:
    return one is other or msgspec.structs.replace(one, at=0.0) == msgspec.structs.replace(other, at=0.0)
