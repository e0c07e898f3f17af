"""Traffic and a snapshot → one picture: nodes with how many stand behind each, edges, and what there was no room for.

Bounded on purpose. Of edges those come first that somebody must look at: denied, would be denied, then the busiest.
What policy permits is asked of groups of identities; beyond a bound it is left out, which is not the same as nothing.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from heapq import nsmallest

import msgspec

from stockade.core.graph.judge import Judge
from stockade.core.graph.services import Services
from stockade.core.graph.strands import Strand, pending, plain
from stockade.core.graph.values import PROCESS, WORKLOAD, Edge, Node, NodeKind, Permitted, Seen, Traffic, total
from stockade.core.graph.zoom import Pair, Zoom, grouped, observed, workload_nodes
from stockade.core.model.labels import NAME
from stockade.core.model.snapshot import Snapshot

FIRST = 40
"""Steps that it takes to find out what an identity may say, and who speaks of it."""


class Bounds(msgspec.Struct, frozen=True):
    """What one picture may hold."""

    shapes: int = 2000
    """Nodes and edges together."""
    steps: int = 300_000
    """What one strand may take: ``Strand.asked``, and ``FIRST`` for each identity of a node that is met first."""


class Left(msgspec.Struct, frozen=True):
    """What there was no room for: nodes, edges, and the connections seen on those."""

    nodes: int = 0
    edges: int = 0
    connections: int = 0


class Picture(msgspec.Struct, frozen=True):
    """Nodes, each with how many workloads it stands for, and edges; both sorted.

    ``traffic`` is what each edge was made of, and ``seen`` the sum of all, also of what there was no room for; None:
    nothing was. ``unassessed`` counts the pairs of nodes that a strand was not asked
    about, because that would be too much.
    """

    nodes: tuple[tuple[Node, int], ...]
    edges: tuple[Edge, ...]
    traffic: Mapping[Pair, Sequence[Traffic]]
    left: Left = Left()
    unassessed: int = 0
    seen: Seen | None = None


class Ask(msgspec.Struct, frozen=True):
    """What is wanted besides what was seen. ``now`` and ``draft`` judge the snapshot and a draft: None, no strand.

    ``unseen``: also edges on which nothing was seen and something is permitted. ``only``: nodes of the inventory that
    are wanted although nothing was seen of them; None: all. ``everybody``: the crowd at this zoom, where it is known.
    ``before``: a picture of the same zoom and snapshot, for what was seen of edges on which nothing came since.
    """

    now: Judge | None = None
    draft: Judge | None = None
    unseen: bool = False
    only: frozenset[Node] | None = None
    everybody: Mapping[Node, int] | None = None
    before: Picture | None = None


def crowd(snapshot: Snapshot, by: Zoom) -> Mapping[Node, int]:
    """Return the nodes of the inventory with how many workloads each stands for; processes are no matter of it."""
    found: dict[Node, int] = {}
    by = tuple(each for each in by if each != PROCESS)
    if WORKLOAD in by or NAME in by:
        for node, _ in workload_nodes(snapshot.workloads.values(), by):
            found[node] = found.get(node, 0) + 1
        return found
    alike = {id(each.labels): each for each in snapshot.workloads.values()}
    counts = Counter(id(each.labels) for each in snapshot.workloads.values())
    for node, each in workload_nodes(alike.values(), by):
        found[node] = found.get(node, 0) + counts[id(each.labels)]
    return found


def picture(
    traffic: Iterable[Traffic], by: Zoom, snapshot: Snapshot, ask: Ask, bounds: Bounds | None = None
) -> Picture:
    """Return the picture of some traffic at a zoom."""
    bounds = bounds or Bounds()
    services = Services(snapshot.policy)
    found = grouped(traffic, by, services, ask.before.traffic if ask.before else None)
    everybody = ask.everybody if ask.everybody is not None else crowd(snapshot, by)
    edges = list(_edges(found, services, ask.before))
    seen = total(each.observed.seen for each in edges if each.observed) if edges else None
    silent = () if PROCESS in by else tuple(each for each in everybody if ask.only is None or each in ask.only)
    nodes, edges, left = _fitted(edges, silent, bounds.shapes)
    shown = {(each.source, each.destination): found[each.source, each.destination] for each in edges}
    stranding = _Stranding(by, ask, bounds, shown)
    made = [stranding.edge(each) for each in sorted(edges, key=_place)]
    if ask.unseen and PROCESS not in by:
        made += stranding.unseen(nodes, bounds.shapes - len(nodes) - len(made))
    return Picture(
        tuple((each, everybody.get(plain(each), 0)) for each in sorted(nodes)),
        tuple(sorted(made, key=_place)),
        shown,
        left,
        stranding.unassessed,
        seen,
    )


def _edges(found: Mapping[Pair, Sequence[Traffic]], services: Services, before: Picture | None) -> Iterator[Edge]:
    """Yield each edge with what was seen on it, taken from a picture before where that is the same traffic."""
    known = {_place(each): each.observed for each in before.edges} if before else {}
    for ends, traffic in found.items():
        same = before is not None and before.traffic.get(ends) == traffic
        yield Edge(*ends, known[ends] if same else observed(traffic, services))


def _place(edge: Edge) -> Pair:
    return edge.source, edge.destination


def _fitted(edges: list[Edge], silent: Iterable[Node], most: int) -> tuple[set[Node], list[Edge], Left]:
    """Take edges with their nodes while there is room, then nodes of which nothing was seen."""
    nodes: set[Node] = set()
    taken: list[Edge] = []
    lost, connections = set[Node](), 0
    for each in sorted(edges, key=_urgency):
        ends = {each.source, each.destination}
        if len(nodes | ends) + len(taken) + 1 <= most:
            nodes |= ends
            taken.append(each)
        else:
            lost |= ends
            connections += each.observed.seen.connections if each.observed else 0
    rest = {each for each in silent if each not in nodes}
    nodes |= set(nsmallest(most - len(nodes) - len(taken), rest))
    return nodes, taken, Left(len((lost | rest) - nodes), len(edges) - len(taken), connections)


def _urgency(edge: Edge) -> tuple[int, int, int, Pair]:
    seen = edge.observed.seen if edge.observed else None
    counts = (-seen.denied, -seen.would_deny, -seen.connections) if seen else (0, 0, 0)
    return *counts, _place(edge)


class _Stranding:
    """Adds the strands of policy, as long as the bound on what is asked lasts."""

    def __init__(
        self,
        by: Zoom,
        ask: Ask,
        bounds: Bounds,
        traffic: Mapping[Pair, Sequence[Traffic]],
    ) -> None:
        self.unassessed = 0
        self._traffic, self._draft = traffic, ask.draft
        told = [each for every in traffic.values() for each in every]
        self._strands = [
            _Bounded(Strand(judge.snapshot, by, told, judge), bounds.steps) if judge else None
            for judge in (ask.now, ask.draft)
        ]

    def edge(self, edge: Edge) -> Edge:
        """Return an edge on which something was seen, with its strands."""
        now, then = self._between(edge.source, edge.destination)
        said = pending(self._traffic[_place(edge)], self._draft) if self._draft else None
        return msgspec.structs.replace(edge, permitted=now, needed=then, pending=said)

    def unseen(self, nodes: Iterable[Node], room: int) -> Iterator[Edge]:
        """Yield edges on which something is permitted and nothing was seen, at most so many."""
        inside = sorted(nodes)
        for source in inside:
            for destination in inside:
                outside = source.kind is destination.kind is NodeKind.NETWORK
                if outside or (source, destination) in self._traffic:
                    continue
                now, then = self._between(source, destination)
                if any(strand is not None and strand.pairs for strand in (now, then)):
                    room -= 1
                    if room < 0:
                        self.unassessed += 1
                        continue
                    yield Edge(source, destination, permitted=now, needed=then)

    def _between(self, source: Node, destination: Node) -> tuple[Permitted | None, Permitted | None]:
        now, then = (each.between(source, destination) if each else None for each in self._strands)
        self.unassessed += any(
            strand is not None and found is None for strand, found in zip(self._strands, (now, then), strict=True)
        )
        return now, then


class _Bounded:
    def __init__(self, strand: Strand, steps: int) -> None:
        self._strand, self._left = strand, steps
        self._met: set[Node] = set()

    def between(self, source: Node, destination: Node) -> Permitted | None:
        new = {plain(source), plain(destination)} - self._met
        left = self._left - FIRST * sum(map(self._strand.identities, new))
        if left < 0 or (found := self._strand.asked(source, destination, left)) is None:
            return None
        self._met |= new
        self._left = left - found.steps
        return found.permitted
