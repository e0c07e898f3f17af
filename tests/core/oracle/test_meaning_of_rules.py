"""Scopes, ends, order, modes, quarantine, keep: who may talk to whom, and which layer says so."""

import pytest
from msgspec.structs import replace
from shopfloor import (
    API,
    DB,
    LEGACY,
    PASS_BIRTHS,
    TCP,
    UDP,
    WEB,
    anywhere,
    ask,
    egress,
    ingress,
    layers,
    rule,
    shop,
    with_policy,
)

from stockade.core.model.event import LabelsSet, QuarantineLapsed
from stockade.core.model.ids import WorkloadId
from stockade.core.model.inventory import Attachment
from stockade.core.model.net import ANYTHING, Ports, Protocol
from stockade.core.model.packet import Layer, PacketState
from stockade.core.model.policy import (
    Action,
    Births,
    EnforcementMode,
    Mode,
    Networks,
    Quarantine,
    QuarantineException,
    Selected,
    Service,
    Where,
)
from stockade.core.model.selector import ALL, And, Equal, Has, In, Not, Or
from stockade.core.oracle import births, mode
from stockade.testing.scenarios import (
    CUT_WEB,
    FULL,
    HOST,
    OTHER,
    POSTGRES,
    SELECTIVE,
    TCP_80,
    container,
    host,
    role,
)

WEB_API = rule("web-api", role("web"), role("api"), TCP_80)
DENY, OVERRIDE = Action.DENY, Action.OVERRIDE_DENY
VISIBLE = EnforcementMode("shop", Equal("app", "shop"), Mode.VISIBILITY)
CUT_API = Quarantine("api", role("api"))


# Selectors, and who is known


@pytest.mark.parametrize(
    ("selector", "matches"),
    [
        (ALL, True),
        (Equal("role", "web"), True),
        (Equal("role", "db"), False),
        (Equal("name", "web-1"), True),
        (In("role", ("api", "web")), True),
        (In("name", ("db-1",)), False),
        (Has("role"), True),
        (Has("env"), False),
        (Has("name"), True),
        (Not(Equal("env", "prod")), True),  # k != v is true where k is absent
        (Not(In("env", ("prod",))), True),
        (Not(Has("role")), False),
        (And((Equal("app", "shop"), Equal("role", "web"))), True),
        (And((Equal("app", "shop"), Equal("role", "db"))), False),
        (Or((Equal("role", "db"), Equal("role", "web"))), True),
        (Or((Equal("role", "db"), Has("env"))), False),
        (Equal("role", "web.*"), False),  # values are literal
        (Equal("role", "WEB"), False),
    ],
)
def test_selectors(selector: object, matches: bool) -> None:
    assert ask(shop(rule("r", selector, role("api"))), "web", "api").allowed is matches


@pytest.mark.parametrize(
    "selector", [ALL, Not(Equal("role", "db")), Not(Has("role")), Equal("name", "new-1"), Has("name")]
)
def test_an_unknown_workload_matches_no_selector(selector: object) -> None:
    snapshot = shop(rule("r", anywhere(selector), anywhere(role("api"))), modes=(FULL, PASS_BIRTHS))
    said = ask(snapshot, "new", "api")
    assert not said.allowed
    assert layers(said) == [Layer.MODE]
    known = shop(
        rule("r", anywhere(selector), anywhere(role("api"))),
        modes=(FULL, PASS_BIRTHS),
        more=(LabelsSet(WorkloadId("docker:host-a:new-1"), (("env", "dev"),), "ann"),),
    )
    assert ask(known, "new", "api").allowed


# Both ends


def test_both_ends_judge_and_both_must_say_yes() -> None:
    said = ask(shop(WEB_API), "web", "api")
    assert said.allowed
    assert [end.workload for end in said.ends] == [WEB, API]
    assert layers(said) == [Layer.ALLOW, Layer.ALLOW]
    assert (said.source, said.destination) == (WEB, API)


def test_only_ends_that_this_host_carries_judge() -> None:
    said = ask(shop(WEB_API), "outside", "api")
    assert [end.workload for end in said.ends] == [API]
    assert ask(shop(WEB_API), "outside", "legacy").ends == ()
    assert ask(shop(WEB_API), "outside", "legacy").allowed


def test_a_host_without_an_agent_judges_nothing() -> None:
    said = ask(shop(), "web", "api", host="host-z")
    assert said.allowed
    assert said.ends == ()


def test_a_rule_without_scope_counts_at_both_ends_and_says_which_it_was() -> None:
    said = ask(shop(replace(WEB_API, where=Where("shop.yaml", 7, 5))), "web", "api")
    assert {(end.rule, end.where) for end in said.ends} == {("shop/web-api", Where("shop.yaml", 7, 5))}


def test_both_ends_must_lie_inside_the_scope() -> None:
    assert not ask(shop(WEB_API, scope=role("api")), "web", "api").allowed
    assert not ask(shop(WEB_API, scope=role("web")), "web", "api").allowed
    assert ask(shop(WEB_API, scope=In("role", ("api", "web"))), "web", "api").allowed


def test_any_lifts_the_scope_for_its_end_and_opens_nothing_there() -> None:
    said = ask(shop(rule("r", anywhere(role("web")), role("api")), scope=role("api")), "web", "api")
    assert ingress(said).layer is Layer.ALLOW
    assert egress(said).layer is Layer.MODE  # half-open: web lies outside and is in full
    assert not said.allowed


def test_any_of_everything_is_every_known_workload_wherever_it_lies() -> None:
    snapshot = shop(rule("r", anywhere(ALL), role("api")), scope=role("api"))
    assert ask(snapshot, "legacy", "api").allowed
    assert not ask(snapshot, "outside", "api").allowed


def test_all_without_any_stays_inside_the_scope() -> None:
    snapshot = shop(rule("r", ALL, role("api")), scope=role("api"))
    assert not ask(snapshot, "legacy", "api").allowed


def test_a_network_end_counts_at_the_other_end_alone() -> None:
    snapshot = shop(rule("out", role("api"), Networks(("payments",)), TCP_80), scope=role("api"))
    assert ask(snapshot, "api", "203.0.113.5").allowed
    assert not ask(snapshot, "api", "203.0.113.7").allowed  # an exception of the set
    assert not ask(snapshot, "web", "203.0.113.5").allowed
    assert not ask(snapshot, "203.0.113.5", "api").allowed  # the other direction is another connection
    inwards = shop(rule("in", Networks(("payments",)), role("api")))
    assert ask(inwards, "203.0.113.5", "api").allowed


# Ports and protocols


@pytest.mark.parametrize(
    ("on", "protocol", "port", "allowed"),
    [
        ((), Protocol.SCTP, 9, True),
        ((ANYTHING,), Protocol.ICMP, 2048, True),
        ((TCP_80,), TCP, 80, True),
        ((TCP_80,), TCP, 81, False),
        ((TCP_80,), UDP, 80, False),
        ((Ports(TCP, 9090, 9100),), TCP, 9090, True),
        ((Ports(TCP, 9090, 9100),), TCP, 9100, True),
        ((Ports(TCP, 9090, 9100),), TCP, 9101, False),
        ((Ports(TCP, 9090, 9100),), TCP, 9089, False),
        (("postgres",), TCP, 5432, True),
        (("postgres",), TCP, 5433, False),
        ((Ports(Protocol.ICMP, 2048, 2048),), Protocol.ICMP, 2048, True),
        ((Ports(Protocol.ICMP, 2048, 2048),), Protocol.ICMP, 3 * 256, False),
        ((TCP_80, POSTGRES), TCP, 5432, True),
        (("nothing",), TCP, 80, False),
    ],
)
def test_ports(on: tuple, protocol: Protocol, port: int, allowed: bool) -> None:
    assert ask(shop(rule("r", role("web"), role("api"), *on)), "web", "api", port, protocol).allowed is allowed


def test_the_families_are_equal() -> None:
    assert ask(shop(WEB_API), "web6", "api6").allowed
    assert not ask(shop(WEB_API), "api6", "web6").allowed


# Order and modes


def test_override_deny_beats_allow_and_plain_deny_yields_to_it() -> None:
    closed = rule("no", role("web"), role("api"), action=OVERRIDE)
    assert layers(ask(shop(WEB_API, closed), "web", "api")) == [Layer.OVERRIDE_DENY] * 2
    weak = rule("no", role("web"), role("api"), action=DENY)
    assert layers(ask(shop(WEB_API, weak), "web", "api")) == [Layer.ALLOW] * 2
    assert layers(ask(shop(WEB_API, weak), "web", "api", 81)) == [Layer.DENY] * 2


def test_modes_have_their_defaults() -> None:
    for given, allowed in ((Mode.FULL, False), (Mode.SELECTIVE, True), (Mode.VISIBILITY, True), (Mode.IDLE, True)):
        said = ask(shop(modes=(replace(FULL, mode=given),)), "web", "api")
        assert said.allowed is allowed
        assert layers(said) == [Layer.MODE] * 2


def test_rules_decide_only_where_the_mode_enforces() -> None:
    for action in (DENY, OVERRIDE):
        denied = rule("no", role("web"), role("api"), action=action)
        assert not ask(shop(denied, modes=(SELECTIVE,)), "web", "api").allowed
        assert ask(shop(denied, modes=(VISIBLE,)), "web", "api").allowed


def test_one_end_in_full_is_enough_to_deny() -> None:
    snapshot = shop(modes=(EnforcementMode("db", role("db"), Mode.FULL),))
    assert layers(ask(snapshot, "web", "db")) == [Layer.MODE] * 2
    assert not ask(snapshot, "web", "db").allowed
    assert ask(snapshot, "web", "api").allowed


def test_the_higher_priority_wins_then_the_stricter_and_default_comes_last() -> None:
    def web_under(*modes: EnforcementMode) -> Mode:
        snapshot = shop(modes=modes)
        return mode(snapshot, snapshot.workloads[WEB])

    low, high = EnforcementMode("a", ALL, Mode.FULL, 1), EnforcementMode("b", ALL, Mode.IDLE, 2)
    assert web_under(low, high) is Mode.IDLE
    assert web_under(low, replace(high, priority=1)) is Mode.FULL
    assert web_under(EnforcementMode("c", ALL, Mode.IDLE, -5)) is Mode.IDLE  # below default's priority, before it
    assert web_under(EnforcementMode("d", role("db"), Mode.FULL)) is Mode.VISIBILITY
    loud = with_policy(shop(), modes=(EnforcementMode("default", ALL, Mode.FULL, 99), high))
    assert mode(loud, loud.workloads[WEB]) is Mode.IDLE


def test_of_several_rules_the_first_by_id_is_named() -> None:
    said = ask(shop(rule("z", ALL, ALL), rule("a", role("web"), ALL), rule("m", ALL, ALL)), "web", "api")
    assert {end.rule for end in said.ends} == {"shop/a"}


# Quarantine


def cut(*excepted: QuarantineException, select: object = Equal("name", "web-1")) -> dict[str, object]:
    return {"quarantines": (Quarantine("q", select, excepted, where=Where("q.yaml", 1, 1)),)}


@pytest.mark.parametrize("given", [FULL, SELECTIVE, VISIBLE, replace(VISIBLE, mode=Mode.IDLE)])
def test_quarantine_cuts_in_any_mode_and_beats_allow(given: EnforcementMode) -> None:
    snapshot = shop(WEB_API, modes=(given,), **cut())
    out, back = ask(snapshot, "web", "api"), ask(snapshot, "api", "web")
    assert (egress(out).allowed, egress(out).layer) == (False, Layer.QUARANTINE)
    assert (ingress(back).allowed, ingress(back).layer) == (False, Layer.QUARANTINE)
    assert (egress(out).rule, egress(out).where) == ("quarantine/q", Where("q.yaml", 1, 1))
    assert ingress(out).layer is not Layer.QUARANTINE  # judged at its own end


def test_an_exception_from_spares_connections_to_the_quarantined_from_there() -> None:
    excepted = QuarantineException(source=Selected(role("probe")), on=(TCP_80,))
    snapshot = shop(modes=(VISIBLE,), **cut(excepted))
    assert layers(ask(snapshot, "probe", "web")) == [Layer.MODE, Layer.QUARANTINE]
    assert ask(snapshot, "probe", "web").allowed
    assert not ask(snapshot, "probe", "web", 81).allowed
    assert not ask(snapshot, "api", "web").allowed
    assert not ask(snapshot, "web", "probe").allowed


def test_an_exception_to_spares_connections_from_the_quarantined_to_there() -> None:
    snapshot = shop(modes=(VISIBLE,), **cut(QuarantineException(destination=Networks(("payments",)))))
    assert ask(snapshot, "web", "203.0.113.5").allowed
    assert not ask(snapshot, "203.0.113.5", "web").allowed
    assert not ask(snapshot, "web", "203.0.114.5").allowed


def test_an_exception_decides_before_the_rules_of_that_end() -> None:
    closed = rule("no", ALL, ALL, action=OVERRIDE)
    snapshot = shop(
        closed,
        modes=(EnforcementMode("m", role("web"), Mode.FULL),),
        **cut(QuarantineException(source=Selected(role("probe")))),
    )
    assert ask(snapshot, "probe", "web").allowed


def test_any_quarantine_s_exception_will_do() -> None:
    spared = Quarantine("b", role("web"), (QuarantineException(source=Selected(role("probe"))),))
    snapshot = shop(modes=(VISIBLE,), quarantines=(Quarantine("a", role("web")), spared))
    assert ask(snapshot, "probe", "web").allowed
    assert ingress(ask(snapshot, "probe", "web")).rule == "quarantine/b"
    assert ingress(ask(snapshot, "api", "web")).rule == "quarantine/a"


def test_two_quarantined_never_talk() -> None:
    both = cut(
        QuarantineException(source=Selected(ALL)),
        QuarantineException(destination=Selected(ALL)),
        select=In("role", ("api", "web")),
    )
    snapshot = shop(modes=(VISIBLE,), **both)
    assert not ask(snapshot, "web", "api").allowed
    assert ask(snapshot, "web", "db").allowed


def test_what_no_host_of_ours_carries_is_cut_at_its_peers() -> None:
    snapshot = shop(modes=(VISIBLE,), **cut(QuarantineException(source=Selected(role("probe"))), select=role("legacy")))
    assert egress(ask(snapshot, "web", "legacy")).layer is Layer.QUARANTINE
    assert not ask(snapshot, "web", "legacy").allowed
    assert not ask(snapshot, "legacy", "web").allowed
    assert ask(snapshot, "probe", "legacy").allowed
    assert not ask(snapshot, "legacy", "probe").allowed
    assert snapshot.workloads[LEGACY].seen.host is None


def test_a_workload_of_a_host_that_we_do_not_know_is_cut_at_its_peers_too() -> None:
    far = container("far-1", 90, "host-z", endpoints=(container("x", 90).sighting.endpoints[0],))
    far = replace(
        far,
        sighting=replace(
            far.sighting, endpoints=(replace(far.sighting.endpoints[0], realm="", addresses=("192.168.7.90",)),)
        ),
    )
    snapshot = shop(modes=(VISIBLE,), more=(far,), **cut(select=role("far")))
    assert not ask(snapshot, "web", "192.168.7.90").allowed


def test_what_another_host_of_ours_carries_is_cut_there_and_not_here() -> None:
    shared = replace(container("far-1", 90, OTHER).sighting.endpoints[0], realm="", addresses=("192.168.7.90",))
    select = cut(select=role("far"))
    carried = shop(modes=(VISIBLE,), more=(host(OTHER), container("far-1", 90, OTHER, endpoints=(shared,))), **select)
    assert ask(carried, "web", "192.168.7.90").allowed
    past = replace(shared, attachment=Attachment.OPAQUE)  # its traffic crosses no stack of ours
    opaque = shop(modes=(VISIBLE,), more=(host(OTHER), container("far-1", 90, OTHER, endpoints=(past,))), **select)
    assert not ask(opaque, "web", "192.168.7.90").allowed


def test_an_exception_that_needs_what_cannot_be_enforced_spares_nothing() -> None:
    services = {"services": (Service("bound", (TCP_80,), process="/bin/x"), Service("free", (TCP_80,)))}
    for source, on, allowed in (
        (role("probe"), ("free",), True),
        (role("probe"), ("bound",), False),
        (Equal("role", "probe", trusted=True), ("free",), False),
    ):
        excepted = QuarantineException(source=Selected(source), on=on)
        assert ask(shop(modes=(VISIBLE,), **cut(excepted), **services), "probe", "web").allowed is allowed


def test_a_lapsed_quarantine_does_not_exist() -> None:
    lapsed = shop(WEB_API, more=(QuarantineLapsed("web"),), quarantines=(CUT_WEB,))
    assert ask(lapsed, "web", "api").allowed
    assert not ask(shop(WEB_API, quarantines=(CUT_WEB,)), "web", "api").allowed


# Keep, and states


def test_kept_connections_outlive_default_deny_and_plain_deny_only() -> None:
    live = {"state": PacketState.ORIGINAL, "kept": True}
    assert layers(ask(shop(), "web", "api", **live)) == [Layer.KEPT] * 2
    assert ask(shop(rule("no", ALL, ALL, action=DENY)), "web", "api", **live).allowed
    assert not ask(shop(rule("no", ALL, ALL, action=OVERRIDE)), "web", "api", **live).allowed
    assert not ask(shop(quarantines=(CUT_WEB,)), "web", "api", **live).allowed
    assert not ask(shop(), "web", "api", state=PacketState.NEW, kept=True).allowed
    assert not ask(shop(), "web", "api", state=PacketState.ORIGINAL).allowed


@pytest.mark.parametrize("state", [PacketState.ORIGINAL, PacketState.RELATED])
def test_a_kept_connection_outlives_the_labels_of_its_other_end_as_long_as_that_is_itself(state: PacketState) -> None:
    live = {"state": state, "kept": True, "sender_address": "10.0.0.15"}
    passing = shop(modes=(FULL, PASS_BIRTHS))
    assert layers(ask(passing, "new", "api", **live)) == [Layer.KEPT]
    assert ask(passing, "web", "new", **{**live, "state": PacketState.REPLY}, interface="veth15").allowed
    assert not ask(passing, "new", "api", **{**live, "kept": False}).allowed
    assert not ask(shop(modes=(FULL, PASS_BIRTHS), quarantines=(CUT_API,)), "new", "api", **live).allowed
    for lie in ({"sender_mac": "02:00:00:00:00:0d"}, {"interface": "veth99"}, {"sender_address": "10.0.0.14"}):
        assert not ask(passing, "new", "api", **{**live, **lie}).allowed, lie
    assert layers(ask(shop(), "new", "api", **live)) == [Layer.HELD]


def test_what_only_pretends_to_be_of_a_kept_connection_is_not() -> None:
    live = {"state": PacketState.ORIGINAL, "kept": True}
    lax = shop(modes=(replace(FULL, select=role("api")),))
    assert ask(lax, "web", "api", **live).allowed
    assert layers(ask(lax, "web", "api", **live, sender_mac="02:00:00:00:00:0d")) == [Layer.MODE]
    assert not ask(lax, "web", "api", **live, sender_mac="02:00:00:00:00:0d").allowed
    assert not ask(lax, "web", "api", **live, interface="eth0").allowed


@pytest.mark.parametrize("action", [DENY, OVERRIDE])
def test_a_denial_that_keeps_speaks_of_beginnings_only(action: Action) -> None:
    snapshot = shop(rule("no", ALL, ALL, action=action, keep=True), modes=(SELECTIVE,))
    for state in (PacketState.NEW, PacketState.UNTRACKED, PacketState.MIDSTREAM):
        assert not ask(snapshot, "web", "api", state=state).allowed
    for state, interface in (
        (PacketState.ORIGINAL, "veth11"),
        (PacketState.REPLY, "veth12"),
        (PacketState.RELATED, "veth12"),
    ):
        assert ask(snapshot, "web", "api", state=state, interface=interface).allowed
    strict = shop(rule("no", ALL, ALL, action=action), modes=(SELECTIVE,))
    assert not ask(strict, "web", "api", state=PacketState.ORIGINAL).allowed


def test_packets_of_a_connection_are_judged_as_it_is_judged_now() -> None:
    for state, interface in (
        (PacketState.ORIGINAL, "veth11"),
        (PacketState.REPLY, "veth12"),
        (PacketState.RELATED, "veth12"),
    ):
        assert ask(shop(WEB_API), "web", "api", state=state, interface=interface).allowed
        assert not ask(shop(), "web", "api", state=state, interface=interface).allowed


@pytest.mark.parametrize("state", [PacketState.INVALID, PacketState.MIDSTREAM])
def test_strays_are_denied_where_an_end_enforces_or_is_quarantined(state: PacketState) -> None:
    assert layers(ask(shop(WEB_API), "web", "api", state=state)) == [Layer.INVALID] * 2
    assert not ask(shop(modes=(SELECTIVE,)), "web", "api", state=state).allowed
    assert ask(shop(modes=(VISIBLE,)), "web", "api", state=state).allowed
    cut_web = ask(shop(modes=(VISIBLE,), quarantines=(CUT_WEB,)), "web", "api", state=state)
    assert layers(cut_web) == [Layer.INVALID, Layer.MODE]
    assert not cut_web.allowed


def test_a_stray_passes_no_quarantine_of_somebody_unmanaged() -> None:
    snapshot = shop(modes=(VISIBLE,), **cut(select=role("legacy")))
    assert not ask(snapshot, "legacy", "web", state=PacketState.MIDSTREAM).allowed


def test_untracked_is_judged_as_new_in_its_own_direction() -> None:
    assert ask(shop(WEB_API), "web", "api", state=PacketState.UNTRACKED).allowed
    assert not ask(shop(WEB_API), "api", "web", 50000, source_port=80, state=PacketState.UNTRACKED).allowed


def test_a_connection_older_than_tracking_passes_if_either_direction_does() -> None:
    reply = {"source_port": 80, "state": PacketState.ORIGINAL}
    assert not ask(shop(WEB_API), "api", "web", 50000, **reply).allowed
    assert ask(shop(WEB_API), "api", "web", 50000, **reply, older=True).allowed
    assert not ask(shop(WEB_API), "api", "web", 50000, **{**reply, "source_port": 81}, older=True).allowed
    assert ask(shop(WEB_API), "web", "api", 80, state=PacketState.ORIGINAL, older=True).allowed
    assert not ask(shop(), "web", "api", 80, state=PacketState.ORIGINAL, older=True).allowed


def test_an_older_connection_excuses_no_forgery() -> None:
    forged = {"source_port": 80, "state": PacketState.ORIGINAL, "older": True, "interface": "veth13"}
    assert layers(ask(shop(WEB_API), "api", "web", 50000, **forged)) == [Layer.FORGED]


# Births


def held(snapshot: object) -> Births:
    return births(snapshot, HOST)


def test_a_full_mode_that_a_future_workload_could_get_holds_births() -> None:
    assert held(shop(modes=())) is Births.PASS
    assert held(shop(modes=(SELECTIVE,))) is Births.PASS
    assert held(shop(modes=(FULL,))) is Births.HOLD
    assert held(shop(modes=(EnforcementMode("m", Not(Has("role")), Mode.FULL),))) is Births.HOLD
    assert held(shop(modes=(EnforcementMode("m", Equal("name", "web-9"), Mode.FULL),))) is Births.HOLD


def test_a_full_mode_that_nobody_could_get_does_not() -> None:
    nobody = EnforcementMode("m", And((Has("role"), Not(Has("role")))), Mode.FULL)
    assert held(shop(modes=(nobody,))) is Births.PASS
    assert held(shop(modes=(EnforcementMode("m", Not(Has("name")), Mode.FULL),))) is Births.PASS
    hidden = EnforcementMode("over", Has("app"), Mode.SELECTIVE, 99)
    assert held(shop(modes=(FULL, hidden))) is Births.PASS
    assert held(shop(modes=(FULL, replace(hidden, select=Equal("app", "blog"))))) is Births.HOLD
    two = EnforcementMode("m", And((Equal("role", "a"), Equal("role", "b"))), Mode.FULL)
    assert held(shop(modes=(two,))) is Births.PASS


def test_a_mode_that_selects_the_host_may_say() -> None:
    says = EnforcementMode("hosts", role("host"), Mode.IDLE, 5, Births.PASS)
    assert held(shop(modes=(FULL, says))) is Births.PASS
    assert held(shop(modes=(says, replace(says, name="z", priority=6, births=Births.HOLD)))) is Births.HOLD
    assert held(shop(modes=(says, replace(says, name="z", priority=4, births=Births.HOLD)))) is Births.PASS
    assert held(shop(modes=(FULL, replace(says, select=role("web"))))) is Births.HOLD
    for tied in ((says, replace(says, name="z", births=Births.HOLD)), (replace(says, births=Births.HOLD), says)):
        assert held(shop(modes=tied)) is Births.HOLD
    assert held(shop(modes=(replace(says, births=Births.HOLD),))) is Births.HOLD


def test_under_hold_nothing_but_essential_passes_from_or_to_the_unknown() -> None:
    snapshot = shop(rule("r", ALL, ALL))
    assert layers(ask(snapshot, "new", "web")) == [Layer.HELD]
    assert not ask(snapshot, "new", "web").allowed
    assert layers(ask(snapshot, "outside", "new")) == [Layer.HELD]
    assert not ask(snapshot, "outside", "new").allowed
    assert layers(ask(snapshot, "new", "outside")) == [Layer.HELD]
    assert not ask(snapshot, "10.0.0.77", "outside", interface="veth-never-seen").allowed
    assert ask(snapshot, "new", "10.0.0.15").allowed  # to itself


def test_under_pass_its_own_end_judges_nothing() -> None:
    snapshot = shop(modes=(FULL, PASS_BIRTHS))
    assert ask(snapshot, "new", "outside").ends == ()
    assert ask(snapshot, "new", "outside").allowed
    assert layers(ask(snapshot, "new", "web")) == [Layer.MODE]
    assert not ask(snapshot, "new", "web").allowed
    assert ask(snapshot, "new", "gateway").allowed  # the host is in visibility


def test_unknown_judges_nothing_whatever_the_modes_say() -> None:
    snapshot = shop()
    assert mode(snapshot, snapshot.workloads[WorkloadId("docker:host-a:new-1")]) is Mode.IDLE
    assert mode(snapshot, snapshot.workloads[DB]) is Mode.FULL
