"""What a judge remembers between questions says the same as what is worked out anew, workload by workload."""

from collections import Counter
from itertools import product

import msgspec
import pytest
from bench.world import world
from hypothesis import given, settings
from hypothesis import strategies as st

from stockade.core.graph import judge as judging
from stockade.core.graph.judge import Judge
from stockade.core.graph.picture import crowd
from stockade.core.graph.strands import Strand
from stockade.core.graph.values import Node, Permitted
from stockade.core.graph.zoom import Zoom, node_of, workload_nodes
from stockade.core.model.flow import FlowEnd
from stockade.core.model.ids import Address, HostId
from stockade.core.model.inventory import Workload
from stockade.core.model.labels import NAME, NO_LABELS
from stockade.core.model.snapshot import Snapshot
from stockade.core.plan.permitted import permitted
from stockade.core.plan.portset import NOTHING

pytestmark = pytest.mark.long

WORLD = world(60, 200)
ZOOMS = st.lists(st.sampled_from(["d00", "d01", "d03", "workload", "name"]), min_size=1, max_size=2, unique=True)
CHANGES = st.lists(
    st.tuples(st.sampled_from(["unknown", "elsewhere", "shares", "copies", "gone"]), st.integers(0, 59)), max_size=12
)


@settings(deadline=None, max_examples=25)
@given(CHANGES, st.lists(ZOOMS.map(tuple), min_size=1, max_size=4))
def test_what_is_permitted_between_nodes_is_what_is_permitted_between_their_workloads(
    changes: list[tuple[str, int]], zooms: list[Zoom]
) -> None:
    snapshot = changed(WORLD, changes)
    kept = Judge(snapshot)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(judging, "ZOOMS", 1)
        patch.setattr(judging, "RUNS", 20)
        for by in zooms:
            members = members_of(snapshot, by)
            strand = Strand(snapshot, by, (), kept)
            assert set(strand.nodes) == set(members)
            for one, other in list(product(sorted(members), repeat=2))[::7][:25]:
                assert strand.between(one, other) == one_by_one(
                    Judge(snapshot, book=kept.world.book), members, one, other
                )


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


def members_of(snapshot: Snapshot, by: Zoom) -> dict[Node, list[Workload]]:
    found: dict[Node, list[Workload]] = {}
    for node, each in workload_nodes((each for each in snapshot.workloads.values() if each.seen.owner is None), by):
        found.setdefault(node, []).append(each)
    return found


def one_by_one(judge: Judge, members: dict[Node, list[Workload]], one: Node, other: Node) -> Permitted:
    on, pairs, of, rules = NOTHING, 0, 0, set()
    for source, destination in product(members[one], members[other]):
        if source.id == destination.id:
            continue
        found = judge.runs(judge.party_of(source), judge.party_of(destination))
        of += 1
        on |= permitted(found)
        pairs += any(run.allowed for run in found)
        rules |= {run.rule for run in found if run.allowed and run.rule}
    return Permitted(on, pairs, of, tuple(sorted(rules)))
