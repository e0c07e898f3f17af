"""What is suggested allows all that it was learnt from and nothing that it leaves out, by the oracle's word."""

from random import Random

import pytest

from estates import end, estate, passes, random_connections, stored
from stockade.core import policy as documents
from stockade.core import select
from stockade.core.graph.merge import merged, telling
from stockade.core.graph.values import Traffic
from stockade.core.model.flow import StoredFlow
from stockade.core.model.policy import PolicySet
from stockade.core.model.snapshot import Snapshot
from stockade.core.policy import SourceText, placeless, read
from stockade.core.policy.sets import documents as all_documents
from stockade.core.policy.sets import policy_set
from stockade.core.suggest.people import People
from stockade.core.suggest.sifting import concerns, ends
from stockade.core.suggest.suggest import drafted, ringfence, suggest
from stockade.core.suggest.values import Reason, Suggestion

pytestmark = pytest.mark.long

SEEDS = range(16)
SELECTIONS = (
    "app = shop",
    "app = shop and env = prod",
    "role = db",
    "all",
    "role in (web, api)",
    "not app = shop",
    "name = w3",
)


def world(seed: int) -> tuple[Random, Snapshot, list[StoredFlow]]:
    random = Random(seed)
    snapshot = estate(random)
    flows = [row for each in random_connections(random, snapshot, 60) for row in stored(snapshot, each)]
    random.shuffle(flows)
    return random, snapshot, flows


def reread(text: str, snapshot: Snapshot) -> PolicySet:
    """Read a suggestion as a file beside those that are there; return what it alone says."""
    there = SourceText("there.yaml", documents.to_documents(documents.own(snapshot.policy)).encode())
    draft = read([there, SourceText("suggested.yaml", text.encode())])
    assert not draft.problems, (text, draft.problems)
    return policy_set(each for _, each in all_documents(draft.policy) if each.where.file == "suggested.yaml")


def by_oracle(snapshot: Snapshot, each: Traffic) -> bool:
    return passes(snapshot, each.source, each.destination, each.protocol, each.port)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_suggestion_allows_what_it_learnt_from_and_nothing_that_it_leaves_out(seed: int) -> None:
    random, snapshot, flows = world(seed)
    it = suggest(flows, snapshot, select.parse(random.choice(SELECTIONS)), "learnt", enforce=True)
    draft = drafted(snapshot, reread(it.text, snapshot))
    left_out = {id(each.traffic) for each in it.refused}
    for each in it.refused:
        assert not each.open, (each, it.text)
        assert not by_oracle(draft, each.traffic), (each, it.text)
    assert not it.unmet
    learnt = [each for each in learnt_of(it, flows, snapshot) if id(each) not in left_out]
    for each in learnt:
        assert by_oracle(draft, each), (each, it.text)
    assert it.coverage.flows == len(learnt)


def learnt_of(it: Suggestion, flows: list[StoredFlow], snapshot: Snapshot) -> list[Traffic]:
    """All that was seen at the selected ends and is not among what is left out."""
    traffic = merged(flows, telling(snapshot))
    people = People(snapshot, it.policy.policies[0].scope, ends(traffic))
    left = {(r.traffic.source, r.traffic.destination, r.traffic.protocol, r.traffic.port) for r in it.refused}
    return [
        each
        for each in traffic
        if concerns(each, people) and (each.source, each.destination, each.protocol, each.port) not in left
    ]


@pytest.mark.parametrize("seed", SEEDS)
def test_the_text_reads_back_to_the_same_rules(seed: int) -> None:
    random, snapshot, flows = world(seed)
    it = suggest(flows, snapshot, select.parse(random.choice(SELECTIONS)), "learnt", enforce=bool(seed % 2))
    assert placeless(reread(it.text, snapshot)) == placeless(it.policy)
    assert documents.to_documents(reread(it.text, snapshot)) == it.text


@pytest.mark.parametrize("seed", SEEDS)
def test_flows_in_another_order_suggest_the_same_bytes(seed: int) -> None:
    random, snapshot, flows = world(seed)
    selector = select.parse(random.choice(SELECTIONS))
    other = list(flows)
    random.shuffle(other)
    assert suggest(flows, snapshot, selector, "learnt") == suggest(other, snapshot, selector, "learnt")


@pytest.mark.parametrize("seed", range(6))
def test_a_ringfence_opens_itself_and_its_neighbours_as_they_were_seen(seed: int) -> None:
    _, snapshot, flows = world(seed)
    shop = select.parse("app = shop")
    it = ringfence(flows, snapshot, shop, "ring")
    draft = drafted(snapshot, reread(it.text, snapshot))
    members = [each for each in snapshot.workloads.values() if select.matches(shop, each.labels, each.name)]
    for one in members:
        for other in members:
            assert passes(draft, end(one), end(other), 6, 12345)
    strangers = [each for each in snapshot.workloads.values() if each not in members]
    assert not any(passes(draft, end(one), end(other), 6, 12345) for one in strangers for other in members)
    for each in learnt_of(it, flows, snapshot):
        assert by_oracle(draft, each), each
    for each in it.refused:
        assert each.open == by_oracle(draft, each.traffic)


def test_every_reason_is_met_by_the_random_worlds() -> None:
    met = set()
    for seed in SEEDS:
        _, snapshot, flows = world(seed)
        met |= {each.reason for each in suggest(flows, snapshot, select.parse("all"), "learnt").refused}
    assert met >= {Reason.DENIED, Reason.UNKNOWN, Reason.UNVOUCHED, Reason.STRAY, Reason.DARK, Reason.NOTHING}
