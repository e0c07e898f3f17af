"""A window of flows against a baseline → what a person would want to hear of, with evidence. Quiet by default.

Each kind has limits that ordinary traffic stays within: who lost what it always talks to is no scanner, what was
regular before is no beacon, a replica that is new is no new edge. What cannot be compared is said not to be looked
for. Deterministic: the same flows in any order say the same.
"""

from collections import Counter
from collections.abc import Container, Iterable, Iterator, Sequence
from itertools import pairwise
from statistics import median

import msgspec

from stockade.core.graph.anomaly import Anomaly, AnomalyKind, NotLookedFor
from stockade.core.graph.baseline import SEGMENT, Baseline, Way, breadth, habit, segment, slices, way
from stockade.core.graph.merge import merged
from stockade.core.graph.scans import ScanLimits, Target, called, failed, named, scans, target, target_of
from stockade.core.graph.values import Traffic
from stockade.core.graph.zoom import port_text
from stockade.core.model.finding import Finding, Severity
from stockade.core.model.flow import StoredFlow, Verdict
from stockade.core.model.ids import CheckId, WorkloadId
from stockade.core.model.packet import Direction


class Limits(msgspec.Struct, frozen=True):
    """From where on something is told of."""

    scan: ScanLimits = ScanLimits()
    unseen: float = 0.02
    """A baseline that leaves more than this unseen is too short to call anything new."""
    destinations: int = 20
    """Fan-out: so many destinations in one window at least,"""
    wider: float = 3.0
    """and so many times the most that anyone of its segment had."""
    beats: int = 8
    """Beacon: so many intervals at least,"""
    shortest: float = 2.0
    """none shorter than this many seconds at the median,"""
    jitter: float = 0.1
    """the median deviation from the median interval at most this share of it."""
    horizon: float = 3600.0
    """Movement: seconds from one step to the next at most."""


class Found(msgspec.Struct, frozen=True):
    """Anomalies, by kind and time; and what was not looked for."""

    anomalies: tuple[Anomaly, ...] = ()
    not_looked_for: tuple[NotLookedFor, ...] = ()


def anomalies(
    flows: Sequence[StoredFlow],
    baseline: Baseline | None,
    told: Container[WorkloadId] = frozenset(),
    limits: Limits | None = None,
) -> Found:
    """Compare a window of flows with what was ordinary before. Without a baseline only scans can be looked for."""
    limits = limits or Limits()
    traffic = merged(flows, told)
    found = list(scans(traffic, baseline.answered if baseline else frozenset(), limits.scan))
    if baseline is None:
        return Found(tuple(found), _not_looked_for("nothing was recorded before", *COMPARED))
    found += _fan_outs(flows, baseline, told, limits)
    found += _beacons(flows, traffic, baseline, limits)
    if baseline.unseen > limits.unseen:
        why = f"too little was seen before: one occurrence in {1 / baseline.unseen:.0f} is of a kind not met yet"
        return Found(_ordered(found), _not_looked_for(why, AnomalyKind.FIRST_SEEN, AnomalyKind.MOVEMENT))
    probes = {target(each) for scan in found if scan.kind is AnomalyKind.SCAN for each in scan.traffic}
    fresh = [each for each in traffic if _is_new(each, baseline)]
    found += _first_seen([each for each in fresh if target(each) not in probes], baseline)
    found += _movements([each for each in fresh if _among_old(each, baseline)], limits)
    return Found(_ordered(found))


COMPARED = (AnomalyKind.BEACON, AnomalyKind.FAN_OUT, AnomalyKind.FIRST_SEEN, AnomalyKind.MOVEMENT)


def _not_looked_for(why: str, *kinds: AnomalyKind) -> tuple[NotLookedFor, ...]:
    return tuple(NotLookedFor(each, why) for each in kinds)


def _ordered(found: Iterable[Anomaly]) -> tuple[Anomaly, ...]:
    return tuple(sorted(found, key=lambda each: (each.kind.value, each.since, each.subject, each.text)))


# First-seen edges


def _is_new(traffic: Traffic, baseline: Baseline) -> bool:
    """Tell whether something passed on a way that was never seen, to or from whoever was there before."""
    if not traffic.seen.passed or failed(traffic):
        return False
    one, other, *_ = kind = way(traffic, baseline.by)
    return one != other and kind not in baseline.ways and bool({one, other} & _workloads(traffic, baseline))


def _among_old(traffic: Traffic, baseline: Baseline) -> bool:
    """Tell whether each end that is a workload is of a segment that was there before: a release is no attack."""
    inside = (each for each in (traffic.source, traffic.destination) if each.workload is not None)
    return all(segment(each, baseline.by) in baseline.segments for each in inside)


def _workloads(traffic: Traffic, baseline: Baseline) -> set[str]:
    """Return the segments at its ends that are of the inventory and were there before."""
    inside = (each for each in (traffic.source, traffic.destination) if each.workload is not None)
    return {segment(each, baseline.by) for each in inside} & baseline.segments


def _first_seen(fresh: Iterable[Traffic], baseline: Baseline) -> Iterator[Anomaly]:
    """Yield one for each way."""
    ways: dict[Way, list[Traffic]] = {}
    for each in fresh:
        ways.setdefault(way(each, baseline.by), []).append(each)
    for (one, other, protocol, port), found in sorted(ways.items()):
        connections = sum(each.seen.passed for each in found)
        text = f"{one} → {other} on {port_text(protocol, port)}, not seen in {_span(baseline)} before"
        numbers = (
            ("connections", connections),
            ("pairs of ends", len(found)),
            ("occurrences before", baseline.occurrences),
            ("share of unseen kinds expected", baseline.unseen),
        )
        yield _anomaly(AnomalyKind.FIRST_SEEN, f"{one} → {other}", text, found, numbers)


def _span(baseline: Baseline) -> str:
    return f"{(baseline.until - baseline.since) / 3600:.0f} h"


# Fan-out


def _fan_outs(
    flows: Sequence[StoredFlow], baseline: Baseline, told: Container[WorkloadId], limits: Limits
) -> Iterator[Anomaly]:
    widest = dict(baseline.widest)
    for _, some in slices(flows, baseline.until, baseline.window):
        for source, found in sorted(breadth(merged(some, told)).items()):
            mine = segment(found[0].source, baseline.by)
            before = widest.get(mine)
            if before is None or found[0].source.workload is None:
                continue  # a segment that is new has no habits, and who comes from outside is many
            if len(found) >= max(limits.destinations, limits.wider * before):
                text = f"{named(found[0].source)} talked to {len(found)} destinations; at most {before} were usual"
                numbers = (("destinations", len(found)), ("most before", before), ("seconds", baseline.window))
                yield _anomaly(AnomalyKind.FAN_OUT, source, text, found, numbers)


# Beacons


def uncounted(
    flows: Sequence[StoredFlow],
    baseline: Baseline | None,
    told: Container[WorkloadId] = frozenset(),
    limits: Limits | None = None,
) -> tuple[Traffic, ...]:
    """Return what could be a beacon were it known when each connection began: it is told of several at once.

    Sorted. Whoever has these flows singly puts them in the place of those given, before looking for anomalies.
    """
    limits = limits or Limits()
    if baseline is None:
        return ()
    ends = [each for each in flows if each.key.verdict is not Verdict.CARRIED and each.tally.connections]
    rows = Counter((target_of(each), each.key.end) for each in ends)
    most = _span_of(flows) / limits.shortest + 1
    return tuple(
        each
        for each in merged(flows, told)
        if limits.beats < each.seen.connections <= most
        and _may_beat(each, baseline)
        and each.seen.connections > SINGLY * max(rows[target(each), end] for end in Direction)
    )


SINGLY = 1.1
"""Connections a row at most, where rows are to say when each began."""


def _span_of(flows: Iterable[StoredFlow]) -> float:
    times = [(each.tally.first, each.tally.last) for each in flows]
    return max((last for _, last in times), default=0.0) - min((first for first, _ in times), default=0.0)


def _may_beat(traffic: Traffic, baseline: Baseline) -> bool:
    """Tell whether it is from a workload, to whom its like did not talk before.

    Who watches everybody begins to watch what is new; that it is new is told of as a first-seen edge.
    """
    known = habit(traffic, baseline.by) in baseline.habits
    return traffic.source.workload is not None and not known and not failed(traffic) and _among_old(traffic, baseline)


def _beacons(
    flows: Iterable[StoredFlow], traffic: Iterable[Traffic], baseline: Baseline, limits: Limits
) -> Iterator[Anomaly]:
    beats = _beats(flows)
    for each in traffic:
        if not _may_beat(each, baseline):
            continue
        times = beats.get(target(each), [])
        gaps = [later - sooner for sooner, later in pairwise(times)]
        if len(gaps) < limits.beats:
            continue
        middle = median(gaps)
        deviation = median([abs(gap - middle) for gap in gaps])
        if middle < limits.shortest or deviation > limits.jitter * middle:
            continue
        text = (
            f"{named(each.source)} met {named(each.destination)} {port_text(each.protocol, each.port)} "
            f"{len(times)} times, every {middle:.1f} s"
        )
        numbers = (("intervals", len(gaps)), ("median seconds", middle), ("median deviation", deviation))
        yield _anomaly(AnomalyKind.BEACON, called(each.source), text, [each], numbers)


def _beats(flows: Iterable[StoredFlow]) -> dict[Target, list[float]]:
    """Return when connections began, by target, where one end told of them singly enough to know."""
    rows: dict[Target, dict[Direction, list[StoredFlow]]] = {}
    for each in flows:
        if each.key.verdict is not Verdict.CARRIED and each.tally.connections:
            rows.setdefault(target_of(each), {}).setdefault(each.key.end, []).append(each)
    found = {}
    for key, ends in rows.items():
        mine = ends.get(Direction.EGRESS) or ends[Direction.INGRESS]
        if sum(each.tally.connections for each in mine) <= SINGLY * len(mine):
            found[key] = sorted(each.tally.first for each in mine)
    return found


# Movement


def _movements(fresh: Iterable[Traffic], limits: Limits) -> Iterator[Anomaly]:
    """Yield the longest chain from each first step; a step that continues another is none."""
    steps = sorted((each for each in fresh if each.destination.workload is not None), key=_began)
    onward = _onward(steps, limits)
    longest: dict[int, list[int]] = {}
    for at in reversed(range(len(steps))):
        tails = [longest[each] for each in onward[at]]
        longest[at] = [at, *max(tails, key=lambda each: (len(each), [-number for number in each]), default=[])]
    continued = {later for after in onward for later in after}
    for at, chain in sorted(longest.items()):
        if at not in continued and len(chain) > 1:
            found = [steps[each] for each in chain]
            text = " → ".join([named(found[0].source), *(named(each.destination) for each in found)])
            numbers = (("steps", len(found)), ("seconds", found[-1].seen.first - found[0].seen.first))
            yield _anomaly(AnomalyKind.MOVEMENT, called(found[0].source), text, found, numbers, in_order=True)


def _onward(steps: Sequence[Traffic], limits: Limits) -> list[list[int]]:
    """Return the later steps that each may have led to."""
    begun: dict[str, list[int]] = {}
    for at, each in enumerate(steps):
        begun.setdefault(called(each.source), []).append(at)
    return [
        [
            later
            for later in begun.get(called(one.destination), ())
            if later > at and _follows(one, steps[later], limits)
        ]
        for at, one in enumerate(steps)
    ]


def _began(traffic: Traffic) -> tuple[float, Target]:
    return traffic.seen.first, target(traffic)


def _follows(one: Traffic, other: Traffic, limits: Limits) -> bool:
    """Tell whether whoever was reached went to somebody else soon after."""
    back = called(other.destination) in (called(one.source), called(one.destination))
    return not back and 0 <= other.seen.first - one.seen.first <= limits.horizon


def _anomaly(
    kind: AnomalyKind,
    subject: str,
    text: str,
    found: Sequence[Traffic],
    numbers: tuple[tuple[str, float], ...],
    *,
    in_order: bool = False,
) -> Anomaly:
    since, until = min(each.seen.first for each in found), max(each.seen.last for each in found)
    evidence = tuple(found) if in_order else tuple(sorted(found, key=target))
    return Anomaly(kind, subject, text, since, until, numbers, evidence)


# Findings

CHECKS = {
    AnomalyKind.FIRST_SEEN: (CheckId("first-seen-edge"), Severity.LOW),
    AnomalyKind.SCAN: (CheckId("scan"), Severity.MEDIUM),
    AnomalyKind.FAN_OUT: (CheckId("fan-out"), Severity.LOW),
    AnomalyKind.BEACON: (CheckId("beacon"), Severity.MEDIUM),
    AnomalyKind.MOVEMENT: (CheckId("movement"), Severity.HIGH),
}
REMEDIES = {
    AnomalyKind.FIRST_SEEN: "if it is meant, allow it; if not, a policy in mode full for its destination denies it",
    AnomalyKind.SCAN: "look at what its source runs; quarantine it if nobody can say",
    AnomalyKind.FAN_OUT: "look at what its source runs and what it asked of so many",
    AnomalyKind.BEACON: "find out whose destination it is and which program asks for it",
    AnomalyKind.MOVEMENT: "quarantine the last reached first, then look at the programs at each step",
}


def finding(anomaly: Anomaly) -> Finding:
    """Return an anomaly as a finding."""
    check, severity = CHECKS[anomaly.kind]
    remedy, about = REMEDIES[anomaly.kind], tuple(sorted(set(map(_ABOUT[anomaly.kind], anomaly.traffic))))
    return Finding(check, anomaly.subject, severity, anomaly.text, remedy, anomaly.since, about)


def _kind(each: Traffic) -> str:
    """Return from which segment to which, on what: who comes and goes within them adds nothing."""
    one, other, protocol, port = way(each, SEGMENT)
    return f"{one} → {other} {port_text(protocol, port)}"


def _ends(each: Traffic) -> str:
    return f"{called(each.source)} → {called(each.destination)} {port_text(each.protocol, each.port)}"


def _tried(each: Traffic) -> str:
    """Return whom a scan met, and on what it was answered: what it tries in vain is another each time."""
    return f"{called(each.destination)}" if failed(each) else _ends(each)


_ABOUT = {
    AnomalyKind.FIRST_SEEN: _kind,
    AnomalyKind.SCAN: _tried,
    AnomalyKind.FAN_OUT: _kind,
    AnomalyKind.BEACON: _ends,
    AnomalyKind.MOVEMENT: _ends,
}
