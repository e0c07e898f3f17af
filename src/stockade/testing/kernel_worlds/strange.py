"""Packets that no honest stack sends, or that are no connection's first: made by hand, judged by the oracle.

From the middle of a TCP connection, in fragments, errors about nothing, senders that lie, packets to groups.
"""

import enum
from collections.abc import Iterator
from random import Random

import msgspec

from stockade.core.model.ids import Address, HostId
from stockade.core.model.net import Protocol
from stockade.core.model.packet import Packet, PacketState
from stockade.core.model.snapshot import Snapshot
from stockade.core.oracle import received, verdict
from stockade.testing.kernel_worlds.ground import FRONT, ON_BACK, ON_FRONT, OUTSIDE, ROUTED, STRAYS, Ground
from stockade.testing.kernel_worlds.making import workload_of
from stockade.testing.kernel_worlds.trials import SERVICES, Spot, Trials
from stockade.testing.probe import packets

GROUP_MAC = {"224.0.0.251": "01:00:5e:00:00:fb", "ff02::fb": "33:33:00:00:00:fb"}
ELSEWHERE = "02:66:66:66:66:66"


class Kind(str, enum.Enum):
    """What is odd about a packet."""

    MIDSTREAM = "from the middle"
    FRAGMENTS = "fragments"
    INVALID = "an error about nothing"
    BAD_FLAGS = "impossible TCP flags"
    ADDRESS = "another's address"
    MAC = "another's MAC"
    BOTH = "another's address and MAC"
    OUTSIDE = "a local address, from outside"
    GROUP = "to a group"


class Oddity(msgspec.Struct, frozen=True):
    """Frames to send by a node, by what they are known again, and who should and should not see them."""

    kind: Kind
    sender: str
    frames: tuple[bytes, ...]
    key: str
    judged: Packet
    sees: tuple[tuple[str, bool], ...]
    robbed: str = ""
    """Whose MAC was used: a bridge now takes it to live elsewhere."""


class Oddities:
    """Everything odd to try in one world."""

    def __init__(self, ground: Ground, snapshot: Snapshot, random: Random, trials: Trials) -> None:
        self.ground, self.snapshot, self.random, self.trials = ground, snapshot, random, trials
        self.lab = ground.lab
        self.host = HostId(ground.lab.host_name)
        self.everybody = [trials.spot(each) for each in (*ON_FRONT, *ON_BACK, *ROUTED, *STRAYS)]
        self._ports = iter(range(10_000, 13_000))

    def all(self, each: int = 4) -> Iterator[Oddity]:
        """Make some of each kind."""
        for _ in range(each):
            for family in (4, 6):
                yield self._midstream(family)
                yield self._fragments(family)
                yield self._invalid(family)
                yield self._bad_flags(family)
                yield from self._lies(family)
                yield self._to_group(family)

    # Kinds

    def _midstream(self, family: int) -> Oddity:
        source, destination = self._pair()
        ends = self._of(source, family), self._of(destination, family)
        return self._tcp(Kind.MIDSTREAM, PacketState.MIDSTREAM, source, destination, ends, packets.ACK | packets.PSH)

    def _bad_flags(self, family: int) -> Oddity:
        source, destination = self._pair()
        ends = self._of(source, family), self._of(destination, family)
        return self._tcp(Kind.BAD_FLAGS, PacketState.INVALID, source, destination, ends, packets.SYN | packets.FIN)

    def _tcp(self, kind: Kind, state: PacketState, source: Spot, destination: Spot, ends: tuple[str, str],
             flags: int) -> Oddity:  # fmt: skip
        nonce, sport, port = self.lab.nonce(), next(self._ports), self.random.choice(SERVICES[Protocol.TCP])
        segment = packets.tcp(*ends, sport, port, flags=flags, acknowledge=5, payload=nonce.encode())
        frame = self.lab.frame(source.name, packets.ip(*ends, packets.TCP, segment))
        judged = self._packet(source, destination, ends, Protocol.TCP, port, state, sport)
        return self._oddity(kind, source, destination, (frame,), nonce, judged)

    def _fragments(self, family: int) -> Oddity:
        source, destination = self._pair()
        ends = self._of(source, family), self._of(destination, family)
        nonce, sport, port = self.lab.nonce(), next(self._ports), self.random.choice((53, 1000, 2000))
        payload = nonce.encode().ljust(2000, b".")
        packet = packets.ip(*ends, packets.UDP, packets.udp(*ends, sport, port, payload))
        parts = packets.fragments(packet, 800, ident=sport)
        self.random.shuffle(parts)
        frames = tuple(self.lab.frame(source.name, each) for each in parts)
        judged = self._packet(source, destination, ends, Protocol.UDP, port, PacketState.NEW, sport)
        return self._oddity(Kind.FRAGMENTS, source, destination, frames, nonce, judged)

    def _invalid(self, family: int) -> Oddity:
        source, destination = self._pair()
        ends = self._of(source, family), self._of(destination, family)
        nonce = self.lab.nonce()
        about = packets.udp(ends[1], ends[0], next(self._ports), 9, nonce.encode())
        error = packets.unreachable(*ends, packets.ip(ends[1], ends[0], packets.UDP, about))
        protocol, code = (Protocol.ICMPV6, 1 * 256 + 4) if family == 6 else (Protocol.ICMP, 3 * 256 + 3)
        judged = self._packet(source, destination, ends, protocol, code, PacketState.INVALID)
        return self._oddity(Kind.INVALID, source, destination, (self.lab.frame(source.name, error),), nonce, judged)

    def _lies(self, family: int) -> Iterator[Oddity]:
        source, destination = self._pair()
        others = [each for each in self.everybody if each.name not in (source.name, destination.name)]
        other = self.random.choice([each for each in others if each.bridge == source.bridge] or others)
        ends = self._of(source, family), self._of(destination, family)
        lied = self._of(other, family), ends[1]
        mac = self.lab.plugs(other.name)[0].mac
        yield self._lie(Kind.ADDRESS, source, destination, lied, "")
        robbing = self._lie(Kind.MAC, source, destination, ends, mac)
        free = self._lie(Kind.MAC, source, destination, ends, ELSEWHERE)
        yield self.random.choice((free, msgspec.structs.replace(robbing, robbed=other.name)))
        yield msgspec.structs.replace(self._lie(Kind.BOTH, source, destination, lied, mac), robbed=other.name)
        beyond = self.trials.spot(self.random.choice(OUTSIDE))
        yield self._lie(Kind.OUTSIDE, beyond, destination, lied, "")

    def _lie(self, kind: Kind, source: Spot, destination: Spot, ends: tuple[str, str], mac: str) -> Oddity:
        nonce, sport, port = self.lab.nonce(), next(self._ports), self.random.choice((53, 1000, 2000))
        packet = packets.ip(*ends, packets.UDP, packets.udp(*ends, sport, port, nonce.encode()))
        frame = self.lab.frame(source.name, packet, mac=mac)
        judged = self._packet(source, destination, ends, Protocol.UDP, port, PacketState.NEW, sport)
        judged = msgspec.structs.replace(judged, sender_mac=mac, sender_address=ends[0])
        return self._oddity(kind, source, destination, (frame,), nonce, judged)

    def _to_group(self, family: int) -> Oddity:
        bridge = [each for each in self.everybody if each.bridge == FRONT]
        source = self.random.choice(bridge)
        group = "ff02::fb" if family == 6 else self.random.choice(("224.0.0.251", "255.255.255.255", "10.1.0.255"))
        ends = self._of(source, family), group
        nonce, sport, port = self.lab.nonce(), next(self._ports), self.random.choice((53, 1000, 2000))
        packet = packets.ip(*ends, packets.UDP, packets.udp(*ends, sport, port, nonce.encode()), ttl=1)
        frame = self.lab.frame(source.name, packet, to=GROUP_MAC.get(group, packets.BROADCAST))
        judged = self._packet(source, None, ends, Protocol.UDP, port, PacketState.NEW, sport)
        sees = []
        for each in bridge:
            workload = workload_of(self.ground, self.snapshot, each.name)
            if each.name != source.name and workload is not None:
                sees.append((each.name, received(self.snapshot, judged, workload)))
        return Oddity(Kind.GROUP, source.name, (frame,), nonce, judged, tuple(sees))

    # Parts

    def _pair(self) -> tuple[Spot, Spot]:
        source, destination = self.random.sample(self.everybody, 2)
        return source, destination

    def _of(self, spot: Spot, family: int) -> str:
        return self.random.choice([each for each in spot.addresses if (":" in each) == (family == 6)])

    def _packet(self, source: Spot, destination: Spot | None, ends: tuple[str, str], protocol: Protocol, port: int,
                state: PacketState, sport: int = 0) -> Packet:  # fmt: skip
        return Packet(
            self.host, Address(ends[0]), Address(ends[1]), protocol, port, sport, state, source.port,
            leaving=destination.port if destination else "",
        )  # fmt: skip

    def _oddity(self, kind: Kind, source: Spot, destination: Spot, frames: tuple[bytes, ...], key: str,
                judged: Packet) -> Oddity:  # fmt: skip
        passes = verdict(self.snapshot, judged).allowed
        if passes and self.trials.estranged((source, judged.source), (destination, judged.destination)):
            return Oddity(kind, source.name, frames, key, judged, ())
        return Oddity(kind, source.name, frames, key, judged, ((destination.name, passes),))
