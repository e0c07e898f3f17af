"""Whose address it is, who vouches for it, network sets, translation, and what always passes."""

import pytest
from msgspec.structs import replace
from shopfloor import (
    API,
    DB,
    ICMP,
    ICMPV6,
    ITSELF,
    NEW,
    PASS_BIRTHS,
    TCP,
    UDP,
    WEB,
    anywhere,
    ask,
    ingress,
    layers,
    packet,
    rule,
    shop,
    with_policy,
)

from stockade.core.model.event import LabelsSet
from stockade.core.model.ids import Address, Realm, WorkloadId
from stockade.core.model.inventory import Attachment, Endpoint, Failsafe, WorkloadState
from stockade.core.model.net import Ports
from stockade.core.model.packet import Direction, Layer, PacketState
from stockade.core.model.policy import (
    Action,
    EnforcementMode,
    Mode,
    Networks,
    NetworkSet,
    Quarantine,
    Selected,
    Service,
)
from stockade.core.model.selector import ALL, Equal, Not
from stockade.core.oracle import received
from stockade.testing.scenarios import (
    CUT_WEB,
    DEFAULT,
    FULL,
    HOLDING,
    OTHER,
    SELECTIVE,
    TCP_80,
    TO_WEB,
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


def host_with(**changed: object) -> object:
    seen = host()
    return replace(seen, host=replace(seen.host, **changed))


# Addresses


def test_addresses_are_their_realm_s() -> None:
    twin = container("web-1", 11, OTHER)  # the same address, on another host's bridge
    said = ask(shop(WEB_API, more=(host(OTHER), twin)), "web", "api")
    assert said.source == WEB
    assert said.allowed


def test_an_address_in_the_realm_that_hosts_share_is_met_everywhere() -> None:
    shared = replace(endpoint(50), addresses=(Address("192.168.7.50"),), realm=Realm(""))
    vm = container("web-7", 50, OTHER, endpoints=(shared,))
    snapshot = shop(WEB_API, more=(host(OTHER), vm))
    assert ask(snapshot, "192.168.7.50", "api").allowed
    assert not ask(snapshot, "192.168.7.51", "api").allowed
    other = shop(WEB_API, more=(host(OTHER), container("web-7", 50, OTHER)))
    assert not ask(other, "10.0.0.50", "api").allowed  # in host-b's own realm


def test_an_address_that_two_claim_is_nobody_s() -> None:
    twin = container("api-2", 30, endpoints=(replace(endpoint(30), addresses=(Address("10.0.0.12"),)),))
    said = ask(shop(WEB_API, modes=(FULL, PASS_BIRTHS), more=(twin,)), "web", "api")
    assert said.destination is None
    assert not said.allowed
    assert ask(shop(WEB_API, modes=(FULL, PASS_BIRTHS), more=(twin,)), "web6", "api6").allowed


@pytest.mark.parametrize(
    "closed", [{"modes": (DEFAULT, HOST_FULL, PASS_BIRTHS)}, {"quarantines": (Quarantine("h", role("host")),)}]
)
def test_a_host_hears_no_stranger_at_an_address_that_somebody_else_claims_too(closed: dict[str, object]) -> None:
    more = (unmanaged("rival", "192.168.7.1"),)
    snapshot = with_policy(shop(more=more, modes=()), **closed)
    for name, interface in (("new", "veth15"), ("web", "veth99"), ("web", "eth0")):
        assert not ask(snapshot, name, "host", 22, interface=interface).allowed, (name, interface)
    assert not ask(snapshot, "host", "new", 22, state=PacketState.REPLY, interface="veth15").allowed
    assert ask(snapshot, "web", "host", 22).allowed  # it is nobody's
    assert ask(shop(more=more, modes=(PASS_BIRTHS,)), "new", "host", 22).allowed


def test_one_workload_may_have_an_address_twice() -> None:
    twice = container("api-1", 12, endpoints=(endpoint(12), replace(endpoint(12), port="veth99")))
    assert ask(shop(WEB_API, more=(twice,)), "web", "api").allowed


def test_an_endpoint_owns_the_link_local_address_of_its_mac() -> None:
    web, api = "fe80::ff:fe00:b", "fe80::ff:fe00:c"  # 02:00:00:00:00:0b and :0c
    assert ask(shop(WEB_API), web, api, interface="veth11").allowed
    assert not ask(shop(WEB_API), web, "fe80::ff:fe00:d", interface="veth11").allowed
    assert not ask(shop(WEB_API), api, web, interface="veth12").allowed


def test_an_endpoint_without_a_mac_has_what_is_listed() -> None:
    bare = container("web-1", 11, endpoints=(replace(endpoint(11), mac=""),))
    assert ask(shop(WEB_API, more=(bare,)), "web", "api", sender_mac="02:00:00:00:00:0b").allowed
    assert not ask(shop(WEB_API, more=(bare,)), "fe80::ff:fe00:b", "api6", interface="veth11").allowed


def test_a_shared_namespace_is_its_owner_s() -> None:
    shares = container("db-2", 30, owner=WorkloadId("docker:host-a:web-1"))
    snapshot = shop(WEB_API, more=(shares,))
    assert ask(snapshot, "web", "api").source == WEB
    assert ask(snapshot, "10.0.0.30", "api", interface="veth30").source is None


def test_a_stopped_workload_gives_up_its_address() -> None:
    stopped = container("web-1", 11, state=WorkloadState.STOPPED)
    assert not ask(shop(WEB_API, more=(stopped,)), "web", "api").allowed
    assert ask(shop(WEB_API, more=(stopped, container("web-2", 11))), "web", "api").allowed


@pytest.mark.parametrize("attachment", [Attachment.OPAQUE, Attachment.REMOTE])
def test_what_no_host_s_stack_carries_judges_nothing_at_its_own_end(attachment: Attachment) -> None:
    opaque = container("db-1", 13, endpoints=(Endpoint(attachment, (Address("10.0.0.13"),)),))
    said = ask(shop(modes=(FULL,), more=(opaque,)), "10.0.0.13", "outside")
    assert said.source == DB
    assert said.ends == ()


def test_a_link_whose_workload_was_not_seen_is_unknown() -> None:
    link = host_with(unknown=(endpoint(70),))
    everybody = rule("r", anywhere(ALL), anywhere(ALL)), rule("n", Networks(("payments",)), role("web"))
    assert layers(ask(shop(*everybody, more=(link,)), "10.0.0.70", "web", interface="veth70")) == [Layer.HELD]
    passing = ask(shop(*everybody, more=(link,), modes=(FULL, PASS_BIRTHS)), "10.0.0.70", "web", interface="veth70")
    assert layers(passing) == [Layer.MODE]
    assert not passing.allowed


# Vouched


@pytest.mark.parametrize(
    "lie",
    [
        {"sender_mac": "02:00:00:00:00:0d"},
        {"sender_address": "10.0.0.14"},
        {"interface": "veth13"},
    ],
)
def test_a_lie_is_dropped_under_enforcement_and_gains_nothing_elsewhere(lie: dict[str, str]) -> None:
    for enforced in (FULL, SELECTIVE):
        said = ask(shop(WEB_API, modes=(enforced,)), "web", "api", **lie)
        assert layers(said) == [Layer.FORGED]
        assert not said.allowed
    assert layers(
        ask(shop(modes=(VISIBLE,), quarantines=(Quarantine("q", Not(role("api"))),)), "web", "api", **lie)
    ) == [Layer.FORGED]
    assert ask(shop(WEB_API, modes=(VISIBLE,)), "web", "api", **lie).allowed
    said = ask(shop(WEB_API, modes=(API_FULL,)), "web", "api", **lie)
    assert layers(said) == [Layer.MODE]  # api treats it as unknown
    assert said.source is None
    assert not said.allowed


def test_the_truth_passes() -> None:
    truth = {"sender_mac": "02:00:00:00:00:0b", "sender_address": "10.0.0.11"}
    assert ask(shop(WEB_API), "web", "api", **truth).allowed
    assert ask(shop(WEB_API, modes=(API_FULL,)), "web", "api", **truth).allowed


def test_a_local_address_cannot_come_from_outside() -> None:
    said = ask(shop(WEB_API), "web", "api", interface="eth0")
    assert layers(said) == [Layer.MODE]
    assert not said.allowed
    assert ask(shop(WEB_API), "web", "api").allowed


def test_nor_can_the_host_s_own() -> None:
    from_host = rule("r", role("host"), role("api"))
    assert ask(shop(from_host), "host", "api").allowed
    assert not ask(shop(from_host), "host", "api", interface="eth0").allowed
    assert not ask(shop(modes=(HOST_FULL,)), "host", "gateway", interface="eth0").allowed


def test_an_unvouched_stranger_is_in_no_network_set() -> None:
    inwards = rule("in", Networks(("payments",)), role("api"))
    assert ask(shop(inwards, modes=(API_FULL,)), "outside", "api").allowed
    assert not ask(shop(inwards, modes=(API_FULL,)), "outside", "api", interface="veth11").allowed


def test_a_reply_is_vouched_for_by_the_end_that_answers() -> None:
    reply = {"state": PacketState.REPLY, "interface": "veth12"}
    assert ask(shop(WEB_API), "web", "api", **reply).allowed
    forged = ask(shop(WEB_API), "web", "api", **reply, sender_mac="02:00:00:00:00:0d")
    assert layers(forged) == [Layer.FORGED]
    assert (forged.ends[0].workload, forged.ends[0].direction) == (API, Direction.INGRESS)
    assert ask(shop(WEB_API), "web", "api", sender_mac="02:00:00:00:00:0d").ends[0].direction is Direction.EGRESS
    assert not ask(
        shop(WEB_API, modes=(EnforcementMode("w", role("web"), Mode.FULL),)),
        "web",
        "api",
        state=PacketState.REPLY,
        interface="eth0",
    ).allowed


# Network sets


def networks(*sets: NetworkSet) -> dict[str, object]:
    return {"network_sets": sets}


EVERYWHERE = NetworkSet("everywhere", ("0.0.0.0/0", "::/0"))
METADATA = NetworkSet("metadata", ("169.254.169.254/32",))
OUT = rule("out", role("api"), Networks(("everywhere",)))


def test_a_set_never_matches_a_workload_s_address_known_or_not() -> None:
    snapshot = shop(OUT, modes=(API_FULL, PASS_BIRTHS), **networks(EVERYWHERE))
    assert ask(snapshot, "api", "8.8.4.4").allowed
    assert ask(snapshot, "api6", "2a00::1").allowed
    for workload in ("legacy", "web", "new", "gateway"):
        assert not ask(snapshot, "api", workload).allowed, workload


def test_nor_what_lies_behind_a_bridge_of_ours() -> None:
    snapshot = shop(OUT, **networks(EVERYWHERE))
    assert not ask(snapshot, "api", "10.0.0.200").allowed
    assert ask(snapshot, "api", "10.0.1.200").allowed
    assert not ask(snapshot, "api6", "fd00::200").allowed


def test_metadata_is_matched_by_its_own_name_only() -> None:
    assert not ask(shop(OUT, **networks(EVERYWHERE, METADATA)), "api", "169.254.169.254").allowed
    named = rule("m", role("api"), Networks(("everywhere", "metadata")))
    assert ask(shop(named, **networks(EVERYWHERE, METADATA)), "api", "169.254.169.254").allowed
    denied = rule("no", role("api"), Networks(("everywhere",)), action=Action.DENY)
    assert ask(shop(denied, modes=(SELECTIVE,), **networks(EVERYWHERE, METADATA)), "api", "169.254.169.254").allowed


def test_resolvers_are_the_host_s_own_unless_a_document_says_otherwise() -> None:
    dns = rule("dns", role("api"), Networks(("resolvers",)))
    assert ask(shop(dns), "api", "192.168.7.53").allowed
    assert not ask(shop(dns), "api", "9.9.9.9").allowed
    written = networks(NetworkSet("resolvers", ("9.9.9.9/32",)))
    assert ask(shop(dns, **written), "api", "9.9.9.9").allowed
    assert not ask(shop(dns, **written), "api", "192.168.7.53").allowed


def test_a_group_is_met_by_a_network_set_alone_and_never_enters_full() -> None:
    everybody, named = rule("r", ALL, ALL), rule("g", role("api"), Networks(("groups",)))
    groups = networks(NetworkSet("groups", ("224.0.0.251/32",)))
    assert not ask(shop(everybody, **groups), "api", "224.0.0.251", 5353, UDP).allowed
    assert ask(shop(named, **groups), "api", "224.0.0.251", 5353, UDP).allowed
    assert not ask(shop(named, **groups), "api", "255.255.255.255", 5353, UDP).allowed
    sent = packet("api", "224.0.0.251", 5353, UDP)
    assert not received(shop(named, **groups), sent, WEB)
    lax = shop(named, modes=(API_FULL,), **groups)
    assert received(lax, sent, WEB)
    assert received(lax, sent, ITSELF)
    assert not received(lax, sent, NEW)  # held
    assert not received(shop(named, modes=(API_FULL,), quarantines=(CUT_WEB,), **groups), sent, WEB)
    assert not received(shop(modes=(API_FULL,)), sent, WEB)
    assert received(shop(), packet("api6", "ff02::1", 135 * 256, ICMPV6), WEB)  # essential


# Destination translation


PUBLISHED = host(published=(TO_WEB,))
PROXIED = host(published=(replace(TO_WEB, proxied=True),))
NAMED = host(published=(replace(TO_WEB, address="192.168.7.1"),))


@pytest.mark.parametrize("published", [PUBLISHED, PROXIED, NAMED])
@pytest.mark.parametrize("source", ["api", "outside", "host", "legacy"])
def test_a_published_port_is_the_workload_behind_it_for_every_source(published: object, source: str) -> None:
    opened = rule("r", anywhere(ALL), role("web"), TCP_80), rule("n", Networks(("payments",)), role("web"), TCP_80)
    said = ask(shop(*opened, more=(published,)), source, "192.168.7.1", 8080)
    assert said.allowed
    assert said.destination == WEB
    assert ITSELF not in [end.workload for end in said.ends if end.direction.value == "ingress"]
    denied = ask(shop(more=(published,)), source, "192.168.7.1", 8080)
    assert ingress(denied).workload == WEB
    assert not denied.allowed


def test_the_host_s_own_end_does_not_judge_what_is_published() -> None:
    opened = rule("r", Networks(("payments",)), role("web"))
    snapshot = shop(opened, more=(PUBLISHED,), modes=(FULL, HOST_FULL))
    assert ask(snapshot, "outside", "192.168.7.1", 8080).allowed
    assert not ask(snapshot, "outside", "192.168.7.1", 8081).allowed


def test_a_published_address_is_one_address() -> None:
    snapshot = shop(more=(NAMED,))
    assert ask(snapshot, "outside", "192.168.7.1", 8080).destination == WEB
    assert ask(snapshot, "outside", "10.0.0.1", 8080).destination == ITSELF
    assert ask(snapshot, "outside", "192.168.7.1", 8080, UDP).destination == ITSELF
    assert ask(shop(more=(PUBLISHED,)), "outside", "10.0.0.1", 8080).destination == WEB
    assert ask(shop(more=(PUBLISHED,)), "host", "127.0.0.1", 8080).destination == WEB


def test_a_workload_s_own_published_port_is_itself() -> None:
    assert layers(ask(shop(more=(PUBLISHED,)), "web", "192.168.7.1", 8080)) == [Layer.ESSENTIAL] * 2
    assert not ask(shop(more=(PUBLISHED,)), "api", "192.168.7.1", 8080).allowed


# Essential


def test_loopback_is_both_addresses_the_host_s_own() -> None:
    snapshot = shop(modes=(FULL, HOST_FULL))
    assert layers(ask(snapshot, "host", "gateway")) == [Layer.ESSENTIAL] * 2
    assert ask(snapshot, "127.0.0.1", "127.0.0.1", interface="").allowed
    assert not ask(snapshot, "host", "api", interface="lo").allowed  # "interface lo" is not loopback


def test_a_failsafe_session_passes_both_ways_and_no_other() -> None:
    admin = "192.168.7.66"
    safe = host_with(failsafe=(Failsafe(Address(admin), TCP, 22),))
    snapshot = shop(modes=(FULL, HOST_FULL), more=(safe,), quarantines=(Quarantine("h", role("host")),))
    assert layers(ask(snapshot, admin, "host", 22)) == [Layer.ESSENTIAL]
    assert ask(snapshot, admin, "host", 22, state=PacketState.REPLY, interface="").allowed
    assert ask(snapshot, "host", admin, 50000, source_port=22, state=PacketState.MIDSTREAM).allowed
    assert not ask(snapshot, "host", admin, 50000, source_port=22).allowed  # a new connection is no answer
    assert not ask(snapshot, admin, "host", 23).allowed
    assert not ask(snapshot, admin, "host", 22, UDP).allowed
    assert not ask(snapshot, "192.168.7.67", "host", 22).allowed
    assert not ask(snapshot, admin, "api", 22).allowed
    assert not ask(snapshot, admin, "host", 22, interface="veth99").allowed
    lax = shop(modes=(HOST_FULL,), more=(safe,))
    assert ask(lax, admin, "host", 22).allowed
    assert not ask(lax, admin, "host", 22, interface="veth11").allowed  # only says that it is the admin's


def test_an_endpoint_that_nobody_has_labelled_has_no_failsafe_session() -> None:
    """Any birth could take the administrator's address."""
    safe = host_with(failsafe=(Failsafe(Address("10.0.0.15"), TCP, 22),))
    assert not ask(shop(modes=(HOLDING,), more=(safe,)), "new", "host", 22).allowed
    assert not ask(shop(modes=(HOST_FULL,), more=(safe,)), "new", "host", 22).allowed


@pytest.mark.parametrize("kind", [133, 135, 136, 130, 131, 132, 143])
def test_what_a_link_needs_always_passes(kind: int) -> None:
    discovers = kind in (133, 135, 136)
    assert ask(shop(), "web6", "api6", kind * 256, ICMPV6).allowed is discovers  # membership is told to groups alone
    assert not ask(shop(), "web6", "2001:db8:ffff::9", kind * 256, ICMPV6).allowed  # beyond the link it is only talk
    assert ask(shop(), "web6", "ff02::1:ff00:12", kind * 256, ICMPV6).allowed
    assert ask(shop(), "new6", "ff02::1", kind * 256, ICMPV6).allowed
    assert not ask(shop(), "web6", "api6", 128 * 256, ICMPV6).allowed
    assert not ask(shop(), "web", "api", kind * 256, ICMP).allowed


def test_duplicate_address_detection_comes_from_no_address() -> None:
    assert ask(shop(), "::", "ff02::1:ff00:11", 135 * 256, ICMPV6, interface="veth11").allowed
    assert layers(ask(shop(), "::", "ff02::1", 128 * 256, ICMPV6, interface="veth11")) == [Layer.FORGED]
    assert layers(
        ask(shop(), "::", "ff02::1", 135 * 256, ICMPV6, interface="veth11", sender_mac="02:00:00:00:ff:ff")
    ) == [Layer.FORGED]


def test_igmp_passes() -> None:
    assert ask(shop(), "web", "224.0.0.22", 0, 2).allowed


@pytest.mark.parametrize(("port", "protocol", "source_port"), [(134 * 256, ICMPV6, 0), (68, UDP, 67), (546, UDP, 547)])
def test_routers_and_dhcp_servers_are_never_containers(port: int, protocol: object, source_port: int) -> None:
    offer = (port, protocol)
    allow_all = rule("r", ALL, ALL), rule("g", ALL, Networks(("groups",)))
    enforced = shop(*allow_all, **networks(NetworkSet("groups", ("ff02::/16",))))
    assert layers(ask(enforced, "web6", "api6", *offer, source_port=source_port)) == [Layer.FORGED]
    assert not ask(enforced, "new6", "api6", *offer, source_port=source_port).allowed
    assert ask(shop(modes=(API_FULL,)), "web6", "api6", *offer, source_port=source_port).allowed
    assert ask(
        shop(modes=(FULL, HOST_FULL)), "fe80::99", "fd00::11", *offer, source_port=source_port, interface="eth0"
    ).allowed


def test_the_host_s_own_dhcp_client_passes_and_a_container_s_is_judged() -> None:
    snapshot = shop(modes=(FULL, HOST_FULL))
    assert ask(snapshot, "host", "192.168.7.254", 67, UDP, source_port=68).allowed
    assert ask(snapshot, "host", "192.168.7.254", 547, UDP, source_port=546).allowed
    assert ask(snapshot, "192.168.7.254", "host", 68, UDP, source_port=67).allowed
    assert not ask(snapshot, "host", "192.168.7.254", 68, UDP, source_port=68).allowed
    assert not ask(snapshot, "web", "192.168.7.254", 67, UDP, source_port=68).allowed


# What cannot be enforced yet


def test_an_allow_that_needs_what_cannot_be_enforced_opens_nothing() -> None:
    trusted = Equal("role", "web", trusted=True)
    assert not ask(shop(rule("r", trusted, role("api"))), "web", "api").allowed
    assert not ask(shop(rule("r", Not(Equal("role", "db", trusted=True)), role("api"))), "web", "api").allowed
    bound = {"services": (Service("metrics", (Ports(TCP, 80, 80),), process="/bin/x"),)}
    assert not ask(shop(rule("r", role("web"), role("api"), "metrics"), **bound), "web", "api").allowed
    fqdn = networks(NetworkSet("names", fqdns=("api.example",)))
    assert not ask(shop(rule("r", role("api"), Networks(("names",))), **fqdn), "api", "8.8.4.4").allowed


def test_a_deny_that_needs_it_closes_more_rather_than_less() -> None:
    trusted = Equal("role", "web", trusted=True)
    closed = rule("r", trusted, role("api"), action=Action.DENY)
    assert not ask(shop(closed, modes=(SELECTIVE,)), "web", "api").allowed
    assert ask(shop(closed, modes=(SELECTIVE,)), "db", "api").allowed
    bound = {"services": (Service("metrics", (Ports(TCP, 80, 80),), unit="x.service"),)}
    closed = rule("r", role("web"), role("api"), "metrics", action=Action.OVERRIDE_DENY)
    assert not ask(shop(closed, modes=(SELECTIVE,), **bound), "web", "api").allowed
    assert ask(shop(closed, modes=(SELECTIVE,), **bound), "web", "api", 81).allowed


# A host is a workload too


def test_the_host_has_a_mode_and_rules_of_its_own() -> None:
    ssh = rule("ssh", Networks(("payments",)), role("host"), Ports(TCP, 22, 22))
    snapshot = shop(ssh, modes=(HOST_FULL,))
    assert ask(snapshot, "outside", "host", 22).allowed
    assert not ask(snapshot, "outside", "host", 23).allowed
    assert not ask(snapshot, "web", "host", 22).allowed
    assert ask(shop(modes=(HOLDING,)), "web", "host", 22).allowed


def test_another_host_s_address_is_its_workload() -> None:
    to_hosts = rule("r", role("api"), role("host"))
    snapshot = shop(to_hosts, more=(host(OTHER), host_itself(OTHER, 2)))
    assert ask(snapshot, "api", "192.168.7.2").destination == "host:host-b"
    assert ask(snapshot, "api", "192.168.7.2").allowed
    assert not ask(snapshot, "web", "192.168.7.2").allowed


def test_an_operator_s_label_moves_a_workload_into_policy() -> None:
    before = shop(WEB_API)
    after = shop(WEB_API, more=(LabelsSet(DB, (("role", "web"),), "ann"),))
    assert not ask(before, "db", "api").allowed
    assert ask(after, "db", "api").allowed
    assert Selected(role("web")) == WEB_API.source
