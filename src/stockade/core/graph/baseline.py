"""What is ordinary: learnt from a stretch of flows, for what comes later to be compared with.

Remembers segments rather than workloads, which come and go: who talks to whom on what, and how widely.
"""

import math
from collections.abc import Container, Iterable, Iterator, Sequence

import msgspec

from stockade.core.graph.merge import merged
from stockade.core.graph.scans import Target, called, failed, target
from stockade.core.graph.values import Traffic
from stockade.core.graph.zoom import Zoom, node_of
from stockade.core.model.flow import FlowEnd, StoredFlow
from stockade.core.model.ids import WorkloadId
from stockade.core.model.net import PORTED

SEGMENT: Zoom = ("app", "role", "env")
"""The dimensions that make a segment, unless others are given."""
EPHEMERAL = 32768
"""Ports from here on are handed out at random: one of them is as ordinary as another."""
WINDOW = 3600.0

Way = tuple[str, str, int, int]
"""(segment, segment, protocol, port): a kind of connection; ports that are handed out at random are one."""
Habit = tuple[str, str, int, int]
"""(segment, whom, protocol, port): whom an end of a segment talks to: a segment, or one address outside."""


class Baseline(msgspec.Struct, frozen=True):
    """What was ordinary between two times (seconds since the epoch), in windows of ``window`` seconds.

    ``widest`` is, for each segment, the most destinations that one of it talked to within one window. A way occurs
    once in a window, however many connections it had there: ``once`` of ``occurrences`` were the only ones of theirs.
    """

    since: float
    until: float
    window: float
    by: Zoom
    segments: frozenset[str] = frozenset()
    ways: frozenset[Way] = frozenset()
    habits: frozenset[Habit] = frozenset()
    answered: frozenset[Target] = frozenset()
    widest: tuple[tuple[str, int], ...] = ()
    once: int = 0
    occurrences: int = 0

    @property
    def unseen(self) -> float:
        """How likely the next occurrence is of a way not seen yet (Good and Turing); 1 where nothing was seen."""
        return self.once / self.occurrences if self.occurrences else 1.0


def learn(
    flows: Sequence[StoredFlow],
    told: Container[WorkloadId] = frozenset(),
    *,
    by: Zoom = SEGMENT,
    window: float = WINDOW,
) -> Baseline | None:
    """Return what is ordinary; None where nothing was recorded."""
    if not flows:
        return None
    since, until = min(each.tally.first for each in flows), max(each.tally.last for each in flows)
    windows = [_passed(some, told) for _, some in slices(flows, since, window)]
    counts: dict[Way, int] = {}
    for each in (one for some in windows for one in {way(each, by) for each in some}):
        counts[each] = counts.get(each, 0) + 1
    traffic = [each for some in windows for each in some]
    return Baseline(
        since=since,
        until=until,
        window=window,
        by=by,
        segments=frozenset(segment(end, by) for each in traffic for end in (each.source, each.destination)),
        ways=frozenset(counts),
        habits=frozenset(habit(each, by) for each in traffic),
        answered=frozenset(map(target, traffic)),
        widest=tuple(sorted(_widest(windows, by).items())),
        once=sum(count == 1 for count in counts.values()),
        occurrences=sum(counts.values()),
    )


def segment(end: FlowEnd, by: Zoom) -> str:
    """Return the segment of an end, or the network that it lies in."""
    return node_of(end, by).text


def way(traffic: Traffic, by: Zoom) -> Way:
    """Return the kind of connection that some traffic is."""
    return (segment(traffic.source, by), segment(traffic.destination, by), traffic.protocol, _port(traffic))


def habit(traffic: Traffic, by: Zoom) -> Habit:
    """Return whom traffic's source talks to."""
    to = traffic.destination
    whom = to.address if to.workload is None else segment(to, by)
    return (segment(traffic.source, by), whom, traffic.protocol, _port(traffic))


def slices(flows: Iterable[StoredFlow], since: float, window: float) -> Iterator[tuple[int, list[StoredFlow]]]:
    """Yield flows by the window that they begin in, in order."""
    found: dict[int, list[StoredFlow]] = {}
    for each in flows:
        found.setdefault(math.floor((each.tally.first - since) / window), []).append(each)
    yield from sorted(found.items())


def breadth(traffic: Iterable[Traffic]) -> dict[str, list[Traffic]]:
    """Return what passed, by its source: one for each destination."""
    found: dict[str, dict[str, Traffic]] = {}
    for each in traffic:
        if each.seen.passed and not failed(each):
            found.setdefault(called(each.source), {}).setdefault(called(each.destination), each)
    return {source: list(destinations.values()) for source, destinations in found.items()}


def _passed(flows: Iterable[StoredFlow], told: Container[WorkloadId]) -> list[Traffic]:
    return [each for each in merged(flows, told) if each.seen.passed and not failed(each)]


def _widest(windows: Iterable[list[Traffic]], by: Zoom) -> dict[str, int]:
    widest: dict[str, int] = {}
    for some in windows:
        for found in breadth(some).values():
            mine = segment(found[0].source, by)
            widest[mine] = max(widest.get(mine, 0), len(found))
    return widest


def _port(traffic: Traffic) -> int:
    return EPHEMERAL if traffic.protocol in PORTED and traffic.port >= EPHEMERAL else traffic.port
