"""One connection to a Docker engine, from the first listing until it breaks.

The events stream is opened before anything is listed, and reaches back a little, because the engine says "ready"
before it has subscribed us. An event is only ever a hint about whom to ask again: what is told comes from an
inspection that began after the last event about that container. Three events are told at once, without asking,
because the engine holds a container's lock while it starts it and would answer late: its creation, its last
process's death, its removal; and where it will be met is found beside the engine meanwhile (``starting.py``). The
engine drops events for a reader that is slow; so reading waits for nothing, and everything is listed again now and
then.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import Executor
from functools import partial
from pathlib import Path
from typing import NoReturn, ParamSpec, TypeVar
from urllib.parse import quote

import msgspec
from msgspec import structs

from stockade.adapters.docker import sight
from stockade.adapters.docker.api import EngineApi, EngineLost, EngineSettings, Late, NotFound, Unreadable
from stockade.adapters.docker.proxies import Proxy
from stockade.adapters.docker.starting import Starting
from stockade.adapters.docker.wire import Container, Listing, Message, Network
from stockade.core.model.ids import WorkloadId
from stockade.core.model.inventory import Attachment, Bridge, Endpoint, Published, WorkloadState
from stockade.decoding import ready
from stockade.seams.clock import Clock
from stockade.seams.following import Outbox, cause
from stockade.seams.places import Place, Places
from stockade.seams.runtime import Gone, Listed, Seen

CONTAINER_EVENTS = ("create", "start", "restart", "die", "stop", "pause", "unpause", "rename", "update", "destroy")
NETWORK_EVENTS = ("create", "connect", "disconnect", "destroy", "update")
FILTERS = json.dumps({"type": ["container", "network"], "event": sorted({*CONTAINER_EVENTS, *NETWORK_EVENTS})})
OVER = ("start", "die", "destroy")
"""After these a container is no longer being started."""
LONGEST_CHAIN = 8
"""How many containers may share a network namespace through one another before we stop following."""

NOWHERE = Place("")
"""Of a network namespace that is gone, or not there yet."""

_T = TypeVar("_T")
_P = ParamSpec("_P")


class Mark(msgspec.Struct, frozen=True):
    """Why a container is asked about again: since when, for the how manieth time, whether it was just created."""

    at: float
    count: int = 0
    newborn: bool = False


class Session:
    """``run`` never returns: it raises ``EngineLost`` when the connection is no more."""

    def __init__(
        self,
        api: EngineApi,
        site: sight.Site,
        outbox: Outbox,
        *,
        clock: Clock,
        places: Places,
        running_proxies: Callable[[], Mapping[tuple[str, str, int], Proxy]],
        threads: Executor,
        bridges_seen: Callable[[tuple[Bridge, ...]], None],
        settings: EngineSettings,
    ) -> None:
        self.listed = False
        self._api = api
        self._site = site
        self._outbox = outbox
        self._clock = clock
        self._places = places
        self._running_proxies = running_proxies
        self._threads = threads
        self._bridges_seen = bridges_seen
        self._settings = settings
        self._networks: dict[str, Network] = {}
        self._told: dict[str, Seen] = {}
        self._listings: dict[str, Listing] = {}
        self._modes: dict[str, str] = {}
        self._marks: dict[str, Mark] = {}
        """An inspection that began at an older mark is obsolete."""
        self._queue: asyncio.Queue[str] = asyncio.Queue()
        self._queued: set[str] = set()
        self._ports: dict[str, dict[str, str]] = {}
        """By container: endpoint id → host-side interface; an endpoint has one for life."""
        self._namespaces: dict[str, tuple[str, str]] = {}
        """By container: the path of its network namespace, and the mark that tells it from others."""
        self._proxied: bool | None = None
        """Whether this engine runs docker-proxies; not known before the first published port."""
        self._decode = msgspec.json.Decoder(ready(Message))
        self._listed_at = 0.0
        self._networks_changed = asyncio.Event()
        self._starting = Starting(api, site, lambda path: self._aside(places, path))
        self._group = asyncio.TaskGroup()

    async def run(self) -> NoReturn:
        """List, then follow."""
        try:
            await self._api.open()
            since = f"{self._clock.now() - self._settings.overlap:.9f}"
            async with self._api.lines("/events", since=since, filters=FILTERS) as lines:
                await self._attend(lines)
        except (NotFound, Unreadable) as problem:
            raise EngineLost(str(problem)) from problem
        finally:
            self._api.close()
        raise EngineLost("Docker ended its events stream")

    async def _attend(self, lines: AsyncIterator[bytes]) -> None:
        try:
            async with self._group as group:
                group.create_task(self._read(lines))
                group.create_task(self._watch_pulse())
                await self._list()
                group.create_task(self._follow_networks())
                for _ in range(self._settings.inspections):
                    group.create_task(self._inspect_marked())
                group.create_task(self._list_again())
        except BaseExceptionGroup as problems:
            raise cause(problems, EngineLost, NotFound, Unreadable) from problems

    # Events

    async def _read(self, lines: AsyncIterator[bytes]) -> None:
        async for line in lines:
            if not line.strip():
                continue
            try:
                message = self._decode.decode(line)
            except msgspec.MsgspecError as problem:
                raise EngineLost(f"Docker sent an event that is not what its API says: {problem}") from problem
            self._heed(message)

    def _heed(self, message: Message) -> None:
        at = message.nanoseconds / 1e9
        fresh = self.listed and at > self._listed_at
        if message.kind == "container":
            self._heed_container(message, at, fresh)
        elif message.kind == "network":
            self._heed_network(message, at, fresh=fresh)

    def _heed_container(self, message: Message, at: float, fresh: bool) -> None:
        container = message.actor.id
        told = self._told.get(container)
        if message.action in OVER:
            self._starting.over(container)
        self._mark(container, at, newborn=message.action == "create")
        if not fresh:
            return
        match message.action:
            case "create" if told is None:
                self._tell(container, Seen(sight.newborn(self._site, message), at, marks=(_named(container),)))
            case "die" if told is not None:
                self._tell(container, Seen(sight.stopped(told.sighting), at, marks=(_named(container),)))
            case "destroy":
                self._forget(container, at)
            case _:
                pass

    def _heed_network(self, message: Message, at: float, *, fresh: bool) -> None:
        container = (message.actor.attributes or {}).get("container", "")
        if not container:
            self._networks_changed.set()
            return
        told = self._told.get(container)
        if container in self._starting and message.action == "disconnect":
            self._starting.over(container)
            self._mark(container, at)
        elif told is not None and (container in self._starting or told.sighting.state is not WorkloadState.RUNNING):
            # One that is being started is locked until it runs; its start event follows.
            if message.action == "connect" and fresh:
                self._group.create_task(self._meet(container, message.actor.id, at))
        else:
            self._mark(container, at)

    async def _meet(self, container: str, network: str, at: float) -> None:
        """Tell where a container that is being started is met. Should nothing come of it, it is asked about again."""
        with contextlib.suppress(NotFound, Late, Unreadable):
            met = await self._starting.meet(container, network)
            told = self._told.get(container)
            if met is not None and told is not None:
                born = structs.replace(told.sighting, state=WorkloadState.RUNNING, endpoints=met.endpoints)
                self._tell(container, Seen(born, at, marks=(_named(container), met.mark)))
                await asyncio.sleep(self._settings.starting)
        if container in self._starting:
            self._starting.over(container)
            self._mark(container, at)

    # Whom to ask again

    def _mark(self, container: str, at: float, *, newborn: bool = False) -> None:
        """Ask about a container again. One just created is looked up in the listing: it may be locked already."""
        self._marks[container] = Mark(at, self._marks[container].count + 1 if container in self._marks else 0, newborn)
        if container not in self._queued:
            self._queued.add(container)
            self._queue.put_nowait(container)

    async def _mark_later(self, container: str) -> None:
        await asyncio.sleep(self._settings.patience)
        if mark := self._marks.get(container):
            self._mark(container, mark.at)

    async def _inspect_marked(self) -> None:
        while True:
            container = await self._queue.get()
            self._queued.discard(container)
            mark = self._marks.get(container)
            if mark is None:
                continue
            try:
                seen = await self._look(container, mark)
            except NotFound:
                self._forget(container, mark.at)
            except (Late, Unreadable):
                await self._api.ping()  # the engine lives: it is this container that does not answer
                self._group.create_task(self._mark_later(container))
            else:
                # What was met of one that is being started is more than the engine says of it until it runs.
                if self._marks.get(container) == mark and container not in self._starting:
                    self._tell(container, seen)

    async def _look(self, container: str, mark: Mark) -> Seen:
        if not mark.newborn:
            return await self._seen(await self._api.get(f"/containers/{container}/json", Container), mark.at)
        listings = await self._api.get("/containers/json", list[Listing], all="1", filters=_only(container))
        if not listings:
            raise NotFound(container)
        seen = await self._seen(sight.from_listing(listings[0]), mark.at)
        told = self._told.get(container)
        return sight.with_birth_of(seen, told) if told else seen

    # What is told

    def _tell(self, container: str, seen: Seen) -> None:
        told = self._told.get(container)
        self._told[container] = seen
        if told is None or (told.sighting, told.published) != (seen.sighting, seen.published):
            self._outbox.put(seen)

    def _forget(self, container: str, at: float) -> None:
        for known in (self._marks, self._modes, self._ports, self._namespaces):
            known.pop(container, None)
        if self._told.pop(container, None) is not None:
            self._outbox.put(Gone(sight.workload_id(self._site, container), at))

    # Listing

    async def _list(self) -> None:
        at = self._listed_at = self._clock.now()
        await self._fetch_networks()
        listings = await self._fetch_listings()
        found = await self._look_at_all(listings, at)
        self._told = {listing.id: seen for listing, seen in zip(listings, found, strict=True) if seen is not None}
        self.listed = True
        self._outbox.put(Listed(tuple(sorted(self._told.values(), key=lambda seen: seen.sighting.id))))

    async def _look_at_all(self, listings: list[Listing], at: float) -> list[Seen | None]:
        free = asyncio.Semaphore(self._settings.inspections)

        async def look(listing: Listing) -> Seen | None:
            async with free:
                return await self._first_look(listing, at)

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(look(listing)) for listing in listings]
        return [task.result() for task in tasks]

    async def _first_look(self, listing: Listing, at: float) -> Seen | None:
        """Ask about a container, but do not let one that is being started, and so is locked, hold up all others."""
        running = sight.STATES.get(listing.state) is WorkloadState.RUNNING
        try:
            async with asyncio.timeout(None if running else self._settings.patience):
                return await self._seen(await self._api.get(f"/containers/{listing.id}/json", Container), at)
        except NotFound:
            return None
        except (Late, Unreadable, TimeoutError):
            await self._api.ping()
            self._mark(listing.id, at)
            return await self._seen(sight.from_listing(listing), at)

    async def _fetch_listings(self) -> list[Listing]:
        listings = await self._api.get("/containers/json", list[Listing], all="1")
        self._listings = {listing.id: listing for listing in listings}
        return listings

    async def _list_again(self) -> None:
        while True:
            await asyncio.sleep(self._settings.resync)
            before, at = self._listings, self._clock.now()
            self._proxied = self._proxied or None
            await self._fetch_networks()
            await self._fetch_listings()
            for container in self._told.keys() | self._listings.keys():
                if self._listings.get(container) != before.get(container) or self._doubtful(container):
                    self._mark(container, at)

    def _doubtful(self, container: str) -> bool:
        told = self._told.get(container)
        return (told is None) != (container not in self._listings) or (told is not None and _incomplete(told))

    async def _watch_pulse(self) -> None:
        """A daemon that hangs says nothing on its events stream, just as an idle one."""
        while True:
            await asyncio.sleep(self._settings.heartbeat)
            await self._api.ping()

    # Networks

    async def _fetch_networks(self) -> None:
        networks = await self._api.get("/networks", list[Network])
        self._networks = {network.id: network for network in networks}
        self._bridges_seen(sight.bridges(self._site, networks))

    async def _follow_networks(self) -> None:
        while True:
            await self._networks_changed.wait()
            self._networks_changed.clear()
            await self._fetch_networks()

    async def _know_networks(self, container: Container) -> None:
        if any(network not in self._networks for network, _ in sight.joined(container)):
            await self._fetch_networks()

    # One container, whole

    async def _seen(self, container: Container, at: float) -> Seen:
        self._modes[container.id] = container.host_config.network_mode
        await self._know_networks(container)
        owner = await self._owner(container)
        running = sight.STATES.get(container.state.status) is WorkloadState.RUNNING
        places = await self._endpoints(container) if running and owner is None else ()
        published = await self._published(container) if places else ()
        marks = tuple(self._marks_of(container.id)) if running and owner is None else (_named(container.id),)
        return Seen(sight.sighting(self._site, container, owner, places), at, published, marks)

    def _marks_of(self, container: str) -> Iterator[str]:
        yield _named(container)
        if found := self._namespaces.get(container):
            yield found[1]

    async def _owner(self, container: Container) -> WorkloadId | None:
        """Follow ``host`` and ``container:X`` to whose network namespace it is; None where it is its own."""
        owner, mode = container.id, container.host_config.network_mode
        for _ in range(LONGEST_CHAIN):
            if mode == "host":
                return self._site.workload
            if not mode.startswith("container:"):
                break
            owner, mode = await self._mode_of(mode.partition(":")[2])
        return sight.workload_id(self._site, owner) if owner != container.id else None

    async def _mode_of(self, name: str) -> tuple[str, str]:
        """Return the id and network mode of a container, given by id or, where nobody has resolved it, by name."""
        known = self._modes.get(name) or (name in self._listings and self._listings[name].host_config.network_mode)
        if known:
            return name, known
        try:
            other = await self._api.get(f"/containers/{quote(name, safe='')}/json", Container)
        except NotFound:
            return name, ""
        return other.id, other.host_config.network_mode

    async def _endpoints(self, container: Container) -> tuple[Endpoint, ...]:
        ports = await self._find_ports(container)
        found = [
            sight.endpoint(self._site, self._networks[network], place, ports.get(place.endpoint_id, ""))
            for network, place in sight.joined(container)
            if network in self._networks
        ]
        return tuple(sorted((each for each in found if each is not None), key=lambda each: (each.realm, each.mac)))

    async def _find_ports(self, container: Container) -> dict[str, str]:
        """Return the host-side interface of each of the container's places; one that is not found is left out."""
        places = [place for network, place in sight.joined(container) if self._is_bridged(network)]
        known = self._ports.get(container.id, {})
        path = _namespace_path(container)
        if self._namespaces.get(container.id, ("", ""))[0] != path or any(
            each.endpoint_id not in known for each in places
        ):
            within = await self._look_within(container.id, path)
            by_mac = {each.mac: each.port for each in within.endpoints}
            known = known | {place.endpoint_id: by_mac.get(place.mac_address.lower(), "") for place in places}
        self._ports[container.id] = {place.endpoint_id: known[place.endpoint_id] for place in places}
        found = {endpoint: port for endpoint, port in self._ports[container.id].items() if port}
        self._ports[container.id] = found
        return found

    def _is_bridged(self, network: str) -> bool:
        return network in self._networks and bool(sight.bridge_name(self._networks[network]))

    async def _look_within(self, container: str, path: str) -> Place:
        self._namespaces.pop(container, None)
        try:
            found: Place = await self._aside(self._places, path)
        except OSError:
            return NOWHERE
        self._namespaces[container] = (path, found.mark)
        self._starting.known(path)
        return found

    async def _published(self, container: Container) -> tuple[Published, ...]:
        if not any((container.network_settings.ports or {}).values()):
            return ()
        found = await self._aside(self._running_proxies) if self._proxied is not False else {}
        published = sight.published(self._site, container, self._networks, found)
        if self._proxied is None and published:
            self._proxied = any(each.proxied for each in published)
        return published

    async def _aside(self, read: Callable[_P, _T], *words: _P.args, **named: _P.kwargs) -> _T:
        """Run what blocks in a thread kept for that: one that others fill would delay a birth."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, partial(read, *words, **named))


def _named(container: str) -> str:
    """Return the mark of a container, by which other sources know it too."""
    return f"container:{container}"


def _namespace_path(container: Container) -> str:
    """The engine's name for the namespace is sure; where its mounts are not ours, the process leads there too."""
    key, pid = container.network_settings.sandbox_key, container.state.pid
    return key if key and Path(key).exists() else f"/proc/{pid}/ns/net" if pid else ""


def _incomplete(seen: Seen) -> bool:
    return any(each.attachment is Attachment.BRIDGED and not each.port for each in seen.sighting.endpoints)


def _only(container: str) -> str:
    return json.dumps({"id": [container]})
