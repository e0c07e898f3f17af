"""The graph and what is suggested of it, on the world of the compile benchmark (``python -m bench.graph``)."""

import gc
import random
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from bench.figures import Figure, percentile, program
from bench.world import world
from stockade.core.graph.anomalies import anomalies
from stockade.core.graph.baseline import learn
from stockade.core.graph.directed import Directed
from stockade.core.graph.judge import Judge
from stockade.core.graph.merge import merged, telling
from stockade.core.graph.picture import Ask, picture
from stockade.core.graph.strands import end_of, stranded
from stockade.core.graph.values import Node, NodeKind
from stockade.core.graph.ways import Ways
from stockade.core.graph.zoom import edges
from stockade.core.model.flow import FlowKey, StoredFlow, Tally, Verdict
from stockade.core.model.ids import HostId, RuleId
from stockade.core.model.packet import Direction
from stockade.core.model.selector import Equal
from stockade.core.model.snapshot import Snapshot
from stockade.core.suggest.replay import replay
from stockade.core.suggest.suggest import suggest

WORKLOADS, WORKLOADS_QUICK = 84_000, 8_000
"""Of which there are some 25,000 identities."""
ROWS, ROWS_QUICK = 300_000, 30_000
NODES, NODES_QUICK = 25_000, 2_500
HOPS = 3

T = TypeVar("T")


def main() -> None:
    """Print every figure as it is measured."""
    program(__doc__, figures)


def figures(*, quick: bool) -> Iterator[Figure]:
    """Yield the figures; none has a target of its own."""
    snapshot = world(size := WORKLOADS_QUICK if quick else WORKLOADS, size // 10)
    yield from _ways(snapshot)
    yield from _directed(NODES_QUICK if quick else NODES)
    yield from _flows(snapshot, ROWS_QUICK if quick else ROWS)


def _ways(snapshot: Snapshot) -> Iterator[Figure]:
    took, ways = _timed(lambda: Ways(snapshot))
    beside = f"{len(snapshot.workloads):,} workloads, {len(snapshot.policy.policies) * 10:,} rules"
    name = f"permitted edges of {len(ways.parties):,} identities and networks"
    yield Figure(f"{name}, made ready", took, "s", compared_with=beside)
    starts = [ways.number[each] for each in random.Random(1).sample(sorted(snapshot.workloads), 12)]
    for back, what in ((False, "blast radius"), (True, "exposure")):
        times = [_timed(lambda at=each, back=back: ways.steps(at, HOPS, back=back))[0] for each in starts]  # type: ignore[misc]
        yield Figure(f"{what} of one over {HOPS} hops, p50", percentile(times, 0.5), "s", compared_with=name)
        yield Figure(f"{what} of one over {HOPS} hops, the slowest of 12", max(times), "s")


def _directed(count: int) -> Iterator[Figure]:
    """A graph in which some circles are, and most lies beyond them."""
    dice = random.Random(2)
    nodes = [Node(NodeKind.WORKLOADS, (("app", f"{number:05}"),)) for number in range(count)]
    after = {
        each: [nodes[min(count - 1, max(0, int(dice.gauss(at + 300, 200))))] for _ in range(20)]
        for at, each in enumerate(nodes)
    }
    graph = Directed(nodes, after)
    beside = f"{count:,} nodes, {sum(map(len, graph.after)):,} edges"
    yield Figure("who reaches whom, all pairs", _timed(graph.closure)[0], "s", compared_with=beside)
    took, _ = _timed(lambda: graph.chokes(nodes[:5], nodes[-5:]))
    yield Figure("choke points between five sources and five targets", took, "s", compared_with=beside)


def _flows(snapshot: Snapshot, count: int) -> Iterator[Figure]:
    rows = list(_rows(snapshot, count))
    told = telling(snapshot)
    took, traffic = _timed(lambda: merged(rows, told))
    yield Figure(
        "rows of flows merged", len(rows) / took, "rows/s", compared_with=f"to {len(traffic):,} ends and ports"
    )
    for by in (("d03",), ("d03", "d06"), ("d03", "d06", "workload")):
        took, found = _timed(lambda by=by: edges(traffic, by, snapshot.policy))  # type: ignore[misc]
        yield Figure(f"edges by {', '.join(by)}", took, "s", compared_with=f"{len(found):,} edges")
    some = traffic[: len(traffic) // 50]
    took, strands = _timed(lambda: stranded(some, ("workload",), snapshot, snapshot))
    yield Figure(
        "three strands by workload", took, "s", compared_with=f"{len(strands):,} edges, {len(some):,} of traffic"
    )
    judge, by = Judge(snapshot), ("d03", "d06")
    took, made = _timed(lambda: picture(traffic, by, snapshot, Ask(now=judge)))
    beside = f"{len(made.nodes):,} nodes, {len(made.edges):,} edges, of which not assessed {made.unassessed:,}"
    yield Figure("a map with what is permitted", took, "s", compared_with=beside)
    took, _ = _timed(lambda: picture(traffic, by, snapshot, Ask(now=judge)))
    yield Figure("the same map once more", took, "s")
    took, _ = _timed(lambda: replay(rows[: count // 10], snapshot, snapshot))
    yield Figure("flows replayed against a draft", count // 10 / took, "rows/s")
    some_rows = rows[: count // 10]
    took, it = _timed(lambda: suggest(some_rows, snapshot, Equal("d05", "v1"), "learnt"))
    beside = f"{len(some_rows):,} rows, {len(it.rules):,} rules, no label in common"
    yield Figure("suggestion for a sixth of all", took, "s", compared_with=beside)
    took, baseline = _timed(lambda: learn(rows[: count // 2], told, by=("d03",)))
    yield Figure("baseline learnt", count // 2 / took, "rows/s")
    took, _ = _timed(lambda: anomalies(rows[count // 2 :], baseline, told))
    yield Figure("anomalies looked for", count // 2 / took, "rows/s")


def _rows(snapshot: Snapshot, count: int) -> Iterator[StoredFlow]:
    """Both ends of connections among some workloads, and what they carried."""
    dice = random.Random(3)
    ends = [end_of(snapshot.workloads[each]) for each in sorted(snapshot.workloads)[: max(100, count // 100)]]
    for _ in range(count // 3):
        one, other = dice.sample(ends, 2)
        at, port = dice.uniform(0, 86400), dice.choice((80, 443, 5432, 6379, 8080))
        tally = Tally(at, at + 5, dice.randrange(1, 9), 9)
        for end in Direction:
            own = (one.workload, None) if end is Direction.EGRESS else (None, other.workload)
            key = FlowKey(one.address, other.address, 6, port, end, Verdict.ALLOWED, RuleId("default"), *own)
            yield StoredFlow(HostId(f"host-{end.value}"), one, other, key, tally)
        key = FlowKey(one.address, other.address, 6, port, Direction.EGRESS, Verdict.CARRIED)
        yield StoredFlow(HostId("host-egress"), one, other, key, Tally(at, at + 5, 0, 20, 3000, 9000, 3, 2.0))


def _timed(made: Callable[[], T]) -> tuple[float, T]:
    gc.collect()
    began = time.process_time()
    result = made()
    return time.process_time() - began, result


if __name__ == "__main__":
    main()
