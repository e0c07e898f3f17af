"""nftables by raw netlink, where text would cost too much: named counters, and who changed our tables.

Never writes. Promises: ``Changes`` misses nothing silently; what the kernel had to drop is told as a change of unknown
author.
"""

import contextlib
import os
import socket
import struct
from collections.abc import Callable, Iterator

import msgspec

from stockade.core.compile.nft.ruleset import TABLE
from stockade.within import NetlinkSockets, netlink_socket

NETLINK_NETFILTER = 12
SUBSYSTEM = 10
GETOBJ, NEWOBJ, NEWGEN, GETGEN = 19, 18, 15, 16
GROUP = 7
"""NFNLGRP_NFTABLES."""
REQUEST, DUMP = 0x1, 0x300
ERROR, DONE, INTERRUPTED = 2, 3, 0x10
OBJ_TABLE, OBJ_NAME, OBJ_TYPE, OBJ_DATA = 1, 2, 3, 4
COUNTER = 1
COUNTER_BYTES, COUNTER_PACKETS = 1, 2
GEN_ID, GEN_PID, GEN_NAME = 1, 2, 3
FAMILIES = {1: "inet", 7: "bridge"}
ATTEMPTS = 10
PATIENCE = 5.0
ROOM = 1 << 21


class Change(msgspec.Struct, frozen=True):
    """Somebody else's transaction that touched our tables. ``lost``: some were not heard; look for yourself."""

    families: tuple[str, ...] = ()
    pid: int = 0
    process: str = ""
    lost: bool = False


class Changes:
    """A subscription, with a descriptor to wait for. ``is_own`` tells by a port whether a transaction is ours."""

    def __init__(self, is_own: Callable[[int], bool], netns: str | None = None) -> None:
        self._is_own = is_own
        self._socket = netlink_socket(NETLINK_NETFILTER, netns)
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, ROOM)
        with contextlib.suppress(PermissionError):
            self._socket.setsockopt(socket.SOL_SOCKET, 33, ROOM)  # SO_RCVBUFFORCE
        self._socket.bind((0, 1 << GROUP - 1))
        self._touched: set[str] = set()

    def fileno(self) -> int:
        """The descriptor that becomes readable when there is something to ``read``."""
        return self._socket.fileno()

    def read(self) -> list[Change]:
        """Return what has happened since, oldest first, without waiting."""
        found: list[Change] = []
        while True:
            try:
                data = self._socket.recv(1 << 18)
            except BlockingIOError:
                return found
            except OSError:
                self._touched.clear()
                found.append(Change(lost=True))
                continue
            found += self._heard(data)

    def close(self) -> None:
        """Unsubscribe."""
        self._socket.close()

    def _heard(self, data: bytes) -> Iterator[Change]:
        """A transaction's messages come first, its author last."""
        for kind, _, port, content in messages(data):
            if kind >> 8 != SUBSYSTEM or self._is_own(port):
                continue
            if kind & 0xFF != NEWGEN:
                name = attributes(content[20:]).get(OBJ_TABLE, b"")
                if name.rstrip(b"\0") == TABLE.encode() and content[16] in FAMILIES:
                    self._touched.add(FAMILIES[content[16]])
            elif self._touched:
                told = attributes(content[20:])
                process = told.get(GEN_NAME, b"").rstrip(b"\0").decode(errors="replace")
                yield Change(tuple(sorted(self._touched)), int.from_bytes(told.get(GEN_PID, b""), "big"), process)
                self._touched.clear()


class RulesetMoves:
    """A subscription to anybody's transactions on any table. It tells that there was one, and not what."""

    def __init__(self) -> None:
        self._socket = netlink_socket(NETLINK_NETFILTER)
        self._socket.setblocking(False)
        self._socket.bind((0, 1 << GROUP - 1))

    def fileno(self) -> int:
        """The descriptor that becomes readable after a transaction."""
        return self._socket.fileno()

    def drain(self) -> None:
        """Forget what was told; what was lost on the way is a reason to look as well."""
        while True:
            try:
                self._socket.recv(1 << 18)
            except BlockingIOError:
                return
            except OSError:
                continue

    def close(self) -> None:
        """Unsubscribe."""
        self._socket.close()


class Readings:
    """Numbers of a network namespace's ruleset (its file), or of the calling thread's. Safe from several threads."""

    def __init__(self, netns: str | None = None) -> None:
        self._links = NetlinkSockets(NETLINK_NETFILTER, netns)

    def counters(self) -> dict[str, tuple[int, int]]:
        """Return (packets, bytes) of every named counter of our tables, those of one name added up."""
        found: dict[str, tuple[int, int]] = {}
        with self._links.lent(PATIENCE) as link:
            for family in FAMILIES:
                for name, packets, octets in _whole_dump(link, family):
                    before = found.get(name, (0, 0))
                    found[name] = (before[0] + packets, before[1] + octets)
        return found

    def counter(self, name: str) -> int | None:
        """Return the packets of one named counter, added up over our tables; None where none has it."""
        with self._links.lent(PATIENCE) as link:
            found = [_one(link, family, name) for family in FAMILIES]
        there = [each for each in found if each is not None]
        return sum(there) if there else None

    def generation(self) -> int:
        """Return the number of the ruleset; every transaction changes it."""
        with self._links.lent(PATIENCE) as link:
            content = _answer(link, _request(0, REQUEST, 1, b"", GETGEN))
        return int.from_bytes(attributes(content[20:])[GEN_ID], "big")

    def close(self) -> None:
        """Let go of its sockets."""
        self._links.close()


def _one(link: socket.socket, family: int, name: str) -> int | None:
    body = attribute(OBJ_TABLE, TABLE.encode() + b"\0") + attribute(OBJ_NAME, name.encode() + b"\0")
    asked = _request(family, REQUEST, 1, body + attribute(OBJ_TYPE, struct.pack(">I", COUNTER)))
    try:
        return _counter(_answer(link, asked))[1]
    except FileNotFoundError:
        return None


def _answer(link: socket.socket, asked: bytes) -> bytes:
    """Return the one message that answers a request. ``OSError`` where the kernel refuses it."""
    link.sendto(asked, (0, 0))
    ((kind, _, _, content),) = messages(link.recv(1 << 16))
    if kind == ERROR:
        number = -struct.unpack_from("=i", content, 16)[0]
        raise OSError(number, os.strerror(number))
    return content


def _request(family: int, flags: int, sequence: int, body: bytes, kind: int = GETOBJ) -> bytes:
    head = struct.pack("=IHHII", 20 + len(body), SUBSYSTEM << 8 | kind, flags, sequence, 0)
    return head + struct.pack(">BBH", family, 0, 0) + body


def _whole_dump(link: socket.socket, family: int) -> list[tuple[str, int, int]]:
    """Dump again where a transaction came in between."""
    for sequence in range(1, ATTEMPTS + 1):
        found = _dump(link, family, sequence)
        if found is not None:
            return found
    raise TimeoutError("the ruleset changes faster than its counters can be read")


def _dump(link: socket.socket, family: int, sequence: int) -> list[tuple[str, int, int]] | None:
    body = attribute(OBJ_TABLE, TABLE.encode() + b"\0") + attribute(OBJ_TYPE, struct.pack(">I", COUNTER))
    link.sendto(_request(family, REQUEST | DUMP, sequence, body), (0, 0))
    found: list[tuple[str, int, int]] = []
    interrupted = False
    while True:
        for kind, flags, _, content in messages(link.recv(1 << 18)):
            interrupted |= bool(flags & INTERRUPTED)
            if kind in (DONE, ERROR):
                number = -struct.unpack_from("=i", content, 16)[0]
                if number > 0:
                    raise OSError(number, os.strerror(number))
                return None if interrupted else found
            found.append(_counter(content))


def _counter(content: bytes) -> tuple[str, int, int]:
    told = attributes(content[20:])
    data = attributes(told.get(OBJ_DATA, b""))
    name = told.get(OBJ_NAME, b"").rstrip(b"\0").decode(errors="replace")
    return name, int.from_bytes(data[COUNTER_PACKETS], "big"), int.from_bytes(data[COUNTER_BYTES], "big")


def attribute(kind: int, content: bytes) -> bytes:
    """Return one netlink attribute, padded."""
    return struct.pack("=HH", 4 + len(content), kind) + content + bytes(-len(content) % 4)


def attributes(data: bytes) -> dict[int, bytes]:
    """Return attributes by kind."""
    found = {}
    at = 0
    while at + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, at)
        found[kind & 0x3FFF] = data[at + 4 : at + length]
        at += max(4, length + 3 & ~3)
    return found


def messages(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """Yield (type, flags, port, whole message)."""
    at = 0
    while at + 16 <= len(data):
        length, kind, flags, _, port = struct.unpack_from("=IHHII", data, at)
        yield kind, flags, port, data[at : at + length]
        at += max(16, length + 3 & ~3)
