"""Newborns watched from outside: what of theirs arrived, where, and when; and somebody who tries to reach them first.

The newborn (``newborn.c``) sends from its first instruction on. Who it may ask, and who it may not, are sockets held
here; so what is told is told by packets that arrived, not by anybody's record.
"""

import contextlib
import selectors
import shutil
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from bench.hosts import socket_at, widened
from stockade.errors import StockadeError

SOURCE = Path(__file__).parent / "newborn.c"
TCP, UDP, DENIED = 8080, 53, 7100
"""``DENIED`` is for datagrams; the two ports after it for frames, by the newborn's and by another's address."""
SCANNED = 7300
LIFE = 60.0
"""Seconds that a newborn lives where nobody takes it away before."""
BREATH = 0.002
TIMESTAMP = 35
"""SO_TIMESTAMPNS: the kernel says of each packet when it came."""
_MAGIC = 0x6E6577626F726E31
_WORDS = struct.Struct("<9Q")


def compiled(folder: Path) -> Path:
    """Return the newborn's program, compiled into a folder. Raises ``StockadeError`` where there is no compiler."""
    return built(SOURCE, folder / "newborn")


def built(source: Path, program: Path, *words: str) -> Path:
    """Compile a program that needs no library. Raises ``StockadeError`` where there is no compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise StockadeError("births cannot be measured: there is no C compiler", remedy="apt-get install gcc libc6-dev")
    done = subprocess.run(
        [compiler, "-O2", "-static", *words, "-o", str(program), str(source)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise StockadeError(f"births cannot be measured: {done.stderr.strip()}", remedy="apt-get install gcc libc6-dev")
    return program


class Place(NamedTuple):
    """A workload that newborns talk to, or are scanned from: its namespace and addresses (IPv6 may be empty)."""

    netns: str
    four: str
    six: str = ""
    mac: str = ""


class Words(NamedTuple):
    """What a newborn says of itself. Moments are CLOCK_MONOTONIC nanoseconds, 0 where it has not happened."""

    magic: int
    id: int
    born: int
    able: int
    """The first moment at which the kernel took a packet of its."""
    now: int
    denied: int
    """Datagrams that it has sent to where it may not."""
    frames: int
    scanned: int
    """Packets that have come from those who may not send to it."""
    connected: int


class Born(NamedTuple):
    """One newborn's way into life, in milliseconds from the first moment at which it could send."""

    dead: float
    """Until the first of its datagrams has arrived where it may."""
    connected: float | None
    """Until the one TCP connection stood that it began at once; None where it never did."""
    last: Words
    passed: int
    """Packets of it that arrived where they may not."""


class Watch:
    """Everybody whom newborns ask, or try. ``ally`` is allowed; ``neighbour`` (on their bridge) and ``others`` not."""

    def __init__(self, ally: Place, neighbour: Place, others: Sequence[Place], scanners: Sequence[Place]) -> None:
        self.ally, self.neighbour, self.others, self.scanners = ally, neighbour, tuple(others), tuple(scanners)
        self._open = contextlib.ExitStack()
        self._selector = selectors.DefaultSelector()
        self._first: dict[int, int] = {}
        self._last: dict[int, Words] = {}
        self._passed: dict[int, int] = {}
        self._target: dict[int, str] = {}
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._listen), threading.Thread(target=self._scan)]
        self.scans = 0
        """Datagrams sent to newborns by those who may not."""

    def __enter__(self) -> Self:
        try:
            self._bind(self.ally, UDP, 4, allowed=True)
            self._accept()
            for each in (self.neighbour, *self.others):
                for port in (DENIED, DENIED + 1, DENIED + 2):
                    self._bind(each, port, 4)
                if each.six:
                    self._bind(each, DENIED, 6)
            self._scanning = [self._open.enter_context(socket_at(p.netns, 4, socket.SOCK_DGRAM)) for p in self.scanners]
        except BaseException:
            self._open.close()
            raise
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()
        self._open.close()
        self._selector.close()

    def argv(self, program: str, number: int) -> list[str]:
        """Return the command that a newborn is."""
        targets = [f"{self.neighbour.four}/{DENIED}", *(f"{each.four}/{DENIED}" for each in self.others)]
        targets += [f"{each.six}/{DENIED}" for each in (self.neighbour, *self.others) if each.six]
        scanners = ",".join(each.four for each in self.scanners)
        words = [program, str(number), str(LIFE), self.ally.four, str(TCP), str(UDP)]
        return [*words, self.neighbour.mac, self.ally.four, scanners, *targets]

    def expect(self, number: int, address: str) -> None:
        """Begin to scan the address that a newborn will have."""
        self._target[number] = address

    def arrived(self, number: int) -> bool:
        """Tell whether anything of a newborn has arrived where it may."""
        return number in self._first

    def leave(self, number: int) -> None:
        """Scan a newborn no longer: its first moments are over."""
        self._target.pop(number, None)

    def connected(self, number: int) -> bool:
        """Tell whether the connection that a newborn began at once stands."""
        return number in self._last and self._last[number].connected > 0

    def born(self, number: int) -> Born:
        """Return what has come of a newborn, and forget it. Raises ``StockadeError`` where nobody heard of it."""
        if number not in self._first:
            raise StockadeError(f"newborn {number} was never let talk", remedy="is it told of, and labelled?")
        first, last = self._first.pop(number), self._last.pop(number)
        connected = (last.connected - last.able) / 1e6 if last.connected else None
        return Born((first - last.able) / 1e6, connected, last, self._passed.pop(number, 0))

    # within

    def _bind(self, place: Place, port: int, family: int, *, allowed: bool = False) -> None:
        found = self._open.enter_context(widened(socket_at(place.netns, family, socket.SOCK_DGRAM)))
        found.setblocking(False)
        found.setsockopt(socket.SOL_SOCKET, TIMESTAMP, 1)
        found.bind((place.six if family == 6 else place.four, port))
        self._selector.register(found, selectors.EVENT_READ, self._hear if allowed else self._catch)

    def _accept(self) -> None:
        found = self._open.enter_context(socket_at(self.ally.netns, 4, socket.SOCK_STREAM))
        found.setblocking(False)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((self.ally.four, TCP))
        found.listen(256)
        self._selector.register(found, selectors.EVENT_READ, _let_go)

    def _listen(self) -> None:
        while not self._ended.is_set():
            for key, _ in self._selector.select(0.1):
                key.data(key.fileobj)

    def _hear(self, found: socket.socket) -> None:
        for words, at in _said(found):
            self._first.setdefault(words.id, at)
            self._last[words.id] = words

    def _catch(self, found: socket.socket) -> None:
        for words, _ in _said(found):
            self._passed[words.id] = self._passed.get(words.id, 0) + 1

    def _scan(self) -> None:
        while not self._ended.wait(BREATH):
            for address in list(self._target.values()):
                for each in self._scanning:
                    with contextlib.suppress(OSError):
                        each.sendto(b"anybody there?", socket.MSG_DONTWAIT, (address, SCANNED))
                        self.scans += 1


def _let_go(listening: socket.socket) -> None:
    with contextlib.suppress(OSError):
        listening.accept()[0].close()


def _said(found: socket.socket) -> Iterator[tuple[Words, int]]:
    """Yield what was said, and when the kernel took it in: whoever reads it may have to wait for a processor."""
    while True:
        try:
            data, told, _, _ = found.recvmsg(2048, 64)
        except OSError:
            return
        if len(data) == _WORDS.size and (words := Words(*_WORDS.unpack(data))).magic == _MAGIC:
            yield words, _moment(told)


def _moment(told: Sequence[tuple[int, int, bytes]]) -> int:
    """Return a packet's own moment in nanoseconds of CLOCK_MONOTONIC; that of now where the kernel did not say it."""
    now = time.monotonic_ns()
    for level, kind, content in told:
        if (level, kind) == (socket.SOL_SOCKET, TIMESTAMP):
            seconds, nanoseconds = map(int, struct.unpack("@ll", content))
            return now - (time.time_ns() - seconds * 1_000_000_000 - nanoseconds)
    return now
