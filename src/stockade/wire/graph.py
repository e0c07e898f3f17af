"""The map over the HTTP API: nodes, and edges with three strands. Times are seconds since the epoch (UTC)."""

import msgspec

from stockade.core.graph.values import NodeKind, Pending
from stockade.core.model.flow import Verdict, Via
from stockade.core.model.ids import RuleId, Version
from stockade.core.model.packet import Direction
from stockade.core.model.policy import Where
from stockade.wire.api import File, Message


class GraphRequest(Message, frozen=True, kw_only=True):
    """A draft, whole, as for a plan: what it would permit is the third strand."""

    files: tuple[File, ...] = ()


class RuleRef(msgspec.Struct, frozen=True):
    """A rule and where it stands; ``where`` null: it is no rule of the policy at that time (``default``, ``held``)."""

    rule: RuleId
    where: Where | None = None


class GraphNode(msgspec.Struct, frozen=True):
    """What a zoom does not tell apart. ``values`` are (dimension, value), empty where absent; of a network its name.

    ``id`` is the same for the same kind and values. ``select`` is the selector of its workloads, empty where none
    can say it; ``end`` is what ``from`` and ``to`` of ``/v1/flows`` take for it, which means more than the node where
    ``exact`` is false. ``rows`` is the address of its workloads, empty where it has none.
    """

    id: str
    kind: NodeKind
    text: str
    values: tuple[tuple[str, str], ...]
    workloads: int = 0
    findings: int = 0
    select: str = ""
    end: str = ""
    exact: bool = True
    rows: str = ""


class SeenView(msgspec.Struct, frozen=True):
    """What was seen, each connection once (``docs/map.md``). ``missing`` are not among ``connections``."""

    connections: int
    allowed: int
    denied: int
    would_deny: int
    missing: int
    ended: int
    packets: int
    bytes_out: int
    bytes_in: int
    first: float
    last: float


class PortView(msgspec.Struct, frozen=True):
    """What was seen on one port; ``on`` as policy writes it, ``service`` policy's name for it."""

    on: str
    service: str
    seen: SeenView


class SaidView(msgspec.Struct, frozen=True):
    """What one end said of connections, and by which rule. Both ends speak, so that these do not add up."""

    end: Direction
    verdict: Verdict
    connections: int
    by: RuleRef


class ObservedView(msgspec.Struct, frozen=True):
    """The first strand. ``ports``, ``said`` and ``processes`` are the first of ``ports_count`` and so on."""

    verdict: Verdict
    seen: SeenView
    ports: tuple[PortView, ...] = ()
    ports_count: int = 0
    said: tuple[SaidView, ...] = ()
    said_count: int = 0
    processes: tuple[tuple[Direction, str], ...] = ()
    processes_count: int = 0
    via: tuple[Via, ...] = ()
    pairs: int = 0


class PermittedView(msgspec.Struct, frozen=True):
    """The second or third strand: the services on which ``pairs`` of ``of`` pairs of ends may talk; none: empty.

    ``rules`` are the first of ``rules_count``; none where a mode permits.
    """

    on: str
    pairs: int
    of: int
    rules: tuple[RuleRef, ...] = ()
    rules_count: int = 0


class Sample(msgspec.Struct, frozen=True):
    """One connection of an edge, to be explained: the ends as ``/v1/explain`` takes them, and by name."""

    source: str
    destination: str
    on: str
    source_name: str
    destination_name: str


class GraphEdge(msgspec.Struct, frozen=True):
    """Two nodes by their ids, and the strands between them; null: not asked for, or not assessed.

    ``flows`` is the address of the flows behind the numbers; it means more than the edge where either node is not
    ``exact``.
    """

    source: str
    destination: str
    observed: ObservedView | None = None
    permitted: PermittedView | None = None
    needed: PermittedView | None = None
    pending: Pending | None = None
    sample: Sample | None = None
    flows: str = ""


class GraphLeft(msgspec.Struct, frozen=True):
    """What there was no room for, and pairs of nodes of which what is permitted was not assessed."""

    nodes: int = 0
    edges: int = 0
    connections: int = 0
    unassessed: int = 0


class GraphReply(Message, frozen=True, kw_only=True):
    """The map of a span of time. ``total`` sums up all traffic that was asked for, shown or not; null: none.

    ``version`` is the policy version that judges, ``of`` when the inventory was so. ``dimensions`` are the labels that
    can be zoomed by. ``notes`` say what is not as asked, each with what to do. ``partial_before``: before then not all
    is kept.
    """

    by: tuple[str, ...]
    since: float
    until: float
    of: float
    version: Version
    nodes: tuple[GraphNode, ...]
    edges: tuple[GraphEdge, ...]
    total: SeenView | None = None
    left: GraphLeft = GraphLeft()
    dimensions: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    partial_before: float | None = None
