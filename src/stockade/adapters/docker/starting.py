"""Where a container that is being started will be met, found before its first instruction.

The engine holds a container's lock while it starts it, and so answers late. But the network that it joins says at once
which address it was given, and its network namespace is mounted in the engine's folder before anything runs in it: the
link with that MAC is the container's. Where nothing is found, its start event tells as much, only later.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import msgspec

from stockade.adapters.docker.api import EngineApi
from stockade.adapters.docker.sight import Site, bridge_name, endpoint, of_member
from stockade.adapters.docker.wire import Network
from stockade.core.model.inventory import Endpoint
from stockade.seams.places import Place

FOLDER = Path("/var/run/docker/netns")
"""Where an engine mounts network namespaces unless it was told otherwise; then a container that runs says where."""
OFTEN, SELDOM = 0.02, 0.1
"""Seconds between looks, for the first while and afterwards; and never more than a sixth of the time is looked."""
OFTEN_FOR, GIVEN_UP_AFTER = 2.0, 10.0
SHARE = 5


class Met(msgspec.Struct, frozen=True):
    """A container's places so far: its network namespace, what tells that from others, and its endpoints."""

    path: str
    mark: str
    endpoints: tuple[Endpoint, ...]


class Starting:
    """The containers that an engine is starting. ``look`` looks into a namespace; ``OSError`` where it cannot now."""

    def __init__(self, api: EngineApi, site: Site, look: Callable[[str], Awaitable[Place]]) -> None:
        self._api = api
        self._site = site
        self._look = look
        self._folders = {FOLDER}
        self._old: set[str] = set()
        """Namespaces whose container is known: nobody who is being started is in one of them."""
        self._places: dict[str, Place] = {}
        self._scanned = 0.0
        self._scanning = asyncio.Lock()
        self._awaited: dict[str, Met | None] = {}

    def __contains__(self, container: str) -> bool:
        """Tell whether a container's network is being made, and nobody has told yet that it runs."""
        return container in self._awaited

    def known(self, path: str) -> None:
        """A container that ran is in this namespace: others of its engine are mounted beside it."""
        self._old.add(path)
        self._places.pop(path, None)
        if Path(path).parts[:2] != ("/", "proc"):
            self._folders.add(Path(path).parent)

    def over(self, container: str) -> None:
        """It runs, or never will: others say what becomes of it. Started again, it is in another namespace.

        The old one may be there for a moment, and the container's MAC with it.
        """
        met = self._awaited.pop(container, None)
        if met is not None:
            self.known(met.path)

    async def meet(self, container: str, network: str) -> Met | None:
        """Find a container's place on a network that it has just joined; None where there is none, or it is over.

        Raises what ``EngineApi.get`` raises.
        """
        self._awaited.setdefault(container, None)
        joined = await self._api.get(f"/networks/{network}", Network)
        member = (joined.containers or {}).get(container)
        if member is None or not bridge_name(joined):
            return None
        place = of_member(joined, member)
        found = await self._find(container, place.mac_address.lower())
        if found is None or container not in self._awaited:
            return None
        path, mark, port = found
        before = self._awaited[container]
        here = endpoint(self._site, joined, place, port)
        others = before.endpoints if before else ()
        endpoints = sorted({*others, *((here,) if here else ())}, key=lambda each: (each.realm, each.mac))
        met = self._awaited[container] = Met(path, mark, tuple(endpoints))
        return met

    async def _find(self, container: str, mac: str) -> tuple[str, str, str] | None:
        """Return the namespace, its mark and the host's port of the link with a MAC, as soon as there is one."""
        clock = asyncio.get_running_loop().time
        began = clock()
        while container in self._awaited and clock() - began < GIVEN_UP_AFTER:
            for path, place in self._places.items():
                if port := next((each.port for each in place.endpoints if each.mac == mac), ""):
                    return path, place.mark, port
            took = await self._scan()
            await asyncio.sleep(max(OFTEN if clock() - began < OFTEN_FOR else SELDOM, SHARE * took))
        return None

    async def _scan(self) -> float:
        """Look into every namespace that may be a newcomer's, once for all who wait; return how long it took."""
        clock = asyncio.get_running_loop().time
        async with self._scanning:
            began = clock()
            if began - self._scanned < OFTEN:
                return 0.0
            paths = {path for folder in self._folders for path in _within(folder)}
            self._old &= paths
            looked = {path: await self._seen(path) for path in sorted(paths - self._old)}
            self._places = {path: place for path, place in looked.items() if place is not None}
            self._scanned = clock()
            return self._scanned - began

    async def _seen(self, path: str) -> Place | None:
        try:
            return await self._look(path)
        except OSError:
            return None


def _within(folder: Path) -> Iterator[str]:
    try:
        yield from map(str, folder.iterdir())
    except OSError:
        return
