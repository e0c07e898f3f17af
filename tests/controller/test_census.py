"""What is counted once of a snapshot is what each of its workloads says."""

from collections import Counter

import pytest
from bench.world import world
from msgspec.structs import replace

from stockade.controller.census import Censuses, taken
from stockade.core.model.labels import NO_LABELS
from stockade.core.model.policy import EnforcementMode, Mode
from stockade.core.model.selector import Equal
from stockade.core.model.snapshot import Snapshot
from stockade.core.oracle import mode

WORLD = world(300, 40)
NAMES = sorted(WORLD.workloads)
STRANGE = frozenset(NAMES[:20])
SOME = WORLD._replace(
    workloads={
        id_: replace(each, labels=NO_LABELS) if id_ in STRANGE else each for id_, each in WORLD.workloads.items()
    },
    hosts={host: WORLD.hosts[host] for host in sorted(WORLD.hosts)[1:]},
)
CHOSEN = next(
    each
    for _, each in sorted(SOME.workloads.items())
    if each.known and each.seen.host in SOME.hosts and mode(SOME, each) is not Mode.FULL
)
BY_NAME = EnforcementMode("one", Equal("name", CHOSEN.name), Mode.FULL, priority=9)
NAMED = SOME._replace(policy=replace(SOME.policy, modes=(*SOME.policy.modes, BY_NAME)))


@pytest.mark.parametrize("snapshot", [WORLD, SOME, NAMED, Snapshot()])
def test_a_census_is_what_each_workload_says(snapshot: Snapshot) -> None:
    found, every = taken(snapshot), snapshot.workloads.values()
    of_ours = [each for each in every if each.known and each.seen.host in snapshot.hosts]
    assert dict(found.modes) == Counter(mode(snapshot, each) for each in of_ours)
    assert [each for each, _ in found.modes] == [each for each in Mode if each in dict(found.modes)]
    assert found.carried == Counter(each.seen.host for each in every)
    assert found.unlabelled == Counter(each.seen.host for each in every if not each.known)
    assert found.unknown == sum(not each.known for each in every)


def test_a_name_that_a_mode_looks_at_counts() -> None:
    assert dict(taken(NAMED).modes)[Mode.FULL] == dict(taken(SOME).modes).get(Mode.FULL, 0) + 1


def test_a_census_is_taken_once_of_each_snapshot() -> None:
    censuses = Censuses()
    first = censuses.of(WORLD)
    assert censuses.of(WORLD) is first
    assert censuses.of(SOME) == taken(SOME)
    assert censuses.of(WORLD) == first
