"""Packets that rules of ours decided about, as the kernel logs them to one NFLOG group (``nfnetlink_log.h``).

The kernel numbers what it logs, so that what is lost is counted exactly. One reader a group and network namespace.
"""

import os
import struct
from typing import NamedTuple

from stockade.adapters.netfilter.messages import (
    ACK,
    ERROR,
    KIND,
    NO_ENOBUFS,
    REQUEST,
    SOL_NETLINK,
    attribute,
    attributes,
    open_socket,
    request,
    widen,
)
from stockade.seams.flows import Decision

SUBSYSTEM = 4
PACKET, CONFIG = 0, 1
COMMAND, COPY, BUFFER, TIMEOUT, THRESHOLD, FLAGS = 1, 2, 3, 4, 5, 6
BIND, COPY_PACKET, NUMBERED = 1, 2, 1
PAYLOAD, PREFIX, SEQUENCE = 9, 10, 12
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
TCP, UDP, ICMP, ICMPV6, SCTP = 6, 17, 1, 58, 132
EXTENSIONS = frozenset((0, 43, 60))
FRAGMENT = 44
_ATTRIBUTE = struct.Struct("=HH")
_HEAD = struct.Struct("=IH")


class Shape(NamedTuple):
    """Where the attributes that count begin in a message. The kernel writes one message like another, mostly."""

    prefix: int
    prefix_size: int
    sequence: int
    payload: int

    def fits(self, data: bytes, at: int, length: int) -> bool:
        """Tell whether the message at a place has this shape: the payload is always its last attribute."""
        if length < self.payload + 4:
            return False
        look = _ATTRIBUTE.unpack_from
        size, last = look(data, at + self.payload)
        return (
            last == PAYLOAD
            and self.payload + (size + 3 & ~3) >= length >= self.payload + size
            and look(data, at + self.prefix) == (self.prefix_size, PREFIX)
            and look(data, at + self.sequence) == (8, SEQUENCE)
        )


def _shape(message: bytes) -> Shape | None:
    """Return where the attributes of a message begin; None where one of them is missing."""
    found: dict[int, tuple[int, int]] = {}
    at = 20
    while at + 4 <= len(message):
        size, kind = _ATTRIBUTE.unpack_from(message, at)
        found.setdefault(kind & KIND, (at, size))
        at += size + 3 & ~3 if size >= 4 else 4
    if not {PREFIX, SEQUENCE, PAYLOAD} <= found.keys():
        return None
    (prefix, size), (sequence, _), (payload, _) = found[PREFIX], found[SEQUENCE], found[PAYLOAD]
    return Shape(prefix, size, sequence, payload)


class PacketLog:
    """One group of a network namespace (its file), or of the calling thread's. Does not wait: poll ``fileno``."""

    def __init__(self, group: int, netns: str | None = None, kept: int = HEADERS, room: int = 0) -> None:
        """``kept``: bytes of each packet; ``room``: bytes for packets that wait to be read, 0 for the usual."""
        self._link = open_socket(netns)
        self._kept = kept
        self._next: int | None = None
        self._shape: Shape | None = None
        self.lost = 0
        """Packets that the kernel had no room for, so far."""
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

    def read(self) -> list[Decision]:
        """Return what has come, oldest first."""
        found: list[Decision] = []
        for _ in range(LONGEST):
            try:
                data = self._link.recv(LARGEST)
            except BlockingIOError:
                break
            self.decode(data, found)
        return found

    def packets(self) -> list[bytes]:
        """Return the packets that have come as they are, oldest first, as far as they were kept. Not with ``read``."""
        found: list[bytes] = []
        for _ in range(LONGEST):
            try:
                data = self._link.recv(LARGEST)
            except BlockingIOError:
                break
            self._packets(data, found)
        return found

    def close(self) -> None:
        """Let go of the group."""
        self._link.close()

    def decode(self, data: bytes, found: list[Decision]) -> None:
        """Add the packets of one datagram; those that are not of IP are passed over."""
        at, end = 0, len(data)
        while at + 20 <= end:
            (length, kind) = _HEAD.unpack_from(data, at)
            if kind == SUBSYSTEM << 8 | PACKET:
                shape = self._shape
                if shape is None or not shape.fits(data, at, length):
                    shape = self._shape = _shape(data[at : at + length])
                if shape is not None:
                    self._count(int.from_bytes(data[at + shape.sequence + 4 : at + shape.sequence + 8], "big"))
                    prefix = data[at + shape.prefix + 4 : at + shape.prefix + shape.prefix_size - 1]
                    (size, _) = _ATTRIBUTE.unpack_from(data, at + shape.payload)
                    payload = data[at + shape.payload + 4 : at + shape.payload + size]
                    if (decision := decided(prefix, payload)) is not None:
                        found.append(decision)
            at += length + 3 & ~3 if length >= 16 else 16

    def _packets(self, data: bytes, found: list[bytes]) -> None:
        at, end = 0, len(data)
        while at + 20 <= end:
            (length, kind) = _HEAD.unpack_from(data, at)
            if kind == SUBSYSTEM << 8 | PACKET and length >= 20:
                told = attributes(data[at + 20 : at + length])
                if PAYLOAD in told and SEQUENCE in told:
                    self._count(int.from_bytes(told[SEQUENCE], "big"))
                    found.append(told[PAYLOAD])
            at += length + 3 & ~3 if length >= 16 else 16

    def _count(self, sequence: int) -> None:
        if self._next is not None and sequence != self._next:
            self.lost += (sequence - self._next) & 0xFFFF_FFFF
        self._next = (sequence + 1) & 0xFFFF_FFFF

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


def decided(prefix: bytes, packet: bytes) -> Decision | None:
    """Return what a logged IP packet is about; None where it is none, or too little of it was kept."""
    if len(packet) < 20:
        return None
    version = packet[0] >> 4
    if version == 4:
        protocol, at = packet[9], (packet[0] & 15) * 4
        source, destination = packet[12:16], packet[16:20]
        length = packet[2] << 8 | packet[3]
        whole = not (packet[6] & 0x1F or packet[7])
    elif version == 6 and len(packet) >= 40:
        source, destination = packet[8:24], packet[24:40]
        length = 40 + (packet[4] << 8 | packet[5])
        protocol, at, whole = _behind_extensions(packet)
    else:
        return None
    port, nonce = 0, b""
    if whole and len(packet) >= at + 8:
        if protocol == TCP:
            port, nonce = packet[at + 2] << 8 | packet[at + 3], packet[at : at + 2] + packet[at + 4 : at + 8]
        elif protocol in (UDP, SCTP):
            port, nonce = packet[at + 2] << 8 | packet[at + 3], packet[at : at + 2]
        elif protocol in (ICMP, ICMPV6):
            port, nonce = packet[at] << 8 | packet[at + 1], packet[at + 4 : at + 6]
    return Decision(prefix, protocol, source, destination, port, nonce, length)


def _behind_extensions(packet: bytes) -> tuple[int, int, bool]:
    """Return an IPv6 packet's protocol, where it begins, and whether it does: in a later fragment it does not."""
    protocol, at = packet[6], 40
    while at + 8 <= len(packet):
        if protocol == FRAGMENT:
            if packet[at + 2] or packet[at + 3] & 0xF8:
                return packet[at], at + 8, False
            protocol, at = packet[at], at + 8
        elif protocol in EXTENSIONS:
            protocol, at = packet[at], at + 8 + packet[at + 1] * 8
        else:
            return protocol, at, True
    return protocol, at, False
