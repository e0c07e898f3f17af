"""Workloads that documents declare, in intents: peers by their addresses, never ends, never where others are."""

import pytest

from stockade.core.compile.compiler import affected, compile_snapshot
from stockade.core.fold import fold
from stockade.core.model.event import Event, HostGone, HostSeen, WorkloadGone
from stockade.core.model.ids import HostId, RuleId, WorkloadId
from stockade.core.model.intent import Intent
from stockade.core.model.inventory import Host
from stockade.core.model.policy import Action, Networks, Rule, Selected
from stockade.testing.scenarios import (
    API_ID,
    HOST,
    OTHER,
    SHOP,
    TCP_80,
    allow,
    box,
    container,
    host_itself,
    policy,
    role,
    unmanaged,
)

TO_BOXES = allow("to-boxes", role("api"), role("box"), TCP_80)
OUT = Rule(RuleId("shop/out"), Action.ALLOW, Selected(role("api")), Networks(("payments",)))
OTHER_HOST: tuple[Event, ...] = (
    HostSeen(Host(OTHER, WorkloadId("host:host-b"), ("lo", "eth0"))),
    host_itself(OTHER, 2),
)


def intents(*addresses: str, more: tuple[Event, ...] = ()) -> dict[HostId, Intent]:
    document = box("box", *addresses, role="box")
    return compile_snapshot(fold([*SHOP, *more, policy(1, TO_BOXES, OUT, workloads=(document,))]))


def peers(intent: Intent) -> list[tuple[str, ...]]:
    return [each.addresses for each in intent.peers]


def test_its_addresses_are_its_peers_peers_and_nobodys_end() -> None:
    intent = intents("192.168.7.40", "203.0.113.9")[HOST]
    assert peers(intent) == [("192.168.7.40", "203.0.113.9")]
    assert WorkloadId("workload:box") not in {end.workload for end in intent.ends}


def test_no_network_set_holds_its_address() -> None:
    assert intents("203.0.113.9")[HOST].inventory == ("203.0.113.9",)
    assert intents("192.168.7.40")[HOST].inventory == ()


def test_where_a_container_has_the_address_in_its_hosts_own_network_it_is_the_containers() -> None:
    found = intents("10.0.0.11", "192.168.7.40", more=(*OTHER_HOST, container("api-9", 19, OTHER)))
    assert peers(found[HOST]) == [("192.168.7.40",)]
    assert peers(found[OTHER]) == [("10.0.0.11", "192.168.7.40")]
    (web,) = [end for end in found[HOST].ends if end.name == "web-1"]
    assert "10.0.0.11" in web.addresses


def test_where_somebody_is_reported_at_the_address_it_is_theirs_everywhere() -> None:
    assert peers(intents("192.168.7.20", "192.168.7.40", more=(unmanaged(),))[HOST]) == [("192.168.7.40",)]


@pytest.mark.parametrize(
    ("event", "moves"),
    [
        (unmanaged(address="192.168.7.40"), True),
        (unmanaged(address="192.168.7.20"), True),
        (WorkloadGone(WorkloadId("unmanaged:legacy")), True),
        (unmanaged(name="else", address="192.168.7.99"), False),
        (container("web-9", 40), False),
        (HostGone(HOST), False),
        (WorkloadGone(API_ID), False),
    ],
)
def test_who_comes_to_its_address_or_leaves_it_affects_it(event: Event, moves: bool) -> None:
    document = box("box", "192.168.7.20", "192.168.7.40", role="box")
    before = fold([*SHOP, unmanaged(), policy(1, TO_BOXES, workloads=(document,))])
    assert (WorkloadId("workload:box") in affected(event, before)[0]) is moves
