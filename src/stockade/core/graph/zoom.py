"""Traffic → edges between nodes, at any order of label dimensions, with what was observed between them.

A zoom is a list of dimensions: labels' keys, and at its end ``workload`` and ``process``. The process of a source is
the program that was seen there; of a destination it is that, or else the service. Where several programs were seen at
one end, they stand together: flows do not say whose each connection was.
"""

import ipaddress
from collections.abc import Iterable, Iterator, Mapping, Sequence

from stockade.core.graph.services import Services, protocol_of
from stockade.core.graph.values import (
    INTERNET,
    NETWORK,
    PROCESS,
    WORKLOAD,
    Edge,
    Node,
    NodeKind,
    Observed,
    PortUse,
    Said,
    Traffic,
    total,
)
from stockade.core.model.flow import FlowEnd, Verdict
from stockade.core.model.ids import Address, RuleId
from stockade.core.model.inventory import Workload
from stockade.core.model.labels import NAME
from stockade.core.model.net import Ports
from stockade.core.model.packet import Direction
from stockade.core.model.policy import PolicySet
from stockade.core.plan.cells import ELSEWHERE
from stockade.core.plan.portset import range_text

Zoom = tuple[str, ...]
Pair = tuple[Node, Node]


def edges(traffic: Iterable[Traffic], by: Zoom, policy: PolicySet) -> tuple[Edge, ...]:
    """Return every edge between two nodes of a zoom that something was seen on, sorted."""
    services = Services(policy)
    return tuple(
        Edge(source, destination, observed(found, services))
        for (source, destination), found in sorted(grouped(traffic, by, services).items())
    )


def grouped(
    traffic: Iterable[Traffic], by: Zoom, services: Services, before: Mapping[Pair, Sequence[Traffic]] | None = None
) -> Mapping[Pair, list[Traffic]]:
    """Return traffic by the two nodes that it lies between; ``before``: some of it, where that is known."""
    placed = {id(each): ends for ends, some in (before or {}).items() for each in some}  # they live as long as it
    found: dict[Pair, list[Traffic]] = {}
    if PROCESS in by:
        for each in traffic:
            found.setdefault(placed.get(id(each)) or nodes_of(each, by, services), []).append(each)
        return found
    nodes: dict[int, Node] = {}  # an end is mostly one object, and what is met lives on in what is found
    alike: dict[Node, Node] = {}
    for each in traffic:
        if (known := placed.get(id(each))) is not None:
            found.setdefault(known, []).append(each)
            continue
        ends = []
        for end in (each.source, each.destination):
            if (node := nodes.get(id(end))) is None:
                node = node_of(end, by)
                node = nodes[id(end)] = alike.setdefault(node, node)
            ends.append(node)
        found.setdefault((ends[0], ends[1]), []).append(each)
    return found


def nodes_of(traffic: Traffic, by: Zoom, services: Services) -> Pair:
    """Return the two nodes that some traffic lies between."""
    if PROCESS not in by:
        return node_of(traffic.source, by), node_of(traffic.destination, by)
    client = _process(traffic, Direction.EGRESS)
    server = _process(traffic, Direction.INGRESS) or _service(traffic, services)
    return node_of(traffic.source, by, client), node_of(traffic.destination, by, server)


def node_of(end: FlowEnd, by: Zoom, process: str = "") -> Node:
    """Return the node that an end belongs to."""
    if end.workload is None:
        return network_node(end)
    labels = dict(end.labels)
    kind = NodeKind.WORKLOADS if labels.keys() - {NAME} else NodeKind.UNKNOWN
    known_by = by if kind is NodeKind.WORKLOADS else [each for each in by if each in (WORKLOAD, NAME, PROCESS)]
    return Node(kind, tuple((key, process if key == PROCESS else _value(labels, key)) for key in known_by))


def workload_nodes(workloads: Iterable[Workload], by: Zoom) -> Iterator[tuple[Node, Workload]]:
    """Yield the node of each workload of a snapshot, in which equal labels are mostly one object."""
    named = WORKLOAD in by or NAME in by
    known: dict[int, Node] = {}
    alike: dict[tuple[tuple[str, str], ...], Node] = {}
    for each in workloads:
        node = None if named else known.get(id(each.labels))
        if node is None:
            labels = tuple((label.key, label.value) for label in each.labels.items if label.key in by)
            told = labels or tuple((label.key, label.value) for label in each.labels.items[:1])
            key = (*told, (NAME, each.name)) if named else told
            if (node := alike.get(key)) is None:
                node = alike[key] = node_of(FlowEnd(Address(""), each.id, (*told, (NAME, each.name))), by)
            known[id(each.labels)] = node
        yield node, each


def network_node(end: FlowEnd) -> Node:
    """Return the node of an address outside the inventory."""
    everybodys = ipaddress.ip_address(end.address).is_global
    return Node(NodeKind.NETWORK, ((NETWORK, end.network or (INTERNET if everybodys else ELSEWHERE)),))


def observed(found: Sequence[Traffic], services: Services) -> Observed:
    """Return what some traffic comes to, as one strand."""
    ports: dict[tuple[int, int], list[Traffic]] = {}
    said: dict[tuple[Direction, Verdict, RuleId], int] = {}
    for each in found:
        ports.setdefault((each.protocol, each.port), []).append(each)
        for one in each.said:
            by = (one.end, one.verdict, one.rule)
            said[by] = said.get(by, 0) + one.connections
    return Observed(
        seen=total(each.seen for each in found),
        ports=tuple(PortUse(*at, services.name(*at), total(each.seen for each in ports[at])) for at in sorted(ports)),
        said=tuple(sorted(Said(*by, count) for by, count in said.items())),
        processes=tuple(sorted({pair for each in found for pair in each.processes})),
        via=tuple(sorted({via for each in found for via in each.via})),
        pairs=len(
            {
                (each.source.address, each.source.workload, each.destination.address, each.destination.workload)
                for each in found
            }
        ),
    )


def _value(labels: Mapping[str, str], key: str) -> str:
    return labels.get(NAME if key == WORKLOAD else key, "")


def _process(traffic: Traffic, end: Direction) -> str:
    return ", ".join(name for at, name in traffic.processes if at is end)


def _service(traffic: Traffic, services: Services) -> str:
    name = services.name(traffic.protocol, traffic.port)
    return name or port_text(traffic.protocol, traffic.port)


def port_text(protocol: int, port: int) -> str:
    """Return a port as policy writes it, or the number of a protocol that policy has no word for."""
    named = protocol_of(protocol)
    return range_text(Ports(named, port, port)) if named else f"protocol {protocol}"
