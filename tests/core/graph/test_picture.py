"""A picture has room for so much: what is urgent comes first, what is left out is counted, nothing is made up."""

import random

import pytest
from bench.world import world

from stockade.core import select
from stockade.core.graph.judge import Judge
from stockade.core.graph.merge import Telling, merged, telling
from stockade.core.graph.naming import called, node_id, selector_of
from stockade.core.graph.picture import Ask, Bounds, crowd, picture
from stockade.core.graph.strands import end_of, stranded
from stockade.core.graph.values import Node, NodeKind, total
from stockade.core.graph.zoom import Zoom
from stockade.core.model.flow import FlowKey, StoredFlow, Tally, Verdict
from stockade.core.model.ids import HostId, RuleId
from stockade.core.model.packet import Direction
from stockade.core.model.snapshot import Snapshot

BY = ("d00", "d03")
ALL = Bounds(steps=10**6)


@pytest.fixture(scope="module")
def small() -> Snapshot:
    return world(400, 100)


def flows(snapshot: Snapshot, seed: int, count: int = 300) -> list[StoredFlow]:
    dice = random.Random(seed)
    ends = [end_of(snapshot.workloads[each]) for each in sorted(snapshot.workloads)[:80]]
    found = []
    for _ in range(count):
        one, other = dice.sample(ends, 2)
        verdict = dice.choice((Verdict.ALLOWED, Verdict.ALLOWED, Verdict.DENIED, Verdict.WOULD_DENY))
        key = FlowKey(
            one.address, other.address, 6, dice.choice((80, 443)), Direction.INGRESS, verdict, RuleId("default"),
            None, other.workload,
        )  # fmt: skip
        found.append(StoredFlow(HostId("host"), one, other, key, Tally(1.0, 2.0, dice.randrange(1, 9), 3)))
    return found


@pytest.mark.long
@pytest.mark.parametrize("seed", range(3))
def test_what_fits_is_what_the_graph_says(small: Snapshot, seed: int) -> None:
    traffic = merged(flows(small, seed), telling(small))
    made = picture(traffic, BY, small, Ask(now=Judge(small), draft=Judge(small)), ALL)
    assert made.edges == stranded(traffic, BY, small, small)
    assert made.left.edges == made.left.nodes == made.unassessed == 0
    assert dict(made.nodes) == {**{each: 0 for each, _ in made.nodes}, **crowd(small, BY)}
    assert sum(crowd(small, BY).values()) == len(small.workloads)


@pytest.mark.parametrize("by", [BY, ("d03", "process")])
@pytest.mark.parametrize("seed", range(3))
def test_what_is_taken_from_a_picture_before_is_what_is_seen_now(small: Snapshot, seed: int, by: Zoom) -> None:
    told, stored, before = telling(small), flows(small, seed), None
    for more in (0, 3, 0, 20):
        stored = [*stored[more // 2 :], *flows(small, seed + more, more)]
        traffic = merged(stored, told)
        made = picture(traffic, by, small, Ask(before=before), Bounds(shapes=60))
        assert made == picture(traffic, by, small, Ask(), Bounds(shapes=60))
        assert made.seen == total(each.seen for each in traffic)
        if before is not None and not more:
            known = {(each.source, each.destination): each.observed for each in before.edges}
            assert all(each.observed is known[each.source, each.destination] for each in made.edges)
        before = made


@pytest.mark.parametrize("room", [2, 3, 7, 20, 60])
def test_nothing_is_lost_for_want_of_room(small: Snapshot, room: int) -> None:
    traffic = merged(flows(small, 4), telling(small))
    whole = picture(traffic, BY, small, Ask())
    made = picture(traffic, BY, small, Ask(), Bounds(shapes=room))
    assert len(made.nodes) + len(made.edges) <= room
    assert len(made.edges) + made.left.edges == len(whole.edges)
    assert len(made.nodes) + made.left.nodes == len(whole.nodes)
    kept = sum(each.observed.seen.connections for each in made.edges if each.observed)
    every = sum(each.observed.seen.connections for each in whole.edges if each.observed)
    assert kept + made.left.connections == every
    # An edge that was left out has no more denied than any that a place was found for before it ran out.
    denied = sorted((each.observed.seen.denied for each in whole.edges if each.observed), reverse=True)
    shown = sorted((each.observed.seen.denied for each in made.edges if each.observed), reverse=True)
    assert shown[:1] == denied[:1] if shown else room < 3


def test_what_is_too_much_to_ask_is_not_assessed_and_that_is_counted(small: Snapshot) -> None:
    traffic = merged(flows(small, 5), telling(small))
    made = picture(traffic, BY, small, Ask(now=Judge(small)), Bounds(steps=400))
    without = [each for each in made.edges if each.permitted is None]
    assert without
    assert len(without) == made.unassessed
    assert any(each.permitted is not None for each in made.edges)


@pytest.mark.long
def test_what_is_permitted_and_unused_is_found_where_it_is_asked_for(small: Snapshot) -> None:
    traffic = merged(flows(small, 6, 30), telling(small))
    made = picture(traffic, BY, small, Ask(now=Judge(small), unseen=True), ALL)
    assert made.edges == tuple(
        each
        for each in stranded(traffic, BY, small, unobserved=True)
        if {each.source, each.destination} <= {node for node, _ in made.nodes}
    )
    assert any(each.observed is None for each in made.edges)


@pytest.mark.parametrize("by", [BY, ("d03",), ("workload",), ("d03", "workload")])
def test_the_selector_of_a_node_means_its_workloads(small: Snapshot, by: tuple[str, ...]) -> None:
    for node, count in sorted(crowd(small, by).items())[:40]:
        selector = selector_of(node)
        assert selector is not None
        assert select.parse(called(node).select) == selector
        meant = [each for each in small.workloads.values() if select.matches(selector, each.labels, each.name)]
        assert len(meant) == count


def test_ids_follow_from_what_a_node_is() -> None:
    one = Node(NodeKind.WORKLOADS, (("app", "shop"),))
    assert node_id(one) == node_id(Node(NodeKind.WORKLOADS, (("app", "shop"),))) != node_id(Node(NodeKind.UNKNOWN))
    assert called(Node(NodeKind.NETWORK, (("network", "office"),))).end == "network:office"
    assert not called(Node(NodeKind.NETWORK, (("network", "internet"),))).exact


def test_who_tells_is_the_same_one_by_one(small: Snapshot) -> None:
    one_by_one = Telling(small)
    assert {each for each in small.workloads if each in one_by_one} == telling(small)
    assert None not in one_by_one
    assert "nobody" not in one_by_one
