"""Packets that the kernel logs, as bytes (``nfnetlink_log.h``). Pure, and quick: every logged packet comes by."""

import struct

from stockade.adapters.netfilter.messages import KIND, attributes
from stockade.seams.flows import Decision

SUBSYSTEM, PACKET = 4, 0
PAYLOAD, PREFIX, SEQUENCE = 9, 10, 12
TCP, UDP, ICMP, ICMPV6, SCTP = 6, 17, 1, 58, 132
EXTENSIONS = frozenset((0, 43, 60))
FRAGMENT = 44
PACKETS = SUBSYSTEM << 8 | PACKET
_HEAD = struct.Struct("=IH")
_PAIR, _WORD = struct.Struct("=HH"), struct.Struct("=I")
_PLAIN = struct.Struct(">BxHxxHxBxx4s4s2sH4s")
"""An IPv4 header without options and what begins TCP or UDP: source port, destination port, TCP's sequence number."""
PLAIN, LATER = 0x45, 0x1FFF
_Read = tuple[int, int, Decision | None]
"""A message's length, its number, and what its packet is about."""


class _Form:
    """Where the attributes that count are in a message. The kernel writes one like another, mostly.

    So most are read in two steps, with everything that tells them from others looked at: heads of attributes are
    compared as they stand, and only a TCP or UDP packet's first piece behind a plain IPv4 header is taken.
    """

    def __init__(self, prefix: int, prefix_size: int, sequence: int, payload: int) -> None:
        between = payload - sequence - 4
        self._payload = payload
        self._least = payload + 4 + _PLAIN.size
        self._prefix = _head(prefix_size, PREFIX)
        self._sequence = _head(8, SEQUENCE)
        self._numbered = sequence + 4
        self._kernel = struct.Struct(
            f"=IH{prefix - 6}xI{prefix_size - 5}s{sequence - prefix - prefix_size + 1}xI{between}xHH"
        ).unpack_from
        self._network = struct.Struct(f">I{between}x{_PLAIN.format[1:]}").unpack_from

    def read(self, data: bytes, at: int, end: int) -> _Read | None:
        """Return what the message at a place says; None where it is not one like this, or of no plain packet."""
        if at + self._least > end:
            return None
        length, kind, first, prefix, second, size, last = self._kernel(data, at)
        if (
            kind != PACKETS
            or first != self._prefix
            or second != self._sequence
            or last != PAYLOAD
            or size < 4 + _PLAIN.size
            or not self._payload + size <= length <= self._payload + (size + 3 & ~3)
        ):
            return None
        number, begins, octets, pieces, protocol, source, destination, own, port, place = self._network(
            data, at + self._numbered
        )
        if begins != PLAIN or pieces & LATER:
            return None
        if protocol == TCP:
            return length, number, Decision._make((prefix, protocol, source, destination, port, own + place, octets))
        if protocol == UDP:
            return length, number, Decision._make((prefix, protocol, source, destination, port, own, octets))
        return None


def _head(size: int, kind: int) -> int:
    """Return an attribute's head as one number."""
    (found,) = _WORD.unpack(_PAIR.pack(size, kind))
    return int(found)


def _read(message: bytes) -> tuple[_Read | None, _Form | None]:
    """Read a message whatever it looks like, and how the next one like it is read; None where something is missing."""
    found: dict[int, tuple[int, int]] = {}
    at = 20
    while at + 4 <= len(message):
        size, kind = _PAIR.unpack_from(message, at)
        found.setdefault(kind & KIND, (at, size))
        at += size + 3 & ~3 if size >= 4 else 4
    if not {PREFIX, SEQUENCE, PAYLOAD} <= found.keys():
        return None, None
    (prefix, size), (sequence, _), (payload, room) = found[PREFIX], found[SEQUENCE], found[PAYLOAD]
    number = int.from_bytes(message[sequence + 4 : sequence + 8], "big")
    decision = decided(message[prefix + 4 : prefix + size - 1], message[payload + 4 : payload + room])
    in_order = 5 <= size <= sequence - prefix and sequence + 8 <= payload
    return (len(message), number, decision), _Form(prefix, size, sequence, payload) if in_order else None


class PacketReader:
    """Reads one group's datagrams, in their order. ``lost``: packets that the kernel had no room for, so far."""

    def __init__(self) -> None:
        self._next: int | None = None
        self._form: _Form | None = None
        self.lost = 0

    def decode(self, data: bytes, found: list[Decision]) -> None:
        """Add the packets of one datagram; those that are not of IP are passed over."""
        at, end, add = 0, len(data), found.append
        while at + 20 <= end:
            read = self._form.read(data, at, end) if self._form is not None else None
            if read is None:
                length, kind = _HEAD.unpack_from(data, at)
                if kind == PACKETS and length >= 20:
                    read, form = _read(data[at : at + length])
                    self._form = form or self._form
            else:
                length = read[0]
            if read is not None:
                _, number, decision = read
                if number == self._next:
                    self._next = number + 1 & 0xFFFF_FFFF
                else:
                    self._count(number)
                if decision is not None:
                    add(decision)
            at += length + 3 & ~3 if length >= 16 else 16

    def packets(self, data: bytes, found: list[bytes]) -> None:
        """Add the packets of one datagram as they are."""
        at, end = 0, len(data)
        while at + 20 <= end:
            length, kind = _HEAD.unpack_from(data, at)
            if kind == PACKETS and length >= 20:
                told = attributes(data[at + 20 : at + length])
                if PAYLOAD in told and SEQUENCE in told:
                    self._count(int.from_bytes(told[SEQUENCE], "big"))
                    found.append(told[PAYLOAD])
            at += length + 3 & ~3 if length >= 16 else 16

    def _count(self, sequence: int) -> None:
        if self._next is not None and sequence != self._next:
            self.lost += (sequence - self._next) & 0xFFFF_FFFF
        self._next = (sequence + 1) & 0xFFFF_FFFF


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
