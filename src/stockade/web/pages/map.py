"""The map: who talks to whom, what policy permits, what the draft would; a picture and the same as a table.

The page works without scripts: every step of it is an address. With them, a picture is drawn of the same reply.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from stockade.controller.flow_queries import among
from stockade.controller.graphs import LEVELS, ladder
from stockade.controller.refused import Refused, Why
from stockade.core import policy as written
from stockade.core import select
from stockade.core.graph.directed import Directed
from stockade.core.graph.values import INTERNET, Node, NodeKind, Pending
from stockade.core.model.flow import Verdict
from stockade.core.model.policy import End, Networks, Selected, ServiceRef
from stockade.core.model.selector import And
from stockade.core.suggest.turning import Turned, closing, opening
from stockade.errors import StockadeError
from stockade.web.asking import Desk, command
from stockade.web.assets import assets
from stockade.web.forms import Form
from stockade.web.frame import Data, Goto, View
from stockade.web.pages import draft
from stockade.web.pages.asking import Asking
from stockade.web.words import link
from stockade.wire.api import BirthsReply, File, PolicyReply, ReachReply, WorkloadDetail, WorkloadsReply
from stockade.wire.graph import GraphEdge, GraphNode, GraphReply, GraphRequest, ObservedView, PermittedView
from stockade.wire.moments import moment

PATH = "/map"
DATA = "/map/data"
BESIDE = "/map/beside"
DRAFT = "/map/draft"
SPANS = ((900, "15 min"), (3600, "1 hour"), (21_600, "6 hours"), (86_400, "1 day"), (604_800, "7 days"))
HOUR = 3600
SMALL = 2_000
"""Workloads up to which a page waits for what policy permits; with more it comes after what was seen."""
KEPT = ("by", "from", "to", "select", "verdict", "span", "at", "unseen", "draft", "view")
"""What of an address stays from step to step."""
ROWS = 300
"""Of the table that is sent to who has no scripts, unless all are asked for."""
DRAWING = frozenset({"graphology.umd.min.js", "sigma.min.js", "forceatlas2.js"})
"""What draws the picture; where set-up has not fetched all of it, the page has no scripts either."""
NEAR = 12
"""Workloads of a node that its drawer names."""
BIRTHS = 200
"""Births that are looked through for a node's."""


# What is asked


class Wish(msgspec.Struct, frozen=True):
    """What the address of the page says."""

    given: Mapping[str, str]
    at: float | None
    span: int

    def link(self, path: str = PATH, **more: object) -> str:
        """Return an address that asks for the same, but for some of it."""
        return link(path, **{**self.given, **more})


def _wish(desk: Desk, asking: Asking) -> Wish:
    given = {name: asking.text(name) for name in KEPT}
    if not given["by"]:
        given["by"] = ",".join(ladder(_dimensions(desk))[:LEVELS])
    if asking.session.draft is None:
        given["draft"] = ""
    return Wish(
        given, _moment(asking.text("at"), desk.installation.controller.clock.now()), asking.number("span", HOUR) or HOUR
    )


def _moment(text: str, now: float) -> float | None:
    """Return a moment as users write it, in seconds since the epoch."""
    try:
        return moment(text, now) if text else None
    except ValueError as problem:
        raise Refused(Why.MALFORMED, str(problem)) from None


def _dimensions(desk: Desk) -> tuple[str, ...]:
    installation = desk.installation
    return installation.graphs.of(installation.controller.snapshot).dimensions


async def _asked(desk: Desk, asking: Asking, wish: Wish, *, strands: bool, unseen: bool | None = None) -> GraphReply:
    now = desk.installation.controller.clock.now()
    until = wish.at or now
    names = {name: wish.given.get(name, "") for name in ("by", "from", "to", "select", "verdict")}
    flags = {"unseen": bool(wish.given.get("unseen")) if unseen is None else unseen, "seen": not strands}
    given: dict[str, Any] = names | {name: "1" for name, on in flags.items() if on}
    given |= {"since": str(until - wish.span)} | ({"at": str(wish.at)} if wish.at else {})
    files = asking.session.draft
    if wish.given.get("draft") and files is not None and strands:
        return await desk.ask("draft-graph", GraphReply, GraphRequest(files=tuple(files)), **given)
    return await desk.ask("graph", GraphReply, **given)


# The page


async def page(desk: Desk, asking: Asking) -> View:
    """The map, and beside it what was selected."""
    wish, problem, reply = Wish(dict.fromkeys(KEPT, ""), None, HOUR), None, None
    many = len(desk.installation.controller.snapshot.workloads)
    strands = bool(asking.text("strands")) or many <= SMALL or bool(asking.text("draft"))
    try:
        wish = _wish(desk, asking)
        reply = await _asked(desk, asking, wish, strands=strands)
    except StockadeError as found:
        problem = found
    rungs = ladder(_dimensions(desk))
    by = tuple(reply.by) if reply else rungs[:LEVELS]
    values: dict[str, Any] = {
        "wish": wish,
        "reply": reply,
        "problem": problem,
        "data": _attribute(_drawable(reply)) if reply else "",
        "nodes": {each.id: each for each in reply.nodes} if reply else {},
        "edges": sorted(reply.edges, key=_urgency)[: None if asking.text("rows") else ROWS] if reply else (),
        "alone": _alone(reply) if reply else (),
        "levels": _levels(rungs, by, wish),
        "crumbs": _crumbs(wish, by),
        "spans": SPANS,
        "strands": strands,
        "drawing": assets().keys() >= DRAWING,
        "drafted": asking.session.draft is not None,
        "kept": desk.installation.controller.flows is not None,
        "edge": asking.text("edge"),
        "node": asking.text("node"),
        "beside": await _beside(desk, asking, wish) if asking.text("edge") or asking.text("node") else None,
    }
    status = _status(problem)
    return View("map", "Map", "map.html", values, _commands(wish), status=status, still=True, flows=True)


def _status(problem: StockadeError | None) -> int:
    return 200 if problem is None else 422


def _commands(wish: Wish, *more: str) -> tuple[str, ...]:
    given = wish.given
    words = [
        part
        for name in ("by", "from", "to", "select", "verdict")
        if (value := given.get(name))
        for part in (f"--{name}", value)
    ]
    if wish.at:
        words += ["--at", datetime.fromtimestamp(wish.at, UTC).strftime("%Y-%m-%dT%H:%M:%S")]
    words += ["--unseen"] if given.get("unseen") else []
    words += ["--draft", "policies/"] if given.get("draft") else []
    return (command("graph", *words, *more),)


def _levels(rungs: tuple[str, ...], by: tuple[str, ...], wish: Wish) -> list[tuple[str, str, bool]]:
    """Return each level with its address, and whether it is among those in use."""
    rows = [(name, wish.link(by=",".join(rungs[: at + 1])), name in by) for at, name in enumerate(rungs)]
    return rows + [(name, wish.link(by=",".join(by)), True) for name in by if name not in rungs]


def _crumbs(wish: Wish, by: tuple[str, ...]) -> list[tuple[str, str]]:
    """Return the way back out: of a selection that follows the zoom, each step."""
    text = wish.given.get("select", "")
    if not text:
        return []
    try:
        parsed = select.parse(text)
    except select.SelectorError:
        return []
    terms = [select.text(each) for each in (parsed.of if isinstance(parsed, And) else (parsed,))]
    steps = [("everything", wish.link(select="", by=",".join(by[:1]) if len(terms) < len(by) else ",".join(by)))]
    steps += [
        (term, wish.link(select=" and ".join(terms[: at + 1]), by=",".join(by[: max(at + 2, 1)])))
        for at, term in enumerate(terms)
    ]
    return steps


def _urgency(each: GraphEdge) -> tuple[int, int, int, str, str]:
    seen = each.observed.seen if each.observed else None
    counts = (-seen.denied, -seen.would_deny, -seen.connections) if seen else (0, 0, 1)
    return *counts, each.source, each.destination


def _alone(reply: GraphReply) -> tuple[GraphNode, ...]:
    ends = {end for each in reply.edges for end in (each.source, each.destination)}
    return tuple(each for each in reply.nodes if each.id not in ends)


async def data(desk: Desk, asking: Asking) -> Data:
    """The same as values, for the picture. An error is a value as well."""
    try:
        wish = _wish(desk, asking)
        return Data(_drawable(await _asked(desk, asking, wish, strands=not asking.text("seen"))))
    except StockadeError as problem:
        return Data(msgspec.json.encode({"error": problem.message, "remedy": problem.remedy}), 422)


PORTS = 3
"""Ports of an edge that the picture and its table name; the drawer names more."""


def _drawable(reply: GraphReply) -> bytes:
    """Return what the picture needs of a reply, as JSON."""
    return msgspec.json.encode(
        {
            "by": reply.by,
            "nodes": reply.nodes,
            "edges": [_drawn(each) for each in reply.edges],
            "total": reply.total,
            "notes": reply.notes,
        }
    )


def _attribute(data: bytes) -> str:
    """Return JSON as the value of an attribute between single quotes: it has double ones itself, and many."""
    text = data.decode().replace("&", "&amp;").replace("'", "&#39;")
    return text.replace("<", "&lt;").replace(">", "&gt;")


class _Count(msgspec.Struct, frozen=True):
    connections: int
    denied: int
    would_deny: int
    bytes_out: int
    bytes_in: int


class _Observed(msgspec.Struct, frozen=True):
    verdict: Verdict
    seen: _Count
    ports: tuple[str, ...]
    ports_count: int


class _Strand(msgspec.Struct, frozen=True):
    on: str
    pairs: int
    of: int


class _Drawn(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the picture and its table need of an edge: there are many. What was not assessed is left out."""

    source: str
    destination: str
    observed: _Observed | None
    permitted: _Strand | None = None
    needed: _Strand | None = None
    pending: Pending | None = None


def _drawn(edge: GraphEdge) -> _Drawn:
    return _Drawn(
        edge.source,
        edge.destination,
        _observed(edge.observed) if edge.observed else None,
        _strand(edge.permitted),
        _strand(edge.needed),
        edge.pending,
    )


def _strand(it: PermittedView | None) -> _Strand | None:
    return _Strand(it.on, it.pairs, it.of) if it else None


def _observed(it: ObservedView) -> _Observed:
    seen = it.seen
    count = _Count(seen.connections, seen.denied, seen.would_deny, seen.bytes_out, seen.bytes_in)
    ports = tuple(each.service or each.on for each in it.ports[:PORTS])
    return _Observed(it.verdict, count, ports, it.ports_count)


# What is selected


async def beside(desk: Desk, asking: Asking) -> View:
    """Only what stands beside the map."""
    wish = _wish(desk, asking)
    values = {"wish": wish, "beside": await _beside(desk, asking, wish)}
    return View("map", "Map", "map_beside.html", values)


async def _beside(desk: Desk, asking: Asking, wish: Wish) -> dict[str, Any]:
    try:
        if asking.text("edge"):
            return await _edge(desk, asking, wish, asking.text("edge"))
        return await _node(desk, asking, wish, asking.text("node"))
    except StockadeError as problem:
        return {"problem": problem, "title": "Not shown", "kind": "", "commands": (), "explain": ""}


async def _edge(desk: Desk, asking: Asking, wish: Wish, key: str) -> dict[str, Any]:
    reply = await _asked(desk, asking, wish, strands=True)
    nodes = {each.id: each for each in reply.nodes}
    source, _, destination = key.partition("~")
    edge = next((each for each in reply.edges if (each.source, each.destination) == (source, destination)), None)
    one, other = nodes.get(source), nodes.get(destination)
    if one is None or other is None:
        raise Refused(Why.UNKNOWN, "this edge is not on the map as it is now", remedy="Close this, and look again.")
    edge = edge or GraphEdge(source, destination)
    between = {"from": one.end, "to": other.end, "since": reply.since, "until": reply.until}
    return {
        "problem": None,
        "kind": "edge",
        "title": f"{one.text} → {other.text}",
        "edge": edge,
        "one": one,
        "other": other,
        "program": lambda at, name: link("/flows", **between, process=among(name), end=at.value),
        "flows": link("/flows", **between),
        "ways": _ways(edge, one, other),
        "drafted": bool(wish.given.get("draft")),
        "commands": _commands(wish, *(("--from", one.end, "--to", other.end) if one.end and other.end else ())),
        "explain": command("explain", edge.sample.source_name, edge.sample.destination_name, edge.sample.on)
        if edge.sample
        else "",
    }


def _ways(edge: GraphEdge, one: GraphNode, other: GraphNode) -> tuple[tuple[str, str, str], ...]:
    """Return what may be drafted: (step, ports, in words)."""
    if not _sayable(one) or not _sayable(other) or one.kind is other.kind is NodeKind.NETWORK:
        return ()
    seen = edge.observed.ports if edge.observed else ()
    passed = ", ".join(each.on for each in seen if each.seen.allowed or each.seen.would_deny)
    denied = ", ".join(each.on for each in seen if each.seen.denied or each.seen.would_deny)
    found = []
    if passed or (edge.permitted is not None and edge.permitted.pairs):
        found.append(("close", passed, "Draft a rule that closes it"))
    if denied:
        found.append(("allow", denied, "Draft a rule that allows it"))
    return tuple(found)


def _sayable(node: GraphNode) -> bool:
    """Tell whether a rule can name a node."""
    return bool(node.select) or (node.kind is NodeKind.NETWORK and (node.exact or node.text == INTERNET))


async def _node(desk: Desk, asking: Asking, wish: Wish, key: str) -> dict[str, Any]:
    reply = await _asked(desk, asking, wish, strands=True, unseen=True)
    it = next((each for each in reply.nodes if each.id == key), None)
    if it is None:
        raise Refused(Why.UNKNOWN, "this node is not on the map as it is now", remedy="Close this, and look again.")
    rows = (await desk.ask("workloads", WorkloadsReply, select=it.select, shown=False)).workloads if it.select else ()
    names = {each.id for each in rows}
    births = await desk.ask("births", BirthsReply, last=str(BIRTHS), shown=False)
    only = await _single(desk, rows[0].id) if len(rows) == 1 else {}
    return {
        "problem": None,
        "kind": "node",
        "title": it.text,
        "node": it,
        "rows": rows[:NEAR],
        "count": len(rows),
        "births": [each for each in births.births if each.workload in names][:NEAR],
        "inside": _inside(wish, it, reply),
        "seen": _spread(reply, key, lambda edge: bool(edge.observed and _passed(edge))),
        "permitted": _spread(reply, key, lambda edge: bool(edge.permitted and edge.permitted.pairs)),
        "unassessed": reply.left.unassessed,
        "commands": (command("graph", *(("--select", it.select) if it.select else ())),),
        "explain": "",
        **only,
    }


def _passed(edge: GraphEdge) -> int:
    return edge.observed.seen.allowed + edge.observed.seen.would_deny if edge.observed else 0


async def _single(desk: Desk, id_: str) -> dict[str, Any]:
    """Return what is known of a node that is one workload."""
    detail = await desk.ask("workload", WorkloadDetail, workload=id_, shown=False)
    reach = await desk.ask("reach", ReachReply, of=id_, shown=False)
    return {"detail": detail, "reach": reach.reach}


def _inside(wish: Wish, node: GraphNode, reply: GraphReply) -> str:
    """Return the address of one level further in; empty where there is none."""
    deeper = next((each for each in ladder(reply.dimensions) if each not in reply.by), None)
    return wish.link(by=",".join((*reply.by, deeper)), select=node.select) if deeper and node.select else ""


def _spread(reply: GraphReply, key: str, leads: Any) -> dict[str, int]:
    """Count whom a node reaches and who reaches it, in one step and in any number."""
    made = {each.id: Node(each.kind, each.values) for each in reply.nodes}
    after: dict[Node, list[Node]] = {}
    for each in reply.edges:
        if leads(each) and each.source != each.destination:
            after.setdefault(made[each.source], []).append(made[each.destination])
    graph, start = Directed(tuple(made.values()), after), made[key]
    ways = (("to", False), ("from", True))
    return {
        f"{name}{suffix}": len(graph.reached(start, hops, back=back))
        for name, back in ways
        for suffix, hops in (("_near", 1), ("_far", None))
    }


# A draft of an edge


async def drafted(desk: Desk, asking: Asking, form: Form) -> View | Goto:
    """Put a policy that closes or allows an edge into the draft, beside what is there."""
    source, destination = _end(form.text("from")), _end(form.text("to"))
    on = _ports(form.text("on"))
    snapshot = desk.installation.controller.snapshot
    made: Turned = (
        opening(source, destination, on) if form.text("step") == "allow" else closing(snapshot, source, destination, on)
    )
    files = asking.session.draft
    if files is None:
        files = (await desk.ask("policy", PolicyReply, version="active", shown=False)).files
    name = f"{made.name}.yaml"
    asking.session.draft = (*(each for each in files if each.name != name), File(name, made.text))
    return Goto(draft.PATH)


def _end(text: str) -> End:
    if text.startswith("network:"):
        return Networks((text.removeprefix("network:"),))
    if text == INTERNET:
        return Networks(("world",))
    try:
        return Selected(select.parse(text))
    except select.SelectorError as problem:
        raise Refused(Why.INVALID, f'"{text}" is no end of a rule: {problem}') from problem


def _ports(text: str) -> tuple[ServiceRef, ...]:
    found: list[ServiceRef] = []
    for word in filter(None, (part.strip() for part in text.split(","))):
        try:
            found.append(written.ports_of(word))
        except written.WordError as problem:
            raise Refused(Why.INVALID, f'"{word}": {problem.message}') from problem
    return tuple(found)
