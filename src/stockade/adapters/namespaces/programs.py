"""Implements ``seams.flows.Programs``: from a connection to its socket, to a process of its namespace, to a name.

Best effort, at a bounded cost. A socket that is gone, or that no process of its namespace holds, is nobody's: nothing
is guessed. Who serves a port is remembered for a while, so that most connections cost a look into a table. Only
processes of the namespace are looked at, the newest first, and of none its arguments.
"""

import contextlib
import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from stockade.adapters.namespaces.diag import held
from stockade.adapters.namespaces.processes import PROC, Program, program
from stockade.core.budget import Budget
from stockade.seams.flows import LocalSocket

EACH_SECOND = 200
"""Sockets that are looked for, at most."""
SHARES = (0.02, 0.05)
"""Of a processor, and of the time, that looking may take from whoever asks."""
TOGETHER = 8
"""Sockets of one namespace that are looked for in one go."""
KNOWN_FOR = 10.0
"""Seconds for which who serves a port is remembered."""
PLACES_FOR = 0.5
"""Seconds for which it is remembered where namespaces are."""
MOST = 4096
"""Ports that are remembered, and sockets of one namespace."""
LONGEST = 64
INIT = 1
"""Holds sockets for the services that it begins: whoever else holds one is meant."""
_FORM = str.maketrans("(),", "[];")
"""What stands between names is never within one."""


class Room(NamedTuple):
    """A network namespace: how to reach it (None: our own), and its inode."""

    path: str | None
    inode: int


class Rooms(Protocol):
    """Where namespaces are, and who lives there."""

    def rooms(self) -> Mapping[str, Room]:
        """Return the namespace behind each link of the host; the host's own under no name."""
        ...

    def members(self, inode: int) -> Collection[int]:
        """Return the processes of a namespace, the newest first."""
        ...


class KnownPrograms:
    """Which programs hold sockets on this host. For one thread at a time."""

    def __init__(self, rooms: Rooms, *, clock: Callable[[], float] = time.monotonic, proc: Path = PROC) -> None:
        self.unlooked = 0
        self._rooms = rooms
        self._clock = clock
        self._proc = proc
        self._budget = Budget(EACH_SECOND, SHARES)
        self._places: Mapping[str, Room] = {}
        self._placed: float | None = None
        self._servers: dict[tuple[int, int, bytes, int], tuple[float, str]] = {}
        self._holders: dict[int, dict[int, str]] = {}
        """By namespace: the inode of a socket → the descriptor that was seen to be it; empty where none was."""

    def look(self, sockets: Sequence[LocalSocket]) -> Sequence[str]:
        """Return a program for each; empty where it is not known, or was not looked for."""
        places = self._where()
        found = dict[LocalSocket, str]()
        missing: dict[Room, list[LocalSocket]] = {}
        for each in dict.fromkeys(sockets):
            room = places.get(each.place)
            if room is not None and (known := self._server(room, each)) is not None:
                found[each] = known
            elif room is not None:
                missing.setdefault(room, []).append(each)
        for room, some in missing.items():
            for at in range(0, len(some), TOGETHER):
                found |= self._afford(room, some[at : at + TOGETHER])
        return [found.get(each, "") for each in sockets]

    def _where(self) -> Mapping[str, Room]:
        now = self._clock()
        if self._placed is None or now - self._placed > PLACES_FOR:
            self._places, self._placed = self._rooms.rooms(), now
            there = {room.inode for room in self._places.values()}
            self._holders = {inode: kept for inode, kept in self._holders.items() if inode in there}
        return self._places

    # Who serves a port

    def _server(self, room: Room, one: LocalSocket) -> str | None:
        kept = self._servers.get(_served(room, one)) if one.serves else None
        return kept[1] if kept is not None and self._clock() - kept[0] <= KNOWN_FOR else None

    def _remember(self, room: Room, one: LocalSocket, name: str) -> None:
        if one.serves:
            if len(self._servers) >= MOST:
                del self._servers[next(iter(self._servers))]
            self._servers[_served(room, one)] = self._clock(), name

    # Looking

    def _afford(self, room: Room, sockets: list[LocalSocket]) -> dict[LocalSocket, str]:
        """Look for as many as may be looked for now; the others are counted."""
        some = sockets[: self._budget.allows(self._clock())]
        self.unlooked += len(sockets) - len(some)
        if not some:
            return {}
        began, busy = self._clock(), time.thread_time()
        names, elsewhere = self._names(room, some)
        self._budget.spend(len(some), time.thread_time() - busy + elsewhere, self._clock() - began)
        for each, name in zip(some, names, strict=True):
            self._remember(room, each, name)
        return dict(zip(some, names, strict=True))

    def _names(self, room: Room, sockets: list[LocalSocket]) -> tuple[list[str], float]:
        try:
            inodes, elsewhere = held(room.path, room.inode, sockets)
        except OSError:
            return [""] * len(sockets), 0.0
        holders = self._holders.setdefault(room.inode, {})
        missing = {each for each in inodes if each and not self._holds(holders.get(each), each)}
        if missing:
            self._search(room, holders, missing)
        named = {each: self._named(holders.get(each, ""), host=room.path is None) for each in {*inodes} - {0}}
        return [named.get(each, "") for each in inodes], elsewhere

    def _holds(self, file: str | None, inode: int) -> bool:
        """Tell whether a descriptor still is this socket. That nobody holds it is known until others are looked for."""
        return file is not None and (not file or _socket(file) == inode)

    def _search(self, room: Room, holders: dict[int, str], missing: set[int]) -> None:
        if len(holders) > MOST:
            holders.clear()
        left, found = set(missing), dict.fromkeys(missing, "")
        for pid in self._rooms.members(room.inode):
            for inode, file in _sockets(f"{self._proc}/{pid}/fd"):
                found[inode] = found.get(inode) or file
                if pid != INIT:
                    left.discard(inode)
            if not left:
                break
        holders |= found

    def _named(self, file: str, *, host: bool) -> str:
        seen = program(int(file.removeprefix(f"{self._proc}/").partition("/")[0]), self._proc) if file else None
        return text(seen, host=host) if seen is not None else ""


def text(seen: Program, *, host: bool) -> str:
    """Return what a program is called: with its unit, or, where it shares the host's network, with its container."""
    name = _plain(seen.name)[:LONGEST]
    if seen.unit:
        return f"{name} ({_plain(seen.unit)})"
    return f"{name} (container {seen.container[:12]})" if seen.container and host else name


def _plain(name: str) -> str:
    """A process says what it is called: what would steer a terminal, or pass for more than a name, does not."""
    return "".join(each if each.isprintable() else "?" for each in name).translate(_FORM)


def _served(room: Room, one: LocalSocket) -> tuple[int, int, bytes, int]:
    return room.inode, one.protocol, one.address, one.port


def _sockets(folder: str) -> Iterator[tuple[int, str]]:
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):  # noqa: PTH208 - thousands of times, and a Path costs more than the call
            if inode := _socket(file := f"{folder}/{name}"):
                yield inode, file


def _socket(file: str) -> int:
    """Return the inode of the socket that a descriptor is; 0 where it is none, or is gone."""
    try:
        target = os.readlink(file)  # noqa: PTH115 - likewise
    except OSError:
        return 0
    return int(target[8:-1]) if target.startswith("socket:[") else 0
