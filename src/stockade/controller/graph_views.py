"""A picture of the graph → what the API shows of it. Pure; everything sorted."""

from collections.abc import Iterable, Mapping, Sequence
from functools import cache, cached_property
from urllib.parse import urlencode

import msgspec

from stockade.core.compile.rulebook import rulebook
from stockade.core.graph.naming import called, node_id
from stockade.core.graph.scans import called as end_called
from stockade.core.graph.scans import named
from stockade.core.graph.strands import plain
from stockade.core.graph.values import Edge, Node, Observed, Permitted, Said, Seen, Traffic
from stockade.core.graph.zoom import Pair, port_text
from stockade.core.model.ids import RuleId
from stockade.core.model.policy import Where
from stockade.core.model.snapshot import Snapshot
from stockade.wire.graph import (
    GraphEdge,
    GraphNode,
    ObservedView,
    PermittedView,
    PortView,
    RuleRef,
    SaidView,
    Sample,
    SeenView,
)

LISTED = 20
"""Ports, words, rules and programs that are listed of one edge; all are counted."""


class Shown(msgspec.Struct, frozen=True):
    """An edge as it was shown, and what was seen on it then. Its address of flows has no span of time yet."""

    edge: Edge
    traffic: Sequence[Traffic]
    view: GraphEdge


Known = dict[Pair, Shown]


class Showing:
    """Shows nodes and edges over one span of time; ``wheres``: where the rules of the policy stand that judges.

    ``known``: edges that were shown with the same ``wheres`` and draft. Those that are the same are taken from there,
    and those that are not are put there.
    """

    def __init__(
        self,
        wheres: Mapping[RuleId, Where],
        draft: Snapshot | None,
        since: float,
        until: float,
        findings: Mapping[Node, int],
        known: Known,
    ) -> None:
        self._wheres, self._draft = wheres, draft
        self._span = f"&{urlencode({'since': since, 'until': until})}"
        self._findings, self._known = findings, known
        self.shown = cache(self._node)

    def node(self, node: Node, count: int) -> GraphNode:
        """Describe a node."""
        it = called(node)
        rows = f"/v1/workloads?{urlencode({'select': it.select})}" if it.select else ""
        return GraphNode(
            node_id(node),
            node.kind,
            node.text,
            node.values,
            count,
            self._findings.get(plain(node), 0),
            it.select,
            it.end,
            it.exact,
            rows,
        )

    def _node(self, node: Node) -> tuple[str, str]:
        return node_id(node), called(node).end

    def edge(self, edge: Edge, traffic: Sequence[Traffic]) -> GraphEdge:
        """Describe an edge; ``traffic`` is what was seen on it."""
        ends = (edge.source, edge.destination)
        shown = self._known.get(ends)
        if shown is None or shown.edge != edge or shown.traffic != traffic:
            shown = self._known[ends] = Shown(edge, traffic, self._edge(edge, traffic))
        return msgspec.structs.replace(shown.view, flows=shown.view.flows + self._span)

    def _edge(self, edge: Edge, traffic: Sequence[Traffic]) -> GraphEdge:
        (source, source_end), (destination, destination_end) = self.shown(edge.source), self.shown(edge.destination)
        query = urlencode({"from": source_end, "to": destination_end})
        return GraphEdge(
            source,
            destination,
            self._observed(edge.observed) if edge.observed else None,
            self._permitted(edge.permitted, self._wheres),
            self._permitted(edge.needed, self._draft_wheres),
            edge.pending,
            _sample(traffic),
            f"/v1/flows?{query}",
        )

    def _observed(self, it: Observed) -> ObservedView:
        ports = sorted(it.ports, key=lambda each: (-each.seen.connections, each.protocol, each.port))
        said = sorted(it.said, key=lambda each: (-each.connections, each))
        return ObservedView(
            it.seen.verdict,
            seen_view(it.seen),
            tuple(
                PortView(port_text(each.protocol, each.port), each.service, seen_view(each.seen))
                for each in ports[:LISTED]
            ),
            len(ports),
            tuple(map(self._said, said[:LISTED])),
            len(said),
            it.processes[:LISTED],
            len(it.processes),
            it.via,
            it.pairs,
        )

    def _said(self, said: Said) -> SaidView:
        return SaidView(said.end, said.verdict, said.connections, RuleRef(said.rule, self._wheres.get(said.rule)))

    def _permitted(self, it: Permitted | None, wheres: Mapping[RuleId, Where]) -> PermittedView | None:
        if it is None:
            return None
        rules = tuple(RuleRef(each, wheres.get(each)) for each in it.rules[:LISTED])
        return PermittedView(it.on.text() if it.pairs else "", it.pairs, it.of, rules, len(it.rules))

    @cached_property
    def _draft_wheres(self) -> Mapping[RuleId, Where]:
        return rulebook(self._draft.policy, self._draft.lapsed).wheres if self._draft else {}


def seen_view(seen: Seen) -> SeenView:
    """Describe what was seen."""
    return SeenView(
        seen.connections, seen.allowed, seen.denied, seen.would_deny, seen.missing, seen.ended,
        seen.packets, seen.bytes_out, seen.bytes_in, seen.first, seen.last,
    )  # fmt: skip


def _sample(traffic: Iterable[Traffic]) -> Sample | None:
    """Return one connection: of the worst that was seen, the most frequent."""
    worst = min(traffic, key=_worst, default=None)
    if worst is None:
        return None
    one, other = worst.source, worst.destination
    return Sample(end_called(one), end_called(other), port_text(worst.protocol, worst.port), named(one), named(other))


def _worst(each: Traffic) -> tuple[int, int, int, str, str, int]:
    seen = each.seen
    return -seen.denied, -seen.would_deny, -seen.connections, each.source.address, each.destination.address, each.port
