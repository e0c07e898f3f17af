"""Everything else that a plan says, held to the oracle: reach, half-open connections, invariants, warnings, points."""

from collections.abc import Iterator
from random import Random

import msgspec
import pytest
from ground_truth import Point, Spot, Trial, declared_at, families, name, passes, points, speaks, spots, trials
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from test_explain_against_oracle import with_new_rule

from stockade.core import select
from stockade.core.compile.compiler import compile_snapshot
from stockade.core.fold import apply, fold
from stockade.core.model.event import PolicyActivated, QuarantineLapsed
from stockade.core.model.ids import Version
from stockade.core.model.policy import Invariant, Only, Policy, PolicySet
from stockade.core.model.snapshot import Snapshot
from stockade.core.oracle.matching import selects
from stockade.core.plan.parties import World
from stockade.core.plan.plan import plan
from stockade.core.plan.portset import written_out
from stockade.core.plan.reach import reach
from stockade.core.plan.values import HalfOpen, InvariantResult, Reachable, WarningKind
from stockade.testing import strategies
from stockade.testing.policies import invariant, policy_set
from stockade.testing.worlds import world_events

pytestmark = pytest.mark.long

FEW = settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
DICE = st.randoms(use_true_random=False)


def same(snapshot: Snapshot, policy: PolicySet) -> Snapshot:
    """Return the same inventory, labels included, under another policy."""
    return snapshot._replace(policy=policy)


# Reach


@FEW
@given(strategies.snapshots(), DICE)
def test_reach_is_what_passes(snapshot: Snapshot, random: Random) -> None:
    for trial in trials(random, spots(snapshot), points(snapshot), 30):
        one, other, point, v6 = trial
        really = passes(snapshot, one, other, point, v6=v6)
        if really is None:
            continue
        if one.workload and one.workload.known:
            peer = party(snapshot, other, one, v6=v6)
            assert listed(reach(snapshot, one.workload.name).outbound, peer, point) == really, trial
        if other.workload and other.workload.known:
            peer = party(snapshot, one, other, v6=v6)
            assert listed(reach(snapshot, other.workload.name).inbound, peer, point) == really, trial


def party(snapshot: Snapshot, spot: Spot, other: Spot, *, v6: bool) -> str:
    """Return by which text reach speaks of an end: a workload's identity, else as a plan does."""
    if spot.workload is not None and spot.workload.known:
        return World(snapshot).identity(spot.workload)
    declared = declared_at(snapshot, spot, v6=v6)
    if declared is not None and declared.known:
        return World(snapshot).identity(declared)
    return name((snapshot,), spot, other, v6=v6)


def listed(found: tuple[Reachable, ...], peer: str, point: Point) -> bool:
    """Tell whether a reach lists a connection with a peer."""
    return any(each.peer == peer and speaks(each.on, point) for each in found)


# Half-open


@FEW
@given(strategies.snapshots(), DICE)
def test_a_missing_rule_really_opens_what_is_half_open(snapshot: Snapshot, random: Random) -> None:
    """Added in a policy without a scope. Protocols without a name are left out: a rule cannot list them."""
    found = plan(snapshot, snapshot).half_open
    for each in random.sample(found, min(3, len(found))):
        opened = same(snapshot, with_new_rule(snapshot.policy, each.missing))
        for one, other, point, v6 in between(random, snapshot, each):
            if passes(snapshot, one, other, point, v6=v6) is not None:
                assert not passes(snapshot, one, other, point, v6=v6), each
                assert passes(opened, one, other, point, v6=v6), each


def between(random: Random, snapshot: Snapshot, each: HalfOpen) -> Iterator[Trial]:
    """Yield some trials that a half-open connection speaks of."""
    parties = World(snapshot).parties
    sources, destinations = ({w.id for w in parties[text].workloads} for text in (each.source, each.destination))
    places = [spot for spot in spots(snapshot) if spot.workload and spot.workload.id in sources | destinations]
    meant = [point for point in points(snapshot) if point.protocol and speaks(each.on, point)]
    for trial in trials(random, places, meant, 6) if meant else ():
        if trial.one.workload.id in sources and trial.other.workload.id in destinations:
            yield trial


# Invariants


@FEW
@given(strategies.snapshots(), DICE)
def test_an_invariant_holds_or_names_a_connection_that_breaks_it(snapshot: Snapshot, random: Random) -> None:
    policy = replace(snapshot.policy, invariants=tuple(invariant(random, f"i{number}") for number in range(4)))
    snapshot = same(snapshot, policy)
    made = tuple(trials(random, spots(snapshot), points(snapshot), 40))
    for each, result in zip(policy.invariants, plan(snapshot, snapshot).invariants, strict=True):
        broken = [trial for trial in made if breaks(snapshot, each, trial)]
        assert not (result.holds and broken), (each, broken[0])
        if not result.holds:
            assert_really_broken(snapshot, each, result)


def breaks(snapshot: Snapshot, each: Invariant, trial: Trial) -> bool:
    """Tell whether a connection passes that an invariant forbids."""
    holds, (one, other, point, v6) = each.holds, trial
    meant = one.workload is not None and selects(holds.source, one.workload)
    forbidden = not meant if isinstance(holds, Only) else meant
    reached = other.workload is not None and selects(holds.destination, other.workload)
    on = not holds.on or covered(snapshot, each, point)
    return forbidden and reached and on and passes(snapshot, one, other, point, v6=v6) is True


def covered(snapshot: Snapshot, each: Invariant, point: Point) -> bool:
    """Tell whether an invariant speaks of a point."""
    return speaks(written_out(snapshot.policy, each.holds.on).text(), point)


def assert_really_broken(snapshot: Snapshot, each: Invariant, result: InvariantResult) -> None:
    """Send a packet for the counterexample, where it names workloads that have an endpoint."""
    ends, _, on = result.counterexample.partition(" → ")[2].partition(" ")
    source, destination = result.counterexample.partition(" → ")[0], ends
    named = {spot.workload.name: spot for spot in spots(snapshot) if spot.workload}
    if source not in named or destination not in named:
        return
    one, other = named[source], named[destination]
    meant = [point for point in points(snapshot) if speaks(on, point)]
    tried = [
        passes(snapshot, one, other, point, v6=v6)
        for point in meant
        for v6 in families(point)
        if one.at(v6=v6) and other.at(v6=v6)
    ]
    said = [one_ for one_ in tried if one_ is not None]
    assert all(said), result
    assert selects(each.holds.destination, other.workload)
    assert selects(each.holds.source, one.workload) is not isinstance(each.holds, Only)


# Warnings


@FEW
@given(strategies.snapshots(), DICE)
def test_a_shadowed_rule_changes_nothing_by_going_and_an_empty_one_is_nobodys(
    snapshot: Snapshot, random: Random
) -> None:
    it = plan(snapshot, snapshot)
    shadowed = {each.subject for each in it.warnings if each.kind is WarningKind.SHADOWED}
    less = same(
        snapshot, replace(snapshot.policy, policies=tuple(without(each, shadowed) for each in snapshot.policy.policies))
    )
    for one, other, point, v6 in trials(random, spots(snapshot), points(snapshot), 40) if shadowed else ():
        assert passes(snapshot, one, other, point, v6=v6) == passes(less, one, other, point, v6=v6), shadowed
    for each in (each for each in it.warnings if each.kind is WarningKind.EMPTY):
        nobody = select.parse(each.text.removesuffix(" matches no workload"))
        scopes = [p.scope for p in snapshot.policy.policies for rule in p.rules if rule.id == each.subject]
        matched = [w for w in snapshot.workloads.values() if selects(nobody, w)]
        assert not [w for w in matched if not scopes or selects(scopes[0], w)], each


def without(policy: Policy, rules: set[str]) -> Policy:
    """Return a policy less some rules."""
    return replace(policy, rules=tuple(rule for rule in policy.rules if rule.id not in rules))


# Points, documents, order


@FEW
@given(strategies.snapshots(), strategies.policy_sets())
def test_hosts_and_documents_that_are_not_named_stay_as_they_are(active: Snapshot, policy: PolicySet) -> None:
    draft = apply(active, PolicyActivated(Version(2), policy))
    it = plan(active, draft)
    was, now = compile_snapshot(active), compile_snapshot(draft)
    assert {each.host for each in it.points} == {host for host in was if was[host].fingerprint != now[host].fingerprint}
    assert it.points_total == len(was)
    named = {(each.kind, each.name) for each in it.documents}
    differing = {("Policy", each.name) for each in {*active.policy.policies} ^ {*policy.policies}}
    differing |= {("EnforcementMode", each.name) for each in {*active.policy.modes} ^ {*policy.modes}}
    assert {each for each in named if each[0] in ("Policy", "EnforcementMode")} == differing
    assert plan(active, active).empty


@pytest.mark.parametrize("seed", range(6))
def test_the_same_two_snapshots_have_the_same_plan_in_whatever_order_they_came(seed: int) -> None:
    events = world_events(seed)
    policy = policy_set(Random(seed + 1000))
    encoded = set()
    for order in (events, [*events[:-1][::-1], *events[-1:]]):
        active = fold(sorted(order, key=lambda event: isinstance(event, QuarantineLapsed)))
        encoded.add(msgspec.json.encode(plan(active, apply(active, PolicyActivated(Version(2), policy)), pairs=50)))
    assert len(encoded) == 1


@FEW
@given(strategies.snapshots(), strategies.policy_sets())
def test_as_many_pairs_are_told_as_there_are(active: Snapshot, policy: PolicySet) -> None:
    """A change counts the pairs that may talk on some of its ports, before and after: all of its own or none."""
    it = plan(active, apply(active, PolicyActivated(Version(2), policy)), pairs=100_000)
    for each in (*it.gained, *it.lost):
        assert len(set(each.pairs)) == len(each.pairs) == max(each.before, each.after)
        assert min(each.before, each.after) in (0, len(each.pairs))
        assert each.after if each in it.gained else each.before
    few = plan(active, apply(active, PolicyActivated(Version(2), policy)), pairs=1)
    assert all(len(each.pairs) == 1 for each in (*few.gained, *few.lost))
