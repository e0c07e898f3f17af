"""A tightened policy lets pass what passed and nothing else; a replay decides as the oracle does."""

from random import Random

import pytest
from msgspec.structs import replace

from estates import DARK, FULL, OUTSIDE, PORTS, Connections, end, enforced, estate, outside, passes, stored
from stockade.core import select
from stockade.core.graph.merge import merged, telling
from stockade.core.graph.values import Traffic
from stockade.core.model.flow import FlowEnd, StoredFlow, Verdict
from stockade.core.model.ids import RuleId
from stockade.core.model.policy import (
    Action,
    Policy,
    PolicySet,
    Rule,
    Selected,
)
from stockade.core.model.selector import ALL, And, Equal, Not
from stockade.core.model.snapshot import Snapshot
from stockade.core.plan.plan import plan
from stockade.core.policy import SourceText, placeless, read
from stockade.core.suggest.replay import replay
from stockade.core.suggest.suggest import drafted
from stockade.core.suggest.tighten import tighten
from stockade.errors import StockadeError

pytestmark = pytest.mark.long

SEEDS = range(12)


def every_connection(snapshot: Snapshot) -> list[tuple[FlowEnd, FlowEnd, int, int]]:
    known = [end(each) for each in snapshot.workloads.values()]
    far = [outside(snapshot, each) for each in (*OUTSIDE, *DARK) if ":" not in each]
    pairs = [(one, other) for one in (*known, *far) for other in (*known, *far) if one is not other]
    return [(*pair, *port) for pair in pairs if pair[0].workload or pair[1].workload for port in PORTS]


def passing(random: Random, snapshot: Snapshot, count: int) -> list[StoredFlow]:
    """Flows of some connections that the oracle lets pass."""
    tried = random.sample(every_connection(snapshot), count)
    found = [Connections(*each, at=random.uniform(0, 900)) for each in tried if passes(snapshot, *each)]
    return [row for each in found for row in stored(snapshot, each)]


def by_oracle(snapshot: Snapshot, each: Traffic) -> bool:
    return passes(snapshot, each.source, each.destination, each.protocol, each.port)


@pytest.mark.parametrize("seed", SEEDS)
def test_what_passed_still_passes_and_nothing_else_does(seed: int) -> None:
    random = Random(seed)
    snapshot = enforced(random)
    flows = passing(random, snapshot, 150)
    if not flows:
        return
    it = tighten(flows, snapshot, "mine")
    draft = drafted(snapshot, it.policy)
    for each in merged(flows, telling(snapshot)):
        assert by_oracle(draft, each), (each, it.text)
    assert not plan(snapshot, draft).gained, it.text
    for each in random.sample(every_connection(snapshot), 150):
        assert passes(snapshot, *each) or not passes(draft, *each), (each, it.text)


@pytest.mark.parametrize("seed", SEEDS)
def test_no_workload_that_may_come_is_let_in_by_a_narrowed_rule(seed: int) -> None:
    random = Random(seed)
    snapshot = enforced(random)
    flows = passing(random, snapshot, 60)
    for each in tighten(flows, snapshot, "mine").rules if flows else ():
        if each.after is None:
            continue
        for was, now in ((each.before.source, each.after.source), (each.before.destination, each.after.destination)):
            if isinstance(was, Selected) and isinstance(now, Selected):
                beyond = select.normal(And((now.selector, Not(was.selector))))
                assert not select.satisfiable(beyond), each


def test_some_worlds_are_really_narrowed() -> None:
    narrowed = gone = 0
    for seed in SEEDS:
        random = Random(seed)
        snapshot = enforced(random)
        flows = passing(random, snapshot, 60)
        rules = tighten(flows, snapshot, "mine").rules if flows else ()
        gone += sum(each.after is None for each in rules)
        narrowed += sum(each.after not in (None, each.before) for each in rules)
    assert narrowed > 8
    assert gone > 8


@pytest.mark.parametrize("seed", SEEDS)
def test_the_tightened_text_reads_back(seed: int) -> None:
    random = Random(seed)
    snapshot = enforced(random)
    flows = passing(random, snapshot, 100)
    if not flows:
        return
    it = tighten(flows, snapshot, "mine")
    sets = "apiVersion: stockade.dev/v1\nkind: NetworkSet\nmetadata: {name: office}\nspec: {cidrs: [10.200.0.0/16]}\n"
    draft = read([SourceText("tight.yaml", it.text.encode()), SourceText("sets.yaml", sets.encode())])
    assert not draft.problems, (it.text, draft.problems)
    assert placeless(draft.policy).policies == placeless(it.policy).policies


def test_nothing_is_called_unused_where_nothing_was_recorded() -> None:
    snapshot = enforced(Random(1))
    with pytest.raises(StockadeError, match="no flows were recorded"):
        tighten([], snapshot, "mine")
    with pytest.raises(StockadeError, match="no policy is called nobodys"):
        tighten(passing(Random(1), snapshot, 200), snapshot, "nobodys")


@pytest.mark.parametrize("seed", SEEDS)
def test_a_replay_decides_as_the_oracle_does(seed: int) -> None:
    random = Random(seed)
    active, draft = estate(random), enforced(Random(seed))
    tried = random.sample(every_connection(active), 200)
    seen = [
        Connections(*each, at=1.0, verdict=random.choice((Verdict.ALLOWED, Verdict.DENIED)), rule="default")
        for each in tried
    ]
    it = replay([row for each in seen for row in stored(active, each)], active, draft)
    assert len(it.kept) + len(it.cut) + len(it.opened) + len(it.shut) == len(seen)
    for each in (*it.kept, *it.opened):
        assert by_oracle(draft, each.traffic), each
        assert each.decision.denied is None
    for each in (*it.cut, *it.shut):
        assert not by_oracle(draft, each.traffic), each
        assert each.decision.denied is not None
    assert all(each.traffic.seen.passed for each in (*it.kept, *it.cut))
    assert it.cut_connections == sum(each.traffic.seen.passed for each in it.cut)


def test_a_workload_that_is_gone_is_judged_by_the_labels_that_it_had() -> None:
    snapshot = estate(Random(5))
    one, other = (each for each in list(snapshot.workloads.values())[3:5])
    gone = FlowEnd(end(one).address, one.id, (("app", "ghost"), ("name", "ghost-1")))
    flows = list(stored(snapshot, Connections(gone, end(other), 6, 5432)))
    rule = Rule(RuleId("p/r"), Action.ALLOW, Selected(Equal("app", "ghost")), Selected(ALL), ("postgres",))
    policy = PolicySet(policies=(Policy("p", (rule,)),), modes=(FULL,))
    left = {id_: each for id_, each in snapshot.workloads.items() if id_ != one.id}
    draft = drafted(snapshot._replace(workloads=left), policy)
    assert [each.decision.rule for each in replay(flows, snapshot, draft).kept] == ["p/r"]
    shut = drafted(draft, PolicySet(policies=(replace(policy.policies[0], rules=()),)))
    assert len(replay(flows, snapshot, shut).cut) == 1
