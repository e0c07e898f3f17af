"""State, never history: every telling of a scenario ends in the same snapshot."""

from collections import Counter
from random import Random

import pytest

from stockade.core.fold import Folding, fold
from stockade.core.model.event import HostGone, HostSeen, LabelsSet, PolicyActivated, QuarantineLapsed, WorkloadSeen
from stockade.core.model.policy import PolicySet
from stockade.core.model.snapshot import Snapshot
from stockade.testing import scenarios
from stockade.testing.expanders import expand, teardowns, touched
from stockade.testing.scenarios import SCENARIOS
from stockade.testing.worlds import world_events


def still(snapshot: Snapshot) -> Snapshot:
    """Return a snapshot without its number."""
    return snapshot._replace(revision=0)


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_variant_of_a_scenario_ends_in_its_state(name: str) -> None:
    events = SCENARIOS[name]
    expected = still(fold(events))
    for variant in expand(events):
        assert still(fold(variant.events)) == (expected if variant.events else still(Snapshot())), variant.name


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_teardown_of_a_scenario_ends_in_nothing(name: str) -> None:
    for variant in teardowns(SCENARIOS[name]):
        after = fold(variant.events)
        left = [*after.hosts, *after.workloads, *after.operator_labels, *after.lapsed]
        assert left == [], variant.name
        assert after.policy == PolicySet()


@pytest.mark.parametrize("seed", range(20))
def test_random_worlds_too(seed: int) -> None:
    events = world_events(seed)
    Random(seed).shuffle(inventory := events[:-5])
    expected = still(fold(events))
    assert still(fold([*inventory, *events[-5:]])) == expected
    for variant in expand(events, seeds=(seed,)):
        assert still(fold(variant.events)) == expected, variant.name


def test_variants_are_distinct_named_and_complete() -> None:
    events = SCENARIOS["everything at once"]
    variants = list(expand(events))
    assert len({variant.name for variant in variants}) == len(variants) >= 12
    for variant in variants:
        told = Counter(map(repr, variant.events))
        if variant.name == "squashed":
            assert 0 < len(variant.events) < len(events)
        elif variant.name.startswith("repeated"):
            assert set(told) == set(map(repr, events))
            assert len(variant.events) > len(events)
        else:
            assert told == Counter(map(repr, events)), variant.name
    by_name = {variant.name: variant for variant in variants}
    assert by_name["reversed"].events not in (tuple(events), by_name["shuffled 0"].events)
    assert () in by_name["with empties between"].batches


def test_events_of_one_object_keep_their_order() -> None:
    events = SCENARIOS["a host restarts"]
    gone = next(event for event in events if isinstance(event, HostGone))
    for variant in expand(events):
        if variant.name in ("squashed", "repeated", "repeated by object"):
            continue
        place = variant.events.index(gone)
        assert all(variant.events.index(early) < place for early in (scenarios.WEB, scenarios.API)), variant.name
        assert variant.events.index(scenarios.container("web-1", 41)) > place, variant.name


def test_what_an_event_speaks_of() -> None:
    seen = scenarios.WEB
    assert touched(seen) == {("workload", scenarios.WEB_ID)}
    assert touched(LabelsSet(scenarios.WEB_ID, (), "ann")) == {("labels", scenarios.WEB_ID)}
    assert touched(HostGone(scenarios.HOST), {scenarios.HOST: {"w"}}) == {
        ("host", scenarios.HOST),
        ("workload", "w"),
    }
    assert touched(QuarantineLapsed("q")) == touched(scenarios.policy(1))


def test_scenarios_change_everything_that_can_change() -> None:
    kinds = {type(event) for events in SCENARIOS.values() for event in events}
    assert len(kinds) == 7
    for events in SCENARIOS.values():
        folding = Folding()
        numbers = [folding.apply(event).revision for event in events]
        assert numbers == list(range(1, len(events) + 1))


def test_scenarios_do_something() -> None:
    """Every event of a scenario but an old version, a repeat or an unreported removal changes its state."""
    for name, events in SCENARIOS.items():
        folding, same = Folding(), 0
        for event in events:
            before = still(folding.snapshot)
            same += still(folding.apply(event)) == before
        assert same <= (2 if name == "an old version arrives late" else 0), name


def test_kinds_of_event_the_scenarios_use() -> None:
    everything = [type(event) for event in SCENARIOS["everything at once"]]
    assert {WorkloadSeen, HostSeen, LabelsSet, PolicyActivated, QuarantineLapsed} <= set(everything)
