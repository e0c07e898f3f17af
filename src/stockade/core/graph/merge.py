"""Stored flows → traffic: what several points told of the same connections, counted once.

A connection is told of at each end that a point judges. Of a (source, destination, protocol, port):

* where the destination's end is judged, the connections are those that arrived there and those that were denied at
  their source's end, which never arrived; what passed the source's end is not counted again. Elsewhere they are what
  the source's end told.
* what was carried is told by every point on the way: one counts, the destination's, else the source's, else the first
  by name. The destination's, since it knows of what arrived and not of attempts that were denied before.
* a connection that one end would have denied is one that would be denied, whatever the other end says. Two ends do
  not say of which connections they speak: where either changed its mind in the meantime, as many count as the end that
  said it more often told of. Connections, denials and bytes do not depend on that.

Exact as long as both ends are stored as the same two (address, workload): labels may differ and change.
"""

from collections.abc import Container, Iterable, Iterator

from stockade.core.compile.population import mode_of
from stockade.core.compile.rulebook import Rulebook, rulebook
from stockade.core.graph.values import Said, Seen, Traffic
from stockade.core.model.flow import TOGETHER, FlowEnd, StoredFlow, Tally, Verdict, Via
from stockade.core.model.ids import HostId, RuleId, WorkloadId
from stockade.core.model.inventory import Workload
from stockade.core.model.packet import Direction
from stockade.core.model.policy import Mode
from stockade.core.model.snapshot import Snapshot
from stockade.core.plan.parties import judged

Between = tuple[str, str, str, str, int, int]
"""Two ends, each by address and workload, and a protocol with a port."""
Ends = tuple[FlowEnd, FlowEnd]


def telling(snapshot: Snapshot) -> frozenset[WorkloadId]:
    """Return the workloads at whose ends some point judges and tells of what it judged: all but idle ones."""
    book = rulebook(snapshot.policy, snapshot.lapsed)
    return frozenset(id_ for id_, each in snapshot.workloads.items() if _tells(snapshot, book, each))


class Telling(Container[WorkloadId]):
    """The same, of whom each is looked at when it is asked about: for a few flows among many workloads."""

    def __init__(self, snapshot: Snapshot, book: Rulebook | None = None) -> None:
        self._snapshot, self._book = snapshot, book or rulebook(snapshot.policy, snapshot.lapsed)
        self._known: dict[object, bool] = {}

    def __contains__(self, id_: object) -> bool:
        if id_ not in self._known:
            each = self._snapshot.workloads.get(WorkloadId(str(id_))) if id_ is not None else None
            self._known[id_] = each is not None and _tells(self._snapshot, self._book, each)
        return self._known[id_]


def _tells(snapshot: Snapshot, book: Rulebook, each: Workload) -> bool:
    return each.known and judged(snapshot.hosts, each) and mode_of(book, each.labels, each.name) is not Mode.IDLE


def merged(flows: Iterable[StoredFlow], told: Container[WorkloadId] = frozenset()) -> tuple[Traffic, ...]:
    """Merge flows by their ends and port, sorted. ``told``: the workloads at whose ends a point tells.

    An end of which some flow was told counts among those in any case.
    """
    groups: dict[Between, list[StoredFlow]] = {}
    for flow in flows:
        groups.setdefault(_place(flow.source, flow.destination, flow.key.protocol, flow.key.port), []).append(flow)
    return tuple(traffic for key in sorted(groups) for traffic in _group(groups[key], told))


def between(traffic: Traffic) -> Between:
    """Return what some traffic is merged by."""
    return _place(traffic.source, traffic.destination, traffic.protocol, traffic.port)


def _place(one: FlowEnd, other: FlowEnd, protocol: int, port: int) -> Between:
    return (one.address, one.workload or "", other.address, other.workload or "", protocol, port)


def _group(flows: list[StoredFlow], told: Container[WorkloadId]) -> Iterator[Traffic]:
    """Merge what was told of one pair of ends on one port; the labels of either may have changed in the meantime."""
    arriving, leaving, carried = _sorted_out(flows)
    sums: dict[Ends, _Sum] = {}
    for flow in flows:
        ends = (flow.source, flow.destination)
        if (one := sums.get(ends)) is None:
            one = sums[ends] = _Sum()
        one.hear(flow)
    ends_there = bool(arriving) or flows[0].destination.workload in told
    for flow in arriving if ends_there else leaving:
        sums[flow.source, flow.destination].count(flow.key.verdict, flow.tally.connections)
    if ends_there:
        for flow in leaving:
            if flow.key.verdict is Verdict.DENIED:
                sums[flow.source, flow.destination].count(Verdict.DENIED, flow.tally.connections)
        _join(sums, leaving, arriving)
    for flow in _of_one_point(carried):
        sums[flow.source, flow.destination].carry(flow.tally)
    for ends in sorted(sums, key=_order):
        yield sums[ends].traffic(ends, flows[0].key.protocol, flows[0].key.port)


def _sorted_out(flows: list[StoredFlow]) -> tuple[list[StoredFlow], list[StoredFlow], list[StoredFlow]]:
    carried = [each for each in flows if each.key.verdict is Verdict.CARRIED]
    judged_ones = [each for each in flows if each.key.verdict is not Verdict.CARRIED]
    arriving = [each for each in judged_ones if each.key.end is Direction.INGRESS]
    leaving = [each for each in judged_ones if each.key.end is Direction.EGRESS]
    return arriving, leaving, carried


def _join(sums: "dict[Ends, _Sum]", leaving: list[StoredFlow], arriving: list[StoredFlow]) -> None:
    """Take what the source's end says of what arrived: that it would have been denied, and how much is missing."""
    passed, there = _count(leaving, Verdict.ALLOWED, Verdict.WOULD_DENY), _count(arriving, *JUDGED)
    more = _count(leaving, Verdict.WOULD_DENY) - _count(arriving, Verdict.WOULD_DENY)
    for ends in sorted(sums, key=_order):
        more -= sums[ends].would_deny_more(more)
    if leaving and passed > there:
        last = max(leaving, key=lambda each: (each.tally.last, _order((each.source, each.destination))))
        sums[last.source, last.destination].missing = passed - there


JUDGED = (Verdict.ALLOWED, Verdict.WOULD_DENY, Verdict.DENIED)


def _count(flows: list[StoredFlow], *verdicts: Verdict) -> int:
    return sum(each.tally.connections for each in flows if each.key.verdict in verdicts)


def _of_one_point(carried: list[StoredFlow]) -> list[StoredFlow]:
    if not carried:
        return []
    _, host = min((_rank(each), each.host) for each in carried)
    return [each for each in carried if each.host == host]


def _rank(flow: StoredFlow) -> int:
    if flow.key.destination_workload is not None:
        return 0
    return 1 if flow.key.source_workload is not None else 2


def _order(ends: Ends) -> tuple[object, ...]:
    return tuple((each.address, each.workload or "", each.labels, each.network, each.told) for each in ends)


class _Sum:
    """Adds up what was told of two ends with the same labels on one port."""

    def __init__(self) -> None:
        self.first, self.last = float("inf"), float("-inf")
        self.counts = dict.fromkeys(JUDGED, 0)
        self.missing = self.ended = self.packets = self.bytes_out = self.bytes_in = 0
        self.seconds = 0.0
        self.said: dict[tuple[Direction, Verdict, RuleId], int] = {}
        self.processes: set[tuple[Direction, str]] = set()
        self.via: set[Via] = set()
        self.services: set[str] = set()
        self.hosts: set[HostId] = set()

    def hear(self, flow: StoredFlow) -> None:
        """Note who told of what and when; count nothing."""
        key, tally = flow.key, flow.tally
        self.first, self.last = min(self.first, tally.first), max(self.last, tally.last)
        self.hosts.add(flow.host)
        self.via.add(key.via)
        if key.verdict is not Verdict.CARRIED:
            by = (key.end, key.verdict, key.rule)
            self.said[by] = self.said.get(by, 0) + tally.connections
        if key.process:
            self.processes |= {(key.end, each) for each in key.process.split(TOGETHER)}
        if key.service:
            self.services.add(key.service)

    def count(self, verdict: Verdict, connections: int) -> None:
        self.counts[verdict] += connections

    def would_deny_more(self, connections: int) -> int:
        """Turn some of those that were allowed into such as would be denied; return how many."""
        turned = max(0, min(connections, self.counts[Verdict.ALLOWED]))
        self.counts[Verdict.ALLOWED] -= turned
        self.counts[Verdict.WOULD_DENY] += turned
        return turned

    def carry(self, tally: Tally) -> None:
        self.ended += tally.ended
        self.packets += tally.packets
        self.bytes_out += tally.bytes_out
        self.bytes_in += tally.bytes_in
        self.seconds += tally.seconds

    def traffic(self, ends: Ends, protocol: int, port: int) -> Traffic:
        seen = Seen(
            self.first,
            self.last,
            allowed=self.counts[Verdict.ALLOWED],
            denied=self.counts[Verdict.DENIED],
            would_deny=self.counts[Verdict.WOULD_DENY],
            missing=self.missing,
            ended=self.ended,
            packets=self.packets,
            bytes_out=self.bytes_out,
            bytes_in=self.bytes_in,
            seconds=self.seconds,
        )
        return Traffic(
            *ends,
            protocol,
            port,
            seen,
            said=tuple(sorted(Said(*by, connections) for by, connections in self.said.items())),
            processes=tuple(sorted(self.processes)),
            via=tuple(sorted(self.via)),
            services=tuple(sorted(self.services)),
            hosts=tuple(sorted(self.hosts)),
        )
