"""Packets that rules of ours decided about, as the kernel logs them to one NFLOG group (``nfnetlink_log.h``).

The kernel numbers what it logs, so that what is lost is counted exactly. One reader a group and network namespace.
"""

import os
import struct
from collections.abc import Iterator

from stockade.adapters.netfilter.logged import SUBSYSTEM, PacketReader
from stockade.adapters.netfilter.messages import (
    ACK,
    ERROR,
    NO_ENOBUFS,
    REQUEST,
    SOL_NETLINK,
    attribute,
    open_socket,
    request,
    widen,
)
from stockade.seams.flows import Decision

CONFIG = 1
COMMAND, COPY, BUFFER, TIMEOUT, THRESHOLD, FLAGS = 1, 2, 3, 4, 5, 6
BIND, COPY_PACKET, NUMBERED = 1, 2, 1
HEADERS = 96
"""Bytes kept of a packet: an IPv6 header, a few of its extensions, and ports."""
TOGETHER, TENTHS, KERNEL_BUFFER = 100, 10, 1 << 17
"""Packets that the kernel tells of in one go, hundredths of a second after which it tells anyway, and room for them."""
ROOM = 8 << 20
"""Bytes of packets that wait to be read."""
LARGEST = 1 << 18
LONGEST = 64
"""Datagrams read in one go, at most."""
PATIENCE = 5.0


class PacketLog:
    """One group of a network namespace (its file), or of the calling thread's. Does not wait: poll ``fileno``."""

    def __init__(self, group: int, netns: str | None = None, kept: int = HEADERS, room: int = 0) -> None:
        """``kept``: bytes of each packet; ``room``: bytes for packets that wait to be read, 0 for the usual."""
        self._link = open_socket(netns)
        self._kept = kept
        self._reader = PacketReader()
        try:
            widen(self._link, room or ROOM)
            self._link.setsockopt(SOL_NETLINK, NO_ENOBUFS, 1)  # the numbers tell what is lost
            self._link.settimeout(PATIENCE)
            self._configure(group)
            self._link.setblocking(False)
        except BaseException:
            self._link.close()
            raise

    def fileno(self) -> int:
        """Return the descriptor that is readable when there is something to read."""
        return self._link.fileno()

    @property
    def lost(self) -> int:
        """Packets that the kernel had no room for, so far."""
        return self._reader.lost

    def read(self) -> list[Decision]:
        """Return what has come, oldest first."""
        found: list[Decision] = []
        for data in self._come():
            self._reader.decode(data, found)
        return found

    def packets(self) -> list[bytes]:
        """Return the packets that have come as they are, oldest first, as far as they were kept. Not with ``read``."""
        found: list[bytes] = []
        for data in self._come():
            self._reader.packets(data, found)
        return found

    def _come(self) -> Iterator[bytes]:
        for _ in range(LONGEST):
            try:
                yield self._link.recv(LARGEST)
            except BlockingIOError:
                return

    def close(self) -> None:
        """Let go of the group."""
        self._link.close()

    def _configure(self, group: int) -> None:
        wanted = attribute(COPY, struct.pack(">IBx", self._kept, COPY_PACKET))
        wanted += attribute(BUFFER, struct.pack(">I", KERNEL_BUFFER)) + attribute(TIMEOUT, struct.pack(">I", TENTHS))
        wanted += attribute(THRESHOLD, struct.pack(">I", TOGETHER)) + attribute(FLAGS, struct.pack(">H", NUMBERED))
        self._ask(group, 1, attribute(COMMAND, bytes([BIND])))
        self._ask(group, 2, wanted)

    def _ask(self, group: int, sequence: int, body: bytes) -> None:
        self._link.sendto(request(SUBSYSTEM, CONFIG, REQUEST | ACK, sequence, 0, body, group), (0, 0))
        while True:
            data = self._link.recv(LARGEST)
            _, kind, _, number, _ = struct.unpack_from("=IHHII", data)
            if kind == ERROR and number == sequence:
                (answer,) = struct.unpack_from("=i", data, 16)
                if answer:
                    raise OSError(-answer, os.strerror(-answer), f"NFLOG group {group}")
                return
