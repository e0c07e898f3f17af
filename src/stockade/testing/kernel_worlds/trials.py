"""Trials: connections to try in one world, what the oracle says of them, and what the kernel did.

Every path and protocol is tried between ends in every pair of modes that the world has, aimed so that what is allowed
and what is denied are met about equally often.
"""

import enum
from collections.abc import Iterable, Iterator
from functools import cached_property
from random import Random

import msgspec
from msgspec.structs import replace

from stockade.core.model.ids import DECLARED, Address, HostId
from stockade.core.model.net import PORTED, Protocol
from stockade.core.model.packet import Packet, PacketState
from stockade.core.model.policy import Mode
from stockade.core.model.snapshot import Snapshot
from stockade.core.oracle import verdict
from stockade.core.oracle.modes import mode, quarantines
from stockade.testing.kernel_worlds.ground import (
    BACK,
    FRONT,
    ON_BACK,
    ON_FRONT,
    OUTSIDE,
    ROUTED,
    STRAYS,
    TWIN,
    UNTRACKED_PORTS,
    Door,
    Ground,
)
from stockade.testing.kernel_worlds.making import workload_of
from stockade.testing.probe.values import Outcome, Probe, Result

Name = str
LOOPBACKS = ("127.0.0.1", "::1")
NOBODY_ANSWERS = ("icmp 3/1", "icmpv6 1/3")
"""What the sender's own stack, or its router, says when no neighbour answers: as for any address of nobody's."""


class Path(str, enum.Enum):
    """By which way a connection goes."""

    BRIDGED = "bridged"
    BETWEEN = "between two bridges"
    ROUTED = "routed endpoint"
    TO_HOST = "to the host"
    FROM_HOST = "from the host"
    PUBLISHED_OUTSIDE = "published, from outside"
    PUBLISHED_SAME = "published, from the same network"
    PUBLISHED_OTHER = "published, from another network"
    PUBLISHED_HOST = "published, from the host"
    FORWARDED = "from or to the outside"


REQUIRED = tuple(path for path in Path if path is not Path.FORWARDED)
PUBLISHED = tuple(path for path in Path if path.name.startswith("PUBLISHED"))
OFTENER = {
    Path.TO_HOST: 3.0,
    Path.FROM_HOST: 3.0,
    Path.PUBLISHED_HOST: 4.0,
    Path.PUBLISHED_OUTSIDE: 1.5,
    Path.PUBLISHED_SAME: 1.5,
}
"""There is one host, in one mode in each world, and few ports are published: those paths are tried oftener."""
PROTOCOLS = (Protocol.TCP, Protocol.UDP, Protocol.SCTP, Protocol.ICMP)
"""ICMP stands for ICMPv6 too, by the family."""


class Cell(msgspec.Struct, frozen=True, order=True):
    """A kind of packet of which enough must have been tried."""

    family: int
    protocol: Protocol
    path: Path
    source: Mode
    destination: Mode


class Spot(msgspec.Struct, frozen=True):
    """A place that connections come from or go to: one link of a node, or the host (no port)."""

    name: Name
    port: str
    bridge: str
    addresses: tuple[str, ...]
    mode: Mode | None


class Trial(msgspec.Struct, frozen=True):
    """A connection to try. ``judged`` is its first packet as the oracle judges it, ``back`` the first answer."""

    path: Path
    probe: Probe
    judged: Packet
    back: Packet
    cell: Cell | None = None
    door: Door | None = None
    passes: bool = True
    returns: bool = True
    strangers: bool = False
    """One of its ends is no neighbour of a host that refuses strangers, and so finds no way through it."""

    @property
    def proxied(self) -> bool:
        """Whether a proxy makes two connections of it, so that none of its own packets arrives."""
        if self.door is None or not self.door.engine:
            return False
        return self.path is Path.PUBLISHED_SAME or self.loopback

    @property
    def loopback(self) -> bool:
        """Whether it goes to the host's loopback address: its first part never leaves the host."""
        return self.judged.destination in LOOPBACKS


def existing_cells() -> list[Cell]:
    """List the cells that exist. ICMP has no ports, so none of it can be published."""
    return [
        Cell(family, protocol, path, source, destination)
        for family in (4, 6)
        for protocol in PROTOCOLS
        for path in REQUIRED
        for source in Mode
        for destination in Mode
        if not (protocol is Protocol.ICMP and path in PUBLISHED)
    ]


def why_absent(protocol: Protocol, path: Path) -> str:
    """Say why a cell cannot exist; empty where it can."""
    return "ICMP has no ports to publish" if protocol is Protocol.ICMP and path in PUBLISHED else ""


class Trials:
    """Everything worth trying in one world. ``effort``: connections for each path, protocol, family and mode pair."""

    def __init__(self, ground: Ground, snapshot: Snapshot, random: Random, effort: float = 1.0) -> None:
        self.ground, self.snapshot, self.random, self.effort = ground, snapshot, random, effort
        self.host = HostId(ground.lab.host_name)
        self.spots = {name: self._spots(name) for name in ground.lab.names}
        self._denied = self._allowed = 0
        self._ports = iter(random.sample(range(2001, 19_000), 4000))

    def all(self) -> list[Trial]:
        """Choose the trials."""
        return [trial for path in Path for trial in self._along(path)]

    def spot(self, name: Name) -> Spot:
        """Return a node's first place."""
        return self.spots[name][0]

    # Who to whom

    def _spots(self, name: Name) -> list[Spot]:
        lab = self.ground.lab
        found = workload_of(self.ground, self.snapshot, name)
        workload = self.snapshot.workloads[found] if found else None
        own = mode(self.snapshot, workload) if workload and workload.known else None
        if name == lab.host_name:
            return [Spot(name, "", "", tuple(lab.topology.addresses), own)]
        return [Spot(name, plug.port, plug.bridge, plug.bare, own) for plug in lab.plugs(name)]

    def _along(self, path: Path) -> Iterator[Trial]:
        if path in PUBLISHED:
            yield from self._through_doors(path)
            return
        pairs = list(self._pairs(path))
        for protocol in PROTOCOLS:
            for family in (4, 6):
                for group in _by_modes(pairs):
                    for _ in range(self._times(path, protocol)):
                        source, destination = self.random.choice(group)
                        other, further = self.random.choice(group)
                        yield self._better([
                            self._direct(path, source, destination, protocol, family),
                            self._direct(path, other, further, protocol, family),
                        ])  # fmt: skip

    def _pairs(self, path: Path) -> Iterator[tuple[Spot, Spot]]:
        every = {name: self.spot(name) for name in self.spots}
        host = every[self.ground.lab.host_name]
        front = [every[name] for name in (*ON_FRONT, STRAYS[0])]
        back = [every[name] for name in ON_BACK]
        alone = [every[name] for name in (*ROUTED, STRAYS[1])]
        beyond = [every[name] for name in OUTSIDE]
        twin = self.spots[TWIN]
        if path is Path.BRIDGED:
            yield from _each(front + twin[:1], front + twin[:1])
            yield from _each(back + twin[1:], back + twin[1:])
        elif path is Path.BETWEEN:
            yield from _each(front, back)
            yield from _each(back, front)
        elif path is Path.ROUTED:
            yield from _each(alone, front + back + alone)
            yield from _each(front + back, alone)
        elif path is Path.TO_HOST:
            yield from _each(front + back + alone + beyond + twin[:1], [host])
        elif path is Path.FROM_HOST:
            yield from _each([host], front + back + alone + beyond + twin[:1])
        elif path is Path.FORWARDED:
            yield from _each(beyond, front + back + alone)
            yield from _each(front + back + alone, beyond)

    def _times(self, path: Path, protocol: Protocol) -> int:
        wanted = self.effort * OFTENER.get(path, 1) * (2 if path in PUBLISHED and protocol is Protocol.SCTP else 1)
        whole = int(wanted)
        return whole + (self.random.random() < wanted - whole)

    def _direct(self, path: Path, source: Spot, destination: Spot, protocol: Protocol, family: int) -> Trial:
        chosen = self.random.choice(_of(destination, family))
        if destination.port == "" and self.random.random() < 0.3:
            chosen = self._gateway(source, family) or chosen
        sender = self.random.choice(_of(source, family))
        if source.port == "" and self.random.random() < 0.3:
            sender = self._gateway(destination, family) or sender
        return self._trial(path, source, destination, protocol, family, sender, chosen, self._service(protocol, family))

    def _gateway(self, spot: Spot, family: int) -> str | None:
        """Return the host's address on a spot's bridge."""
        return {(FRONT, 4): "10.1.0.1", (FRONT, 6): "fd00:1::1", (BACK, 4): "10.2.0.1", (BACK, 6): "fd00:2::1"}.get(
            (spot.bridge, family)
        )

    def _service(self, protocol: Protocol, family: int) -> int:
        if protocol is Protocol.ICMP:
            return self.random.choice((8, 8, 13)) * 256 if family == 4 else 128 * 256
        port = self.random.choice(SERVICES[protocol])
        if not self.ground.lab.topology.bridge_nf and protocol is Protocol.UDP and _is_untracked(port):
            return UNTRACKED_PORTS[0] - 1  # where a bridge tracks, it has done so before anybody can say not to
        return port

    def _through_doors(self, path: Path) -> Iterator[Trial]:
        for door in self.ground.doors:
            target = self.spot(door.to)
            senders = self._senders(path, target)
            for family in (4, 6):
                for group in _by_modes([(each, target) for each in senders]):
                    for _ in range(self._times(path, door.protocol)):
                        yield self._published(path, self.random.choice(group)[0], door, family)

    def _senders(self, path: Path, target: Spot) -> list[Spot]:
        if path is Path.PUBLISHED_HOST:
            return [self.spot(self.ground.lab.host_name)]
        if path is Path.PUBLISHED_OUTSIDE:
            return [self.spot(name) for name in OUTSIDE]
        on = {FRONT: (*ON_FRONT, STRAYS[0]), BACK: ON_BACK}
        same = target.bridge if path is Path.PUBLISHED_SAME else {FRONT: BACK, BACK: FRONT}[target.bridge]
        found = [self.spot(name) for name in on[same] if name != target.name]
        return found if path is Path.PUBLISHED_SAME else [*found, *(self.spot(name) for name in ROUTED)]

    def _published(self, path: Path, source: Spot, door: Door, family: int) -> Trial:
        lab = self.ground.lab
        address, sender = lab.address(lab.host_name, family), self.random.choice(_of(source, family))
        if path is Path.PUBLISHED_HOST and door.engine and self.random.random() < 0.4:
            address = sender = "::1" if family == 6 else "127.0.0.1"
        elif path is not Path.PUBLISHED_HOST and self.random.random() < 0.3:
            address = self._gateway(source, family) or address
        target = self.spot(door.to)
        return self._trial(path, source, target, door.protocol, family, sender, address, door.port, door)

    # One trial

    def _trial(self, path: Path, source: Spot, destination: Spot, protocol: Protocol, family: int, sender: str,
               address: str, port: int, door: Door | None = None) -> Trial:  # fmt: skip
        untracked = protocol is Protocol.UDP and _is_untracked(port)
        sport = next(self._ports) if untracked else 0
        spoken = Protocol.ICMPV6 if protocol is Protocol.ICMP and family == 6 else protocol
        probe = Probe(source.name, destination.name, spoken, port, family, address, sender, sport)
        judged = Packet(
            self.host, Address(sender), Address(address), spoken, port, sport or (40_000 if protocol in PORTED else 0),
            PacketState.UNTRACKED if untracked else PacketState.NEW, source.port,
        )  # fmt: skip
        through_proxy = door is not None and door.engine and (path is Path.PUBLISHED_SAME or address in LOOPBACKS)
        if not through_proxy:
            judged = replace(judged, leaving=destination.port)
        real = self.ground.lab.address(door.to, family) if door else address
        back = replace(judged, state=PacketState.REPLY, interface=destination.port, leaving=source.port)
        back = replace(back, sender_address=Address(real))
        if untracked:
            turned = {"source": address, "destination": sender, "port": sport, "source_port": port}
            back = replace(back, state=judged.state, sender_address="", **turned)
        cell = None
        if source.mode and destination.mode:
            cell = Cell(family, protocol, path, source.mode, destination.mode)
        passes = verdict(self.snapshot, judged).allowed
        arrives = passes and verdict(self.snapshot, replace(judged, leaving=destination.port)).allowed
        returns = arrives and verdict(self.snapshot, back).allowed and not self._goes_astray(path, door)
        strangers = path is not Path.BRIDGED and self.estranged((source, sender), (destination, real))
        return Trial(path, probe, judged, back, cell, door, passes, returns, strangers)

    def _goes_astray(self, path: Path, door: Door | None) -> bool:
        """Tell whether answers go straight over the bridge, translated back by nobody: the host does not see them."""
        shown = self.ground.lab.topology.bridge_nf
        return path is Path.PUBLISHED_SAME and door is not None and not door.engine and not shown

    def estranged(self, *ends: tuple[Spot, str]) -> bool:
        """Tell whether the host refuses strangers as neighbours, and one of these (place, address) is one."""
        return self._refuses_strangers and not all(self._belongs(*end) for end in ends)

    @cached_property
    def _refuses_strangers(self) -> bool:
        itself = self.snapshot.workloads.get(self.snapshot.hosts[self.host].workload)
        full = itself is not None and itself.known and mode(self.snapshot, itself) is Mode.FULL
        return full or bool(quarantines(self.snapshot, itself if itself and itself.known else None))

    def _belongs(self, spot: Spot, address: str) -> bool:
        """Tell whether a place's address is its workload's own, as was reported; the host's and the outside's are."""
        if not spot.port or spot.name in OUTSIDE:
            return True
        found = workload_of(self.ground, self.snapshot, spot.name)
        workload = self.snapshot.workloads[found] if found else None
        ends = [each for each in workload.seen.endpoints if each.port == spot.port] if workload else []
        claims = [
            each.id
            for each in self.snapshot.workloads.values()
            if not each.id.startswith(DECLARED)  # whose document claims an address that is somebody's, yields
            for endpoint in each.seen.endpoints
            if address in endpoint.addresses
        ]
        return any(address in end.addresses for end in ends) and len(claims) == 1

    def _better(self, candidates: list[Trial]) -> Trial:
        """Choose so that as much is denied as is allowed."""
        wanted = self._denied > 1.5 * self._allowed
        chosen = next((each for each in candidates if each.passes == wanted), candidates[0])
        self._allowed += chosen.passes
        self._denied += not chosen.passes
        return chosen


SERVICES = {
    Protocol.TCP: (80, 80, 22, 53, 5432, 7999, 8000, 8080, 8100, 8101, 8443),
    Protocol.UDP: (53, 53, 80, 999, 1000, 1500, 1899, 1950, 1960, 2000, 2001),
    Protocol.SCTP: (3868, 3868, 3869, 80, 5432),
}


def disagreement(trial: Trial, result: Result) -> str:
    """Say how the kernel differs from the oracle; empty where it does not."""
    if trial.passes:
        if trial.strangers:
            return ""
        if trial.proxied:  # a proxy that cannot go on may refuse, or end what it has begun
            return "" if (result.outcome is Outcome.REACHED) == trial.returns else "the oracle allows it"
        return "" if result.delivered and result.answered == trial.returns else "the oracle allows it"
    silent = result.outcome in (Outcome.TIMED_OUT, Outcome.NOT_SENT) or trial.loopback
    silent = silent or result.detail in NOBODY_ANSWERS
    return "" if silent and not result.answered and not result.delivered else "the oracle denies it"


def _is_untracked(port: int) -> bool:
    return UNTRACKED_PORTS[0] <= port <= UNTRACKED_PORTS[1]


def _of(spot: Spot, family: int) -> list[str]:
    return [each for each in spot.addresses if (":" in each) == (family == 6)]


def _each(sources: list[Spot], destinations: list[Spot]) -> Iterator[tuple[Spot, Spot]]:
    for source in sources:
        yield from ((source, each) for each in destinations if each.name != source.name)


def _by_modes(pairs: Iterable[tuple[Spot, Spot]]) -> list[list[tuple[Spot, Spot]]]:
    """Group pairs by the modes of their two ends."""
    groups: dict[tuple[Mode | None, Mode | None], list[tuple[Spot, Spot]]] = {}
    for pair in pairs:
        groups.setdefault((pair[0].mode, pair[1].mode), []).append(pair)
    return list(groups.values())
