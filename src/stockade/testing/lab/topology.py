"""What a lab is made of, as values: bridges, nodes, and how nodes are plugged in. Pure."""

from collections.abc import Iterable

import msgspec

from stockade.core.model.ids import Address, Prefix, Realm
from stockade.core.model.inventory import WorkloadKind
from stockade.core.model.net import canonical_address, canonical_prefix
from stockade.errors import StockadeError


class LabBridge(msgspec.Struct, frozen=True):
    """A bridge on the lab's host. The first address of each subnet is the host's own: the gateway."""

    name: str
    subnets: tuple[Prefix, ...]
    realm: Realm = Realm("")


class Link(msgspec.Struct, frozen=True):
    """How a node meets the host: a port of ``bridge``, or (empty) an interface of its own.

    On a bridge the next free addresses are taken where none are given; each lies inside one of its subnets. Without
    a bridge they may be any. An empty ``mac`` is made from the node's name.
    """

    bridge: str = ""
    addresses: tuple[Address, ...] = ()
    mac: str = ""


class Node(msgspec.Struct, frozen=True):
    """A network namespace of its own. ``eth0`` is the first link, through which everything else is met.

    ``outside`` is a machine beyond the host and no workload of it: its port is one of the host's uplinks. A node that
    is not ``sighted`` is there and nobody has reported it. ``labels`` are what operators set, by key.
    """

    name: str
    links: tuple[Link, ...] = (Link(),)
    labels: tuple[tuple[str, str], ...] = ()
    outside: bool = False
    sighted: bool = True
    kind: WorkloadKind = WorkloadKind.NAMESPACE


class Topology(msgspec.Struct, frozen=True):
    """One lab: a host, its bridges, its nodes.

    ``addresses`` are the host's own, one a family, on its ``lo``. ``bridge_nf`` is what ``bridge-nf-call-iptables``
    and its sisters say. ``dad`` has every IPv6 address wait for duplicate-address detection (a second or two).
    """

    bridges: tuple[LabBridge, ...] = ()
    nodes: tuple[Node, ...] = ()
    host: str = "lab"
    addresses: tuple[Address, ...] = (Address("192.0.2.1"), Address("2001:db8:2::1"))
    labels: tuple[tuple[str, str], ...] = ()
    bridge_nf: bool = True
    forwarding: bool = True
    dad: bool = False


def lab_bridge(name: str, *subnets: str, realm: str = "") -> LabBridge:
    """Return a bridge with these subnets."""
    return LabBridge(name, tuple(canonical_prefix(each) for each in subnets), Realm(realm))


def bridged(name: str, bridge: str, *addresses: str, **labels: str) -> Node:
    """Return a node on a bridge; without addresses it gets the next free ones."""
    return Node(name, (Link(bridge, _canonical(addresses)),), _pairs(labels))


def routed(name: str, *addresses: str, **labels: str) -> Node:
    """Return a node with an interface of its own on the host."""
    return Node(name, (Link("", _canonical(addresses)),), _pairs(labels))


def outside(name: str, *addresses: str, bridge: str = "") -> Node:
    """Return a machine beyond the host: behind a routed uplink, or (``bridge``) behind a bridge's uplink port."""
    return Node(name, (Link(bridge, _canonical(addresses)),), outside=True, kind=WorkloadKind.UNMANAGED)


class LabError(StockadeError):
    """A lab could not be built, or did not do what it was told."""


def check(topology: Topology) -> None:
    """Raise ``LabError`` for what no lab can be built from."""
    names = [topology.host, *(node.name for node in topology.nodes)]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise LabError(f"two nodes are called {repeated[0]}", remedy="give each node, and the host, a name of its own")
    for bridge in topology.bridges:
        if not 0 < len(bridge.name) <= 15:
            raise LabError(f"{bridge.name!r} cannot be a bridge's name", remedy="use 1 to 15 characters")
    for node in topology.nodes:
        check_node(topology, node)


def check_node(topology: Topology, node: Node) -> None:
    """Raise ``LabError`` where a node cannot be plugged in."""
    known = {bridge.name for bridge in topology.bridges}
    for link in node.links:
        if link.bridge and link.bridge not in known:
            remedy = f"use one of {', '.join(sorted(known))}" if known else "add the bridge to the topology"
            raise LabError(f"{node.name}: there is no bridge {link.bridge}", remedy=remedy)
        if not link.bridge and not link.addresses:
            raise LabError(f"{node.name}: a link without a bridge needs addresses", remedy="name at least one")


def _canonical(addresses: Iterable[str]) -> tuple[Address, ...]:
    return tuple(canonical_address(each) for each in addresses)


def _pairs(labels: dict[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(labels.items()))
