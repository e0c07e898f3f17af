"""Reach, paths, closure and chokes, against the plainest way to compute each."""

from itertools import pairwise
from random import Random

import pytest

from stockade.core.graph.directed import Choke, Directed
from stockade.core.graph.values import Node, NodeKind

SEEDS = range(60)
Edges = dict[Node, set[Node]]


def node(name: object) -> Node:
    return Node(NodeKind.WORKLOADS, (("app", f"{name}"),))


def random_edges(random: Random, count: int) -> Edges:
    nodes = [node(number) for number in range(count)]
    density = random.choice((0.08, 0.15, 0.3))
    return {one: {other for other in nodes if other != one and random.random() < density} for one in nodes}


def plainly_reached(edges: Edges, start: Node, without: Node | None = None) -> set[Node]:
    found, work = set[Node](), [start]
    while work:
        for each in edges[work.pop()]:
            if each not in found and each != without:
                found.add(each)
                work.append(each)
    return found


@pytest.mark.parametrize("seed", SEEDS)
def test_reach_and_closure_are_what_walking_finds(seed: int) -> None:
    edges = random_edges(Random(seed), 14)
    graph = Directed(list(edges), edges)
    for start, reached in zip(graph.nodes, graph.closure(), strict=True):
        expected = plainly_reached(edges, start)
        assert {graph.nodes[each] for each in reached} == expected
        assert set(graph.reached(start)) == expected - {start}
        assert set(graph.reached(start, 1)) == edges[start]
        back = graph.reached(start, back=True)
        assert set(back) == {each for each in edges if start in plainly_reached(edges, each)} - {start}


@pytest.mark.parametrize("seed", SEEDS)
def test_a_path_is_one_and_as_short_as_the_reach_says(seed: int) -> None:
    random = Random(seed)
    edges = random_edges(random, 14)
    graph = Directed(list(edges), edges)
    start, goal = random.sample(graph.nodes, 2)
    path, steps = graph.path(start, goal), graph.reached(start)
    assert bool(path) == (goal in steps)
    assert all(other in edges[one] for one, other in pairwise(path))
    assert not path or (path[0], path[-1], len(path) - 1) == (start, goal, steps[goal])


def plainly_cut(edges: Edges, pairs: list[tuple[Node, Node]]) -> dict[tuple[Node, Node | None], int]:
    """Take away each node and each edge, and count the pairs that are cut."""
    cuts: dict[tuple[Node, Node | None], int] = {}
    for gone in edges:
        lost = [
            (one, other)
            for one, other in pairs
            if gone not in (one, other) and other not in plainly_reached(edges, one, gone)
        ]
        cuts[gone, None] = len(lost)
    for one in edges:
        for other in edges[one]:
            less = {each: after - ({other} if each == one else set()) for each, after in edges.items()}
            cuts[one, other] = sum(b not in plainly_reached(less, a) for a, b in pairs)
    return {what: count for what, count in cuts.items() if count}


@pytest.mark.parametrize("seed", SEEDS)
def test_chokes_are_what_taking_away_finds(seed: int) -> None:
    random = Random(seed)
    edges = random_edges(random, 11)
    graph = Directed(list(edges), edges)
    sources, targets = random.sample(graph.nodes, 4), random.sample(graph.nodes, 4)
    pairs = [(a, b) for a in sources for b in targets if a != b and b in plainly_reached(edges, a)]
    found = graph.chokes(sources, targets, most=1000)
    assert {(each.source, each.destination): each.cuts for each in found} == plainly_cut(edges, pairs)
    assert all(each.of == len(pairs) for each in found)
    assert [each.cuts for each in found] == sorted((each.cuts for each in found), reverse=True)


def test_the_one_way_through_is_found() -> None:
    web, api, bastion, db = map(node, ("web", "api", "bastion", "db"))
    graph = Directed([web, api, bastion, db], {web: [bastion], api: [bastion], bastion: [db]})
    worst = graph.chokes([web, api], [db])
    assert worst[0] == Choke(2, 2, bastion)
    assert worst[1] == Choke(2, 2, bastion, db)


def test_a_long_chain_needs_no_deep_stack() -> None:
    nodes = [node(f"{number:05}") for number in range(5000)]
    graph = Directed(nodes, {one: [other] for one, other in pairwise(nodes)})
    assert len(graph.closure()[0]) == 4999
    assert len(graph.path(nodes[0], nodes[-1])) == 5000
    assert graph.chokes(nodes[:1], nodes[-1:], most=1)[0].cuts == 1
