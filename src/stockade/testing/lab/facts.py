"""A lab in the model's words: what an agent on its host would have found. Pure."""

from collections.abc import Iterable

from stockade.core.model.event import LabelsSet
from stockade.core.model.ids import HostId, Realm, WorkloadId
from stockade.core.model.inventory import (
    Attachment,
    Bridge,
    BridgeState,
    Endpoint,
    Facts,
    Host,
    Published,
    Sighting,
    WorkloadKind,
)
from stockade.testing.lab.layout import Layout, Plug
from stockade.testing.lab.topology import Node, Topology

BY = "lab"


def workload_id(topology: Topology, name: str) -> WorkloadId:
    """Return the id under which a node (or the host itself) is reported."""
    return WorkloadId(f"lab:{topology.host}:{name}")


def host(layout: Layout, nodes: Iterable[Node], published: tuple[Published, ...], state: BridgeState) -> Host:
    """Return the host: its bridges, uplinks, published ports, and the endpoints that nobody has reported."""
    plugs = sorted(layout.all_plugs(), key=lambda plug: plug.port)
    uplinks = {name: tuple(p.port for p in plugs if p.uplink and p.bridge == name) for name in ("", *layout.bridges)}
    bridges = tuple(
        Bridge(each.name, each.realm, each.subnets, uplinks[each.name], state)
        for each in sorted(layout.bridges.values(), key=lambda bridge: bridge.name)
    )
    strangers = [plug for node in nodes if not node.sighted for plug in layout.plugs[node.name]]
    return Host(
        HostId(layout.topology.host),
        workload_id(layout.topology, layout.topology.host),
        interfaces=tuple(sorted({"lo", *layout.bridges, *(p.port for p in plugs if p.uplink)})),
        bridges=bridges,
        published=published,
        unknown=tuple(_endpoint(layout, plug) for plug in sorted(strangers, key=lambda plug: plug.port)),
    )


def sightings(layout: Layout, nodes: Iterable[Node]) -> tuple[Sighting, ...]:
    """Return every workload that is reported: the host itself, then its nodes by name."""
    reported = sorted((node for node in nodes if node.sighted and not node.outside), key=lambda node: node.name)
    return (host_sighting(layout), *(sighting(layout, node) for node in reported))


def sighting(layout: Layout, node: Node) -> Sighting:
    """Return one node as a source would report it. A machine outside is carried by no host."""
    plugs = layout.plugs[node.name]
    if node.outside:
        everywhere = tuple(sorted({address for plug in plugs for address in plug.bare}))
        endpoints: tuple[Endpoint, ...] = (Endpoint(Attachment.REMOTE, everywhere),)
    else:
        endpoints = tuple(_endpoint(layout, plug) for plug in plugs)
    return Sighting(
        workload_id(layout.topology, node.name),
        node.name,
        node.kind,
        None if node.outside else HostId(layout.topology.host),
        endpoints=endpoints,
        facts=_facts(layout.topology, node.labels),
    )


def host_sighting(layout: Layout) -> Sighting:
    """Return the host itself as a workload."""
    topology = layout.topology
    return Sighting(
        workload_id(topology, topology.host),
        topology.host,
        WorkloadKind.HOST,
        HostId(topology.host),
        endpoints=(Endpoint(Attachment.HOST, layout.host_addresses()),),
        facts=_facts(topology, topology.labels),
    )


def labels(topology: Topology, nodes: Iterable[Node]) -> tuple[LabelsSet, ...]:
    """Return the labels that operators set, of every node that has any."""
    given = {topology.host: topology.labels, **{node.name: node.labels for node in nodes if node.sighted}}
    return tuple(
        LabelsSet(workload_id(topology, name), tuple(sorted(pairs)), BY)
        for name, pairs in sorted(given.items())
        if pairs
    )


def _endpoint(layout: Layout, plug: Plug) -> Endpoint:
    attachment = Attachment.BRIDGED if plug.bridge else Attachment.ROUTED
    realm = layout.bridges[plug.bridge].realm if plug.bridge else Realm("")
    return Endpoint(attachment, plug.bare, plug.port, plug.bridge, plug.mac, realm)


def _facts(topology: Topology, given: tuple[tuple[str, str], ...]) -> Facts:
    pairs = tuple(sorted((f"stockade.{key}", value) for key, value in given))
    return Facts(runtime="lab", host_name=topology.host, labels=pairs)
