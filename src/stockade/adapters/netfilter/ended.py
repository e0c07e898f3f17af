"""Connections that are over, as connection tracking tells of them, with what they carried (``nfnetlink_conntrack.h``).

The kernel accounts only where it is told to: ``account`` turns that on for a network namespace. It does not number what
it tells, so of what is lost it is known only that something was.
"""

import errno
import struct
from pathlib import Path

from stockade.adapters.netfilter.conntrack import TUPLES
from stockade.adapters.netfilter.messages import (
    ADD_MEMBERSHIP,
    ATTRIBUTE,
    KIND,
    SOL_NETLINK,
    attributes,
    number,
    open_socket,
    widen,
)
from stockade.seams.flows import Ended
from stockade.within import within

SUBSYSTEM, DELETED = 1, 2
GROUP_DESTROYED = 3
MARK, COUNTERS_ORIG, COUNTERS_REPLY, ZONE, TIMESTAMP = 8, 9, 10, 18, 20
PACKETS, BYTES = 1, 2
START, STOP = 1, 2
ROOM = 8 << 20
LARGEST = 1 << 16
LONGEST = 4096
"""Connections read in one go, at most: the kernel tells of each in a datagram of its own."""
SWITCHES = (Path("/proc/sys/net/netfilter/nf_conntrack_acct"), Path("/proc/sys/net/netfilter/nf_conntrack_timestamp"))
NANOSECONDS = 1e9
HEAD = 24
"""Bytes of a message's head, and of its first attribute's: less is none of these."""
_HEAD = struct.Struct("=IH")
_LENGTH = struct.Struct("=H")


def account(netns: str | None = None) -> tuple[str, ...]:
    """Have connections that begin from now on accounted for and timed; return the switches that could not be set."""
    return within(netns, lambda: tuple(path.name for path in SWITCHES if not _switch(path)))


def _switch(path: Path) -> bool:
    try:
        if path.read_text(encoding="ascii").strip() == "0":
            path.write_text("1", encoding="ascii")
    except OSError:
        return False
    return True


class Endings:
    """Of one network namespace (its file), or of the calling thread's. Does not wait: poll ``fileno``."""

    def __init__(self, netns: str | None = None) -> None:
        self._link = open_socket(netns)
        self.overruns = 0
        """How often the kernel had no room for what it had to tell."""
        try:
            widen(self._link, ROOM)
            self._link.bind((0, 0))  # one without an address of its own is passed over
            self._link.setsockopt(SOL_NETLINK, ADD_MEMBERSHIP, GROUP_DESTROYED)
            self._link.setblocking(False)
        except BaseException:
            self._link.close()
            raise

    def fileno(self) -> int:
        """Return the descriptor that is readable when there is something to read."""
        return self._link.fileno()

    def read(self) -> list[Ended]:
        """Return what has come, oldest first."""
        found: list[Ended] = []
        for _ in range(LONGEST):
            try:
                data = self._link.recv(LARGEST)
            except BlockingIOError:
                break
            except OSError as problem:
                if problem.errno != errno.ENOBUFS:
                    raise
                self.overruns += 1
                continue
            decode(data, found)
        return found

    def close(self) -> None:
        """Hear no more."""
        self._link.close()


def decode(data: bytes, found: list[Ended]) -> None:
    """Add the connections of one datagram; those in a zone belong to somebody else and are passed over."""
    at, end = 0, len(data)
    while at + HEAD <= end:
        (length, kind) = _HEAD.unpack_from(data, at)
        if kind == SUBSYSTEM << 8 | DELETED and length >= HEAD:
            found += _ended(data[at : at + length])
        at += max(16, length + 3 & ~3)


def _ended(content: bytes) -> tuple[Ended, ...]:
    family = content[16]
    (length,) = _LENGTH.unpack_from(content, 20)
    layout = TUPLES.get((family, length))
    if layout is None:
        return ()
    fields = layout.unpack_from(content, 20)
    if len(fields) == 10:
        source, opened_to, protocol, _, opened_port, destination, _, _, port, _ = fields
    elif len(fields) == 12:
        source, opened_to, protocol, _, kind, code, destination, _, _, _, _, _ = fields
        port = opened_port = kind << 8 | code
    else:
        source, opened_to, protocol, destination, _, _ = fields
        port = opened_port = 0
    mark = packets = out = back = 0
    seconds = 0.0
    at, end = 20 + 2 * length, len(content)
    while at + 4 <= end:
        size, what = ATTRIBUTE.unpack_from(content, at)
        what &= KIND
        value = content[at + 4 : at + size]
        if what == ZONE:
            return ()
        if what == MARK:
            mark = int.from_bytes(value, "big")
        elif what == COUNTERS_ORIG:
            told = attributes(value)
            packets, out = packets + number(told.get(PACKETS)), number(told.get(BYTES))
        elif what == COUNTERS_REPLY:
            told = attributes(value)
            packets, back = packets + number(told.get(PACKETS)), number(told.get(BYTES))
        elif what == TIMESTAMP:
            told = attributes(value)
            began, over = number(told.get(START)), number(told.get(STOP))
            seconds = max(over - began, 0) / NANOSECONDS if began else 0.0
        at += max(4, size + 3 & ~3)
    return (Ended(protocol, source, destination, port, opened_to, opened_port, mark, packets, out, back, seconds),)
