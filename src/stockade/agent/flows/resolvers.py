"""What is overheard of resolvers: IP packets of ours become the answers that they carry, over UDP and over TCP. Pure.

Promises, whatever the packets: returns, in time that grows with their bytes; raises nothing; keeps so much and no more.
A connection is followed from its beginning (RFC 9293): what was on its way before is not heard, and where something
is missing for good, nothing more is heard of it.
"""

import struct
from typing import NamedTuple

from stockade.agent.flows.dns import Answer, answer

PORT = 53
TCP, UDP = 6, 17
EXTENSIONS = frozenset((0, 43, 60))
FIN, SYN, RST = 0x01, 0x02, 0x04
SEQUENCE = 1 << 32
CONNECTIONS, EARLY = 128, 4
"""Connections that are followed, of more the one that began last; and segments that came before what they follow."""
LONGEST = 4096
"""Bytes of a message over TCP: one that is longer has more records than are read."""


class _Carried(NamedTuple):
    """What an IP packet carries: ``content`` as far as it was logged, ``length`` as it was sent."""

    source: bytes
    destination: bytes
    protocol: int
    content: bytes
    length: int


class _Nothing(Exception):  # noqa: N818 - reads as what it is
    """This carries nothing of a resolver's."""


class _Connection:
    """One direction of a connection: what of it was not read yet."""

    def __init__(self, sequence: int) -> None:
        self.sequence = sequence
        """Of the next byte."""
        self.held = bytearray()
        self.early: dict[int, bytes] = {}

    def take(self, sequence: int, data: bytes) -> bool:
        """Take a segment, and those that waited for it; False where too many wait."""
        if len(data) > len(self.early.get(sequence, b"")):
            self.early[sequence] = data
        while ready := [each for each in self.early if self._behind(each) < SEQUENCE // 2]:
            for each in ready:
                behind = self._behind(each)
                self._append(self.early.pop(each)[behind:])
        return len(self.early) <= EARLY

    def messages(self) -> list[bytes]:
        """Take out the messages that are whole (RFC 1035, 4.2.2: each after its length)."""
        found = []
        while len(self.held) >= 2 and len(self.held) >= 2 + self._length():
            end = 2 + self._length()
            found.append(bytes(self.held[2:end]))
            del self.held[:end]
        return found

    def too_long(self) -> bool:
        """Whether what comes next is longer than is read."""
        return len(self.held) >= 2 and self._length() > LONGEST

    def _behind(self, sequence: int) -> int:
        """Return by how much a segment begins before the next byte; more than half of all where it begins after."""
        return (self.sequence - sequence) % SEQUENCE

    def _length(self) -> int:
        return self.held[0] << 8 | self.held[1]

    def _append(self, data: bytes) -> None:
        self.held += data
        self.sequence = (self.sequence + len(data)) % SEQUENCE


class Resolvers:
    """Reads packets, one after the other. ``lost``: connections that are not followed to their end."""

    def __init__(self) -> None:
        self._connections: dict[tuple[bytes, bytes, int], _Connection] = {}
        self.lost = 0

    def read(self, packet: bytes) -> list[Answer]:
        """Return what an IP packet tells, with those before it."""
        try:
            carried = _carried(packet)
            messages = self._segment(carried) if carried.protocol == TCP else [_datagram(carried)]
        except (_Nothing, struct.error, IndexError):
            return []
        found = (answer(carried.destination, carried.source, each) for each in messages)
        return [each for each in found if each is not None]

    def _segment(self, carried: _Carried) -> list[bytes]:
        port, to, sequence, _, offset, flags = struct.unpack_from("!HHIIBB", carried.content)
        start = (offset >> 4) * 4
        if port != PORT or start < 20 or start > carried.length:
            raise _Nothing
        key = (carried.source, carried.destination, to)
        if flags & RST:
            self._connections.pop(key, None)
            return []
        if flags & SYN:
            self._begin(key, sequence)
            sequence += 1
        connection = self._connections.get(key)
        if connection is None:
            return []
        follows = connection.take(sequence, carried.content[start:])
        found = connection.messages()
        if not follows or connection.too_long() or len(carried.content) < carried.length:
            self.lost += 1
            del self._connections[key]
        elif flags & FIN and not connection.early:
            del self._connections[key]
        return found

    def _begin(self, key: tuple[bytes, bytes, int], sequence: int) -> None:
        if key not in self._connections and len(self._connections) >= CONNECTIONS:
            del self._connections[next(iter(self._connections))]
            self.lost += 1
        self._connections.pop(key, None)
        self._connections[key] = _Connection((sequence + 1) % SEQUENCE)


def _carried(packet: bytes) -> _Carried:
    version = packet[0] >> 4
    if version == 4:
        at, protocol, fragment = (packet[0] & 15) * 4, packet[9], packet[6] & 0x3F or packet[7]
        source, destination, end = packet[12:16], packet[16:20], packet[2] << 8 | packet[3]
    elif version == 6 and len(packet) >= 40:
        source, destination, end = packet[8:24], packet[24:40], 40 + (packet[4] << 8 | packet[5])
        protocol, at, fragment = packet[6], 40, 0
        while protocol in EXTENSIONS:
            protocol, at = packet[at], at + 8 + packet[at + 1] * 8
    else:
        raise _Nothing
    if protocol not in (TCP, UDP) or fragment or at < 20 or end < at:
        raise _Nothing
    return _Carried(source, destination, protocol, packet[at:end], end - at)


def _datagram(carried: _Carried) -> bytes:
    """Return what UDP carries: all of it."""
    port, _, length = struct.unpack_from("!HHH", carried.content)
    if port != PORT or not 8 <= length <= len(carried.content):
        raise _Nothing
    return carried.content[8:length]
