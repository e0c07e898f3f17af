"""Traffic that is kept says what is read and merged anew, whatever was stored, asked or changed in between."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest
from bench.world import world
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from stockade.adapters.clickhouse.store import ClickHouseFlowStore, open_flow_store
from stockade.controller import heard as hearing
from stockade.controller.flow_reading import recorded
from stockade.controller.heard import Heard
from stockade.controller.whose import Whose
from stockade.core.graph.merge import Telling, merged
from stockade.core.model.flow import FlowKey, StoredFlow, Tally, Verdict
from stockade.core.model.flow_table import kept
from stockade.core.model.ids import Address, HostId, RuleId
from stockade.core.model.labels import NO_LABELS
from stockade.core.model.packet import Direction
from stockade.core.model.policy import EnforcementMode, Mode
from stockade.core.model.selector import Equal, Everything, Selector
from stockade.core.model.snapshot import Snapshot
from stockade.seams.flow_store import EndFilter, FlowFilter, FlowGroups, FlowQuery, Retention, StoredBatch

WORLD = world(12, 20)
BEGAN = 1_767_261_600.0
"""A whole hour; what is stored lies in the three that follow."""
NAMES = sorted(WORLD.workloads)
FILTERS = (
    (FlowFilter(),),
    (FlowFilter(source=EndFilter(workloads=(NAMES[0], NAMES[1]))),),
    (FlowFilter(source=EndFilter(selector=Equal("d00", "v0"))), FlowFilter(destination=EndFilter(known=False))),
)
SPAN = st.sampled_from([(0, 3), (0, 1), (1, 2), (0.25, 2.5), (0.2503, 0.2507), (1, 1.01)])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(0, 3)),
        st.tuples(st.just("ask"), SPAN, st.integers(0, len(FILTERS) - 1)),
        st.tuples(st.just("relabel"), st.integers(0, 11)),
        st.tuples(st.just("idle"), st.sampled_from([Equal("d00", "v0"), Equal("d00", "v1"), Everything()])),
        st.tuples(st.just("gone"), st.integers(0, 11)),
        st.tuples(st.just("forget"), st.integers(1, 3)),
    ),
    min_size=3,
    max_size=16,
)


@pytest.mark.long
@pytest.mark.parametrize("most", [300_000, 150, 20])
@settings(deadline=None, max_examples=5, phases=(Phase.generate,))
@given(STEPS)
def test_what_is_kept_is_what_is_read(most: int, steps: list[tuple[Any, ...]]) -> None:
    with opened() as store, pytest.MonkeyPatch.context() as patch:
        patch.setattr(hearing, "ANSWERS", 2)
        patch.setattr(hearing, "SUMS", most)
        world_now, hears = WORLD, Heard(WORLD, Telling(WORLD))
        for number, (what, *of) in enumerate([("put", 0), *steps]):
            if what == "put":
                store.put([batch(WORLD, number, of[0])])
            elif what in CHANGES:
                world_now = CHANGES[what](world_now, of[0])
                hears = Heard(world_now, Telling(world_now), hears.kept())
            elif what == "forget":
                store.trim(BEGAN + 3600 * of[0] + 9_999 * 86_400)
            else:
                (begin, end), which = of
                span = (BEGAN + 3600 * begin, BEGAN + 3600 * end)
                seen = recorded(store, world_now, *span, *FILTERS[which], timed=False)
                for _ in range(2):
                    heard = hears.traffic(store, *span, FILTERS[which], Whose(world_now)).traffic
                    assert heard == merged(seen.flows, Telling(world_now))
                assert len(hears.kept()) <= 2
                assert sum(each.size for each in hears.kept()) <= most


def test_the_same_question_is_read_once_until_something_is_stored() -> None:
    with opened() as store:
        store.put([batch(WORLD, 1, 0)])
        hears, whose = Heard(WORLD, Telling(WORLD)), Whose(WORLD)
        ask = lambda: hears.traffic(store, BEGAN, BEGAN + 10_800, (FlowFilter(),), whose).traffic  # noqa: E731
        first = ask()
        assert ask() is first
        store.put([batch(WORLD, 2, 0)])
        assert sum(each.seen.connections for each in ask()) > sum(each.seen.connections for each in first)


def test_only_the_piece_in_which_something_came_is_read_again() -> None:
    with opened() as stored:
        store = Watched(stored)
        store.put([batch(WORLD, each, 0) for each in range(1, 20)])
        hears, whose = Heard(WORLD, Telling(WORLD)), Whose(WORLD)
        ask = lambda moved: hears.traffic(store, BEGAN + moved, BEGAN + 3600, (FlowFilter(),), whose)  # type: ignore[arg-type]  # noqa: E731
        first = ask(0).traffic
        assert len(store.asked) == 1
        store.put([one_flow(50, BEGAN + 1805)])
        second = ask(0).traffic
        assert store.asked[1:] == [(BEGAN + 1800, BEGAN + 1860)]
        same = {id(each) for each in first} & {id(each) for each in second}
        assert len(same) >= len(first) - 1
        ask(90)
        assert [until for _, until in store.asked[2:]] in ([], [BEGAN + 120])


def test_whether_a_point_tells_at_an_end_is_a_part_of_what_it_means() -> None:
    with opened() as store:
        store.put([one_flow(1, BEGAN + 5)])
        hears, connections = Heard(WORLD, Telling(WORLD)), []
        for now in (WORLD, idle(WORLD, Everything())):
            hears = Heard(now, Telling(now), hears.kept())
            found = hears.traffic(store, BEGAN, BEGAN + 3600, (FlowFilter(),), Whose(now)).traffic
            connections.append(sum(each.seen.connections for each in found))
        assert connections == [0, 3], "what left for an end that does not tell is counted where it left"


def test_what_comes_in_while_it_is_read_is_read_the_next_time() -> None:
    with opened() as stored:
        store = Watched(stored)
        store.put([batch(WORLD, 1, 0)])
        hears, whose = Heard(WORLD, Telling(WORLD)), Whose(WORLD)
        ask = lambda: hears.traffic(store, BEGAN, BEGAN + 3600, (FlowFilter(),), whose).traffic  # type: ignore[arg-type]  # noqa: E731
        late = one_flow(2, BEGAN + 1805)
        store.meanwhile = lambda: stored.put([late])
        ask()
        assert ask() == merged(recorded(stored, WORLD, BEGAN, BEGAN + 3600, whose=whose).flows, Telling(WORLD))


class Watched:
    """A store of which is known what was read; something may happen in it just after that."""

    def __init__(self, store: ClickHouseFlowStore) -> None:
        self.put, self.mark = store.put, store.mark
        self._store = store
        self.asked: list[tuple[float | None, float | None]] = []
        self.meanwhile: Callable[[], object] = lambda: None

    def groups(self, query: FlowQuery) -> FlowGroups:
        self.asked.append((query.where.since, query.where.until))
        found = self._store.groups(query)
        self.meanwhile()
        self.meanwhile = lambda: None
        return found


def one_flow(number: int, at: float) -> StoredBatch:
    one, other = (WORLD.workloads[each].seen.endpoints[0].addresses[0] for each in NAMES[:2])
    key = FlowKey(one, other, 6, 80, Direction.EGRESS, Verdict.ALLOWED, RuleId("default"), *NAMES[:2])
    whose = Whose(WORLD)
    ends = (whose.end(one, NAMES[0]), whose.end(other, NAMES[1]))
    flow = StoredFlow(HostId("host-00000"), *ends, key, Tally(at, at + 1, 3, 4))
    return StoredBatch(HostId("host-00000"), "single", number, BEGAN + 10_800, kept([flow]))


def relabelled(snapshot: Snapshot, number: int) -> Snapshot:
    """A snapshot in which a workload has lost its labels."""
    if (id_ := NAMES[number]) not in snapshot.workloads:
        return snapshot
    workload = msgspec.structs.replace(snapshot.workloads[id_], labels=NO_LABELS)
    return snapshot._replace(workloads={**snapshot.workloads, id_: workload})


def idle(snapshot: Snapshot, whom: Selector) -> Snapshot:
    """A snapshot in which some are idle: no point tells of them any more."""
    policy = msgspec.structs.replace(snapshot.policy, modes=(EnforcementMode("idle", whom, Mode.IDLE, 1_000_000),))
    return snapshot._replace(policy=policy)


def gone(snapshot: Snapshot, number: int) -> Snapshot:
    """A snapshot without a workload."""
    return snapshot._replace(workloads={id_: each for id_, each in snapshot.workloads.items() if id_ != NAMES[number]})


CHANGES: dict[str, Callable[[Snapshot, Any], Snapshot]] = {"relabel": relabelled, "idle": idle, "gone": gone}


def test_of_another_snapshot_only_what_an_end_means_otherwise_is_merged_again() -> None:
    with opened() as stored:
        store = Watched(stored)
        store.put([batch(WORLD, each, 0) for each in range(1, 20)])
        hears = Heard(WORLD, Telling(WORLD))
        first = hears.traffic(store, BEGAN, BEGAN + 3600, (FlowFilter(),), Whose(WORLD)).traffic  # type: ignore[arg-type]
        after = relabelled(WORLD, 3)
        hears = Heard(after, Telling(after), hears.kept())
        second = hears.traffic(store, BEGAN, BEGAN + 3600, (FlowFilter(),), Whose(after)).traffic  # type: ignore[arg-type]
        assert len(store.asked) == 1
        touched = {id(each) for each in first if NAMES[3] in (each.source.workload, each.destination.workload)}
        assert touched
        assert {id(each) for each in first} - {id(each) for each in second} == touched


@contextmanager
def opened() -> Iterator[ClickHouseFlowStore]:
    with tempfile.TemporaryDirectory() as folder:
        store = open_flow_store(Path(folder) / "flows", retention=Retention(9_999, 9_999, 9_999))
        try:
            yield store
        finally:
            store.close()


def batch(snapshot: Snapshot, number: int, hour: int) -> StoredBatch:
    """Some flows of an hour; both ends tell of most."""
    dice, whose, flows = Random(number), Whose(snapshot), []
    for _ in range(12):
        one, other = (snapshot.workloads[each] for each in dice.sample(NAMES, 2))
        ends = (one.seen.endpoints[0].addresses[0], other.seen.endpoints[0].addresses[0])
        if not dice.randrange(4):
            ends, other = (ends[0], Address("198.51.100.7")), None  # type: ignore[assignment]
        first = BEGAN + 3600 * min(hour, 2) + dice.randrange(3600)
        for end in Direction if other else (Direction.EGRESS,):
            verdict = dice.choice((Verdict.ALLOWED, Verdict.DENIED, Verdict.WOULD_DENY, Verdict.CARRIED))
            key = FlowKey(*ends, 6, dice.choice((80, 443)), end, verdict, RuleId("default"), one.id, other and other.id)
            carried = verdict is Verdict.CARRIED
            tally = Tally(first, first + 1, 0 if carried else dice.randrange(1, 5), 4, 9, 9, int(carried))
            named = (whose.end(ends[0], one.id), whose.end(ends[1], other.id if other else None))
            flows.append(StoredFlow(HostId("host-00000"), *named, key, tally))
    return StoredBatch(HostId("host-00000"), "stream", number, BEGAN + 10_800, kept(flows))
