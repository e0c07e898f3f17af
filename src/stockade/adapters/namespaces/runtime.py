"""``Runtime`` over the kernel's census: what has a network namespace of its own is told of, whoever made it.

Woken by what changes the host's links and mounts, and within a namespace in which nobody is met yet; looks by itself
now and then, as often as a bounded share of one processor allows. A namespace is told of when it has been there for a
moment: whoever makes it is about to tell of it.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import msgspec

from stockade.adapters.namespaces.census import Census, Home, Settings
from stockade.adapters.namespaces.mounts import MountWatch
from stockade.adapters.namespaces.processes import look
from stockade.adapters.namespaces.programs import Room
from stockade.adapters.namespaces.stirring import Stirring
from stockade.core.model.census import Process
from stockade.core.model.ids import HostId, WorkloadId
from stockade.core.model.inventory import Facts, Sighting, WorkloadKind
from stockade.seams.clock import Clock
from stockade.seams.places import Places, Stirs
from stockade.seams.runtime import Gone, Listed, Lost, RuntimeEvent, Seen

TOGETHER = 0.01
"""Seconds between looks at the machine, at least."""
MOMENT = 0.002
"""The same between looks into namespaces that said something, and how long is waited for what comes with it."""
NO_LINK, NESTED = "none", "nested"
"""The fact ``network`` of a namespace without an endpoint here: it has no link, or its links end elsewhere."""


class Whereabouts(msgspec.Struct, frozen=True):
    """A network namespace, by its mark: its name, its first process, and the ids of all."""

    mark: str
    name: str
    process: Process | None
    within: tuple[int, ...]


class Allowance:
    """Of a processor's time a share, and so much of it at once. Seconds."""

    def __init__(self, share: float, at_once: float) -> None:
        self._share, self._at_once = share, at_once
        self._owed = self._since = 0.0

    def spend(self, seconds: float, now: float) -> float:
        """Take note of what was spent; return for how long nothing more is to be."""
        self._owed = max(self._owed - (now - self._since) * self._share, 0.0) + seconds
        self._since = now
        return max(self._owed - self._at_once, 0.0) / self._share


class NamespacesRuntime:
    """Implements ``seams.runtime.Runtime``. ``heed`` wakes it; ``places`` and ``stirs`` run in a thread."""

    name = "namespaces"

    def __init__(
        self,
        host: HostId,
        *,
        places: Places,
        stirs: Stirs,
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
        self._allowance = Allowance(settings.within_share, settings.within_at_once)
        self._woken = asyncio.Event()
        self._called = False
        """Whether there is a reason to look at the machine, and not only into namespaces that said something."""
        self._stirring = Stirring(stirs, self._heed_within)
        self._within: set[int] = set()
        """The namespaces that said something, by inode."""
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
        self._call()

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
            listed, narrow, thorough_at = False, False, 0.0
            while True:
                began = self._clock.monotonic()
                thorough = not narrow and (not listed or began - thorough_at >= self._apart(thorough=True))
                try:
                    found = await self._look(thorough=thorough, patient=listed, narrow=narrow)
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
                await self._stirring.follow(self._awaited(), self._thread)
                narrow = await self._pause()
        finally:
            mounts.close()
            self._stirring.close()

    async def _look(self, *, thorough: bool, patient: bool, narrow: bool) -> dict[WorkloadId, Seen]:
        now, in_thread = self._clock.now(), asyncio.get_running_loop().run_in_executor
        within, self._within = self._within, set()
        if narrow:
            await in_thread(self._thread, lambda: self.census.look_into(within, now))
        else:
            moved, self._moved = frozenset(self._moved), set()
            remounted, self._remounted, self._called = self._remounted, False, False
            await in_thread(
                self._thread,
                lambda: self.census.look(
                    now, thorough=thorough, mounts=remounted, moved=moved, strangers=self._strangers, within=within
                ),
            )
        patience = self._settings.patience if patient else 0.0
        homes = [home for home in self.census.homes.values() if home.ours]
        told = [home for home in homes if now - home.found >= patience or self._id(home) in self._told]
        self._spoken = {home.inode: self._said(home) for home in told}
        return {each.seen.sighting.id: each.seen for each in self._spoken.values()}

    def _apart(self, *, thorough: bool) -> float:
        """Return how far apart looks are while nothing happens, so that they never take more than their share."""
        least = self._settings.thorough if thorough else self._settings.pause
        return max(least, self.census.costs[thorough] / self._settings.share)

    async def _pause(self) -> bool:
        """Wait until something happens, or it is time to look anyway; tell whether to look only where it was heard."""
        began = self._clock.monotonic()
        within = self._allowance.spend(self.census.spent, began)
        soonest = began + max(TOGETHER, self.census.costs[False] / self._settings.busy_share, within)
        latest = soonest + min(self._waits(), self._apart(thorough=False))
        await asyncio.sleep(max(MOMENT, within))
        while (now := self._clock.monotonic()) < latest:
            if self._within and (now < soonest or not self._called):
                await asyncio.sleep(MOMENT)
                return True
            if self._called and now >= soonest:
                await asyncio.sleep(self._settings.together)
                return False
            await self._woken_by(soonest if self._called else latest)
        return False

    async def _woken_by(self, moment: float) -> None:
        """Wait until something happens, or for a moment of the monotonic clock."""
        try:
            async with asyncio.timeout(max(moment - self._clock.monotonic(), 0.0)):
                await self._woken.wait()
        except TimeoutError:
            return
        finally:
            self._woken.clear()

    def _awaited(self) -> dict[int, str]:
        """Return the namespaces of newborns in which nobody is met yet, with how to reach them; ours or not is told by
        where their links lead.
        """
        since = self._clock.now() - self._settings.young
        young = (home for home in self.census.homes.values() if home.found > since)
        return {home.inode: home.path for home in young if not any(each.addresses for each in home.place.endpoints)}

    def _call(self) -> None:
        self._called = True
        self._woken.set()

    def _heed_within(self, inode: int) -> None:
        self._within.add(inode)
        self._woken.set()

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
        self._call()

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
