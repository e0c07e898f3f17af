"""Records of one direction each → connections, from who began them to who was asked. Pure.

A device tells of either direction by itself, in any order, and does not say who began. What tells it, the surest first:
a record of both directions; a SYN that nobody answered; a server that was met before; a port below 1024 at one end
alone; which direction began earlier; the lower port. Each record waits a while, so that its other half can meet it.
"""

from typing import NamedTuple

from stockade.adapters.netflow import Exported
from stockade.core.model.ids import Address

SERVERS = 1 << 16
"""Servers that are remembered."""
KEPT = 50_000
"""Connections that wait for their other half, at most."""
SYN, ACK = 0x02, 0x10
ECHOES = {1: (0 << 8, 8 << 8), 58: (129 << 8, 128 << 8)}
"""Of ICMP and ICMPv6, the answer to an echo request, and the request."""
PRIVILEGED = 1024


class Ends(NamedTuple):
    """A connection's five: where it leads from and to, as far as is known."""

    protocol: int
    source: Address
    source_port: int
    destination: Address
    port: int

    @property
    def mirrored(self) -> "Ends":
        """The same, the other way about."""
        return Ends(self.protocol, self.destination, self.port, self.source, self.source_port)


class Half:
    """What was told of one direction, added up. Times are the controller's."""

    __slots__ = ("first", "flags", "last", "octets", "packets")

    def __init__(self) -> None:
        self.first, self.last = float("inf"), float("-inf")
        self.packets = self.octets = self.flags = 0

    def add(self, first: float, last: float, packets: int, octets: int, flags: int) -> None:
        """Another record of this direction."""
        self.first, self.last = min(self.first, first), max(self.last, last)
        self.packets += packets
        self.octets += octets
        self.flags |= flags


class Pair:
    """Both directions, the first as it was told of first."""

    __slots__ = ("back", "denied", "sure", "there")

    def __init__(self) -> None:
        self.there, self.back = Half(), Half()
        self.sure = self.denied = False
        """``sure``: the device itself told who began."""


class Connection(NamedTuple):
    """A connection as it is told on. Packets and bytes are estimates where the device looks at a sample."""

    ends: Ends
    first: float
    last: float
    packets: int
    bytes_out: int
    bytes_in: int
    denied: bool


class Pairing:
    """Of one device. What is taken in waits until the second ``take`` after it, at most."""

    def __init__(self) -> None:
        self._new: dict[Ends, Pair] = {}
        self._old: dict[Ends, Pair] = {}
        self._servers: dict[tuple[int, Address, int], None] = {}

    @property
    def full(self) -> bool:
        """Whether so many wait that some should be taken now."""
        return len(self._new) + len(self._old) >= KEPT

    def add(self, told: Exported, first: float, last: float) -> None:
        """Take in a record, with its times by the controller's clock."""
        ends = _ends(told)
        pair, mirrored = self._find(ends)
        packets, octets = told.packets * told.sampled, told.octets * told.sampled
        (pair.back if mirrored else pair.there).add(first, last, packets, octets, told.flags)
        pair.denied |= told.denied
        if told.reply_packets or told.reply_octets:
            back = told.reply_packets * told.sampled, told.reply_octets * told.sampled
            (pair.there if mirrored else pair.back).add(first, last, *back, 0)
            pair.sure = pair.sure or not mirrored

    def take(self, *, everything: bool = False) -> list[Connection]:
        """Return what has waited long enough, sorted; or all."""
        ripe, self._old, self._new = self._old, self._new, {}
        if everything:
            ripe, self._old = {**ripe, **self._old}, {}
        return sorted(self._told(ends, pair) for ends, pair in ripe.items())

    def _find(self, ends: Ends) -> tuple[Pair, bool]:
        """Return what is known of a connection, and whether this is its other direction."""
        mirror = ends.mirrored
        for waiting in (self._new, self._old):
            if (found := waiting.get(ends)) is not None:
                return found, False
            if (found := waiting.get(mirror)) is not None:
                return found, True
        return self._new.setdefault(ends, Pair()), False

    # Who began

    def _told(self, ends: Ends, pair: Pair) -> Connection:
        there, back = pair.there, pair.back
        if not self._began_by_source(ends, pair):
            ends, there, back = ends.mirrored, back, there
        self._remember(ends)
        return Connection(
            ends,
            min(there.first, back.first),
            max(there.last, back.last),
            there.packets + back.packets,
            there.octets,
            back.octets,
            pair.denied,
        )

    def _began_by_source(self, ends: Ends, pair: Pair) -> bool:
        if pair.sure:
            return True
        if not (ends.source_port and ends.port):
            return not ends.source_port  # an answer to an echo request that came first, or no ports at all
        for half, other, answer in ((pair.there, pair.back, True), (pair.back, pair.there, False)):
            if half.flags & (SYN | ACK) == SYN and not other.packets:
                return answer
        serves = [(ends.protocol, ends.destination, ends.port), (ends.protocol, ends.source, ends.source_port)]
        known = [each in self._servers for each in serves]
        if known[0] != known[1]:
            return known[0]
        below = ends.port < PRIVILEGED, ends.source_port < PRIVILEGED
        if below[0] != below[1]:
            return below[0]
        if pair.back.packets and pair.there.first != pair.back.first:
            return pair.there.first < pair.back.first
        return ends.port <= ends.source_port

    def _remember(self, ends: Ends) -> None:
        if ends.source_port and ends.port:
            server = (ends.protocol, ends.destination, ends.port)
            self._servers.pop(server, None)
            self._servers[server] = None
            if len(self._servers) > SERVERS:
                del self._servers[next(iter(self._servers))]


def _ends(told: Exported) -> Ends:
    """Return a record's ends; an answer to an echo request as the request's, mirrored: it has no ports."""
    answer, request = ECHOES.get(told.protocol, (-1, -1))
    if told.port == answer and not told.source_port:
        return Ends(told.protocol, told.source, request, told.destination, 0)
    return Ends(told.protocol, told.source, told.source_port, told.destination, told.port)
