"""Packets made from a ``Random``, for one snapshot: aimed so that every layer of the verdict decides now and then.

About half are aimed at a rule of the snapshot (ends that it names, ports that it speaks of, or just beside), the rest
go between any two ends. Makes the same packets of the same snapshot and random numbers; each is consistent: its
interface is where such a packet would come in, unless it is meant to be forged.
"""

from random import Random
from typing import NamedTuple

from msgspec.structs import replace

from stockade.core.model.ids import Address, HostId
from stockade.core.model.inventory import Attachment, Endpoint, Host, Workload
from stockade.core.model.net import LAST_PORT, PORTED, Ports, Protocol, is_v6
from stockade.core.model.packet import Packet, PacketState
from stockade.core.model.policy import End, Networks, Rule, Selected
from stockade.core.model.snapshot import Snapshot
from stockade.core.oracle.matching import selects
from stockade.testing.inventories import ADMIN, RESOLVERS, UPLINK, chance

OUTSIDE = tuple(
    Address(each)
    for each in (
        "1.2.3.4",
        "1.2.3.7",
        "8.8.4.4",
        "169.254.169.254",
        "172.16.5.5",
        "2a00:1::5",
        "2a00:2::5",
        "fd00:ec2::254",
        "fd99::5",
        ADMIN,
        *RESOLVERS,
    )
)
GROUPS = (Address("224.0.0.251"), Address("ff02::fb"), Address("255.255.255.255"))
_STATES = (
    *[PacketState.NEW] * 11,
    *[PacketState.ORIGINAL] * 4,
    *[PacketState.REPLY] * 2,
    PacketState.RELATED,
    PacketState.MIDSTREAM,
    PacketState.INVALID,
    PacketState.UNTRACKED,
)
_LIVE = (PacketState.ORIGINAL, PacketState.REPLY, PacketState.RELATED)
_LINKED = (Attachment.BRIDGED, Attachment.ROUTED)
_PORTS = (80, 22, 53, 5432, 8080, 8443, 1000, 2001, 3868, 8050, 40000)
_ICMP = {Protocol.ICMP: (8, 0, 3), Protocol.ICMPV6: (128, 128, 129, 1, 135)}


class _Place(NamedTuple):
    """Somewhere a packet can come from or go to, as host-a meets it."""

    addresses: tuple[Address, ...]
    interface: str = UPLINK
    workload: Workload | None = None
    endpoint: Endpoint | None = None


def packets(random: Random, snapshot: Snapshot, host: HostId, count: int) -> list[Packet]:
    """Make ``count`` packets that ``host`` meets."""
    places = _places(snapshot, snapshot.hosts[host])
    rules = [rule for policy in snapshot.policy.policies for rule in policy.rules]
    return [_packet(random, snapshot, host, places, rules) for _ in range(count)]


def _packet(random: Random, snapshot: Snapshot, host: HostId, places: list[_Place], rules: list[Rule]) -> Packet:
    special = random.random()
    if special > 0.97:
        return _link_keeping(random, host, places)
    if special > 0.95 and snapshot.hosts[host].failsafe:
        return _dressed(random, _connection(host, _Place((ADMIN,)), places[0], Protocol.TCP, 22, ADMIN), places)
    rule = random.choice(rules) if rules and chance(random, 0.7) else None
    source, destination = _local_pair(random, places, rule)
    protocol, port = _service(random, snapshot, rule)
    address = _sending_address(random, source, protocol)
    packet = _connection(host, source, destination, protocol, port, address)
    packet = replace(packet, destination=_destination(random, destination, packet, snapshot.hosts[host]))
    return _dressed(random, packet, places)


# Places


def _places(snapshot: Snapshot, host: Host) -> list[_Place]:
    """Return every place, the host itself first, then its endpoints, unknown links, other workloads, the outside."""
    own = [
        _Place(endpoint.addresses, _interface(host, workload, endpoint), workload, endpoint)
        for workload in snapshot.workloads.values()
        for endpoint in workload.seen.endpoints
        if endpoint.addresses and not (endpoint.realm and workload.seen.host != host.id)
    ]
    own.sort(key=lambda place: (place.interface != "", place.interface, place.addresses))
    unknown = [_Place(each.addresses or (Address("10.0.0.210"),), each.port, None, each) for each in host.unknown]
    unlisted = [_Place((Address("10.0.0.220"), Address("fd00::220")), "venew")]
    return [*own, *unknown, *unlisted, *(_Place((address,)) for address in OUTSIDE)]


def _interface(host: Host, workload: Workload, endpoint: Endpoint) -> str:
    if workload.seen.host != host.id or endpoint.attachment is Attachment.OPAQUE:
        return UPLINK
    return endpoint.port


def _local_pair(random: Random, places: list[_Place], rule: Rule | None) -> tuple[_Place, _Place]:
    """Pick two places, the ones that a rule names where there are any; at least one of them is on the host."""
    source = _aimed(random, places, rule.source if rule else None)
    others = [place for place in places if place.workload is None or place.workload is not source.workload]
    destination = _aimed(random, others, rule.destination if rule else None)
    if source.interface == UPLINK and destination.interface == UPLINK:
        local = random.choice([place for place in places if place.interface != UPLINK])
        return (local, destination) if chance(random, 0.5) else (source, local)
    return source, destination


def _aimed(random: Random, places: list[_Place], end: End | None) -> _Place:
    fitting = [place for place in places if end is not None and _fits(place, end)]
    if fitting and chance(random, 0.85):
        return random.choice(fitting)
    known = [place for place in places if place.workload is not None and place.workload.known]
    return random.choice(known if known and chance(random, 0.6) else places)


def _fits(place: _Place, end: End) -> bool:
    if isinstance(end, Selected):
        return place.workload is not None and selects(end.selector, place.workload)
    return place.endpoint is None and place.interface == UPLINK and isinstance(end, Networks)


# What is said


def _service(random: Random, snapshot: Snapshot, rule: Rule | None) -> tuple[Protocol, int]:
    spoken = [ports for ref in rule.on for ports in _written(snapshot, ref)] if rule else []
    if spoken and chance(random, 0.85):
        ports = random.choice(spoken)
        if ports.protocol is not Protocol.ANY:
            return ports.protocol, _within(random, ports)
    protocol = random.choice((Protocol.TCP, Protocol.TCP, Protocol.UDP, Protocol.SCTP, Protocol.ICMP, Protocol.ICMPV6))
    if protocol in PORTED:
        return protocol, random.choice(_PORTS)
    return protocol, random.choice(_ICMP[protocol]) * 256


def _written(snapshot: Snapshot, ref: Ports | str) -> tuple[Ports, ...]:
    if isinstance(ref, Ports):
        return (ref,)
    return tuple(ports for each in snapshot.policy.services if each.name == ref for ports in each.ports)


def _within(random: Random, ports: Ports) -> int:
    """Pick a port at the edge of a range, within it, or just beside it; of ICMP a type that exists."""
    if ports.protocol in _ICMP and ports.first != ports.last:
        return random.choice(_ICMP[ports.protocol]) * 256
    beside = [port for port in (ports.first - 1, ports.last + 1) if 0 < port <= LAST_PORT]
    inside = [max(ports.first, 1), ports.last]
    if ports.first < 80 < ports.last:
        inside.append(80)
    return random.choice(beside if ports.protocol in PORTED and beside and chance(random, 0.12) else inside)


def _sending_address(random: Random, source: _Place, protocol: Protocol) -> Address:
    usable = [address for address in source.addresses if _speaks(protocol, address)] or list(source.addresses)
    return random.choice(usable)


def _speaks(protocol: Protocol, address: Address) -> bool:
    return protocol not in _ICMP or (protocol is Protocol.ICMPV6) == is_v6(address)


def _destination(random: Random, destination: _Place, packet: Packet, host: Host) -> Address:
    """Pick the destination's address of the source's family; sometimes a group's, or the host's published one."""
    v6 = is_v6(packet.source)
    usable = [address for address in destination.addresses if is_v6(address) == v6]
    ported = [each for each in host.published if each.port == packet.port and each.protocol == packet.protocol]
    if ported and chance(random, 0.7):
        return Address("fd00:7::1" if v6 else "192.168.7.1")
    if not usable or chance(random, 0.02):
        return random.choice([address for address in (*GROUPS, *OUTSIDE) if is_v6(address) == v6])
    return random.choice(usable)


def _connection(
    host: HostId, source: _Place, destination: _Place, protocol: Protocol, port: int, address: Address
) -> Packet:
    """Put a connection's first packet together; its protocol and destination are of its source's family."""
    if protocol in _ICMP and not _speaks(protocol, address):
        protocol, port = (Protocol.ICMPV6, 128 * 256) if is_v6(address) else (Protocol.ICMP, 8 * 256)
    usable = [each for each in destination.addresses if is_v6(each) == is_v6(address)] or list(destination.addresses)
    return Packet(
        host=host,
        source=address,
        destination=usable[0],
        protocol=protocol,
        port=port,
        source_port=50000 if protocol in PORTED else 0,
        interface=source.interface,
    )


def _dressed(random: Random, packet: Packet, places: list[_Place]) -> Packet:
    """Give a connection's packet a state, and now and then a frame that lies."""
    state = random.choice(_STATES)
    if state is PacketState.MIDSTREAM and packet.protocol is not Protocol.TCP:
        state = PacketState.NEW
    interface = packet.interface
    if state is PacketState.REPLY:
        interface = _where_it_lives(packet.destination, places)
    packet = replace(
        packet,
        state=state,
        interface=interface,
        kept=state in _LIVE and chance(random, 0.25),
        older=state in _LIVE[:2] and chance(random, 0.15),
    )
    return _lying(random, packet, places) if chance(random, 0.08) else packet


def _where_it_lives(address: Address, places: list[_Place]) -> str:
    return next((place.interface for place in places if address in place.addresses), UPLINK)


def _lying(random: Random, packet: Packet, places: list[_Place]) -> Packet:
    """Forge a frame: another's MAC, another's address, or a local address that comes from outside."""
    lie = random.randrange(3)
    if lie == 0:
        return replace(packet, sender_mac="02:00:00:00:ff:ff")
    local = [place for place in places if place.endpoint is not None and place.endpoint.attachment in _LINKED]
    other = random.choice(local or places)
    usable = [address for address in other.addresses if is_v6(address) == is_v6(packet.source)]
    if not usable:
        return packet
    said = random.choice(usable)
    forged = replace(packet, sender_address=said)
    if packet.state not in (PacketState.REPLY, PacketState.RELATED):
        forged = replace(forged, source=said)
    return replace(forged, interface=UPLINK) if lie == 2 else forged


def _link_keeping(random: Random, host: HostId, places: list[_Place]) -> Packet:
    """Make what a link needs, or what only a router or a DHCP server may say, or something said to oneself."""
    place = random.choice([each for each in places if each.interface != UPLINK])
    kind = random.randrange(5)
    six = next((address for address in place.addresses if is_v6(address)), None)
    if kind <= 1 and six is not None:
        type_ = random.choice((133, 135, 136, 143)) if kind == 0 else 134
        return Packet(host, six, Address("ff02::1"), Protocol.ICMPV6, type_ * 256, interface=place.interface)
    if kind == 2:
        return Packet(host, place.addresses[0], Address("255.255.255.255"), Protocol.UDP, 68, 67, interface=UPLINK)
    if kind == 3:
        return Packet(host, Address("0.0.0.0"), Address("255.255.255.255"), Protocol.UDP, 67, 68)
    first, last = place.addresses[0], place.addresses[-1]
    other = last if is_v6(first) == is_v6(last) else first
    return Packet(host, first, other, Protocol.TCP, 80, 50000, interface=place.interface)
