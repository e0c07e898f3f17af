"""Explain, by example: the shop of ``examples/shop``, two of each tier."""

from collections.abc import Iterator

import pytest

from stockade.core import policy
from stockade.core.fold import fold
from stockade.core.model.event import LabelsSet, PolicyActivated
from stockade.core.model.ids import Version, WorkloadId
from stockade.core.model.inventory import Facts
from stockade.core.model.packet import Layer
from stockade.core.model.snapshot import Snapshot
from stockade.core.plan.explain import explain
from stockade.core.plan.values import Explanation
from stockade.core.policy import ports_of
from stockade.errors import StockadeError
from stockade.testing.scenarios import OTHER, container, host, host_itself

SHOP = """\
apiVersion: stockade.dev/v1
kind: Policy
metadata: {name: shop}
spec:
  scope: app = shop
  rules:
    - name: web-to-api
      allow: {from: role = web, to: role = api, on: [tcp/8080]}
    - name: api-to-db
      allow: {from: role = api, to: role = db, on: [postgres]}
    - name: scrape
      allow: {from: role = probe, to: all, on: [tcp/9100]}
    - name: pay
      allow: {from: role = api, to: networks(payments), on: [https]}
    - name: no-ssh
      overrideDeny: {from: role = web, to: all, on: [ssh]}
---
apiVersion: stockade.dev/v1
kind: NetworkSet
metadata: {name: payments}
spec: {cidrs: [1.2.3.0/24]}
---
apiVersion: stockade.dev/v1
kind: EnforcementMode
metadata: {name: shop}
spec: {select: app = shop, mode: full}
"""
NAMES = ("web-1", "web-2", "api-1", "db-1", "db-2")


def shop(*more: object) -> Snapshot:
    """Make the shop under its policy; more events come last."""
    draft = policy.read([policy.SourceText("shop.yaml", SHOP.encode())])
    workloads = [container(name, 11 + place) for place, name in enumerate(NAMES)]
    active = PolicyActivated(Version(1), policy.complete(draft.policy))
    return fold([host(), host_itself(), *workloads, active, *more])


def ask(source: str, destination: str, on: str, *more: object) -> Explanation:
    """Explain one connection in the shop."""
    return explain(shop(*more), source, destination, ports_of(on))


def test_what_is_allowed_names_the_rule_at_each_end() -> None:
    it = ask("web-1", "api-1", "tcp/8080")
    assert it.allowed
    assert [(end.because, end.rule, str(end.where.line)) for end in it.ends] == [
        ("shop/web-to-api allows it", "shop/web-to-api", "7")
    ] * 2
    assert it.nearest is it.flip is None


def test_the_nearest_allow_is_widened_by_the_role_that_it_lacks() -> None:
    it = ask("web-1", "db-1", "tcp/5432")
    assert not it.allowed
    assert [(end.layer, end.because) for end in it.ends] == [(Layer.MODE, "no rule allows it; mode full denies")] * 2
    assert (it.nearest.rule, it.nearest.lacks) == ("shop/api-to-db", ("source",))
    assert it.flip.text == 'from: "role in (api, web)"'
    assert (it.flip.rule, it.flip.where.file, it.flip.where.line) == ("shop/api-to-db", "shop.yaml", 9)
    assert it.flip.also == (("web-1", "db-2"), ("web-2", "db-1"), ("web-2", "db-2"))
    assert it.flip.also_count == 3


def test_or_by_the_port() -> None:
    it = ask("api-1", "db-1", "tcp/5433")
    assert (it.flip.text, it.flip.rule) == ("on: [postgres, tcp/5433]", "shop/api-to-db")
    assert it.flip.also == (("api-1", "db-2"),)


def test_or_by_one_address_of_a_network_set() -> None:
    it = ask("api-1", "8.8.8.8", "tcp/443")
    assert (it.flip.text, it.flip.where.line) == ("NetworkSet payments  cidrs: […, 8.8.8.8/32]", 21)
    assert it.flip.rule is None


def test_or_by_lifting_the_scope_where_only_that_is_in_the_way() -> None:
    outside = container("probe-1", 31, facts=Facts("docker", labels=(("stockade.role", "probe"),)))
    it = ask("probe-1", "db-1", "tcp/9100", outside)
    assert (it.flip.text, it.flip.rule) == ("from: any(role = probe)", "shop/scrape")


def test_where_no_one_thing_is_enough_it_takes_a_rule_of_its_own() -> None:
    it = ask("web-1", "web-2", "tcp/22000")
    assert it.flip.text == (
        'allow: {from: "any(app = shop and role = web)", to: "any(app = shop and role = web)", on: [tcp/22000]}'
    )
    assert it.flip.where is None
    assert it.flip.also == (("web-2", "web-1"),)


def test_what_beats_every_allow_has_to_be_changed_itself() -> None:
    it = ask("web-1", "db-1", "tcp/22")
    assert it.ends[0].because == "shop/no-ssh denies it, whatever allows it"
    assert (it.flip.text, it.flip.where.line) == ("take this connection out of shop/no-ssh", 15)


def test_an_address_that_nobody_reported_can_be_named_by_no_policy() -> None:
    it = ask("web-1", "10.0.0.99", "tcp/443")
    assert it.flip.text == "nothing in policy: no selector and no network set can name 10.0.0.99"


def test_what_nobody_labelled_wants_a_label_first() -> None:
    it = ask("new-1", "web-1", "tcp/80", container("new-1", 31, labels=False))
    assert it.ends[0].layer is Layer.HELD
    assert it.flip.text == "label it: stockade labels set docker:host-a:new-1 app=…"


# Names


def test_an_end_has_its_workloads_name_whatever_was_typed() -> None:
    for typed in ("web-1", "10.0.0.11", "docker:host-a:web-1"):
        end = ask(typed, "db-1", "tcp/5432").source
        assert (end.text, end.name, end.address) == (typed, "web-1", "10.0.0.11")
    assert ask("web-1", "8.8.8.8", "tcp/443").destination.name == ""


def test_names_that_two_workloads_share_give_way_to_ids() -> None:
    twin = container("web-1", 61, OTHER)
    world = (host(OTHER), host_itself(OTHER, 2), twin)
    with pytest.raises(StockadeError, match="is the name of 2 workloads") as caught:
        ask("web-1", "db-1", "tcp/5432", *world)
    assert "docker:host-a:web-1, docker:host-b:web-1" in caught.value.remedy
    it = ask("docker:host-a:web-1", "db-1", "tcp/5432", *world)
    assert it.source.name == "docker:host-a:web-1"
    assert ("docker:host-b:web-1", "db-1") in it.flip.also


def test_an_address_that_two_networks_have_asks_for_a_name() -> None:
    twin = container("web-9", 11, OTHER)
    with pytest.raises(StockadeError, match=r"10\.0\.0\.11 is the address of 2 workloads"):
        ask("10.0.0.11", "db-1", "tcp/5432", host(OTHER), twin)


def test_who_shares_a_namespace_is_explained_as_its_owner() -> None:
    sidecar = container("sidecar", 31, owner=WorkloadId("docker:host-a:web-1"), endpoints=())
    it = ask("sidecar", "api-1", "tcp/8080", sidecar)
    assert it.allowed
    assert (it.source.text, it.source.name) == ("sidecar", "web-1")


# Where labels come from


def labelled(facts: Facts, *more: object) -> Iterator[tuple[str, str]]:
    """Yield each label of a workload with these facts, and where it comes from."""
    end = ask("new", "db-1", "tcp/80", container("new", 31, facts=facts), *more).source
    return zip((f"{each.key}={each.value}" for each in end.labels), end.origins, strict=True)


def test_a_label_says_which_fact_it_was_made_of_and_who_reported_that() -> None:
    compose = (("com.docker.compose.project", "shop"), ("com.docker.compose.service", "web"), ("stockade.env", "prod"))
    assert list(labelled(Facts("docker", labels=compose))) == [
        ("app=shop", 'from Compose project "shop" (docker on host-a)'),
        ("env=prod", "from its label stockade.env (docker on host-a)"),
        ("role=web", 'from Compose service "web" (docker on host-a)'),
    ]


def test_or_which_operator_set_it() -> None:
    by_hand = LabelsSet(WorkloadId("docker:host-a:new"), (("team", "green"),), "ann")
    assert list(labelled(Facts("docker"), by_hand)) == [("team=green", "from ann, an operator")]


def test_a_rule_of_ones_own_is_named_and_what_no_fact_made_is_the_rules_word() -> None:
    written = b"""\
apiVersion: stockade.dev/v1
kind: LabelRule
metadata: {name: images}
spec: {source: runtime, where: {runtime: docker}, set: {from: "{image}", site: north, both: "{runtime}-{image}"}}
"""
    draft = policy.read([policy.SourceText("labels.yaml", written)])
    active = PolicyActivated(Version(2), policy.complete(draft.policy))
    assert list(labelled(Facts("docker", image="shop:1"), active)) == [
        ("both=docker-shop:1", "from the runtime, by rule images"),
        ("from=shop:1", "from its image (docker on host-a), by rule images"),
        ("site=north", "from the runtime, by rule images"),
    ]


def test_the_same_question_has_the_same_answer_in_whatever_order_things_were_seen() -> None:
    again = shop(*(container(name, 11 + place) for place, name in reversed([*enumerate(NAMES)])))
    for source, destination, on in (("web-1", "db-1", "tcp/5432"), ("api-1", "8.8.8.8", "tcp/443")):
        assert explain(again, source, destination, ports_of(on)) == ask(source, destination, on)
