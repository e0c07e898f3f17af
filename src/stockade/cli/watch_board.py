"""What ``stockade watch`` knows: flows summed to edges with rates, what happened lately, what is selected. Pure.

Time is an argument. Bounded: the edges told of last, the lines told of last.
"""

import enum
import shlex
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from stockade.errors import StockadeError
from stockade.wire.api import BirthView, FindingsReply, HostFinding, StatusReply
from stockade.wire.flows import FlowEndView, FlowView

OVER = 60.0
"""Seconds over which a rate is taken."""
EDGES, TOLD = 1000, 200
"""The most edges and the most lines that are remembered."""
FILTERED = "from", "to", "on", "verdict", "rule", "host", "process", "end", "via", "service"
"""What a filter speaks of, as ``stockade flows`` does."""


class Grouping(str, enum.Enum):
    """What the ends of edges are."""

    ROLE = "role"
    APP = "app"
    WORKLOAD = "workload"
    ADDRESS = "address"


class Order(str, enum.Enum):
    """Which edges come first."""

    RATE = "rate"
    CONNECTIONS = "connections"
    DENIED = "denied"
    LAST = "last"
    NAME = "name"


class EdgeKey(NamedTuple):
    """An edge: two ends as they are grouped, and the port."""

    source: str
    destination: str
    on: str


class Edge(msgspec.Struct):
    """What was told of one edge. Connections are counted where they arrive, and at their source where nobody tells."""

    key: EdgeKey
    sample: FlowView
    arrived: int = 0
    left: int = 0
    refused: int = 0
    """Denied at their source: these never arrive."""
    denied: int = 0
    would_deny: int = 0
    last: float = 0.0
    lately: deque[tuple[float, int]] = msgspec.field(default_factory=deque)

    @property
    def connections(self) -> int:
        """Each once."""
        return self.arrived + self.refused if self.arrived else max(self.left, self.refused)

    @property
    def verdict(self) -> str:
        """The worst that became of any."""
        return "denied" if self.denied else "would be denied" if self.would_deny else "allowed"

    def take(self, flow: FlowView, now: float) -> None:
        """Add a flow."""
        before = self.connections
        count, verdict = flow.connections, flow.verdict.value
        self.last = max(self.last, flow.last)
        if verdict == "carried":
            return
        self.sample = flow
        if flow.end.value == "ingress":
            self.arrived += count
        else:
            self.left += count
            self.refused += count if verdict == "denied" else 0
        self.denied += count if verdict == "denied" else 0
        self.would_deny += count if verdict == "would be denied" else 0
        if more := self.connections - before:
            self.lately.append((now, more))

    def rate(self, now: float) -> float:
        """Connections a second, over the last minute."""
        while self.lately and self.lately[0][0] <= now - OVER:
            self.lately.popleft()
        return sum(count for _, count in self.lately) / OVER


class Told(msgspec.Struct, frozen=True):
    """Something that happened: a birth, a finding, or what came of an attempt to follow."""

    at: float
    what: str
    text: str
    bad: bool = False


class Mode(str, enum.Enum):
    """What is on the screen."""

    BOARD = "board"
    FILTER = "filter"
    """A filter is being written below the board."""
    DETAIL = "detail"
    """Something is explained."""


class Wish(str, enum.Enum):
    """What a key asks for that the board cannot do itself."""

    QUIT = "quit"
    FOLLOW = "follow"
    """Follow what the filter says now."""
    EXPLAIN = "explain"


class Board:
    """Everything that is shown. ``now`` is in seconds of any clock that goes on."""

    def __init__(self, which: Mapping[str, str]) -> None:
        self.which = dict(which)
        self.by, self.order, self.mode = Grouping.ROLE, Order.RATE, Mode.BOARD
        self.edges: dict[EdgeKey, Edge] = {}
        self.flows: deque[FlowView] = deque(maxlen=TOLD)
        self.told: deque[Told] = deque(maxlen=TOLD)
        self.status: StatusReply | None = None
        self.findings: dict[tuple[str, str, str], HostFinding] | None = None
        self.troubles: dict[str, str] = {}
        """What cannot be followed now, so that what is shown of it may be old, and why."""
        self.writing = ""
        """The filter as it is being written,"""
        self.mistake = ""
        """and what was wrong with the last one."""
        self.detail: Sequence[object] = ()
        self.scroll = 0
        self.paused_at: float | None = None
        self.missed = 0
        """Flows that came while the board stood still."""
        self.chosen: EdgeKey | None = None
        self._recent: deque[tuple[float, FlowView]] = deque(maxlen=20 * TOLD)

    # What comes

    @property
    def trouble(self) -> str:
        """Why some of what is shown may be old; empty where none of it is."""
        return "; ".join(sorted(set(self.troubles.values())))

    def take_flow(self, flow: FlowView, now: float) -> None:
        """A flow was told of."""
        if self.paused_at is not None:
            self.missed += 1
            return
        self._recent.append((now, flow))
        if flow.verdict.value != "carried":
            self.flows.append(flow)
        self._add(flow, now)

    def _add(self, flow: FlowView, now: float) -> None:
        key = EdgeKey(end_text(flow.source, self.by), end_text(flow.destination, self.by), flow.on)
        edge = self.edges.pop(key, None) or Edge(key, flow)
        edge.take(flow, now)
        self.edges[key] = edge
        while len(self.edges) > EDGES:
            del self.edges[next(iter(self.edges))]

    def take_birth(self, birth: BirthView, now: float) -> None:
        """A birth was told of, or its record was completed."""
        leak = f"leaked for {birth.leak:.3f} s" if birth.leak else "no leak" if birth.leak is not None else "…"
        labels = " ".join(f"{each.key}={each.value}" for each in birth.labels) or (
            "held" if birth.held else "no labels"
        )
        self.told.append(Told(now, "birth", f"{birth.name} on {birth.host}: {labels}, {leak}", bool(birth.leak)))

    def take_status(self, status: StatusReply, findings: FindingsReply, now: float) -> None:
        """The installation was looked at; findings that are new, or gone, are told of."""
        self.status = status
        found = {(str(each.host), str(each.check), each.object): each for each in findings.findings}
        for key in sorted(found.keys() - (self.findings if self.findings is not None else found).keys()):
            each = found[key]
            self.told.append(
                Told(now, "finding", f"{each.severity.value} {each.check} {each.object}: {each.seen}", True)
            )
        accepted = {(str(each.host), str(each.check), each.object) for each in findings.accepted}
        for key in sorted((self.findings or {}).keys() - found.keys()):
            self.told.append(Told(now, "accepted" if key in accepted else "cleared", f"{key[1]} {key[2]}"))
        self.findings = found

    # What is shown

    def shown(self, now: float) -> list[Edge]:
        """Return the edges in order."""
        at = self.paused_at if self.paused_at is not None else now
        return sorted(self.edges.values(), key=_orders(at)[self.order])

    def selected(self, now: float) -> Edge | None:
        """Return the edge that keys speak of."""
        shown = self.shown(now)
        return next((each for each in shown if each.key == self.chosen), shown[0] if shown else None)

    # Keys

    def press(self, key: str, now: float) -> Wish | None:
        """Do what a key says; return what only somebody else can do."""
        if self.mode is Mode.FILTER:
            return self._write(key)
        if self.mode is Mode.DETAIL:
            return self._read(key)
        action: Callable[[float], Wish | None] | None = self._actions().get(key)
        return action(now) if action else None

    def _actions(self) -> dict[str, Callable[[float], Wish | None]]:
        return {
            "q": lambda _: Wish.QUIT,
            "f": self._begin_filter, "/": self._begin_filter,
            "p": self._pause, " ": self._pause,
            "g": self._group, "s": self._sort,
            "j": lambda now: self._move(1, now), "down": lambda now: self._move(1, now),
            "k": lambda now: self._move(-1, now), "up": lambda now: self._move(-1, now),
            "enter": lambda _: Wish.EXPLAIN, "e": lambda _: Wish.EXPLAIN,
        }  # fmt: skip

    def _begin_filter(self, _: float) -> None:
        self.mode, self.mistake = Mode.FILTER, ""
        self.writing = filter_text(self.which)

    def _pause(self, now: float) -> None:
        self.paused_at, self.missed = (now, 0) if self.paused_at is None else (None, 0)

    def _group(self, now: float) -> None:
        """Group by the next dimension: what was told lately is summed anew, what is older is let go."""
        self.by = _next(self.by)
        self.edges, self.chosen = {}, None
        for at, flow in self._recent:
            if at > now - OVER:
                self._add(flow, at)

    def _sort(self, _: float) -> None:
        self.order = _next(self.order)

    def _move(self, by: int, now: float) -> None:
        keys = [each.key for each in self.shown(now)]
        if keys:
            at = keys.index(self.chosen) if self.chosen in keys else 0
            self.chosen = keys[min(max(at + by, 0), len(keys) - 1)]

    def _write(self, key: str) -> Wish | None:
        if key == "escape":
            self.mode, self.mistake = Mode.BOARD, ""
        elif key == "enter":
            return self._written()
        elif key == "backspace":
            self.writing = self.writing[:-1]
        elif key == "clear":
            self.writing = ""
        elif len(key) == 1:
            self.writing += key
        return None

    def _written(self) -> Wish | None:
        try:
            self.which = read_filter(self.writing)
        except StockadeError as problem:
            self.mistake = problem.message
            return None
        self.mode, self.mistake, self.chosen = Mode.BOARD, "", None
        self.edges, self.paused_at = {}, None
        self.flows.clear()
        self._recent.clear()
        return Wish.FOLLOW

    def _read(self, key: str) -> Wish | None:
        if key in ("q", "escape", "enter", "e"):
            self.mode, self.scroll = Mode.BOARD, 0
        elif key in ("j", "down", "k", "up"):
            self.scroll = max(0, min(self.scroll + (1 if key in ("j", "down") else -1), len(self.detail) - 1))
        return None

    def refuse(self, why: str) -> None:
        """The filter means nothing to the server: it may be written anew."""
        self.mode, self.mistake, self.writing = Mode.FILTER, why, filter_text(self.which)

    def explain(self, lines: Sequence[object]) -> None:
        """Show what was asked for."""
        self.mode, self.detail, self.scroll = Mode.DETAIL, lines, 0


def end_text(end: FlowEndView, by: Grouping) -> str:
    """Return what an end is called, grouped so."""
    labels = dict(end.labels)
    match by:
        case Grouping.ADDRESS:
            return str(end.address)
        case Grouping.WORKLOAD:
            return end.name
        case _ if end.workload is None:
            return end.network or str(end.address)
        case Grouping.APP:
            return labels.get("app", end.name)
    told = [labels[each] for each in ("app", "role") if each in labels]
    return "/".join(told) or end.name


def filter_text(which: Mapping[str, str]) -> str:
    """Return a filter as it is written, and can be typed back."""
    return " ".join(f"--{name} {shlex.quote(which[name])}" for name in FILTERED if which.get(name))


def read_filter(text: str) -> dict[str, str]:
    """Return what a written filter says: the options of ``stockade flows``, the dashes may be left out."""
    remedy = f"{', '.join(FILTERED)}, each with what it must be: from 'role = web' verdict denied"
    try:
        words = shlex.split(text)
    except ValueError as problem:
        raise StockadeError(f"the filter does not end: {problem}", remedy=remedy) from None
    found: dict[str, str] = {}
    for name, value in zip(words[::2], [*words[1::2], ""], strict=False):
        if name.lstrip("-") not in FILTERED:
            raise StockadeError(f'"{name}" is nothing to filter by: {remedy}', remedy=remedy)
        if not value:
            raise StockadeError(f'"{name}" wants to be told what it must be', remedy=remedy)
        found[name.lstrip("-")] = value
    return found


def _next(each: enum.Enum):  # type: ignore[no-untyped-def]
    every = list(type(each))
    return every[(every.index(each) + 1) % len(every)]


def _orders(now: float) -> dict[Order, Callable[[Edge], tuple[object, ...]]]:
    return {
        Order.RATE: lambda each: (-each.rate(now), -each.connections, each.key),
        Order.CONNECTIONS: lambda each: (-each.connections, each.key),
        Order.DENIED: lambda each: (-each.denied, -each.would_deny, -each.connections, each.key),
        Order.LAST: lambda each: (-each.last, each.key),
        Order.NAME: lambda each: (each.key,),
    }
