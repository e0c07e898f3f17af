"""What really passes, asked of the oracle: ends, points and packets of a world, as plan and reach speak of them.

A *spot* is somewhere that a connection begins or ends; a *point* a protocol and a port. ``passes`` sends the first
packet of a connection past every host that carries an end. It is None where what plan and reach say is not about this
packet, and nowhere else:

- it goes from a workload to itself, or what any end says of it is *essential*: it passes whatever policy says;
- somebody else is met than was meant: a published port of the host (the workload behind it is), an address that two
  claim, a private address of another host's;
- its sender says what it may not: a router advertisement from an endpoint, an address that two claim (*forged*);
- its sender or receiver is *held*: the host's setting decides, and plan warns of it instead.
"""

from collections.abc import Iterable, Iterator
from random import Random
from typing import NamedTuple

from stockade.core.fold.declared import is_declared
from stockade.core.model.ids import Address, HostId, WorkloadId
from stockade.core.model.inventory import Attachment, Endpoint, Host, Workload, WorkloadState
from stockade.core.model.net import LAST_PORT, PORTED, Ports, Protocol, is_v6
from stockade.core.model.packet import Layer, Packet
from stockade.core.model.snapshot import Snapshot
from stockade.core.oracle import verdict
from stockade.core.oracle.matching import in_network_set
from stockade.core.policy import ports_of
from stockade.testing.inventories import UPLINK
from stockade.testing.traffic import GROUPS, OUTSIDE

GRE = 47
"""A protocol that policy has no name for; plans call such ``other``."""
NARROWEST_FIRST = ("metadata", "payments", "resolvers", "groups", "private", "world")
"""The network sets of the random worlds. Where two overlap, the one that comes first here lies inside the other."""
ASIDE = (Layer.ESSENTIAL, Layer.FORGED, Layer.HELD)
NOBODY = (Address("10.0.0.220"), Address("fd00::220"))
"""Addresses behind host-a's bridge that are no workload's: in no network set, and nobody's."""


class Spot(NamedTuple):
    """An end: its addresses by family, whose they are, the host that carries it and the interface that leads there."""

    four: Address | None
    six: Address | None
    workload: Workload | None = None
    host: HostId | None = None
    interface: str = UPLINK

    def at(self, *, v6: bool) -> Address | None:
        """Its address of a family."""
        return self.six if v6 else self.four


class Point(NamedTuple):
    """A protocol and a port, or ICMP type and code; ``ANY`` is a protocol without a name."""

    protocol: Protocol
    port: int


def spots(snapshot: Snapshot) -> list[Spot]:
    """Return every end of a world: workloads with an endpoint, links without a workload, the outside, nobody."""
    own = [
        _spot(endpoint, each, each.seen.host)
        for _, each in sorted(snapshot.workloads.items())
        if each.seen.state is not WorkloadState.STOPPED and each.seen.owner is None
        for endpoint in each.seen.endpoints[:1]
    ]
    unknown = [_spot(link, None, host.id) for host in snapshot.hosts.values() for link in host.unknown]
    outside = [Spot(None, each) if is_v6(each) else Spot(each, None) for each in (*OUTSIDE, *GROUPS)]
    return [*own, *(each for each in unknown if each.four), *outside, Spot(*NOBODY)]


def _spot(endpoint: Endpoint, workload: Workload | None, host: HostId | None) -> Spot:
    # A host has its bridges' addresses too, private ones that other hosts have as well; its own network's sort last.
    four = [each for each in endpoint.addresses if not is_v6(each)]
    six = [each for each in endpoint.addresses if is_v6(each)]
    interface = UPLINK if endpoint.attachment is Attachment.OPAQUE else endpoint.port
    return Spot(four[-1] if four else None, six[-1] if six else None, workload, host, interface)


def points(*snapshots: Snapshot) -> list[Point]:
    """Return both sides of every edge of every range that any policy of these speaks of."""
    found = {Point(Protocol.ANY, 0), Point(Protocol.TCP, 7)}
    for snapshot in snapshots:
        services = {each.name: each.ports for each in snapshot.policy.services}
        rules = [rule for policy in snapshot.policy.policies for rule in policy.rules]
        spared = [each for quarantine in snapshot.policy.quarantines for each in quarantine.excepted]
        for ref in (ref for each in (*rules, *spared) for ref in each.on):
            for ports in (ref,) if isinstance(ref, Ports) else services[ref]:
                found.update(_edges(ports))
    return sorted(found)


def _edges(ports: Ports) -> Iterator[Point]:
    least = 1 if ports.protocol in PORTED else 0  # no policy names port 0
    for port in (ports.first - 1, ports.first, ports.last, ports.last + 1):
        if ports.protocol is not Protocol.ANY and least <= port <= LAST_PORT:
            yield Point(ports.protocol, port)


def families(point: Point) -> tuple[bool, ...]:
    """Return the families that a protocol is spoken in, True for IPv6."""
    return {Protocol.ICMP: (False,), Protocol.ICMPV6: (True,)}.get(point.protocol, (False, True))


def passes(snapshot: Snapshot, one: Spot, other: Spot, point: Point, *, v6: bool) -> bool | None:
    """Tell whether a connection's first packet passes everywhere on its way; None where no plan speaks of it."""
    source, destination = one.at(v6=v6), other.at(v6=v6)
    hosts = [each for each in dict.fromkeys((one.host, other.host)) if each in snapshot.hosts]
    if source is None or destination is None or not hosts or (one.workload and one.workload == other.workload):
        return None
    if len(hosts) > 1 and not (one.workload and other.workload):
        return None  # elsewhere, a link's private address is not its own
    said = [
        verdict(
            snapshot,
            Packet(
                host=host,
                source=source,
                destination=destination,
                protocol=GRE if point.protocol is Protocol.ANY else point.protocol,
                port=point.port,
                source_port=50000,
                interface=one.interface if one.host == host else UPLINK,
            ),
        )
        for host in hosts
    ]
    meant = tuple(_meant(snapshot, spot, spot.at(v6=v6)) for spot in (one, other))
    if any((each.source, each.destination) != meant for each in said):
        return None
    if any(end.layer in ASIDE for each in said for end in each.ends):
        return None
    return all(each.allowed for each in said)


def _meant(snapshot: Snapshot, spot: Spot, address: Address | None) -> WorkloadId | None:
    """Return who an end is in this version: a document may declare a workload here, or at this address no more."""
    if spot.workload is not None and not is_declared(spot.workload.id):
        return spot.workload.id
    declared = _declared_at(snapshot, address)
    return None if spot.host or declared is None else declared.id


def _declared_at(snapshot: Snapshot, address: Address | None) -> Workload | None:
    found = (
        each
        for id_, each in snapshot.workloads.items()
        if is_declared(id_) and any(address in endpoint.addresses for endpoint in each.seen.endpoints)
    )
    return next(found, None)


def name(versions: tuple[Snapshot, ...], spot: Spot, other: Spot, *, v6: bool) -> str:
    """Return the name by which a plan speaks of an end: a workload's, the narrowest of the sets in use, or unknown.

    What lies in a set differs by host (``resolvers``); asked is the host that judges, which is the other end's.
    """
    declared = [] if _reported(spot) else [_declared_at(each, spot.at(v6=v6)) for each in versions]
    if any(declared):
        return _called(declared)
    if spot.workload is not None and _reported(spot):
        known = any(snapshot.workloads[spot.workload.id].known for snapshot in versions)
        return spot.workload.name if known else "unknown"
    sets = [_narrowest(snapshot, spot, other, used_sets(*versions), v6=v6) for snapshot in versions]
    if not any(sets):
        return "unknown"
    was, now = (each or "elsewhere" for each in (sets[0], sets[-1]))
    return now if was == now else f"{now} (was {was})"


def _reported(spot: Spot) -> bool:
    return bool(spot.host) or (spot.workload is not None and not is_declared(spot.workload.id))


def declared_at(snapshot: Snapshot, spot: Spot, *, v6: bool) -> Workload | None:
    """Return whom a document declares at an end that nobody reports."""
    return None if _reported(spot) else _declared_at(snapshot, spot.at(v6=v6))


def _called(declared: list[Workload | None]) -> str:
    """Name who documents declare at an address: by its name, save where it is unknown all along."""
    same = len({each.id if each else None for each in declared}) == 1
    if same and not any(each and each.known for each in declared):
        return "unknown"
    return next(each.name for each in reversed(declared) if each)


def several(versions: tuple[Snapshot, ...], spot: Spot, *, v6: bool) -> bool:
    """Tell whether an end's name may mean other addresses too, of which a plan says other things.

    So it is with a workload that documents declare at some addresses in one version and at others in another.
    """
    found = [] if _reported(spot) else [_declared_at(each, spot.at(v6=v6)) for each in versions]
    return any(found) and len({each and each.seen.endpoints for each in found}) > 1


def _narrowest(snapshot: Snapshot, spot: Spot, other: Spot, used: Iterable[str], *, v6: bool) -> str:
    host = _carrier(snapshot, other)
    address = spot.at(v6=v6)
    if host is None or address is None or spot.host is not None:
        return ""
    inside = (each for each in NARROWEST_FIRST if in_network_set(address, each, snapshot.policy, host))
    return next((f"networks({each})" for each in inside if each in used), "")


def _carrier(snapshot: Snapshot, spot: Spot) -> Host | None:
    return snapshot.hosts.get(spot.host) if spot.host else None


def used_sets(*snapshots: Snapshot) -> set[str]:
    """Return the network sets that rules name, and the world."""
    ends = [
        end
        for snapshot in snapshots
        for policy in snapshot.policy.policies
        for rule in policy.rules
        for end in (rule.source, rule.destination)
    ]
    ends += [
        end
        for snapshot in snapshots
        for quarantine in snapshot.policy.quarantines
        if quarantine.name not in snapshot.lapsed
        for spared in quarantine.excepted
        for end in (spared.source, spared.destination)
    ]
    return {"world", *(name for end in ends for name in getattr(end, "names", ()))}


def speaks(on: str, point: Point) -> bool:
    """Tell whether a text that names ports, as plan and reach write them, means a point."""
    if on == "any":
        return True
    if on.startswith("any but "):
        return not speaks(on.removeprefix("any but "), point)
    return any(_means(each, point) for each in on.split(", "))


def _means(text: str, point: Point) -> bool:
    if text == "other":
        return point.protocol is Protocol.ANY
    protocol, _, rest = text.partition("/")
    if protocol.startswith("icmp") and "-" in rest and rest.replace("-", "").replace("/", "").isdigit():
        return point.protocol.name.lower() == protocol and _icmp_range(rest, point.port)
    ports = ports_of(text)
    return ports.protocol is point.protocol and ports.first <= point.port <= ports.last


def _icmp_range(text: str, port: int) -> bool:
    """``3-5`` are types, ``3/1-4`` codes of one type."""
    kind, slash, codes = text.partition("/")
    first, _, last = (codes if slash else kind).partition("-")
    return (
        (port >> 8 == int(kind) and int(first) <= port & 255 <= int(last))
        if slash
        else int(first) <= port >> 8 <= int(last)
    )


class Trial(NamedTuple):
    """One packet that might be sent."""

    one: Spot
    other: Spot
    point: Point
    v6: bool


def trials(random: Random, places: list[Spot], services: list[Point], count: int) -> Iterator[Trial]:
    """Yield trials between pairs of places that can speak to each other, each pair once before any is met again."""
    pairs = [(one, other) for one in places for other in places if one is not other and (one.host or other.host)]
    random.shuffle(pairs)
    made = 0
    while pairs and made < count:
        for one, other in pairs[: count - made]:
            point = random.choice(services)
            usable = [v6 for v6 in families(point) if one.at(v6=v6) and other.at(v6=v6)]
            if usable:
                yield Trial(one, other, point, random.choice(usable))
        made += len(pairs)
