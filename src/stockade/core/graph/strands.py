"""Edges with all their strands: what was observed, what is permitted, what a draft would permit, and what it decides.

What is permitted between two nodes is what every identity with a workload in the one may say to every identity with one
in the other, as they are in the snapshot. A network's node is the addresses of it that were met.
"""

import sys
from collections.abc import Iterable, Mapping, Sequence

from stockade.core.graph.alike import Parties, Side
from stockade.core.graph.judge import Asked, Judge
from stockade.core.graph.services import Services
from stockade.core.graph.values import PROCESS, Edge, Node, NodeKind, Pending, Permitted, Traffic
from stockade.core.graph.zoom import Pair, Zoom, grouped, node_of, observed
from stockade.core.model.flow import FlowEnd
from stockade.core.model.ids import Address
from stockade.core.model.inventory import Workload
from stockade.core.model.labels import NAME
from stockade.core.model.packet import Direction
from stockade.core.model.snapshot import Snapshot
from stockade.core.plan.parties import Party

ENDLESS = sys.maxsize


def stranded(
    traffic: Sequence[Traffic], by: Zoom, snapshot: Snapshot, draft: Snapshot | None = None, *, unobserved: bool = False
) -> tuple[Edge, ...]:
    """Return the edges of a zoom with their strands; ``draft`` gives the third one and what is pending.

    ``unobserved``: also edges on which nothing was seen, and something is permitted now or by the draft. That asks of
    every pair of nodes.
    """
    services = Services(snapshot.policy)
    found = grouped(traffic, by, services)
    now = Strand(snapshot, by, traffic)
    then = Strand(draft, by, traffic) if draft is not None else None
    made = [_edge(ends, found[ends], services, now, then) for ends in found]
    if unobserved:
        made += [each for each in _silent(found, now, then) if _open(each)]
    return tuple(sorted(made, key=lambda each: (each.source, each.destination)))


def _edge(ends: Pair, found: list[Traffic], services: Services, now: "Strand", then: "Strand | None") -> Edge:
    return Edge(
        *ends,
        observed(found, services),
        now.between(*ends),
        then.between(*ends) if then else None,
        pending(found, then.judge) if then else None,
    )


def _silent(found: Mapping[Pair, list[Traffic]], now: "Strand", then: "Strand | None") -> Iterable[Edge]:
    nodes = sorted({*now.nodes, *(then.nodes if then else ())})
    for source in nodes:
        for destination in nodes:
            outside = source.kind is destination.kind is NodeKind.NETWORK
            if (source, destination) not in found and not outside:
                yield Edge(
                    source,
                    destination,
                    permitted=now.between(source, destination),
                    needed=then.between(source, destination) if then else None,
                )


def _open(edge: Edge) -> bool:
    return any(strand is not None and strand.pairs for strand in (edge.permitted, edge.needed))


def pending(found: Iterable[Traffic], judge: Judge) -> Pending:
    """Tell what a draft decides about the connections that passed."""
    said = [judge.of(each).allowed for each in found if each.seen.passed]
    if not said:
        return Pending.NONE
    return Pending.ALLOWED if all(said) else Pending.SOME if any(said) else Pending.BLOCKED


class Strand:
    """What one snapshot permits between the nodes of a zoom. ``process`` is no matter of policy, and left out.

    ``judge``: one of the same snapshot, to go on with. Parties are made of the nodes that are asked about alone.
    """

    def __init__(
        self, snapshot: Snapshot, by: Zoom, traffic: Iterable[Traffic] = (), judge: Judge | None = None
    ) -> None:
        self.judge = judge or Judge(snapshot)
        self._by = tuple(each for each in by if each != PROCESS)
        self._inside = self.judge.members(self._by)
        self._outside: dict[Node, list[tuple[Party, int]]] = {}
        self._sides: dict[Node, Side] = {}
        outside = {end for each in traffic for end in (each.source, each.destination) if end.workload is None}
        for end in sorted(outside, key=lambda each: (each.address, each.network)):
            self._outside.setdefault(node_of(end, ()), []).append((self.judge.party(end), 1))
        self._outside = {node: _summed(found) for node, found in self._outside.items()}

    @property
    def nodes(self) -> Iterable[Node]:
        """The nodes that it knows."""
        return self._inside.keys() | self._outside.keys()

    def between(self, source: Node, destination: Node) -> Permitted:
        """Return what is permitted between two nodes."""
        found = self.asked(source, destination)
        assert found is not None  # nothing bounds it
        return found.permitted

    def asked(self, source: Node, destination: Node, most: int = ENDLESS) -> Asked | None:
        """Return what is permitted between two nodes; None where that takes more than so many steps.

        A step is an identity that is put into a group, or two groups of which it is asked what they may say. Between
        two nodes of the inventory it is asked once; how many steps that took is told again.
        """
        one, other, same = plain(source), plain(destination), source == destination
        key = (self._by, one, other, same)
        if (found := self.judge.known(key)) is None:
            if (found := self._asked(one, other, same=same, most=most)) is None:
                return None
            if one not in self._outside and other not in self._outside:
                self.judge.keep(key, found)
        return found if found.steps <= most else None

    def _asked(self, source: Node, destination: Node, *, same: bool, most: int) -> Asked | None:
        if (steps := self.identities(source) + self.identities(destination)) > most:
            return None
        alike, one, other = self.judge.alike, self._side(source), self._side(destination)
        ones = alike.groups(one, other, Direction.EGRESS)
        others = alike.groups(other, one, Direction.INGRESS)
        if (steps := steps + len(ones) * len(others)) > most:
            return None
        return Asked(alike.permitted(ones, others, same=same), steps)

    def identities(self, node: Node) -> int:
        """Return how many identities a node has, less its process."""
        return len(self._outside[node]) if node in self._outside else len(self._inside.get(node, {}))

    def _side(self, node: Node) -> Side:
        if node not in self._sides:
            kinds = self._inside.get(node, {}).items()
            inside = [(self.judge.party_of_kind(kind), count) for kind, count in kinds]
            self._sides[node] = self.judge.alike.side(self._outside.get(node) or inside)
        return self._sides[node]


def _summed(found: Parties) -> list[tuple[Party, int]]:
    """Return each party once."""
    counts: dict[int, tuple[Party, int]] = {}
    for party, count in found:
        counts[id(party)] = (party, counts.get(id(party), (party, 0))[1] + count)
    return list(counts.values())


def plain(node: Node) -> Node:
    """Return a node less its process."""
    return Node(node.kind, tuple(each for each in node.values if each[0] != PROCESS))


def end_of(workload: Workload) -> FlowEnd:
    """Return a workload as a flow's end, by its first address."""
    addresses = [address for endpoint in workload.seen.endpoints for address in endpoint.addresses]
    labels = sorted([(NAME, workload.name), *((each.key, each.value) for each in workload.labels.items)])
    return FlowEnd(Address(addresses[0] if addresses else "0.0.0.0"), workload.id, tuple(labels))
