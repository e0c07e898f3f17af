"""What all parties may say at once is what each pair may say by itself, and no pair differs that is left out."""

from itertools import product

import pytest
from hypothesis import HealthCheck, given, settings

from stockade.core.fold import apply
from stockade.core.model.event import PolicyActivated
from stockade.core.model.ids import Version
from stockade.core.model.intent import Tier
from stockade.core.model.packet import Direction
from stockade.core.model.policy import PolicySet
from stockade.core.model.snapshot import Snapshot
from stockade.core.plan.parties import World, worlds
from stockade.core.plan.permitted import Run, counting, permitted, runs
from stockade.core.plan.talk import Talk, differing
from stockade.testing import strategies

pytestmark = pytest.mark.long

SOME = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))


def pairwise(world: World) -> dict[tuple[str, str], tuple[Run, ...]]:
    parties = world.parties
    return {(one, other): runs(world.book, parties[one], parties[other]) for one, other in product(parties, repeat=2)}


@SOME
@given(strategies.snapshots(), strategies.policy_sets())
def test_every_pair_is_judged_as_it_is_by_itself(active: Snapshot, policy: PolicySet) -> None:
    for world in worlds(active, apply(active, PolicyActivated(Version(2), policy))):
        talk, alone = Talk(world), pairwise(world)
        assert {ends: talk.runs(ends) for ends in alone} == alone
        assert {ends: talk.permitted(ends) for ends in alone} == {ends: permitted(each) for ends, each in alone.items()}
        assert set(talk.judgements(alone)) == set(alone.values())


@SOME
@given(strategies.snapshots(), strategies.policy_sets())
def test_whom_no_line_speaks_of_is_not_spoken_of(active: Snapshot, policy: PolicySet) -> None:
    world = World(apply(active, PolicyActivated(Version(2), policy)))
    talk, parties = Talk(world), world.parties
    for tiers in ((Tier.ALLOW,), tuple(Tier)):
        lines = {
            (source, destination)
            for source, destination in product(parties, repeat=2)
            for text, way, other in ((source, Direction.EGRESS, destination), (destination, Direction.INGRESS, source))
            for line in counting(parties[text].program, way)
            if line.tier in tiers and other in talk.members(line.peers)
        }
        assert set(talk.spoken_of(*tiers)) == lines


@SOME
@given(strategies.snapshots(), strategies.policy_sets())
def test_of_pairs_that_are_not_among_those_that_differ_both_versions_say_the_same(
    active: Snapshot, policy: PolicySet
) -> None:
    before, after = map(Talk, worlds(active, apply(active, PolicyActivated(Version(2), policy))))
    found = differing(before, after)
    was, now = pairwise(before.world), pairwise(after.world)
    assert {ends for ends in was if permitted(was[ends]) != permitted(now[ends])} <= found
    assert found <= was.keys()


@SOME
@given(strategies.snapshots())
def test_nothing_differs_between_a_version_and_itself(active: Snapshot) -> None:
    assert differing(*map(Talk, worlds(active, active))) == set()
