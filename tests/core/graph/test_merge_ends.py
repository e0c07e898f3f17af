"""What several points tell of the same connections is counted once, compared with connections that are known."""

from random import Random

import msgspec
import pytest
from simulated_points import Connection, connections, places, told

from stockade.core.graph.merge import merged
from stockade.core.graph.values import Traffic
from stockade.core.model.flow import FlowEnd, FlowKey, StoredFlow, Tally, Verdict
from stockade.core.model.ids import Address, HostId, RuleId, WorkloadId
from stockade.core.model.packet import Direction

SEEDS = range(20)


def key_of(each: Traffic | Connection) -> tuple[str, str, int]:
    if isinstance(each, Traffic):
        return each.source.address, each.destination.address, each.port
    return each.source.end.address, each.destination.end.address, each.port


def truth(made: list[Connection]) -> dict[tuple[str, str, int], list[Connection]]:
    found: dict[tuple[str, str, int], list[Connection]] = {}
    for each in made:
        found.setdefault(key_of(each), []).append(each)
    return found


def world(seed: int, *, steady: bool, onlookers: bool = True) -> tuple[list[Connection], tuple[Traffic, ...]]:
    random = Random(seed)
    among = places(random)
    made = list(connections(random, among, 300, steady))
    telling = {each.end.workload for each in among if each.point is not None}
    return made, merged(told(random, made, onlookers), telling)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("steady", [True, False])
def test_connections_and_denials_are_exact(seed: int, steady: bool) -> None:
    made, found = world(seed, steady=steady)
    expected = truth(made)
    assert {key_of(each) for each in found} == set(expected)
    for each in found:
        mine = expected[key_of(each)]
        assert each.seen.connections == len(mine), each
        assert each.seen.denied == sum(one.denied for one in mine), each
        assert each.seen.missing == 0


@pytest.mark.parametrize("seed", SEEDS)
def test_would_be_denied_is_exact_where_nobody_changes_their_mind(seed: int) -> None:
    made, found = world(seed, steady=True)
    expected = truth(made)
    for each in found:
        assert each.seen.would_deny == sum(one.would for one in expected[key_of(each)]), each


@pytest.mark.parametrize("seed", SEEDS)
def test_bytes_are_one_points(seed: int) -> None:
    """Where the destination's point tells, what arrived; else what the source's or the onlooker's conntrack had."""
    made, found = world(seed, steady=False)
    expected = truth(made)
    for each in found:
        mine = expected[key_of(each)]
        arrived = [one for one in mine if not one.denied]
        attempts = (
            [] if mine[0].destination.point and arrived else [one for one in mine if one.said[1] is Verdict.DENIED]
        )
        assert each.seen.bytes_in == sum(one.back for one in arrived)
        assert each.seen.bytes_out == sum(one.out for one in arrived) + 60 * len(attempts)
        assert each.seen.ended == len(arrived) + len(attempts)


def test_order_and_grouping_of_rows_do_not_matter() -> None:
    random = Random(7)
    among = places(random)
    made = list(connections(random, among, 200, False))
    rows = told(random, made, True)
    assert merged(rows) == merged(list(reversed(rows)))


def row(host: str, end: Direction, verdict: Verdict, connections: int, labels: str = "old") -> StoredFlow:
    source = FlowEnd(Address("10.0.0.1"), WorkloadId("a"), (("app", labels),))
    destination = FlowEnd(Address("10.0.0.2"), WorkloadId("b"), (("app", "b"),))
    key = FlowKey(source.address, destination.address, 6, 80, end, verdict, RuleId("p/r"))
    return StoredFlow(HostId(host), source, destination, key, Tally(1.0, 2.0, connections))


def test_a_label_that_changes_between_the_two_ends_counts_nothing_twice() -> None:
    found = merged(
        [row("x", Direction.EGRESS, Verdict.ALLOWED, 5), row("y", Direction.INGRESS, Verdict.ALLOWED, 5, "new")]
    )
    assert [(each.source.labels[0][1], each.seen.connections) for each in found] == [("new", 5), ("old", 0)]


def test_what_left_and_never_arrived_is_missing_and_not_counted() -> None:
    rows = [row("x", Direction.EGRESS, Verdict.ALLOWED, 5), row("y", Direction.INGRESS, Verdict.ALLOWED, 3)]
    (found,) = merged(rows)
    assert (found.seen.connections, found.seen.missing) == (3, 2)
    (none,) = merged(rows[:1], {WorkloadId("b")})
    assert (none.seen.connections, none.seen.missing) == (0, 5)
    (alone,) = merged(rows[:1])
    assert (alone.seen.connections, alone.seen.missing) == (5, 0)


def test_programs_that_one_flow_names_together_are_each_named_once() -> None:
    def named(process: str) -> StoredFlow:
        flow = row("x", Direction.EGRESS, Verdict.ALLOWED, 1)
        return msgspec.structs.replace(flow, key=msgspec.structs.replace(flow.key, process=process))

    (found,) = merged([named("curl, wget"), named("curl"), named("")])
    assert found.processes == ((Direction.EGRESS, "curl"), (Direction.EGRESS, "wget"))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("steady", [True, False])
def test_the_sum_over_a_time_says_what_its_minutes_say(seed: int, steady: bool) -> None:
    random = Random(seed)
    among = places(random)
    flows = told(random, list(connections(random, among, 300, steady)), True)
    telling = {each.end.workload for each in among if each.point is not None}
    apart = [part for each in flows for part in in_parts(random, each)]
    whole: dict[tuple[object, ...], StoredFlow] = {}
    for each in apart:
        key = (each.host, each.source, each.destination, each.key)
        before = whole.get(key)
        whole[key] = msgspec.structs.replace(each, tally=before.tally + each.tally) if before else each
    assert len(whole) < len(apart)
    assert merged(whole.values(), telling) == merged(apart, telling)


def in_parts(random: Random, flow: StoredFlow) -> list[StoredFlow]:
    """Tell of a flow's connections one by one, in times of their own, and of what they carried with the last."""
    tally = flow.tally
    times = sorted(tally.first + random.randrange(1000) for _ in range(max(tally.connections, tally.ended, 1)))
    last = len(times) - 1
    return [
        msgspec.structs.replace(
            flow,
            tally=Tally(
                time, time + 1, int(at < tally.connections), tally.packets if at == last else 0,
                tally.bytes_out if at == last else 0, tally.bytes_in if at == last else 0, int(at < tally.ended), 0.0,
            ),
        )
        for at, time in enumerate(times)
    ]  # fmt: skip
