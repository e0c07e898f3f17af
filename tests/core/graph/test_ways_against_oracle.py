"""Exposure, blast radius and the permitted strand say what the oracle says of every pair of ends."""

from random import Random

import pytest

from estates import Connections, end, enforced, estate, outside, passes, stored
from stockade.core.graph.merge import merged, telling
from stockade.core.graph.strands import stranded
from stockade.core.graph.values import Edge, NodeKind, Pending, total
from stockade.core.graph.ways import Ways
from stockade.core.graph.zoom import edges
from stockade.core.model.flow import Verdict
from stockade.core.model.ids import WorkloadId
from stockade.core.model.inventory import Workload
from stockade.core.model.net import Ports, Protocol
from stockade.core.model.snapshot import Snapshot
from stockade.core.plan.portset import portset

pytestmark = pytest.mark.long

SEEDS = range(5)
POSTGRES = portset([Ports(Protocol.TCP, 5432, 5432)])


def labelled(snapshot: Snapshot) -> list[Workload]:
    return [each for each in snapshot.workloads.values() if each.known]


def allowed(snapshot: Snapshot) -> dict[tuple[WorkloadId, WorkloadId], bool]:
    known = labelled(snapshot)
    return {
        (one.id, other.id): passes(snapshot, end(one), end(other), 6, 5432)
        for one in known
        for other in known
        if one.id != other.id
    }


@pytest.mark.parametrize("seed", SEEDS)
def test_one_hop_is_what_the_oracle_lets_pass(seed: int) -> None:
    snapshot = enforced(Random(seed))
    ways, truth = Ways(snapshot, POSTGRES), allowed(snapshot)
    for (one, other), passed in truth.items():
        assert bool(ways.on(ways.number[one], ways.number[other])) == passed, (one, other)
    for of in {one for one, _ in truth}:
        mine = ways.number[of]
        out = {ways.parties.index(p) for p in ways.parties for r in ways.blast_radius(of) if r.party == p.text}
        into = {ways.parties.index(p) for p in ways.parties for r in ways.exposure(of) if r.party == p.text}
        for (one, other), passed in truth.items():
            if one == of and ways.number[other] != mine:
                assert (ways.number[other] in out) == passed
            if other == of and ways.number[one] != mine:
                assert (ways.number[one] in into) == passed


@pytest.mark.parametrize("seed", SEEDS)
def test_more_hops_are_what_walking_finds(seed: int) -> None:
    snapshot = enforced(Random(seed))
    ways = Ways(snapshot, POSTGRES)
    count = range(len(ways.parties))
    for start in count:
        expected, frontier = {start: 0}, {start}
        for step in (1, 2, 3):
            frontier = {each for by in frontier for each in count if each not in expected and ways.on(by, each)}
            expected.update(dict.fromkeys(frontier, step))
        found = ways.steps(start, 3)
        assert {start: 0, **{each: steps for each, (steps, _) in found.items()}} == expected
        assert all(ways.on(by, each) for each, (_, by) in found.items())
        for each in list(expected)[:3]:
            assert each == start or start in ways.steps(each, expected[each], back=True)


def test_a_path_names_each_step_and_its_services() -> None:
    snapshot = enforced(Random(4))
    ways = Ways(snapshot)
    found = [each for of in sorted(ways.number) for each in ways.blast_radius(of, 4)]
    assert any(each.hops > 1 for each in found)
    for each in found:
        assert len(each.path) == each.hops
        assert each.path[-1].destination == each.party
        assert all(one.destination == other.source for one, other in zip(each.path, each.path[1:], strict=False))
        assert all(hop.on for hop in each.path)


@pytest.mark.parametrize("seed", SEEDS)
def test_strands_count_the_pairs_that_the_oracle_lets_pass(seed: int) -> None:
    random = Random(seed)
    active = estate(random)
    draft = active._replace(policy=enforced(Random(seed)).policy)
    known = labelled(active)
    seen = [Connections(end(one), end(other), 6, 5432) for one in known for other in known if one.id != other.id]
    flows = [row for each in random.sample(seen, 60) for row in stored(active, each)]
    traffic = merged(flows, telling(active))
    for by in (("app",), ("role", "app"), ("app", "role", "workload")):
        for edge in stranded(traffic, by, active, draft, unobserved=True):
            assert edge.permitted is not None
            assert edge.needed is not None
            assert edge.permitted.pairs == edge.permitted.of
            if edge.observed is None:
                continue
            mine = [each for each in traffic if edges([each], by, active.policy)[0].source == edge.source]
            mine = [each for each in mine if edges([each], by, active.policy)[0].destination == edge.destination]
            said = [passes(draft, each.source, each.destination, 6, 5432) for each in mine]
            wanted = Pending.ALLOWED if all(said) else Pending.SOME if any(said) else Pending.BLOCKED
            assert edge.pending is wanted
            assert edge.observed.seen.connections == sum(each.seen.connections for each in mine)
            if by[-1] == "workload":
                assert bool(edge.needed.on & POSTGRES) == said[0]
                assert edge.needed.of == 1 == edge.observed.pairs
                assert edge.needed.pairs >= said[0]


def test_every_zoom_adds_up_to_the_same() -> None:
    random = Random(3)
    snapshot = estate(random)
    known = [end(each) for each in snapshot.workloads.values()]
    far = [outside(snapshot, each) for each in ("8.8.8.8", "10.200.0.7", "203.0.113.9")]
    ends, ports = [*known, *far[:1]], (80, 5432)
    made = [
        Connections(*random.sample(ends, 2), 6, random.choice(ports), random.choice(list(Verdict)[:3]))
        for _ in range(80)
    ]
    made += [Connections(known[1], each, 17, 53) for each in far]
    traffic = merged([row for each in made for row in stored(snapshot, each)], telling(snapshot))
    zooms = ((), ("app",), ("role",), ("env", "app"), ("app", "role", "workload"), ("app", "workload", "process"))
    assert len({sums(edges(traffic, by, snapshot.policy)) for by in zooms}) == 1


def sums(found: tuple[Edge, ...]) -> tuple[int, ...]:
    seen = total(each.observed.seen for each in found if each.observed)
    return seen.connections, seen.denied, seen.bytes_in, seen.ended


def test_nodes_are_called_what_they_are() -> None:
    snapshot = estate(Random(3))
    known = [end(each) for each in snapshot.workloads.values()]
    far = [outside(snapshot, each) for each in ("8.8.8.8", "10.200.0.7", "203.0.113.9")]
    made = [Connections(known[1], each, 17, 53) for each in far]
    made += [Connections(known[0], known[1], 6, 80), Connections(known[2], known[1], 6, 4444)]
    traffic = merged([row for each in made for row in stored(snapshot, each)], telling(snapshot))
    found = edges(traffic, ("workload", "process"), snapshot.policy)
    assert {(each.source.text, each.destination.text) for each in found} == {
        ("workload=w1 no process", "internet"),
        ("workload=w1 no process", "networks(office)"),
        ("workload=w1 no process", "elsewhere"),
        ("unknown workload=w0 no process", "workload=w1 process=http"),
        ("workload=w2 no process", "workload=w1 process=tcp/4444"),
    }
    assert {each.source.kind for each in found} == {NodeKind.WORKLOADS, NodeKind.UNKNOWN}
