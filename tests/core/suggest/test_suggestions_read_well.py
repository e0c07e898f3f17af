"""What a person gets: readable text, evidence, what is left out and why, and how far to trust it."""

from random import Random

import pytest

from estates import OFFICE, Connections, end, outside, stored, workload
from ordinary import HOUR, Estate, port_scan, walk
from stockade.core import select
from stockade.core.graph.anomalies import anomalies
from stockade.core.graph.baseline import learn
from stockade.core.graph.judge import Judge
from stockade.core.graph.merge import merged, telling
from stockade.core.graph.scans import failed
from stockade.core.model.flow import FlowEnd, StoredFlow, Verdict
from stockade.core.model.ids import HostId, Revision, Version, WorkloadId
from stockade.core.model.inventory import Attachment, Endpoint, Host, Sighting, Workload, WorkloadKind
from stockade.core.model.labels import NAME, Label, Labels
from stockade.core.model.policy import PolicySet
from stockade.core.model.snapshot import Snapshot
from stockade.core.policy import complete
from stockade.core.suggest.suggest import drafted, ringfence, suggest
from stockade.core.suggest.values import Reason

PEOPLE = [
    ("web-1", {"app": "shop", "role": "web", "env": "prod"}),
    ("web-2", {"app": "shop", "role": "web", "env": "prod"}),
    ("api-1", {"app": "shop", "role": "api", "env": "prod"}),
    ("db-1", {"app": "shop", "role": "db", "env": "prod"}),
    ("prom-1", {"app": "prometheus", "role": "monitoring", "env": "prod"}),
    ("mail-1", {"app": "mail", "role": "api", "env": "prod"}),
    ("odd", {}),
]


@pytest.fixture
def shop() -> Snapshot:
    found = [workload(number, labels, name) for number, (name, labels) in enumerate(PEOPLE)]
    hosts = {each: Host(each, WorkloadId(f"host:{each}"), ("eth0", "lo")) for each in map(HostId, ("host-a", "host-b"))}
    policy = complete(PolicySet(network_sets=(OFFICE,)))
    return Snapshot(Revision(1), hosts, {each.id: each for each in found}, policy, Version(1))


def who(snapshot: Snapshot, name: str) -> FlowEnd:
    return end(next(each for each in snapshot.workloads.values() if each.name == name))


def told(snapshot: Snapshot, *made: Connections) -> list[StoredFlow]:
    return [row for each in made for row in stored(snapshot, each)]


def ordinary(shop: Snapshot) -> list[StoredFlow]:
    web, api, db, prom = (who(shop, each) for each in ("web-1", "api-1", "db-1", "prom-1"))
    return told(
        shop,
        *(Connections(web, api, 6, 8080, at=at) for at in (0, 100, 900)),
        *(Connections(api, db, 6, 5432, at=at) for at in (10, 400, 800)),
        *(Connections(prom, each, 6, 9100, at=50) for each in (web, api, db)),
        *(Connections(api, outside(shop, "10.200.0.7"), 6, 443, at=at) for at in (20, 950)),
        *(Connections(api, db, 6, port, at=30) for port in (7001, 7002, 7003)),
    )


def test_the_text_is_what_a_person_would_write(shop: Snapshot) -> None:
    it = suggest(ordinary(shop), shop, select.parse("app = shop and env = prod"), "shop", enforce=True)
    assert (
        it.text
        == """\
apiVersion: stockade.dev/v1
kind: Policy
metadata: {name: shop}
spec:
  scope: app = shop and env = prod
  rules:
    - name: api-to-db
      allow: {from: role = api, to: role = db, on: [postgres, tcp/7001-7003]}
    - name: web-to-api
      allow: {from: role = web, to: role = api, on: [tcp/8080]}
    - name: prometheus-monitoring-to-api
      allow: {from: any(app = prometheus), to: "role in (api, db, web)", on: [node-exporter]}
    - name: api-to-office
      allow: {from: role = api, to: networks(office), on: [https]}
---
apiVersion: stockade.dev/v1
kind: EnforcementMode
metadata: {name: shop}
spec: {select: app = shop and env = prod, mode: full, priority: 10}
"""
    )


def test_each_rule_says_what_it_rests_on_and_what_else_it_opens(shop: Snapshot) -> None:
    it = suggest(ordinary(shop), shop, select.parse("app = shop"), "shop")
    rules = {each.rule.id: each for each in it.rules}
    web = rules["shop/web-to-api"]  # type: ignore[index]
    assert (web.evidence.flows, web.evidence.connections, web.evidence.first, web.evidence.last) == (1, 15, 0, 902)
    assert (web.evidence.sources, web.evidence.destinations) == (1, 1)
    assert web.opens.sources == ("web-2",)
    assert rules["shop/api-to-office"].opens.networks == ("office",)  # type: ignore[index]
    assert it.coverage.connections == it.coverage.of_connections == sum(each.evidence.connections for each in it.rules)


def test_what_is_left_out_says_why(shop: Snapshot) -> None:
    web, db, mail, odd = (who(shop, each) for each in ("web-1", "db-1", "mail-1", "odd"))
    scanned = [Connections(mail, db, 6, port, answer=40, count=1, at=500) for port in range(9000, 9030)]
    rows = ordinary(shop) + told(
        shop,
        *scanned,
        Connections(mail, db, 6, 5432, count=1, at=501),
        Connections(odd, db, 6, 5432),
        Connections(outside(shop, "203.0.113.9"), web, 6, 443),
        Connections(web, db, 6, 22, Verdict.WOULD_DENY, "base/no-ssh"),
        Connections(web, db, 47, 0),
        Connections(mail, web, 6, 25, Verdict.DENIED, "forged"),
    )
    it = suggest(rows, shop, select.parse("app = shop"), "shop")
    reasons = {(each.traffic.source.address, each.traffic.port): each.reason for each in it.refused}
    assert reasons[mail.address, 9000] is Reason.SCAN
    assert reasons[mail.address, 5432] is Reason.SCAN
    assert reasons[odd.address, 5432] is Reason.UNKNOWN
    assert reasons["203.0.113.9", 443] is Reason.DARK  # type: ignore[index]
    assert reasons[web.address, 22] is Reason.DENIED
    assert reasons[web.address, 0] is Reason.UNSPEAKABLE
    assert reasons[mail.address, 25] is Reason.UNVOUCHED
    assert len(it.refused) == 36
    assert it.text == suggest(ordinary(shop), shop, select.parse("app = shop"), "shop").text


def test_a_service_is_not_named_where_it_means_what_is_left_out(shop: Snapshot) -> None:
    web, api = who(shop, "web-1"), who(shop, "api-1")
    asked = Connections(web, api, 17, 53)
    alone = suggest(told(shop, asked), shop, select.parse("app = shop"), "shop")
    assert "on: [dns]" in alone.text
    assert alone.rules[0].opens.on == "tcp/53"
    transfer = Connections(web, api, 6, 53, Verdict.DENIED, "base/no-transfers")
    assert "on: [udp/53]" in suggest(told(shop, asked, transfer), shop, select.parse("app = shop"), "shop").text


def test_one_replica_that_may_not_is_told_from_one_that_may(shop: Snapshot) -> None:
    one, other, db = (who(shop, each) for each in ("web-1", "web-2", "db-1"))
    rows = told(shop, Connections(one, db, 6, 5432), Connections(other, db, 6, 5432, Verdict.DENIED, "base/no"))
    it = suggest(rows, shop, select.parse("app = shop"), "shop")
    assert "allow: {from: name = web-1, to: role = db, on: [postgres]}" in it.text


def test_one_address_that_may_not_is_told_from_one_that_may(shop: Snapshot) -> None:
    web, far, near = who(shop, "web-1"), outside(shop, "8.8.8.8"), outside(shop, "1.1.1.1")
    rows = told(shop, Connections(far, web, 6, 443), Connections(near, web, 6, 443, Verdict.DENIED, "base/no"))
    it = suggest(rows, shop, select.parse("app = shop"), "shop")
    assert [(each.name, each.cidrs) for each in it.policy.network_sets] == [("shop-seen-1", ("8.8.8.8/32",))]
    assert "from: networks(shop-seen-1), to: role = web, on: [https]" in it.text


def test_what_comes_up_later_is_counted_as_wrongly_denied(shop: Snapshot) -> None:
    web, api, db = (who(shop, each) for each in ("web-1", "api-1", "db-1"))
    early = [Connections(web, api, 6, 8080, at=at) for at in range(0, 1000, 50)]
    late = [Connections(api, db, 6, 5432, at=900), Connections(who(shop, "web-2"), api, 6, 8080, at=950)]
    it = suggest(told(shop, *early, *late), shop, select.parse("app = shop"), "shop")
    assert it.held_out is not None
    assert (it.held_out.flows.count, it.held_out.flows.of) == (1, 3)
    assert (it.held_out.connections.count, it.held_out.connections.of) == (5, 35)
    assert it.held_out.flows.low < 1 / 3 < it.held_out.flows.high
    assert (it.unseen.seen, it.unseen.once) == (2, 1)


def test_nothing_seen_suggests_nothing_and_says_that_nothing_is_known(shop: Snapshot) -> None:
    it = suggest([], shop, select.parse("app = shop"), "shop")
    assert (it.rules, it.refused, it.held_out, it.unseen.probability) == ((), (), None, 1.0)
    assert "rules: []" in it.text


def test_a_ringfence_reads_as_one(shop: Snapshot) -> None:
    assert (
        ringfence(ordinary(shop), shop, select.parse("app = shop"), "ring", enforce=False).text
        == """\
apiVersion: stockade.dev/v1
kind: Policy
metadata: {name: ring}
spec:
  scope: app = shop
  rules:
    - name: itself
      allow: {from: all, to: all}
    - name: prometheus-monitoring-to-api
      allow: {from: any(app = prometheus), to: "role in (api, db, web)", on: [node-exporter]}
    - name: api-to-office
      allow: {from: role = api, to: networks(office), on: [https]}
"""
    )


# An hour is learnt, the next is held back, and an attacker walks in the first


def snapshot_of(estate: Estate) -> Snapshot:
    """The snapshot in which everybody of an estate is, on one host."""
    host = HostId("host-a")
    ends = [*estate.everyone(), estate.prometheus]
    return Snapshot(
        hosts={host: Host(host, WorkloadId("host:host-a"), ("eth0",))},
        workloads={each.id: each for each in (present(one, host) for one in ends)},
        policy=complete(PolicySet()),
    )


def present(one: FlowEnd, host: HostId) -> Workload:
    values = dict(one.labels)
    name, id_ = values.pop(NAME), one.workload or WorkloadId("")
    endpoint = Endpoint(Attachment.ROUTED, (one.address,), f"veth-{id_}")
    seen = Sighting(id_, name, WorkloadKind.CONTAINER, host, endpoints=(endpoint,))
    return Workload(seen, Labels(tuple(Label(key, value) for key, value in sorted(values.items()))))


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("app", ["shop", "bank"])
def test_what_an_hour_teaches_allows_the_next_and_none_of_an_attack(seed: int, app: str) -> None:
    estate = Estate(seed, steady=True)
    baseline = learn([row for number in range(12) for row in estate.hour(number)])
    first, second = estate.hour(12), estate.hour(13)
    snapshot = snapshot_of(estate)
    chain = [estate.pick(*each) for each in (("wiki", "web"), ("shop", "cache"), ("bank", "queue"), ("bank", "db"))]
    probes = list(port_scan(Random(seed), chain[0], estate.pick(app, "db"), 12 * HOUR + 60))
    attack = [*walk(chain, 12 * HOUR + 200), *probes]
    seen = [*first, *attack]
    suspicious = anomalies(seen, baseline, telling(snapshot)).anomalies
    it = suggest(seen, snapshot, select.parse(f"app = {app}"), "learnt", enforce=True, suspicious=suspicious)
    judge = Judge(drafted(snapshot, it.policy))

    evil = merged([each for each in attack if of_app(each, app)], telling(snapshot))
    assert evil
    assert not [each for each in evil if judge.of(each).allowed]
    held_back = merged([each for each in second if of_app(each, app)], telling(snapshot))
    denied = [each for each in held_back if not failed(each) and not judge.of(each).allowed]
    assert len(held_back) > 50
    assert not denied


def of_app(each: StoredFlow, app: str) -> bool:
    return any(("app", app) in end.labels for end in (each.source, each.destination))
