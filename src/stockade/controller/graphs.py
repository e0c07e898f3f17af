"""Recorded flows and the snapshot of their time → the map, as it is shown. Reads; changes nothing."""

import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property

import msgspec

from stockade.controller.earlier import Earlier, snapshot_at
from stockade.controller.findings import FindingBoard
from stockade.controller.flow_queries import end_filter, meets, verdicts
from stockade.controller.graph_views import Known, Showing, seen_view
from stockade.controller.heard import Answer, Heard, Told
from stockade.controller.loop import Controller
from stockade.controller.refused import Refused, Why
from stockade.controller.whose import Whose
from stockade.core import select
from stockade.core.compile.rulebook import Rulebook, rulebook
from stockade.core.graph.judge import Judge
from stockade.core.graph.merge import Telling
from stockade.core.graph.picture import Ask, Bounds, Picture, crowd, picture
from stockade.core.graph.values import PROCESS, WORKLOAD, Node, Traffic
from stockade.core.graph.zoom import Zoom, workload_nodes
from stockade.core.model.flow import Verdict
from stockade.core.model.selector import Selector
from stockade.core.model.snapshot import Snapshot
from stockade.core.select.words import is_key
from stockade.seams.flow_store import EndFilter, FlowFilter
from stockade.wire.graph import GraphLeft, GraphReply

HOUR = 3600.0
BY = "app,role"
SHAPES = 2000
"""Nodes and edges of one map: what is more is counted, and never sent."""
KEPT = 3
"""Snapshots of which what was worked out is remembered."""
DRAWN = 3
"""Pictures of one snapshot that are remembered, beside the last."""
NO_FLOWS = "no flows are kept here, so that nothing is known to have been seen: see flows in docs/settings.md"


class Asked(msgspec.Struct, frozen=True):
    """What a user asked of the map. Ends as for flows; ``limit``: shapes; ``strands``: those of policy as well."""

    by: str = BY
    source: str = ""
    destination: str = ""
    select: str = ""
    verdict: str = ""
    since: float | None = None
    until: float | None = None
    limit: int = SHAPES
    unseen: bool = False
    strands: bool = True


class Drawn(msgspec.Struct, frozen=True):
    """A picture with the traffic that it was made of, and how its edges were shown."""

    traffic: Sequence[Traffic]
    picture: Picture
    shown: Known


class Worked:
    """What is worked out of one snapshot, each of it once, when it is needed. Who uses the judge holds the lock.

    ``book`` is the rulebook of another snapshot with the same policy; ``answers`` what was heard for another one.
    """

    def __init__(self, snapshot: Snapshot, book: Rulebook | None = None, answers: tuple[Answer, ...] = ()) -> None:
        self.snapshot = snapshot
        self._answers = answers
        self.lock = threading.RLock()
        self.book = book or rulebook(snapshot.policy, snapshot.lapsed)
        self._crowds: dict[Zoom, Mapping[Node, int]] = {}
        self._drawn: dict[Asked, Drawn] = {}

    def says_the_same(self, snapshot: Snapshot) -> bool:
        """Tell whether another snapshot has the same rulebook."""
        return self.snapshot.policy is snapshot.policy and self.snapshot.lapsed == snapshot.lapsed

    def crowd(self, by: Zoom) -> Mapping[Node, int]:
        """The nodes of the inventory with how many workloads each stands for."""
        if by not in self._crowds:
            self._crowds = {**dict([*self._crowds.items()][-KEPT:]), by: crowd(self.snapshot, by)}
        return self._crowds[by]

    def drawn(self, traffic: Sequence[Traffic], by: Zoom, asked: Asked, draft: Snapshot | None) -> Drawn:
        """Return the picture of some traffic; of the same traffic, what was drawn before. A draft's is never kept."""
        question = msgspec.structs.replace(asked, since=None, until=None)
        with self.lock:
            before = None if draft else self._drawn.pop(question, None)
            if before is None or before.traffic is not traffic:
                made = _pictured(traffic, by, self, asked, draft, before.picture if before else None)
                before = Drawn(traffic, made, _still(before.shown, made) if before else {})
            if draft is None:
                self._drawn = {**dict([*self._drawn.items()][-DRAWN:]), question: before}
            return before

    @cached_property
    def whose(self) -> Whose:
        """Whose which address is."""
        return Whose(self.snapshot)

    @cached_property
    def told(self) -> Telling:
        """The workloads at whose ends some point tells."""
        return Telling(self.snapshot, self.book)

    @cached_property
    def heard(self) -> Heard:
        """What was seen of its workloads."""
        return Heard(self.snapshot, self.told, self._answers)

    @property
    def answers(self) -> tuple[Answer, ...]:
        """What was heard, for a later snapshot."""
        return self.heard.kept() if "heard" in self.__dict__ else self._answers

    @cached_property
    def judge(self) -> Judge:
        """What policy says."""
        return Judge(self.snapshot, book=self.book)

    def work_ahead(self, zooms: Iterable[Zoom] = ()) -> None:
        """Work out what the first look needs, whatever it asks for, and the crowds of some zooms."""
        _ = self.whose.met
        for by in tuple(zooms) or (ladder(self.dimensions)[:LEVELS],):
            with self.lock:
                self.crowd(by)

    @property
    def zooms(self) -> tuple[Zoom, ...]:
        """The zooms at which it was looked at."""
        return tuple(self._crowds)

    @cached_property
    def dimensions(self) -> tuple[str, ...]:
        """The labels in use, those that most have first; then workload and process."""
        every = [each.labels for each in self.snapshot.workloads.values()]
        counts = Counter(map(id, every))
        keys: dict[str, int] = {}
        for at, labels in {id(each): each for each in every}.items():
            for label in labels.items:
                keys[label.key] = keys.get(label.key, 0) + counts[at]
        return (*sorted(keys, key=lambda key: (-keys[key], key)), WORKLOAD, PROCESS)


LADDER, LEVELS = ("app", "role"), 2


def ladder(dimensions: Iterable[str]) -> tuple[str, ...]:
    """Return the levels of zoom: app and role, or else the labels that most have; then workload and process."""
    *labels, workload, process = dimensions
    usual = [each for each in LADDER if each in labels] or labels[:LEVELS]
    return (*usual, workload, process)


def _still(shown: Known, made: Picture) -> Known:
    """Return what is known of the edges that are there."""
    there = {(each.source, each.destination) for each in made.edges}
    return {ends: each for ends, each in shown.items() if ends in there}


class Graphs:
    """Remembers what was worked out of the last snapshots. Safe from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: list[Worked] = []
        self.looks = 0
        """How often a map was asked for."""

    def work_ahead(self, snapshot: Snapshot) -> None:
        """Work out what a look at a snapshot will need, as the last one was looked at. Blocks."""
        with self._lock:
            zooms = self._kept[0].zooms if self._kept else ()
        self.of(snapshot).work_ahead(zooms)

    def of(self, snapshot: Snapshot) -> Worked:
        """Return what is worked out of a snapshot."""
        with self._lock:
            found = next((each for each in self._kept if each.snapshot is snapshot), None)
            if found is None:
                alike = next((each.book for each in self._kept if each.says_the_same(snapshot)), None)
                found = Worked(snapshot, alike, self._kept[0].answers if self._kept else ())
            self._kept = [found, *(each for each in self._kept if each is not found)][:KEPT]
            return found


def graph(graphs: Graphs, controller: Controller, asked: Asked, draft: Snapshot | None = None) -> GraphReply:
    """Return the map. Blocks. ``Refused`` where something that was asked for means nothing, or is too much."""
    by, now, present = zoom(asked.by), controller.clock.now(), controller.snapshot
    since, until = _span(asked, now)
    earlier = Earlier(present) if until >= now else snapshot_at(controller.store, present, until)
    graphs.looks += 1
    worked = graphs.of(earlier.snapshot)
    notes = [earlier.but] if earlier.but else []
    if controller.flows is None:
        notes.append(NO_FLOWS)
        seen = Told((), since, until)
    else:
        filters = _filters(asked, present)
        seen = worked.heard.traffic(controller.flows.store, since, until, filters, worked.whose)
    drawn = worked.drawn(seen.traffic, by, asked, draft and _as_of(draft, worked.snapshot, present))
    made, found = drawn.picture, _found(controller.findings, worked.snapshot, by)
    showing = Showing(worked.book.wheres, draft, seen.since, seen.until, found, drawn.shown)
    return GraphReply(
        by=by,
        since=seen.since,
        until=seen.until,
        of=now if earlier.snapshot is present else until,
        version=worked.snapshot.version,
        nodes=tuple(showing.node(node, count) for node, count in made.nodes),
        edges=tuple(showing.edge(edge, made.traffic.get((edge.source, edge.destination), ())) for edge in made.edges),
        total=seen_view(made.seen) if made.seen else None,
        left=GraphLeft(made.left.nodes, made.left.edges, made.left.connections, made.unassessed),
        dimensions=worked.dimensions,
        notes=(*notes, *_said(made, asked)),
        partial_before=seen.partial_before,
    )


def _span(asked: Asked, now: float) -> tuple[float, float]:
    until = asked.until or now
    since = asked.since if asked.since is not None else until - HOUR
    if since >= until:
        raise Refused(Why.INVALID, "that time ends before it begins", remedy="Give since a moment before until.")
    return since, until


def _pictured(
    traffic: Sequence[Traffic], by: Zoom, worked: Worked, asked: Asked, draft: Snapshot | None, before: Picture | None
) -> Picture:
    ask = Ask(
        now=worked.judge if asked.strands else None,
        draft=Judge(draft) if draft is not None else None,
        unseen=asked.unseen,
        only=_only(asked, worked.snapshot, by),
        everybody=worked.crowd(by),
        before=before,
    )
    return picture(_wanted(traffic, asked), by, worked.snapshot, ask, Bounds(shapes=min(max(asked.limit, 2), SHAPES)))


def zoom(text: str) -> Zoom:
    """Return the dimensions that a text names, with commas. ``Refused`` where one is none."""
    by = tuple(dict.fromkeys(part.strip() for part in (text or BY).split(",") if part.strip()))
    if wrong := [each for each in by if each not in (WORKLOAD, PROCESS) and not is_key(each)]:
        raise Refused(
            Why.INVALID, f'"{wrong[0]}" is no dimension', remedy="Labels' keys, workload, process; with commas."
        )
    return by


def _said(made: Picture, asked: Asked) -> Iterator[str]:
    if made.left.nodes or made.left.edges:
        yield (
            f"{made.left.nodes} nodes and {made.left.edges} edges ({made.left.connections} connections) are left out, "
            "the least urgent: ask about fewer (select, from, to, verdict), or by fewer dimensions"
        )
    if made.unassessed:
        yield (
            f"what is permitted between {made.unassessed} pairs of nodes was not assessed, being too much at once: "
            "ask about fewer"
        )
    if PROCESS in zoom(asked.by):
        yield "by process only what was seen is shown, and what is permitted is that of the workloads"


# Which


def _filters(asked: Asked, snapshot: Snapshot) -> tuple[FlowFilter, ...]:
    """Return what the store is asked: what is asked of one end or the other is two questions."""
    source, destination = end_filter(asked.source, snapshot), end_filter(asked.destination, snapshot)
    if asked.select and not asked.source and not asked.destination:
        either = EndFilter(selector=_selector(asked.select))
        return FlowFilter(source=either), FlowFilter(destination=either)
    return (FlowFilter(source=source, destination=destination),)


def _wanted(found: Sequence[Traffic], asked: Asked) -> Sequence[Traffic]:
    if asked.select:
        either = EndFilter(selector=_selector(asked.select))
        found = [each for each in found if meets(each.source, either) or meets(each.destination, either)]
    wanted = verdicts(asked.verdict)
    return [each for each in found if any(_came(each, verdict) for verdict in wanted)] if wanted else found


def _came(traffic: Traffic, verdict: Verdict) -> bool:
    seen = traffic.seen
    return bool(
        {
            Verdict.ALLOWED: seen.allowed,
            Verdict.DENIED: seen.denied,
            Verdict.WOULD_DENY: seen.would_deny,
            Verdict.CARRIED: seen.ended,
        }[verdict]
    )


def _only(asked: Asked, snapshot: Snapshot, by: Zoom) -> frozenset[Node] | None:
    """Return the nodes that are wanted although nothing was seen of them; None: all."""
    if asked.source or asked.destination or asked.verdict:
        return frozenset()
    if not asked.select:
        return None
    selector = _selector(asked.select)
    some = (each for each in snapshot.workloads.values() if select.matches(selector, each.labels, each.name))
    return frozenset(node for node, each in workload_nodes(some, by) if each.known)


def _selector(text: str) -> Selector:
    try:
        return select.parse(text)
    except select.SelectorError as problem:
        remedy = "For example: app = shop."
        raise Refused(Why.INVALID, f'"{text}" is no selector: {problem}', remedy=remedy) from problem


def _as_of(draft: Snapshot, then: Snapshot, present: Snapshot) -> Snapshot:
    """Return the draft over the inventory of a time."""
    return draft if then is present else then._replace(policy=draft.policy, version=draft.version)


def _found(board: FindingBoard, snapshot: Snapshot, by: Zoom) -> dict[Node, int]:
    """Count the findings about the workloads of each node that nobody accepts, as they are now."""
    objects = Counter(each.object for said in tuple(board.by_host.values()) for each in board.unaccepted(said))
    if not objects:
        return {}
    meant = (each for each in snapshot.workloads.values() if each.name in objects or each.id in objects)
    found: dict[Node, int] = {}
    for node, workload in workload_nodes(meant, tuple(key for key in by if key != PROCESS)):
        names = {str(workload.id), workload.name}
        found[node] = found.get(node, 0) + sum(objects[name] for name in names)
    return found
