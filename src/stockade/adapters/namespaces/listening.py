"""Sockets that take what strangers send, in any network namespace that a process lives in, and who holds them.

Asked of the kernel within the namespace (``diag``); where it cannot be asked, and of SCTP, read from ``/proc/PID/net``
(proc(5)). Who holds a socket is looked for once, among the processes of its namespace, and remembered for as long as
both are there.
"""

import ipaddress
import os
import socket
import struct
from collections.abc import Collection, Iterator
from pathlib import Path

from stockade.adapters.namespaces.diag import Unavailable, listed
from stockade.adapters.namespaces.processes import PROC, look
from stockade.core.model.census import Listening, Process
from stockade.core.model.net import Protocol

LISTENS, UNCONNECTED = "0A", "07"
"""States of TCP sockets that listen, and of UDP sockets without a peer (``include/net/tcp_states.h``)."""
SCTP_LISTENS = "10"
TABLES = (
    ("tcp", Protocol.TCP, LISTENS),
    ("tcp6", Protocol.TCP, LISTENS),
    ("udp", Protocol.UDP, UNCONNECTED),
    ("udp6", Protocol.UDP, UNCONNECTED),
)
_Row = tuple[Protocol, int, str, int]
"""Protocol, port, address, inode."""


class Sockets:
    """Remembers who holds which socket."""

    def __init__(self, proc: Path = PROC) -> None:
        self._proc = proc
        self._holders: dict[int, dict[int, Process | None]] = {}
        """By the process through which a namespace is seen; inode → holder."""

    def listening(self, through: int, within: Collection[int]) -> tuple[Listening, ...]:
        """Return what is listened on in the namespace of a process, whose processes are ``within``.

        Raises ``OSError`` where that process is gone, or may not be looked at.
        """
        rows = sorted(set(self._rows(through)), key=lambda row: (row[0].value, *row[1:]))
        holders = self._held(through, {row[3] for row in rows}, within)
        found = (Listening(protocol, port, address, holders.get(inode)) for protocol, port, address, inode in rows)
        return tuple(dict.fromkeys(found))

    def forget(self, but: Collection[int]) -> None:
        """Forget all but the namespaces that are seen through these processes."""
        for gone in self._holders.keys() - set(but):
            del self._holders[gone]

    def _held(self, through: int, inodes: set[int], within: Collection[int]) -> dict[int, Process | None]:
        before = self._holders.get(through, {})
        known = {
            inode: holder
            for inode, holder in before.items()
            if inode in inodes and (holder is None or holder.pid in within)
        }
        missing = inodes - known.keys()
        if missing:
            known |= dict.fromkeys(missing) | dict(self._search(missing, within))
        self._holders[through] = known
        return known

    def _search(self, inodes: set[int], within: Collection[int]) -> Iterator[tuple[int, Process]]:
        left = set(inodes)
        for pid in sorted(within):
            mine = left.intersection(self._sockets(pid))
            seen = look(pid, self._proc) if mine else None
            if seen is not None:
                yield from ((inode, Process(pid, seen.name, seen.unit)) for inode in sorted(mine))
                left -= mine
            if not left:
                return

    def _sockets(self, pid: int) -> Iterator[int]:
        folder = f"{self._proc}/{pid}/fd"
        try:
            files = os.listdir(folder)  # noqa: PTH208 - thousands of times, and a Path costs more than the call
        except OSError:
            return
        for file in files:
            try:
                target = os.readlink(f"{folder}/{file}")  # noqa: PTH115 - likewise
            except OSError:
                continue
            if target.startswith("socket:["):
                yield int(target[8:-1])

    def _rows(self, through: int) -> Iterator[_Row]:
        folder = self._proc / str(through)
        try:
            yield from (
                (Protocol(one), port, address, inode) for one, port, address, inode in listed(f"{folder}/ns/net")
            )
        except Unavailable:
            for name, protocol, state in TABLES:
                yield from _internet(_read(folder / "net" / name, needed=name == "tcp"), protocol, state)
        yield from _sctp(_read(folder / "net/sctp/eps", needed=False))


def _read(table: Path, *, needed: bool) -> str:
    """Read a table; one that this kernel does not have is empty."""
    try:
        return table.read_text(encoding="ascii", errors="replace")
    except FileNotFoundError:
        if needed:
            raise
        return ""


def _internet(text: str, protocol: Protocol, state: str) -> Iterator[_Row]:
    for line in text.splitlines()[1:]:
        words = line.split(None, 10)
        if len(words) > 9 and words[3] == state:
            address, _, port = words[1].partition(":")
            if int(port, 16):
                yield protocol, int(port, 16), _address(address), int(words[9])


def _sctp(text: str) -> Iterator[_Row]:
    for line in text.splitlines()[1:]:
        words = line.split()
        if len(words) > 7 and words[3] == SCTP_LISTENS:
            for address in words[8:] or [""]:
                yield Protocol.SCTP, int(words[5]), "" if address in ("0.0.0.0", "::") else address, int(words[7])


def _address(text: str) -> str:
    """Read an address as the kernel writes it there: words of 32 bits, each in the machine's order. Empty: any."""
    packed = b"".join(struct.pack("=I", int(text[at : at + 8], 16)) for at in range(0, len(text), 8))
    if not any(packed):
        return ""
    if len(packed) == 4:
        return socket.inet_ntop(socket.AF_INET, packed)
    found = ipaddress.IPv6Address(packed)
    return str(found.ipv4_mapped or found)
