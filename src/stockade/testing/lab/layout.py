"""Where everything goes: names, numbers, MACs, addresses and routes of a topology. Pure: same input, same lab."""

import hashlib
import ipaddress
from collections.abc import Iterable, Iterator

import msgspec

from stockade.core.model.ids import Address, Prefix
from stockade.core.model.net import is_v6
from stockade.testing.lab.topology import LabBridge, LabError, Link, Node, Topology

FIRST_BRIDGE, FIRST_PORT, FIRST_LINK = 10, 1000, 100
"""Interface indexes, well above those that a kernel gives to what it puts into a new namespace by itself."""
FIRST_FREE = 10
"""The number, within a bridge's subnet, of the first address that is handed out."""
LONGEST_NAME = 15


class Plug(msgspec.Struct, frozen=True):
    """One link of a node, laid: ``interface`` in the node, ``port`` on the host. Addresses come with prefix lengths."""

    node: str
    interface: str
    index: int
    mac: str
    port: str
    port_index: int
    port_mac: str
    bridge: str
    uplink: bool
    addresses: tuple[tuple[Address, int], ...]

    @property
    def bare(self) -> tuple[Address, ...]:
        """The addresses alone, sorted."""
        return tuple(sorted(address for address, _ in self.addresses))


class Route(msgspec.Struct, frozen=True):
    """A route. An empty ``to`` is everywhere; ``via`` empty is on the link itself; ``source`` the address preferred."""

    to: str
    index: int
    via: str = ""
    source: str = ""
    six: bool = False


class Layout:
    """The numbers that a lab has given out. Ports are never named alike twice; addresses come back when nodes go."""

    def __init__(self, topology: Topology) -> None:
        self.topology = topology
        self.bridges = {bridge.name: bridge for bridge in topology.bridges}
        self.plugs: dict[str, tuple[Plug, ...]] = {}
        self._ports = 0

    def plug(self, node: Node) -> tuple[Plug, ...]:
        """Lay a node's links."""
        laid = tuple(self._lay(node, place, link) for place, link in enumerate(node.links))
        self.plugs[node.name] = laid
        return laid

    def relay(self, plug: Plug, link: Link) -> Plug:
        """Lay one link anew, its ends staying what they are: another bridge, other addresses, another MAC."""
        others = tuple(each for each in self.plugs[plug.node] if each.index != plug.index)
        self.plugs[plug.node] = others
        laid = msgspec.structs.replace(
            plug, bridge=link.bridge, addresses=self._addresses(plug.node, link), mac=link.mac or plug.mac
        )
        self.plugs[plug.node] = tuple(sorted((*others, laid), key=lambda each: each.index))
        return laid

    def unplug(self, name: str) -> tuple[Plug, ...]:
        """Take a node away; what it held is free again."""
        return self.plugs.pop(name, ())

    def bridge_index(self, name: str) -> int:
        """Return the interface index of a bridge."""
        return FIRST_BRIDGE + list(self.bridges).index(name)

    def host_address(self, six: bool) -> Address | None:
        """Return the host's own address of a family."""
        return next((each for each in self.topology.addresses if is_v6(each) == six), None)

    def host_addresses(self) -> tuple[Address, ...]:
        """Return every address that is the host's own, sorted."""
        found = {*self.topology.addresses}
        for name in self.bridges:
            found |= self._bridge_addresses(name)
        for plug in self.all_plugs():
            found |= self.opposite(plug)
        return tuple(sorted(found))

    def opposite(self, plug: Plug) -> set[Address]:
        """Return the host's own addresses at the other end of a node's link, or on its bridge."""
        return self._bridge_addresses(plug.bridge) if plug.bridge else {link_local(plug.port_mac)}

    def _bridge_addresses(self, name: str) -> set[Address]:
        return {*map(gateway, self.bridges[name].subnets), link_local(bridge_mac(name))}

    def all_plugs(self) -> Iterator[Plug]:
        """Yield the links of all nodes."""
        for plugs in self.plugs.values():
            yield from plugs

    def node_routes(self, plug: Plug) -> Iterator[Route]:
        """Yield a node's routes by its first link; its other links reach their own subnets alone."""
        if plug.index != FIRST_LINK:
            return
        for six in (False, True):
            if any(is_v6(address) == six for address, _ in plug.addresses) and (via := self._way_out(plug, six)):
                yield Route("", plug.index, via=via, six=six)

    def host_routes(self, plug: Plug) -> Iterator[Route]:
        """Yield the host's routes to a node that no bridge carries."""
        for address in plug.bare if not plug.bridge else ():
            six = is_v6(address)
            yield Route(address, plug.port_index, source=self.host_address(six) or "", six=six)

    def next_hop_mac(self, plug: Plug, destination: str) -> str:
        """Return the MAC to which a node sends what goes to an address: its neighbour's, or the host's."""
        if not plug.bridge:
            return plug.port_mac
        for other in self.all_plugs():
            if other.bridge == plug.bridge and destination in (*other.bare, link_local(other.mac)):
                return other.mac
        return bridge_mac(plug.bridge)

    def _way_out(self, plug: Plug, six: bool) -> str:
        if not plug.bridge:
            return link_local(plug.port_mac) if six else self.host_address(six=False) or ""
        subnets = [subnet for subnet in self.bridges[plug.bridge].subnets if is_v6(subnet) == six]
        return gateway(subnets[0]) if subnets else ""

    def _lay(self, node: Node, place: int, link: Link) -> Plug:
        number = self._ports
        self._ports += 1
        name = f"up{number}" if node.outside else f"v{number}-{node.name}"[:LONGEST_NAME]
        return Plug(
            node=node.name,
            interface=f"eth{place}",
            index=FIRST_LINK + place,
            mac=link.mac or mac_of("link", node.name, str(place)),
            port=name,
            port_index=FIRST_PORT + number,
            port_mac=mac_of("port", str(number)),
            bridge=link.bridge,
            uplink=node.outside,
            addresses=self._addresses(node.name, link),
        )

    def _addresses(self, node: str, link: Link) -> tuple[tuple[Address, int], ...]:
        if not link.bridge:
            return tuple((address, 128 if is_v6(address) else 32) for address in link.addresses)
        bridge = self.bridges[link.bridge]
        if link.addresses:
            return tuple((address, _length(node, bridge, address)) for address in link.addresses)
        taken = {address for plug in self.all_plugs() for address in plug.bare}
        return tuple((_free(subnet, taken), ipaddress.ip_network(subnet).prefixlen) for subnet in bridge.subnets)


def mac_of(*words: str) -> str:
    """Return the MAC of these words: always the same one, locally administered."""
    return "02:" + hashlib.blake2b(" ".join(words).encode(), digest_size=5).digest().hex(":")


def bridge_mac(name: str) -> str:
    """Return a bridge's own MAC."""
    return mac_of("bridge", name)


def link_local(mac: str) -> Address:
    """Return the EUI-64 link-local address of a MAC (RFC 4291, appendix A)."""
    octets = bytearray.fromhex(mac.replace(":", ""))
    octets[0] ^= 2
    middle = bytes(octets[:3]) + b"\xff\xfe" + bytes(octets[3:])
    return Address(str(ipaddress.IPv6Address(b"\xfe\x80" + bytes(6) + middle)))


def gateway(subnet: Prefix) -> Address:
    """Return the host's own address in a bridge's subnet: the first."""
    return Address(str(ipaddress.ip_network(subnet)[1]))


def _length(node: str, bridge: LabBridge, address: Address) -> int:
    for subnet in bridge.subnets:
        network = ipaddress.ip_network(subnet)
        if ipaddress.ip_address(address) in network:
            return network.prefixlen
    raise LabError(
        f"{node}: {address} lies in no subnet of {bridge.name}",
        remedy=f"choose one from {', '.join(bridge.subnets) or 'a subnet; the bridge has none'}",
    )


def _free(subnet: Prefix, taken: Iterable[str]) -> Address:
    network = ipaddress.ip_network(subnet)
    for number in range(FIRST_FREE, min(network.num_addresses - 1, FIRST_FREE + 65536)):
        if (address := str(network[number])) not in taken:
            return Address(address)
    raise LabError(f"{subnet} has no address left", remedy="give the bridge a wider subnet")
