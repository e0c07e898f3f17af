"""Looks at the machine's processes and mounts again and again, and knows what each look found that was not there.

Blocking, for one thread at a time. A look is quick: it lists processes, and asks only new ones where they are; a
thorough look asks all of them. Inodes of namespaces are given out again, and so are pids: whatever is known of a
namespace is known of the one that was open while it was looked at, and where the kernel tells namespaces apart for ever
(``NS_GET_ID``, 6.18) each look makes sure that it is still that one; where it does not, a namespace whose first process
has ended is looked at again.
"""

import contextlib
import fcntl
import os
import struct
import time
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

import msgspec

from stockade.adapters.namespaces.mounts import mounted
from stockade.adapters.namespaces.processes import (
    PROC,
    ProcessSeen,
    look,
    namespace_of,
    open_namespaces,
    parent_of,
    pids,
)
from stockade.seams.places import Place, Places

NS_GET_ID = 2 << 30 | 8 << 16 | 0xB7 << 8 | 13
LATELY = 8
"""Looks over which what one takes is evened out."""
NAMED = ("/run/netns/", "/var/run/netns/")
"""Where ``ip netns`` puts names (ip-netns(8))."""


class Settings(msgspec.Struct, frozen=True):
    """Bounds, in seconds unless they are shares."""

    pause: float = 1.0
    """Between looks, at least."""
    share: float = 0.002
    """Of one processor, that looking may take while nothing happens: looks are as far apart as that asks for."""
    busy_share: float = 0.05
    """The same while something does."""
    within_share: float = 0.25
    """The same for looking into namespaces, again and again: a link that is nobody's may be any linkless one's."""
    within_at_once: float = 0.05
    """Of a processor's time, that this may take before anything has to be waited for: a newborn needs a fifth of it."""
    thorough: float = 10.0
    """Between looks that ask every process."""
    young: float = 3.0
    """How long a process counts as new: it may enter another namespace after it has begun."""
    together: float = 0.3
    """How long to wait, once woken, for what comes with it: whoever makes a namespace is about to tell of it, knows
    more, and needs the processor now."""
    patience: float = 0.2
    """How long a namespace that was found waits to be told of, for the same reason."""
    again: float = 0.5
    """How long until what is inside a namespace is looked at again, at first."""
    seldom: float = 300.0
    """At most this long until what is inside a namespace is looked at again, where there are few; while it is young,
    oftener.
    """
    seldom_share: float = 0.002
    """Of the time, that this takes where there are many: then it is longer."""


class Home(msgspec.Struct):
    """A network namespace that is known: how to reach it, what was found there, and when to look again."""

    inode: int
    id: int
    """What tells it from every other; 0 where the kernel does not say."""
    place: Place
    found: float
    since: float
    first: ProcessSeen | None
    mounts: tuple[str, ...] = ()
    file: str = ""
    """A descriptor of a process that holds it open, where nothing else leads to it."""
    ours: bool = True
    due: float = 0.0

    @property
    def path(self) -> str:
        """How to reach it."""
        return f"{PROC}/{self.first.pid}/ns/net" if self.first else next(iter(self.mounts), self.file)

    @property
    def name(self) -> str:
        """Its given name, else its unit, its process, or where it is mounted."""
        given = (each.rpartition("/")[2] for each in self.mounts if each.startswith(NAMED))
        process = (self.first.unit or self.first.name) if self.first else ""
        return next(given, "") or process or self.path.rpartition("/")[2]


class Census:
    """What was found so far. ``places`` looks into a namespace; ``uplinks`` are ports that lead out of the host."""

    def __init__(self, places: Places, *, uplinks: Iterable[str] = (), settings: Settings = Settings()) -> None:  # noqa: B008 - frozen
        self.homes: dict[int, Home] = {}
        """By inode."""
        self.costs = {True: 0.0, False: 0.0}
        """Seconds of a processor that the last look took, thorough or not, without looking into namespaces."""
        self.refused: set[int] = set()
        """The processes that this one may not know the namespace of."""
        self._places = places
        self._uplinks = frozenset(uplinks)
        self._settings = settings
        self._where: dict[int, int] = {}
        """Process → the inode of its namespace."""
        self._within: dict[int, set[int]] = {}
        """The same, the other way about."""
        self._touched: set[int] = set()
        self._fresh: dict[int, float] = {}
        self._mounts: dict[int, tuple[str, ...]] = {}
        self.own = namespace_of(os.getpid())
        """The inode of the namespace that this process lives in, which is the host's."""
        self._whole = _is_in(1, self.own)
        self._searched: frozenset[str] = frozenset()
        self._glance = 0.0
        """Seconds that looking into a namespace again takes, of late: a thread of its own has its part in it."""
        self._spent = 0.0
        self.spent = 0.0
        """Seconds of a processor that the last look took within namespaces."""

    def look(
        self,
        now: float,
        *,
        thorough: bool = True,
        mounts: bool = True,
        moved: frozenset[str] = frozenset(),
        strangers: frozenset[str] = frozenset(),
        within: Collection[int] = (),
    ) -> None:
        """Look once: at all there is (``thorough``), or at what is new, and at mounts where they changed (``mounts``).

        ``moved``: ports of the host that changed; ``strangers``: ports whose other end is elsewhere; ``within``: the
        inodes of namespaces within which something changed.
        """
        began, self._spent = time.thread_time(), 0.0
        there = pids()
        self._ask(there, now, thorough=thorough)
        if mounts or thorough:
            self._remount(mounted())
        if thorough:
            self._touched |= self.homes.keys() | self._within.keys() | self._mounts.keys()
        self._settle(now, moved, within)
        if thorough:
            self._search(strangers, there, now)
        self.costs[thorough], self.spent = time.thread_time() - began - self._spent, self._spent

    def look_into(self, within: Collection[int], now: float) -> None:
        """Look into these namespaces (by inode) where they are known, and at nothing else."""
        self._spent = 0.0
        for home in [self.homes[inode] for inode in sorted(within) if inode in self.homes]:
            self._look_within(home, now)
        self.spent = self._spent

    # Who is where

    def _ask(self, there: set[int], now: float, *, thorough: bool) -> None:
        for pid in self._where.keys() - there:
            self._move(pid, 0)
            del self._where[pid]
            self._fresh.pop(pid, None)
        for pid in there - self._where.keys():
            self._fresh[pid] = now
        self.refused &= there
        for pid in sorted(there if thorough else self._fresh):
            try:
                self._move(pid, namespace_of(pid))
            except PermissionError:
                self._move(pid, 0)
                self.refused.add(pid)
            else:
                self.refused.discard(pid)
        self._fresh = {pid: since for pid, since in self._fresh.items() if now - since < self._settings.young}

    def _move(self, pid: int, inode: int) -> None:
        before = self._where.get(pid, 0)
        self._where[pid] = inode
        if before == inode:
            return
        self._touched |= {before, inode}
        if before:
            self._within[before].discard(pid)
            if not self._within[before]:
                del self._within[before]
        if inode:
            self._within.setdefault(inode, set()).add(pid)

    def _remount(self, mounts: dict[int, tuple[str, ...]]) -> None:
        for inode in mounts.keys() | self._mounts.keys():
            if mounts.get(inode) != self._mounts.get(inode):
                self._touched.add(inode)
        self._mounts = mounts

    # What is known of each

    def _settle(self, now: float, moved: frozenset[str], within: Collection[int]) -> None:
        known = {each.port: home.inode for home in self.homes.values() for each in home.place.endpoints if each.port}
        again = {known[port] for port in moved if port in known} | set(within)
        again |= {home.inode for home in self.homes.values() if now >= home.due}
        if moved - known.keys() - self._uplinks:
            again |= {home.inode for home in self.homes.values() if not home.place.endpoints}
        touched, self._touched = self._touched, set()
        for inode in sorted((touched | again) - {0, self.own}):
            self._know(inode, now, again=inode in again)

    def _know(self, inode: int, now: float, *, again: bool) -> None:
        """Find out what is to be known of one namespace, which may be new, changed, another one, or gone."""
        home, within, mounts = self.homes.get(inode), self._within.get(inode, set()), self._mounts.get(inode, ())
        if not within and not mounts and (home is None or not home.file or not _leads(home.file, inode)):
            self.homes.pop(inode, None)
            return
        if home is not None and (home.first.pid if home.first else 0) not in within | {0}:
            home = self._led_anew(home, within)
        elif home is not None and home.first is None and within:
            home.first = _first(within)
        if home is None or not _still(home):
            self.homes.pop(inode, None)
            self._discover(inode, within, mounts, "", now)
            return
        home.mounts = mounts
        if again:
            self._look_within(home, now)

    def _led_anew(self, home: Home, within: set[int]) -> Home | None:
        """Its first process has ended: where the kernel cannot say, the namespace may be another by now."""
        home.first = _first(within)
        return home if home.id else None

    def _discover(self, inode: int, within: set[int], mounts: tuple[str, ...], file: str, now: float) -> None:
        first = _first(within)
        home = Home(inode, 0, Place(""), now, now, first, mounts, file)
        with self._apart(), contextlib.suppress(OSError), _opened(home.path, inode) as fd:
            home.id = _id(fd)
            home.place = self._places(f"{PROC}/self/fd/{fd}")
            home.since = self._began(home, now)
            home.ours = self._belongs(home, within)
            home.due = now + self._settings.again
            self.homes[inode] = home
        if inode not in self.homes:
            self._touched.add(inode)  # it could not be looked into just now

    def _look_within(self, home: Home, now: float) -> None:
        """Look into a namespace again; after twice its age, and not too seldom."""
        home.due = now + min(max(now - home.found, self._settings.again), self._seldom())
        with self._apart(), contextlib.suppress(OSError), _opened(home.path, home.inode) as fd:
            began = time.perf_counter()
            place = self._places(f"{PROC}/self/fd/{fd}")
            self._glance += (time.perf_counter() - began - self._glance) / LATELY
            if place.mark == home.place.mark:
                home.place = place
                home.first = (look(home.first.pid) or home.first) if home.first else None
                home.ours = self._belongs(home, {home.first.pid} if home.first else set())
            else:
                self.homes.pop(home.inode)

    def _seldom(self) -> float:
        return max(self._settings.seldom, len(self.homes) * self._glance / self._settings.seldom_share)

    @contextlib.contextmanager
    def _apart(self) -> Iterator[None]:
        """Count what is done here apart: it is done for what is new, and not again at every look."""
        began, before = time.thread_time(), self._spent
        try:
            yield
        finally:
            self._spent = before + time.thread_time() - began

    def _began(self, home: Home, now: float) -> float:
        """Return when it came to be, as well as the kernel tells: with its first process, or when it got its name."""
        if home.mounts:
            with contextlib.suppress(OSError):
                named = Path(home.mounts[0]).parent.stat().st_mtime
                return min(named, now)
        return min(home.first.began, now) if home.first else now

    # Whose it is

    def _belongs(self, home: Home, within: set[int]) -> bool:
        """Tell whether a namespace is this host's.

        On a machine of its own everything is. Where the host is itself a namespace of a larger machine, what a link
        joins to it is, and what was begun from it. A namespace beyond an uplink is outside in either case.
        """
        ports = {each.port for each in home.place.endpoints if each.port}
        if ports and ports <= self._uplinks:
            return False
        return self._whole or bool(ports) or any(self._begun_here(pid) for pid in within)

    def _begun_here(self, pid: int) -> bool:
        seen: set[int] = set()
        while pid > 1 and pid not in seen:
            seen.add(pid)
            pid = parent_of(pid)
            if self._where.get(pid) == self.own:
                return True
        return False

    # Links that lead nowhere known

    def _search(self, strangers: frozenset[str], there: set[int], now: float) -> None:
        """Look through all open files for the namespaces at the other ends of these links: once, until others come."""
        known = {each.port for home in self.homes.values() for each in home.place.endpoints}
        missing = strangers - known - self._uplinks
        if not missing or missing <= self._searched:
            self._searched &= missing
            return
        self._searched = missing
        with self._apart():
            self._look_everywhere(there, now)

    def _look_everywhere(self, there: set[int], now: float) -> None:
        for home in list(self.homes.values()):
            self._look_within(home, now)
        for pid in sorted(there):
            for inode, path in open_namespaces(pid):
                if inode != self.own and inode not in self.homes:
                    self._discover(inode, set(), (), path, now)

    def members(self, inode: int) -> tuple[int, ...]:
        """Return the processes in a namespace, the newest first, with those that began since the last look.

        From any thread.
        """
        known, young = self._where, self._fresh.copy()
        found = self._within.get(inode, set()).copy() - young.keys()
        new = (pid for pid in pids() if pid not in known or pid in young)
        return tuple(sorted({*found, *(pid for pid in new if _is_in(pid, inode))}, reverse=True))

    def within(self, inode: int) -> tuple[int, ...]:
        """Return the processes that were last seen in a namespace, sorted."""
        return tuple(sorted(self._within.get(inode, ())))


def _first(within: Iterable[int]) -> ProcessSeen | None:
    """Return the process that began first."""
    seen = (found for pid in sorted(within)[:64] if (found := look(pid)) is not None)
    return min(seen, key=lambda each: (each.began, each.pid), default=None)


def _still(home: Home) -> bool:
    """Tell whether a namespace's path leads to the one that it led to."""
    if not home.id:
        return _leads(home.path, home.inode)
    try:
        with _opened(home.path, home.inode) as fd:
            return _id(fd) == home.id
    except OSError:
        return False


def _leads(path: str, inode: int) -> bool:
    try:
        return Path(path).stat().st_ino == inode
    except OSError:
        return False


@contextlib.contextmanager
def _opened(path: str, inode: int) -> Iterator[int]:
    """Open a namespace for a moment. ``OSError`` where the path leads to another one by now."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if os.fstat(fd).st_ino != inode:
            raise FileNotFoundError(path)
        yield fd
    finally:
        os.close(fd)


def _id(fd: int) -> int:
    answer = bytearray(8)
    try:
        fcntl.ioctl(fd, NS_GET_ID, answer)
    except OSError:
        return 0
    (found,) = struct.unpack("=Q", answer)
    return int(found)


def _is_in(pid: int, inode: int) -> bool:
    try:
        return namespace_of(pid) == inode
    except PermissionError:
        return False
