"""Corners of the oracle's meaning: two claims on one thing, places that nobody reported, snapshots nobody folded."""

import pytest
from msgspec.structs import replace
from shopfloor import (
    API,
    DB,
    ITSELF,
    PASS_BIRTHS,
    UDP,
    WEB,
    ask,
    layers,
    rule,
    shop,
)

from stockade.core.model.ids import Address, Realm
from stockade.core.model.inventory import Attachment, Endpoint, WorkloadState
from stockade.core.model.packet import Layer
from stockade.core.model.policy import (
    EnforcementMode,
    Mode,
    Networks,
    NetworkSet,
)
from stockade.core.model.selector import And, Equal, Not
from stockade.testing.scenarios import (
    OTHER,
    TCP_80,
    TO_WEB,
    box,
    container,
    endpoint,
    host,
    host_itself,
    role,
    unmanaged,
)

WEB_API = rule("web-api", role("web"), role("api"), TCP_80)
VISIBLE = EnforcementMode("shop", Equal("app", "shop"), Mode.VISIBILITY)
HOST_FULL = EnforcementMode("hosts", role("host"), Mode.FULL)
API_FULL = EnforcementMode("api", role("api"), Mode.FULL)
EVERYWHERE = NetworkSet("everywhere", ("0.0.0.0/0", "::/0"))
OUT = rule("out", role("api"), Networks(("everywhere",)))
PUBLISHED = host(published=(TO_WEB,))


def networks(*sets: NetworkSet) -> dict[str, object]:
    return {"network_sets": sets}


def test_the_exact_published_address_wins_then_the_family() -> None:
    anywhere_api = replace(TO_WEB, workload=API, to_address=Address("10.0.0.12"))
    exact = replace(TO_WEB, address="192.168.7.1")
    for order in ((anywhere_api, exact), (exact, anywhere_api)):
        assert ask(shop(more=(host(published=order),)), "outside", "192.168.7.1", 8080).destination == WEB
    six = replace(TO_WEB, workload=API, to_address=Address("fd00::12"))
    for order in ((six, TO_WEB), (TO_WEB, six)):
        assert ask(shop(more=(host(published=order),)), "outside", "192.168.7.1", 8080).destination == WEB


def test_loopback_is_the_host_even_before_anybody_has_seen_it() -> None:
    snapshot = shop()
    unseen = snapshot._replace(workloads={key: each for key, each in snapshot.workloads.items() if key != ITSELF})
    assert ask(unseen, "127.0.0.1", "127.0.0.1", interface="").allowed
    assert ask(unseen, "127.0.0.1", "::1", interface="").allowed


def test_loopback_to_a_published_port_leaves_the_host() -> None:
    snapshot = shop(modes=(HOST_FULL,), more=(PUBLISHED,))
    said = ask(snapshot, "127.0.0.1", "127.0.0.1", 8080, interface="")
    assert (said.source, said.destination, said.allowed) == (ITSELF, WEB, False)
    assert ask(shop(more=(PUBLISHED,), modes=(VISIBLE,)), "127.0.0.1", "127.0.0.1", 8080, interface="").allowed
    out = rule("out", role("host"), Networks(("everywhere",)))
    strange = shop(out, modes=(HOST_FULL,), **networks(EVERYWHERE))
    assert not ask(strange, "web", "127.0.0.1").allowed


def test_a_host_may_have_several_places() -> None:
    twice = host_itself()
    places = (Endpoint(Attachment.HOST, (Address("10.0.0.1"),)), Endpoint(Attachment.HOST, (Address("192.168.7.1"),)))
    twice = replace(twice, sighting=replace(twice.sighting, endpoints=places))
    assert ask(shop(modes=(HOST_FULL,), more=(twice,)), "host", "gateway").allowed


def test_stopped_and_shared_hold_for_snapshots_that_nobody_folded() -> None:
    snapshot = shop(WEB_API)
    web = snapshot.workloads[WEB]
    for changed in ({"state": WorkloadState.STOPPED}, {"owner": DB}):
        odd = replace(web, seen=replace(web.seen, **changed))
        assert not ask(snapshot._replace(workloads={**snapshot.workloads, WEB: odd}), "web", "api").allowed


def test_where_one_address_is_opaque_and_bridged_the_bridge_carries_it() -> None:
    opaque = Endpoint(Attachment.OPAQUE, (Address("10.0.0.11"),))
    for places in ((opaque, endpoint(11)), (endpoint(11), opaque)):
        assert [
            end.workload for end in ask(shop(more=(container("web-1", 11, endpoints=places),)), "outside", "web").ends
        ]


def test_no_set_matches_what_two_claim_or_a_link_nobody_reported() -> None:
    claimed = Endpoint(Attachment.REMOTE, (Address("203.0.113.5"),))
    twins = tuple(
        replace(unmanaged(name), sighting=replace(unmanaged(name).sighting, endpoints=(claimed,)))
        for name in ("x", "y")
    )
    out = rule("out", role("api"), Networks(("payments",)))
    assert ask(shop(out, more=twins[:1]), "api", "203.0.113.6").allowed
    assert not ask(shop(out, more=twins), "api", "203.0.113.5").allowed
    link = replace(endpoint(70), addresses=(Address("203.0.113.5"),))
    assert not ask(shop(out, more=(host(unknown=(link,)),)), "api", "203.0.113.5").allowed
    assert ask(shop(out, more=(host(OTHER, unknown=(link,)),)), "api", "203.0.113.5").allowed  # in a realm of its own
    shared = replace(link, realm=Realm(""))
    assert not ask(shop(out, more=(host(OTHER, unknown=(shared,)),)), "api", "203.0.113.5").allowed


@pytest.mark.parametrize("port", ["veth15", "veth-never-seen"])
def test_the_unknown_that_calls_itself_an_outsider_is_in_no_set(port: str) -> None:
    inwards = rule("in", Networks(("payments",)), role("api"))
    assert not ask(shop(inwards, modes=(API_FULL, PASS_BIRTHS)), "outside", "api", interface=port).allowed


def test_membership_reports_may_come_from_no_address() -> None:
    assert ask(shop(), "0.0.0.0", "224.0.0.22", 0, 2, interface="veth11").allowed
    assert layers(ask(shop(), "0.0.0.0", "224.0.0.22", 0, UDP, interface="veth11")) == [Layer.FORGED]
    assert layers(ask(shop(), "10.0.0.14", "224.0.0.22", 0, 2, interface="veth11")) == [Layer.FORGED]


def test_each_bridge_of_the_host_counts_and_no_resolvers_document_is_needed() -> None:
    seen = host()
    second = replace(seen.host.bridges[0], name="br1", subnets=("10.5.0.0/24",))
    two = replace(seen, host=replace(seen.host, bridges=(*seen.host.bridges, second)))
    for address in ("10.0.0.200", "10.5.0.200"):
        assert not ask(shop(OUT, more=(two,), **networks(EVERYWHERE)), "api", address).allowed
    dns = rule("dns", role("api"), Networks(("resolvers",)))
    assert ask(shop(dns, **networks(EVERYWHERE)), "api", "192.168.7.53").allowed


def test_trust_asked_for_anywhere_in_an_allow_opens_nothing() -> None:
    both = And((Equal("app", "shop"), Equal("role", "web", trusted=True)))
    assert not ask(shop(rule("r", both, role("api"))), "web", "api").allowed
    assert not ask(shop(rule("r", role("web"), Not(Equal("role", "db", trusted=True)))), "web", "api").allowed
    plain = And((Equal("app", "shop"), Equal("role", "web")))
    assert ask(shop(rule("r", plain, role("api"))), "web", "api").allowed


def test_what_a_document_declares_yields_to_who_is_there() -> None:
    """A container's address in its host's own network is the container's on that host, whatever a document says."""
    allow = rule("to-boxes", role("api"), role("box"), TCP_80)
    boxes = (box("box", "10.0.0.11", "192.168.7.40", role="box"),)
    world = shop(allow, modes=(API_FULL, VISIBLE), workloads=boxes)
    assert ask(world, "api", "192.168.7.40", 80).allowed
    met = ask(world, "api", "web", 80)
    assert (met.destination, met.allowed) == (WEB, False)
    assert ask(world, "web", "192.168.7.40", 80).source == WEB
