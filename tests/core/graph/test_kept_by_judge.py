"""What a judge remembers between questions says the same as what is worked out anew, workload by workload."""

import random
from collections import Counter
from ipaddress import ip_network
from itertools import product

import msgspec
import pytest
from bench.world import world
from hypothesis import given, settings
from hypothesis import strategies as st

from stockade.core.graph import alike
from stockade.core.graph import judge as judging
from stockade.core.graph.judge import Judge
from stockade.core.graph.picture import crowd
from stockade.core.graph.strands import Strand
from stockade.core.graph.values import Node, Permitted, Seen, Traffic
from stockade.core.graph.zoom import Zoom, node_of, workload_nodes
from stockade.core.model.flow import FlowEnd
from stockade.core.model.ids import Address, HostId
from stockade.core.model.inventory import Workload
from stockade.core.model.labels import NAME, NO_LABELS
from stockade.core.model.snapshot import Snapshot
from stockade.core.plan.parties import Party
from stockade.core.plan.permitted import permitted
from stockade.core.plan.portset import NOTHING

pytestmark = pytest.mark.long

WORLD = world(60, 200)
ZOOMS = st.lists(st.sampled_from(["d00", "d01", "d03", "workload", "name"]), min_size=1, max_size=2, unique=True)
CHANGES = st.lists(
    st.tuples(st.sampled_from(["unknown", "elsewhere", "shares", "copies", "gone"]), st.integers(0, 59)), max_size=12
)


@settings(deadline=None, max_examples=25)
@given(CHANGES, st.lists(ZOOMS.map(tuple), min_size=1, max_size=4), st.integers(0, 1 << 30))
def test_what_is_permitted_between_nodes_is_what_is_permitted_between_their_ends(
    changes: list[tuple[str, int]], zooms: list[Zoom], seed: int
) -> None:
    snapshot = changed(WORLD, changes)
    kept, traffic = Judge(snapshot), from_outside(seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(judging, "ZOOMS", 1)
        patch.setattr(judging, "RUNS", 20)
        patch.setattr(alike, "SAID", 20)
        for by in zooms:
            anew = Judge(snapshot, book=kept.world.book)
            members = members_of(snapshot, by, anew, traffic)
            strand = Strand(snapshot, by, traffic, kept)
            assert set(strand.nodes) == set(members)
            pairs = list(product(sorted(members), repeat=2))
            for one, other in random.Random(seed).sample(pairs, min(25, len(pairs))):
                assert strand.between(one, other) == one_by_one(anew, members, one, other)


@settings(deadline=None, max_examples=25)
@given(CHANGES, ZOOMS.map(tuple), st.integers(0, 40))
def test_more_steps_than_may_be_taken_are_not_taken_and_as_many_are(
    changes: list[tuple[str, int]], by: Zoom, most: int
) -> None:
    snapshot = changed(WORLD, changes)
    whole, bounded = Strand(snapshot, by), Strand(snapshot, by)
    for one, other in product(sorted(whole.nodes)[:4], repeat=2):
        found = whole.asked(one, other)
        assert found is not None
        wanted = found if found.steps <= most else None
        assert [bounded.asked(one, other, most), whole.asked(one, other, most)] == [wanted, wanted]
        assert bounded.asked(one, other, found.steps) == found


@settings(deadline=None, max_examples=60)
@given(CHANGES, ZOOMS.map(tuple))
def test_a_crowd_is_counted_workload_by_workload(changes: list[tuple[str, int]], by: Zoom) -> None:
    snapshot = changed(WORLD, changes)
    assert crowd(snapshot, by) == Counter(node_of(end_of(each), by) for each in snapshot.workloads.values())


def changed(snapshot: Snapshot, changes: list[tuple[str, int]]) -> Snapshot:
    workloads = dict(snapshot.workloads)
    names = sorted(workloads)
    for what, number in changes:
        id_, other = names[number], names[(number + 1) % len(names)]
        if id_ not in workloads or other not in workloads:
            continue
        each = workloads[id_]
        workloads[id_] = {
            "unknown": lambda each=each: msgspec.structs.replace(each, labels=NO_LABELS),
            "elsewhere": lambda each=each: seen(each, host=HostId("nobody's")),
            "shares": lambda each=each, other=other: seen(each, owner=other),
            "copies": lambda each=each, other=other: msgspec.structs.replace(each, labels=workloads[other].labels),
            "gone": lambda each=each: each,
        }[what]()
        if what == "gone":
            del workloads[id_]
    return snapshot._replace(workloads=workloads)


def seen(each: Workload, **more: object) -> Workload:
    return msgspec.structs.replace(each, seen=msgspec.structs.replace(each.seen, **more))


def end_of(each: Workload) -> FlowEnd:
    labels = sorted([(NAME, each.name), *((label.key, label.value) for label in each.labels.items)])
    return FlowEnd(Address("10.0.0.1"), each.id, tuple(labels))


def from_outside(seed: int) -> list[Traffic]:
    """Traffic between addresses of nobody: in networks that rules name, and in none."""
    dice = random.Random(seed)
    prefixes = [ip_network(each) for every in Judge(WORLD).world.prefixes.values() for each in every]
    hosts = [str(each[dice.randrange(min(each.num_addresses, 1 << 16))]) for each in dice.sample(prefixes, 6)]
    ends = [FlowEnd(Address(each), None, (), dice.choice(("one", "two"))) for each in (*hosts, "203.0.113.7")]
    pairs = [dice.sample(ends, 2) for _ in range(8)]
    return [Traffic(one, other, 6, 443, Seen(0.0, 0.0)) for one, other in pairs]


def members_of(
    snapshot: Snapshot, by: Zoom, judge: Judge, traffic: list[Traffic]
) -> dict[Node, list[tuple[str, Party]]]:
    """The ends of each node, each by what tells it from all others."""
    found: dict[Node, list[tuple[str, Party]]] = {}
    for node, each in workload_nodes((each for each in snapshot.workloads.values() if each.seen.owner is None), by):
        found.setdefault(node, []).append((each.id, judge.party_of(each)))
    for end in {end for each in traffic for end in (each.source, each.destination)}:
        found.setdefault(node_of(end, ()), []).append((f"at {end.address}", judge.party(end)))
    return found


def one_by_one(judge: Judge, members: dict[Node, list[tuple[str, Party]]], one: Node, other: Node) -> Permitted:
    on, pairs, of, rules = NOTHING, 0, 0, set()
    for source, destination in product(members[one], members[other]):
        if source[0] == destination[0]:
            continue
        found = judge.runs(source[1], destination[1])
        of += 1
        on |= permitted(found)
        pairs += any(run.allowed for run in found)
        rules |= {run.rule for run in found if run.allowed and run.rule}
    return Permitted(on, pairs, of, tuple(sorted(rules)))
