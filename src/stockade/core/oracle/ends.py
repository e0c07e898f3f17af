"""Who is at each end of a packet, as one host meets it (``docs/policy.md``, 6, 8, 9)."""

from ipaddress import IPv6Address, ip_address
from typing import NamedTuple

from msgspec.structs import replace

from stockade.core.model.ids import DECLARED, Address
from stockade.core.model.inventory import Attachment, Endpoint, Host, Published, Workload, WorkloadKind, WorkloadState
from stockade.core.model.net import Protocol, is_v6
from stockade.core.model.packet import Packet, PacketState
from stockade.core.model.snapshot import Snapshot

LINKED = (Attachment.BRIDGED, Attachment.ROUTED)
CARRIED = (*LINKED, Attachment.HOST)
NEIGHBOURS = (133, 135, 136)
"""Router solicitation, neighbour solicitation and advertisement (RFC 4861)."""
MEMBERSHIP = (130, 131, 132, 143)
"""MLD (RFC 2710, 3810)."""
IGMP = 2
LOOPBACK = "lo"


class End(NamedTuple):
    """One end of a packet.

    ``workload`` is whose address it is, labelled or not. ``claimed``: it is somebody's in the inventory, be it
    unclear whose. ``here``: an endpoint on this host. ``own``: the host's own address; ``contested``: so it would be,
    did not somebody else claim it as well. ``vouched`` is False where a frame only said that it comes from there.
    """

    address: Address
    workload: Workload | None = None
    endpoint: Endpoint | None = None
    claimed: bool = False
    here: bool = False
    own: bool = False
    contested: bool = False
    vouched: bool = True

    @property
    def known(self) -> Workload | None:
        """The workload, where anybody has labelled it."""
        return self.workload if self.workload and self.workload.known else None


class Meeting(NamedTuple):
    """A packet after destination translation, both its ends, and the endpoints by whose ports it comes and goes.

    ``astray``: it would be delivered where its destination does not live, or where nobody says that it does.
    """

    packet: Packet
    source: End
    destination: End
    entered: End | None
    forged: bool
    leaving: End | None = None
    astray: bool = False


def meet(snapshot: Snapshot, host: Host, packet: Packet) -> Meeting:
    """Find out who is at each end. What no frame vouches for is nobody's."""
    real = _translated(snapshot, host, packet)
    source, destination = _at(snapshot, host, real.source), _at(snapshot, host, real.destination)
    entered = _entered(snapshot, host, packet.interface)
    answering = packet.state is PacketState.REPLY
    sender, receiver = (destination, source) if answering else (source, destination)
    leaving = _entered(snapshot, host, packet.leaving)
    astray = leaving is not None and not _lives_at(receiver, leaving)
    forged = not _vouched(snapshot, host, real, sender, entered)
    if packet.state is PacketState.RELATED:
        return Meeting(real, source, destination, entered, forged, leaving)  # any router may report on a connection
    if entered and not entered.known:
        sender = entered._replace(address=sender.address, vouched=not forged)  # unknown, whatever it says
    elif forged:
        sender = End(sender.address, claimed=True, vouched=False)
    source, destination = (source, sender) if answering else (sender, destination)
    return Meeting(real, source, destination, entered, forged, leaving, astray)


def _lives_at(end: End, leaving: End) -> bool:
    """Tell whether an address is the one workload's behind a port, and met there. A group lives everywhere."""
    if is_group(end.address):
        return True
    mine = leaving.endpoint is not None and end.address in own_addresses(leaving.endpoint)
    return mine and end.workload is not None and end.workload is leaving.workload


def is_group(address: Address) -> bool:
    """Tell whether an address is many receivers': multicast, or everybody."""
    return ip_address(address).is_multicast or address == "255.255.255.255"


def reversed_packet(packet: Packet) -> Packet:
    """Return the packet as it would look had its connection begun at the other end. The frame stays what it is."""
    ported = packet.protocol not in (Protocol.ICMP, Protocol.ICMPV6)
    return replace(
        packet,
        source=packet.destination,
        destination=packet.source,
        port=packet.source_port if ported else packet.port,
        source_port=packet.port if ported else packet.source_port,
        state=_OTHER_WAY.get(packet.state, packet.state),
        sender_address=packet.sender_address or ("" if packet.state in _UNSAID else packet.source),
    )


_OTHER_WAY = {
    PacketState.NEW: PacketState.REPLY,
    PacketState.ORIGINAL: PacketState.REPLY,
    PacketState.REPLY: PacketState.ORIGINAL,
}
_UNSAID = (PacketState.REPLY, PacketState.RELATED)
"""States in which a packet's own source is not its connection's."""


def own_addresses(endpoint: Endpoint) -> tuple[Address, ...]:
    """Return what an endpoint may call itself: what is listed, and the EUI-64 link-local address (RFC 4291, 2.5.6)."""
    if endpoint.attachment not in LINKED or not endpoint.mac:
        return endpoint.addresses
    mac = bytes.fromhex(endpoint.mac.replace(":", ""))
    packed = b"\xfe\x80" + bytes(6) + bytes([mac[0] ^ 2]) + mac[1:3] + b"\xff\xfe" + mac[3:]
    return (*endpoint.addresses, Address(str(IPv6Address(packed))))


def _translated(snapshot: Snapshot, host: Host, packet: Packet) -> Packet:
    """Replace a published port of the host by the real endpoint, for every source, proxied or not."""
    means = [each for each in host.published if _means(snapshot, host, each, packet)]
    if not means:
        return packet
    family = is_v6(packet.destination)
    best = min(means, key=lambda each: (each.address == "", is_v6(each.to_address) != family))
    return replace(packet, destination=best.to_address, port=best.to_port)


def _means(snapshot: Snapshot, host: Host, published: Published, packet: Packet) -> bool:
    if (published.protocol, published.port) != (packet.protocol, packet.port):
        return False
    if published.address:
        return published.address == packet.destination
    return _own(snapshot, host, packet.destination)


def _own(snapshot: Snapshot, host: Host, address: Address) -> bool:
    itself = snapshot.workloads.get(host.workload)
    return ip_address(address).is_loopback or (
        itself is not None
        and any(address in each.addresses for each in _endpoints(itself) if each.attachment is Attachment.HOST)
    )


def _endpoints(workload: Workload) -> tuple[Endpoint, ...]:
    """Return its endpoints; a stopped workload gave them up, one in another's network namespace has none."""
    gone = workload.seen.state is WorkloadState.STOPPED or workload.seen.owner is not None
    return () if gone else workload.seen.endpoints


def _at(snapshot: Snapshot, host: Host, address: Address) -> End:
    """Find whose address this is at ``host``: its own endpoints', and everybody's in the realm that hosts share."""
    if ip_address(address).is_loopback:
        return End(address, snapshot.workloads.get(host.workload), claimed=True, here=True, own=True)
    claims = [
        (workload, endpoint)
        for workload in snapshot.workloads.values()
        for endpoint in _endpoints(workload)
        if _met(workload.seen.host == host.id, endpoint, address) and address in own_addresses(endpoint)
    ]
    reported = [claim for claim in claims if not claim[0].id.startswith(DECLARED)]
    claims = reported or claims  # what a document declares yields to who is there
    claims.sort(key=lambda claim: not _here(host, *claim))
    here = bool(claims) and _here(host, *claims[0])
    if len({workload.id for workload, _ in claims}) > 1:
        return End(address, claimed=True, contested=_own(snapshot, host, address))  # claimed by two: nobody's
    if claims:
        own = _own(snapshot, host, address)
        return End(address, *claims[0], claimed=True, here=here, own=own)
    return _at_unknown(snapshot, host, address)


def _at_unknown(snapshot: Snapshot, host: Host, address: Address) -> End:
    """Find an endpoint whose link was seen and whose workload was not; else the address is outside the inventory."""
    where = [
        each.id
        for each in snapshot.hosts.values()
        for endpoint in each.unknown
        if _met(each.id == host.id, endpoint, address) and address in own_addresses(endpoint)
    ]
    return End(address, claimed=bool(where), here=host.id in where)


def _met(at_home: bool, endpoint: Endpoint, address: Address) -> bool:
    """At home all addresses are met; elsewhere those of the realm that hosts share. Link-local ones stay at home."""
    return at_home or (endpoint.realm == "" and not ip_address(address).is_link_local)


def _here(host: Host, workload: Workload, endpoint: Endpoint) -> bool:
    return workload.seen.host == host.id and endpoint.attachment in CARRIED


def _entered(snapshot: Snapshot, host: Host, interface: str) -> End | None:
    """Find the endpoint behind a port; None where the host itself sent, or the outside did.

    A port that is neither an endpoint's nor the host's own belongs to an endpoint that nobody has reported yet.
    """
    for workload in snapshot.workloads.values():
        for endpoint in _endpoints(workload):
            if interface and endpoint.port == interface and workload.seen.host == host.id:
                return End(Address(""), workload, endpoint, claimed=True, here=True)
    if interface in ("", LOOPBACK, *host.interfaces):
        return None
    return End(Address(""), claimed=True, here=True)


def _vouched(snapshot: Snapshot, host: Host, packet: Packet, sender: End, entered: End | None) -> bool:
    """Tell whether a packet's source is its sender's own: by its endpoint's port with its MAC and one of its addresses.

    By any other interface a local endpoint's address cannot come, nor (save by loopback) the host's own.
    """
    if entered is None:
        carried = _at(snapshot, host, Address(packet.sender_address)) if packet.sender_address else sender
        said = packet.state is not PacketState.RELATED or packet.sender_address
        return packet.interface in ("", LOOPBACK) or not (said and carried.here)
    endpoint = entered.endpoint
    if endpoint is None:
        return False
    if packet.sender_mac and endpoint.mac and packet.sender_mac != endpoint.mac:
        return False
    carried_address = packet.sender_address or ("" if packet.state in _UNSAID else packet.source)
    if asks(entered) and asking_for_address(packet):
        return True
    if carried_address == "" or nameless(packet, carried_address):
        return True
    # What two claim is nobody's, and so not this endpoint's either.
    return _lives_at(_at(snapshot, host, Address(carried_address)), entered)


def asks(end: End) -> bool:
    """Tell whether an end asks its link for its address: a virtual machine on a bridge, once it is known."""
    place = end.endpoint
    a_machine = end.known is not None and end.known.seen.kind is WorkloadKind.VM
    return a_machine and place is not None and place.attachment is Attachment.BRIDGED


def asking_for_address(packet: Packet) -> bool:
    """Tell whether a packet is a DHCP client's that has no address yet (RFC 2131, 4.1)."""
    ports = (packet.protocol, packet.source_port, packet.port)
    return ports == (Protocol.UDP, 68, 67) and (packet.source, packet.destination) == ("0.0.0.0", "255.255.255.255")


def nameless(packet: Packet, address: str) -> bool:
    """Duplicate-address detection and membership reports come from the unspecified address (RFC 4862, 3590)."""
    if packet.protocol is Protocol.ICMPV6:
        return address == "::" and packet.port >> 8 in (*NEIGHBOURS, *MEMBERSHIP)
    return packet.protocol == IGMP and address == "0.0.0.0"
