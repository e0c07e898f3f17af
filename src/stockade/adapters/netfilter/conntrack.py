"""The kernel's connection tracking over raw netlink: walk, mark, end, forget; how full the table is.

Decoded with ``struct``, at the usual layouts' fixed offsets. Entries in a zone belong to somebody else and are passed
over, but ``forget`` deletes them too. Blocking, each call within ``PATIENCE`` seconds of silence; never resends.
"""

import errno
import ipaddress
import os
import re
import socket
import struct
from collections.abc import Iterable, Iterator
from functools import lru_cache

from stockade.adapters.netfilter.messages import (
    ACK,
    ATTRIBUTE,
    DONE,
    DUMP,
    ERROR,
    MESSAGE,
    NESTED,
    NETLINK_NETFILTER,
    REQUEST,
    attribute,
    attributes,
    entries,
    number,
    request,
)
from stockade.core.model.ids import Address
from stockade.seams.kernel import Connection, Fill
from stockade.within import NetlinkSockets

SUBSYSTEM = 1
NEW, GET, DELETE, STATS_CPU, STATS = 0, 1, 2, 4, 5
TUPLE_ORIG, TUPLE_REPLY, PROTOINFO, MARK, ID, ZONE, MARK_MASK, FILTER = 1, 2, 4, 8, 12, 18, 21, 25
TUPLE_IP, TUPLE_PROTO = 1, 2
V4_SRC, V4_DST, V6_SRC, V6_DST = 1, 2, 3, 4
PROTO_NUM, SRC_PORT, DST_PORT, ICMP_ID, ICMP_TYPE, ICMP_CODE, ICMPV6_ID, ICMPV6_TYPE, ICMPV6_CODE = range(1, 10)
FILTER_ORIG, FILTER_REPLY = 1, 2
FILTER_SRC, FILTER_DST = 1, 2
"""CTA_FILTER_F_CTA_IP_SRC and _DST: by which of a tuple's fields the kernel filters."""
STATS_ENTRIES, STATS_LIMIT = 1, 2
CPU_DROP, CPU_EARLY_DROP = 10, 11
PROTOINFO_TCP, FLAGS_ORIG, FLAGS_REPLY = 1, 4, 5
WINDOW_SCALE, BE_LIBERAL = 0x01, 0x08
"""Of a TCP connection that it meets in the middle the kernel cannot know the windows' scales, and is liberal with both
ends from the beginning (``tcp_new``). It is so, too, with what a flowtable has carried, but then knows the scales."""
MIDWAY = bytes(each for each in range(256) if each & (BE_LIBERAL | WINDOW_SCALE) == BE_LIBERAL)
MAY_BE_MIDWAY = re.compile(re.escape(ATTRIBUTE.pack(6, FLAGS_ORIG)) + b"[" + re.escape(MIDWAY) + b"]", re.DOTALL)
"""Found in every datagram with such a connection, and seldom in others: a walk is read at the speed of a search."""
ICMP, ICMPV6 = 1, 58
WALK = 1500
"""A walk in which the kernel looks for an address goes through every bucket: that takes as long as to read about so
many entries here."""
PATIENCE = 5.0
CHUNK = 1 << 18


class Conntrack:
    """Connection tracking of a network namespace (its file), or of the calling thread's. Safe from several threads."""

    def __init__(self, netns: str | None = None) -> None:
        self._links = NetlinkSockets(NETLINK_NETFILTER, netns)

    def connections(self, mark: int = 0, mask: int = 0) -> Iterator[Connection]:
        """Walk the tracked connections whose ``mark & mask == mark``; the kernel leaves out the others.

        An entry may be met twice, or missed, where the table grows meanwhile.
        """
        wanted = attribute(MARK, struct.pack(">I", mark)) + attribute(MARK_MASK, struct.pack(">I", mask))
        for data in self._dump(wanted if mark or mask else b""):
            yield from decode(data)

    def midway(self) -> Iterator[Connection]:
        """Walk the TCP connections that the kernel met in the middle; most others are passed over unread."""
        for data in self._dump(b""):
            if MAY_BE_MIDWAY.search(data):
                yield from (each for each in decode(data) if each.midway)

    def mark(self, connection: Connection, mark: int) -> bool:
        """Set a connection's mark; False where it is gone. Only bits that differ from ``connection.mark`` are set."""
        changed = connection.mark ^ mark
        told = attribute(MARK, struct.pack(">I", mark & changed)) + attribute(MARK_MASK, struct.pack(">I", changed))
        return self._ask(NEW, family_of(connection), original_tuple(connection) + told)

    def end(self, connection: Connection) -> bool:
        """Delete one connection's entry; False where it is gone already, or another connection has its place."""
        number = attribute(ID, struct.pack(">I", connection.id)) if connection.id else b""
        return self._ask(DELETE, family_of(connection), original_tuple(connection) + number)

    def forget(self, addresses: Iterable[Address]) -> int:
        """Delete every entry that has one of these addresses at either end, in either tuple; return how many."""
        wanted = frozenset(ipaddress.ip_address(each).packed for each in addresses)
        deleted = 0
        for content in self._found(wanted):
            told = attributes(content[20:])
            body = attribute(TUPLE_ORIG | NESTED, told[TUPLE_ORIG])
            body += b"".join(attribute(kind, told[kind]) for kind in (ZONE, ID) if kind in told)
            deleted += self._ask(DELETE, content[16], body)
        return deleted

    def fill(self) -> Fill:
        """Return how full the table is."""
        told = self._stats()
        lost = 0
        for content in self._replies(STATS_CPU, DUMP):
            cpu = attributes(content[20:])
            lost += sum(number(cpu.get(kind)) for kind in (CPU_DROP, CPU_EARLY_DROP))
        return Fill(number(told.get(STATS_ENTRIES)), number(told.get(STATS_LIMIT)), lost)

    def close(self) -> None:
        """Let go of its sockets."""
        self._links.close()

    # within

    def _stats(self) -> dict[int, bytes]:
        (whole,) = self._replies(STATS, 0) or [b""]
        return attributes(whole[20:])

    def _entries(self) -> int:
        return number(self._stats().get(STATS_ENTRIES))

    def _found(self, wanted: frozenset[bytes]) -> list[bytes]:
        """Return the entries that have one of these addresses anywhere, before the first of them is deleted."""
        walks = [walk for each in sorted(wanted) for walk in filters(each)]
        if self._entries() <= WALK * (len(walks) - 1):
            walks = [(0, b"")]
        found: dict[bytes, bytes] = {}
        for family, body in walks:
            for data in self._dump(body, family):
                for content in entries(data):
                    if not wanted.isdisjoint(ends(content)):
                        (length,) = _LENGTH.unpack_from(content, 20)
                        found[content[20 : 20 + length]] = content
        return list(found.values())

    def _dump(self, body: bytes, family: int = 0) -> Iterator[bytes]:
        """Yield what the kernel sends of a walk, as it sends it. A walk that is left early costs its socket."""
        with self._links.lent(PATIENCE) as link:
            link.sendto(request(SUBSYSTEM, GET, REQUEST | DUMP, 1, family, body), (0, 0))
            while True:
                data = link.recv(CHUNK)
                yield data
                if ended(data):
                    return

    def _replies(self, kind: int, how: int) -> list[bytes]:
        with self._links.lent(PATIENCE) as link:
            link.sendto(request(SUBSYSTEM, kind, REQUEST | how, 1, 0, b""), (0, 0))
            found = list(entries(data := link.recv(CHUNK)))
            while how and not ended(data):
                found += entries(data := link.recv(CHUNK))
            return found

    def _ask(self, kind: int, family: int, body: bytes) -> bool:
        """Send one request and wait for its acknowledgement; False where there is no such entry."""
        with self._links.lent(PATIENCE) as link:
            link.sendto(request(SUBSYSTEM, kind, REQUEST | ACK, 1, family, body), (0, 0))
            what = 0
            while what != ERROR:
                _, what, _, _, _, answer = struct.unpack_from("=IHHIIi", link.recv(CHUNK))
        if answer and -answer not in (errno.ENOENT, errno.ESTALE):
            raise OSError(-answer, os.strerror(-answer))
        return not answer


# Entries, as the kernel sends them

TUPLES: dict[tuple[int, int], struct.Struct] = {
    # By family and length of one tuple: address, address, protocol, then two ports, or id, type and code, or nothing.
    (socket.AF_INET, 52): struct.Struct(">" + "12x4s4x4s8xB7xH6xH2x" * 2),
    (socket.AF_INET6, 76): struct.Struct(">" + "12x16s4x16s8xB7xH6xH2x" * 2),
    (socket.AF_INET, 60): struct.Struct(">" + "12x4s4x4s8xB7xH6xB7xB3x" * 2),
    (socket.AF_INET6, 84): struct.Struct(">" + "12x16s4x16s8xB7xH6xB7xB3x" * 2),
    (socket.AF_INET, 36): struct.Struct(">" + "12x4s4x4s8xB3x" * 2),
    (socket.AF_INET6, 60): struct.Struct(">" + "12x16s4x16s8xB3x" * 2),
}
_ENDS: dict[int, struct.Struct] = {
    socket.AF_INET: struct.Struct("12x4s4x4s"),
    socket.AF_INET6: struct.Struct("12x16s4x16s"),
}


def decode(data: bytes) -> Iterator[Connection]:
    """Yield the connections of one datagram. Those in a zone, whose tuples have other lengths, are passed over.

    The identifier of an ICMP conversation stands as both source ports.
    """
    for content in entries(data):
        family = content[16]
        (length,) = _LENGTH.unpack_from(content, 20)
        layout = TUPLES.get((family, length))
        mark, number, zone, midway = _told(content, 20 + 2 * length)
        if layout is None or zone:
            continue
        fields = layout.unpack_from(content, 20)
        if len(fields) == 10:
            source, destination, protocol, sport, dport, from_, to, _, from_port, to_port = fields
            icmp = 0
        elif len(fields) == 12:
            source, destination, protocol, sport, kind, code, from_, to, _, from_port, _, _ = fields
            dport = to_port = 0
            icmp = kind << 8 | code
        else:
            source, destination, protocol, from_, to, _ = fields
            sport = dport = from_port = to_port = icmp = 0
        yield Connection(
            protocol,
            address(source),
            address(destination),
            sport,
            dport,
            address(from_),
            address(to),
            from_port,
            to_port,
            icmp,
            mark,
            number,
            midway,
        )


_LENGTH = struct.Struct("=H")


def _told(content: bytes, at: int) -> tuple[int, int, int, bool]:
    """Return mark, id, zone, and whether it was met in the middle; they follow the tuples."""
    mark = identity = zone = 0
    midway = False
    end = len(content)
    while at + 4 <= end:
        length, kind = ATTRIBUTE.unpack_from(content, at)
        kind &= 0x3FFF
        if kind == MARK:
            mark = int.from_bytes(content[at + 4 : at + 8], "big")
        elif kind == ID:
            identity = int.from_bytes(content[at + 4 : at + 8], "big")
        elif kind == ZONE:
            zone = int.from_bytes(content[at + 4 : at + 6], "big")
        elif kind == PROTOINFO:
            midway = _midway(content[at + 4 : at + length])
        at += max(4, length + 3 & ~3)
    return mark, identity, zone, midway


@lru_cache(maxsize=1 << 12)
def _midway(told: bytes) -> bool:
    """Tell whether the kernel did not see a connection begin; of what is not TCP it does not say."""
    tcp = attributes(attributes(told).get(PROTOINFO_TCP, b""))
    return all(tcp.get(each, b"\0")[0] in MIDWAY for each in (FLAGS_ORIG, FLAGS_REPLY))


def ends(content: bytes) -> tuple[bytes, ...]:
    """Return an entry's four addresses, whatever its protocol or zone."""
    layout = _ENDS.get(content[16])
    if layout is None:
        return ()
    (length,) = _LENGTH.unpack_from(content, 20)
    return (*layout.unpack_from(content, 20), *layout.unpack_from(content, 20 + length))


def ended(data: bytes) -> bool:
    """Tell whether this datagram ends a walk: DONE comes alone, or last."""
    at, end = 0, len(data)
    kind = 0
    while at + 16 <= end:
        length, kind, _, _, _ = MESSAGE.unpack_from(data, at)
        at += max(16, length + 3 & ~3)
    return kind in (DONE, ERROR)


@lru_cache(maxsize=1 << 14)
def address(packed: bytes) -> Address:
    """Return an address in canonical text."""
    return Address(str(ipaddress.ip_address(packed)))


# Requests


def original_tuple(connection: Connection) -> bytes:
    """Return the tuple by which the kernel finds a connection."""
    source = ipaddress.ip_address(connection.source).packed
    destination = ipaddress.ip_address(connection.destination).packed
    four = len(source) == 4
    ip = attribute(V4_SRC if four else V6_SRC, source) + attribute(V4_DST if four else V6_DST, destination)
    kind = bytes([connection.icmp >> 8])
    code = bytes([connection.icmp & 0xFF])
    first = struct.pack(">H", connection.source_port)
    proto = attribute(PROTO_NUM, bytes([connection.protocol]))
    if connection.protocol == ICMP:
        proto += attribute(ICMP_ID, first) + attribute(ICMP_TYPE, kind) + attribute(ICMP_CODE, code)
    elif connection.protocol == ICMPV6:
        proto += attribute(ICMPV6_ID, first) + attribute(ICMPV6_TYPE, kind) + attribute(ICMPV6_CODE, code)
    else:
        second = struct.pack(">H", connection.destination_port)
        proto += attribute(SRC_PORT, first) + attribute(DST_PORT, second)
    inner = attribute(TUPLE_IP | NESTED, ip) + attribute(TUPLE_PROTO | NESTED, proto)
    return attribute(TUPLE_ORIG | NESTED, inner)


def filters(packed: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield (family, request) for each place in which an address can stand in an entry.

    A kernel that does not know the filter (before 5.8) sends everything: what comes is looked at again.
    """
    four = len(packed) == 4
    family = socket.AF_INET if four else socket.AF_INET6
    places = ((FILTER_SRC, V4_SRC if four else V6_SRC), (FILTER_DST, V4_DST if four else V6_DST))
    for whole, flags in ((TUPLE_ORIG, FILTER_ORIG), (TUPLE_REPLY, FILTER_REPLY)):
        for bit, field in places:
            ip = attribute(TUPLE_IP | NESTED, attribute(field, packed))
            by = attribute(flags, struct.pack("=I", bit))
            yield family, attribute(whole | NESTED, ip) + attribute(FILTER | NESTED, by)


def family_of(connection: Connection) -> int:
    """Return the address family of a connection."""
    return socket.AF_INET6 if ":" in connection.source else socket.AF_INET
