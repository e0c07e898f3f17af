"""Traffic that is kept says what is read and merged anew, whatever was stored, asked or changed in between."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

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
from stockade.core.model.packet import Direction
from stockade.core.model.selector import Equal
from stockade.core.model.snapshot import Snapshot
from stockade.seams.flow_store import EndFilter, FlowFilter, Retention, StoredBatch

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
    ),
    min_size=3,
    max_size=14,
)


@pytest.mark.long
@settings(deadline=None, max_examples=10, phases=(Phase.generate,))
@given(STEPS)
def test_what_is_kept_is_what_is_read(steps: list[tuple[object, ...]]) -> None:
    with opened() as store, pytest.MonkeyPatch.context() as patch:
        patch.setattr(hearing, "ANSWERS", 2)
        whose, telling = Whose(WORLD), Telling(WORLD)
        hears = Heard(WORLD, telling)
        for number, (what, *of) in enumerate([("put", 0), *steps]):
            if what == "put":
                store.put([batch(WORLD, number, int(of[0]))])  # type: ignore[call-overload]
                continue
            (begin, end), which = of  # type: ignore[misc]
            since, until = BEGAN + 3600 * begin, BEGAN + 3600 * end
            seen = recorded(store, WORLD, since, until, *FILTERS[which], whose=whose)
            for _ in range(2):
                assert hears.traffic(store, since, until, FILTERS[which], whose).traffic == merged(seen.flows, telling)
            assert len(hears._kept) <= 2


def test_the_same_question_is_read_once_until_something_is_stored() -> None:
    with opened() as store:
        store.put([batch(WORLD, 1, 0)])
        hears, whose = Heard(WORLD, Telling(WORLD)), Whose(WORLD)
        ask = lambda: hears.traffic(store, BEGAN, BEGAN + 10_800, (FlowFilter(),), whose).traffic  # noqa: E731
        first = ask()
        assert ask() is first
        store.put([batch(WORLD, 2, 0)])
        assert sum(each.seen.connections for each in ask()) > sum(each.seen.connections for each in first)


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
