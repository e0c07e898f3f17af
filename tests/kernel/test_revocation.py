"""Each way in which a live connection's verdict becomes deny ends it with its next packet; what is allowed lives on."""

from collections.abc import Awaitable, Callable
from contextlib import closing

import pytest
from enforced import Enforced, on_ground
from msgspec.structs import replace

from stockade.adapters.netfilter.conntrack import Conntrack
from stockade.core.compile.nft.marks import MARKS
from stockade.core.model.ids import Prefix, RuleId
from stockade.core.model.net import Ports, Protocol
from stockade.core.model.policy import (
    Action,
    EnforcementMode,
    Mode,
    Networks,
    NetworkSet,
    Policy,
    PolicySet,
    Quarantine,
    Rule,
    Selected,
)
from stockade.core.model.selector import Equal
from stockade.testing.lab import Topology, bridged, lab_bridge, outside
from stockade.testing.probe.values import Probe

pytestmark = [pytest.mark.real, pytest.mark.timeout(60)]
PORT = 9000
ON = (Ports(Protocol.TCP, PORT, PORT), Ports(Protocol.UDP, PORT, PORT))
FULL = EnforcementMode("shop", Equal("app", "shop"), Mode.FULL, 10)
TRACKING = "table inet others { chain look { type filter hook forward priority 0; ct state established counter; }; }\n"
GROUND = Topology(
    bridges=(lab_bridge("br0", "10.1.0.0/24", "fd00:1::/64"), lab_bridge("br1", "10.2.0.0/24", "fd00:2::/64")),
    nodes=(
        bridged("web", "br0", app="shop", role="web"),
        bridged("api", "br0", app="shop", role="api"),
        bridged("db", "br1", app="shop", role="db"),
        outside("far", "203.0.113.10", "2001:db8:7::10"),
    ),
)


def rule(name: str, source: str, destination: str, action: Action = Action.ALLOW, *, keep: bool = False) -> Rule:
    ends = Selected(Equal("role", source)), Selected(Equal("role", destination))
    return Rule(RuleId(f"shop/{name}"), action, *ends, ON, keep)


WEB_API, API_DB = rule("web-api", "web", "api"), rule("api-db", "api", "db")
FAR = Rule(RuleId("shop/far"), Action.ALLOW, Selected(Equal("role", "web")), Networks(("far",)), ON)
RULES = (API_DB, FAR, WEB_API)
NETWORK = NetworkSet("far", (Prefix("203.0.113.0/24"), Prefix("2001:db8:7::/48")))
FAR_AWAY = (Prefix("203.0.113.10/32"), Prefix("2001:db8:7::10/128"))
POLICY = PolicySet(policies=(Policy("shop", RULES),), modes=(FULL,), network_sets=(NETWORK,))


def rules(*kept: Rule) -> PolicySet:
    return replace(POLICY, policies=(Policy("shop", kept),))


NO_API = "web", "api"
NO_FAR = "web", "far"
CHANGES: dict[str, tuple[PolicySet, tuple[str, str] | None, tuple[str, str]]] = {
    "a rule is removed": (rules(API_DB, FAR), None, NO_API),
    "an override deny is added": (rules(*RULES, rule("no", "web", "api", Action.OVERRIDE_DENY)), None, NO_API),
    "a service is narrowed": (rules(API_DB, FAR, replace(WEB_API, on=(Ports(Protocol.TCP, 1, 1),))), None, NO_API),
    "a scope moves away": (
        replace(POLICY, policies=(Policy("a", (API_DB, FAR)), Policy("b", (WEB_API,), Equal("app", "else")))),
        None,
        NO_API,
    ),
    "a label changes": (POLICY, ("web", "guest"), NO_API),
    "a network set shrinks": (
        replace(POLICY, network_sets=(replace(NETWORK, excepted=FAR_AWAY),)),
        None,
        NO_FAR,
    ),
    "a quarantine begins": (replace(POLICY, quarantines=(Quarantine("web", Equal("role", "web")),)), None, NO_API),
}  # fmt: skip


def enforced(scenario: Callable[[Enforced], Awaitable[None]]) -> None:
    on_ground(GROUND, scenario)


def ways(family: int) -> list[Probe]:
    pairs = ("web", "api"), ("api", "db"), ("web", "far")
    return [Probe(*pair, protocol, PORT, family) for pair in pairs for protocol in (Protocol.TCP, Protocol.UDP)]


def tcp_ways(family: int) -> list[Probe]:
    return [each for each in ways(family) if each.protocol is Protocol.TCP]


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("change", CHANGES)
def test_what_is_denied_now_ends_and_the_rest_lives_on(change: str, family: int) -> None:
    policy, relabelled, ends = CHANGES[change]

    async def scenario(it: Enforced) -> None:
        await it.apply(POLICY)
        flows = await it.lab.open(ways(family))
        assert all(each.alive for each in await it.lab.send(flows))
        await it.apply(policy, relabelled)
        for back in (True, False):
            for heard in await it.lab.send(flows, back=back, patience=0.3):
                pair = heard.flow.probe.source, heard.flow.probe.destination
                if pair == ends:
                    assert not heard.delivered, (change, heard)
                elif "web" not in pair:
                    assert heard.alive, (change, heard)

    enforced(scenario)


@pytest.mark.parametrize("family", [4, 6])
def test_connections_from_before_any_table_live_on_where_policy_allows_them(family: int) -> None:
    async def scenario(it: Enforced) -> None:
        flows = await it.lab.open([*ways(family), Probe("db", "web", Protocol.TCP, PORT, family)])
        await it.apply(replace(POLICY, modes=()))  # tracking begins; nothing is enforced yet
        for back in (True, False):  # the server talks first
            assert all(each.alive for each in await it.lab.send(flows, back=back))
        await it.apply(POLICY)
        heard = await it.lab.send(flows, patience=0.3)
        allowed = [each for each in heard if each.flow.probe.source != "db"]
        tcp = [each for each in allowed if each.flow.probe.protocol is Protocol.TCP]
        assert all(each.alive for each in tcp), heard  # UDP does not tell its direction: docs/limits.md
        (denied,) = (each for each in heard if each.flow.probe.source == "db")
        assert not denied.delivered

    enforced(scenario)


@pytest.mark.parametrize("family", [4, 6])
def test_connections_that_others_tracking_met_in_the_middle_live_on_where_policy_allows_them(
    family: int,
) -> None:
    """Tracking begins with the first rule that asks for it, anybody's; ours too begins before our hooks lead there."""

    async def scenario(it: Enforced) -> None:
        flows = await it.lab.open([*tcp_ways(family), Probe("db", "web", Protocol.TCP, PORT, family)])
        await it.lab.nft(TRACKING)
        for back in (True, False):  # the server talks first
            assert all(each.alive for each in await it.lab.send(flows, back=back))
        await it.apply(replace(POLICY, modes=()))
        assert all(each.alive for each in await it.lab.send(flows))
        await it.apply(POLICY)
        *allowed, denied = await it.lab.send(flows, patience=0.3)
        assert all(each.alive for each in allowed), allowed
        assert not denied.delivered

    enforced(scenario)


@pytest.mark.parametrize("family", [4, 6])
def test_a_connection_that_others_tracking_saw_begin_has_a_direction(family: int) -> None:
    async def scenario(it: Enforced) -> None:
        await it.lab.nft(TRACKING)
        begun = [*tcp_ways(family), Probe("db", "web", Protocol.TCP, PORT, family)]
        flows = await it.lab.open(begun)
        await it.apply(replace(POLICY, modes=()))
        assert all(each.alive for each in await it.lab.send(flows, back=True))
        with closing(Conntrack(it.lab.netns(it.lab.host_name))) as tracking:
            met = [each for each in tracking.connections() if each.midway]
            marked = list(tracking.connections(MARKS.older, MARKS.older))
        assert (met, marked) == ([], [])

    enforced(scenario)


@pytest.mark.parametrize("family", [4, 6])
def test_what_a_rule_keeps_outlives_the_rule_and_no_override(family: int) -> None:
    kept = rule("web-api", "web", "api", keep=True)

    async def scenario(it: Enforced) -> None:
        await it.apply(rules(API_DB, FAR, kept))
        flows = await it.lab.open(ways(family)[:2])
        assert all(each.alive for each in await it.lab.send(flows))
        await it.apply(rules(API_DB, FAR))
        assert all(each.alive for each in await it.lab.send(flows))
        assert not any(each.reached for each in await it.lab.probe(ways(family)[:2]))
        await it.apply(rules(API_DB, FAR, rule("no", "web", "api", Action.OVERRIDE_DENY)))
        assert not any(each.delivered for each in await it.lab.send(flows, patience=0.3))

    enforced(scenario)


@pytest.mark.parametrize("family", [4, 6])
def test_where_nothing_is_enforced_no_rule_admits_and_so_none_keeps(family: int) -> None:
    kept = rule("web-api", "web", "api", keep=True)

    async def scenario(it: Enforced) -> None:
        await it.apply(replace(rules(API_DB, FAR, kept), modes=()))
        flows = await it.lab.open(ways(family)[:2])
        assert all(each.alive for each in await it.lab.send(flows))
        await it.apply(rules(API_DB, FAR))
        assert not any(each.delivered for each in await it.lab.send(flows, patience=0.3))

    enforced(scenario)
