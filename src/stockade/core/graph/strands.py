"""Edges with all their strands: what was observed, what is permitted, what a draft would permit, and what it decides.

What is permitted between two nodes is asked for every pair of identities of which one has a workload in the one node
and one in the other, as they are in the snapshot. A network's node is the addresses of it that were met.
"""

from collections.abc import Iterable, Mapping, Sequence

from stockade.core.graph.judge import Judge
from stockade.core.graph.services import Services
from stockade.core.graph.values import PROCESS, Edge, Node, NodeKind, Pending, Permitted, Traffic
from stockade.core.graph.zoom import Pair, Zoom, grouped, node_of, observed
from stockade.core.model.flow import FlowEnd
from stockade.core.model.ids import Address, RuleId
from stockade.core.model.inventory import Workload
from stockade.core.model.labels import NAME
from stockade.core.model.snapshot import Snapshot
from stockade.core.plan.parties import Party
from stockade.core.plan.permitted import permitted
from stockade.core.plan.portset import NOTHING

Parties = list[tuple[Party, int]]
"""Each with how many ends of its own."""


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
        self._known: dict[Node, Parties] = {}
        outside = {end for each in traffic for end in (each.source, each.destination) if end.workload is None}
        for end in sorted(outside, key=lambda each: (each.address, each.network)):
            self._outside.setdefault(node_of(end, ()), []).append((self.judge.party(end), 1))
        self._outside = {node: _summed(found) for node, found in self._outside.items()}

    @property
    def nodes(self) -> Iterable[Node]:
        """The nodes that it knows."""
        return self._inside.keys() | self._outside.keys()

    def pairs(self, source: Node, destination: Node) -> int:
        """Return how many pairs of identities ``between`` asks about."""
        return self._count(plain(source)) * self._count(plain(destination))

    def between(self, source: Node, destination: Node) -> Permitted:
        """Return what is permitted between two nodes. Between two of the inventory it is asked once."""
        one, other = plain(source), plain(destination)
        if one in self._outside or other in self._outside:
            return self._between(source, destination)
        return self.judge.kept(
            (self._by, one, other, source == destination), lambda: self._between(source, destination)
        )

    def _between(self, source: Node, destination: Node) -> Permitted:
        ones, others = (self._parties(plain(node)) for node in (source, destination))
        on, pairs, of, rules = NOTHING, 0, 0, set[RuleId]()
        for one, count in ones:
            for other, more in others:
                number = count * more - (count if one is other and source == destination else 0)
                found = self.judge.runs(one, other) if number else ()
                ports = permitted(found)
                of += number
                pairs += number if ports else 0
                on |= ports
                rules |= {run.rule for run in found if run.allowed and run.rule}
        return Permitted(on, pairs, of, tuple(sorted(rules)))

    def _count(self, node: Node) -> int:
        return len(self._outside[node]) if node in self._outside else len(self._inside.get(node, {}))

    def _parties(self, node: Node) -> Parties:
        if node not in self._known:
            kinds = self._inside.get(node, {}).items()
            inside = [(self.judge.party_of_kind(kind), count) for kind, count in kinds]
            self._known[node] = self._outside.get(node) or inside
        return self._known[node]


def _summed(found: Parties) -> Parties:
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
