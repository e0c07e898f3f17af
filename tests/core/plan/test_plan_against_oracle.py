"""What a plan says is gained and lost is what the oracle's verdict gains and loses: nothing less, nothing more."""

from random import Random

import pytest
from ground_truth import Point, Trial, name, passes, points, several, speaks, spots, trials
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from stockade.core.fold import apply
from stockade.core.model.event import PolicyActivated
from stockade.core.model.ids import Prefix, Version
from stockade.core.model.policy import LabelRule, NetworkSet, PolicySet
from stockade.core.model.snapshot import Snapshot
from stockade.core.plan.plan import plan
from stockade.core.plan.values import ConnectionChange, Plan
from stockade.testing import policies, strategies
from stockade.testing.policies import NETWORK_SETS

pytestmark = pytest.mark.long

FEW = settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
TRIED = 80
LABEL_RULES = (*policies.LABEL_RULES, LabelRule("machines", (("env", "prod"), ("role", "db")), (("host", "host-a"),)))
OTHER_SETS = {
    "payments": NetworkSet("payments", (Prefix("1.2.0.0/16"), Prefix("2a00:2::/32"))),
    "private": NetworkSet("private", (Prefix("192.168.0.0/16"), Prefix("fd00::/16"))),
    "resolvers": NetworkSet("resolvers", (Prefix("192.168.7.66/32"),)),
}
EVERY_PAIR = 100_000


def drafted(active: Snapshot, policy: PolicySet) -> Snapshot:
    """Return the same inventory under another policy."""
    return apply(active, PolicyActivated(Version(2), policy))


def said(made: tuple[ConnectionChange, ...], ends: tuple[str, str], point: Point) -> bool:
    """Tell whether a connection is among some changes."""
    return any(ends in each.pairs and speaks(each.on, point) for each in made)


def disagreement(active: Snapshot, draft: Snapshot, it: Plan, trial: Trial) -> str | None:
    """Compare a plan with the oracle on one packet: None where there is nothing to compare, empty where they agree."""
    one, other, point, v6 = trial
    was, now = (passes(each, one, other, point, v6=v6) for each in (active, draft))
    if was is None or now is None:
        return None
    ends = (name((active, draft), one, other, v6=v6), name((active, draft), other, one, v6=v6))
    told = (said(it.lost, ends, point), said(it.gained, ends, point))
    really = (was and not now, now and not was)
    if any(several((active, draft), each, v6=v6) for each in (one, other)):
        told = (told[0] and really[0], told[1] and really[1])
    return "" if told == really else f"{ends} {point}: lost, gained {told} in the plan, {really} by the oracle"


@FEW
@given(strategies.snapshots(), strategies.policy_sets(), st.randoms(use_true_random=False))
def test_gained_and_lost_are_what_the_oracle_gains_and_loses(
    active: Snapshot, policy: PolicySet, random: Random
) -> None:
    draft = drafted(active, policy)
    it = plan(active, draft, pairs=EVERY_PAIR)
    for trial in trials(random, spots(active), points(active, draft), TRIED):
        assert not disagreement(active, draft, it, trial), trial


@FEW
@given(strategies.snapshots(), strategies.policy_sets(), st.randoms(use_true_random=False))
def test_a_draft_that_labels_anew_hides_nobody(active: Snapshot, policy: PolicySet, random: Random) -> None:
    """Label rules and network sets are policy too: whoever a draft moves elsewhere is told of by what that changes."""
    draft = drafted(active, replace(policy, label_rules=some(random, LABEL_RULES), network_sets=some_sets(random)))
    it = plan(active, draft, pairs=EVERY_PAIR)
    for trial in trials(random, spots(active), points(active, draft), TRIED):
        assert not disagreement(active, draft, it, trial), trial


def some(random: Random, rules: tuple[LabelRule, ...]) -> tuple[LabelRule, ...]:
    """Return some of these rules."""
    return tuple(each for each in rules if random.random() < 0.5)


def some_sets(random: Random) -> tuple[NetworkSet, ...]:
    """Return the sets of the random worlds, some with other addresses."""
    return tuple(random.choice((OTHER_SETS.get(each.name, each), each)) for each in NETWORK_SETS)
