"""What the kernel tells of connections is what happened: each counted once at each end, under the rule that decided."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest
from enforced import Enforced, on_ground

from stockade.adapters.netfilter.conntrack import Conntrack
from stockade.adapters.netfilter.flows import KernelFlows
from stockade.agent.flows.names import names
from stockade.agent.flows.recording import Recording
from stockade.core.model.flow import Flow, Verdict
from stockade.core.model.flow_table import flows
from stockade.core.model.ids import Prefix, RuleId
from stockade.core.model.net import Ports, Protocol
from stockade.core.model.packet import Direction
from stockade.core.model.policy import (
    Action,
    EnforcementMode,
    Mode,
    Networks,
    NetworkSet,
    Policy,
    PolicySet,
    Rule,
    Selected,
)
from stockade.core.model.selector import Equal
from stockade.testing.lab import Topology, bridged, lab_bridge, outside, routed
from stockade.testing.probe.values import Probe, Result

pytestmark = [pytest.mark.real, pytest.mark.timeout(120)]
PORT = 9000
ON = (Ports(Protocol.TCP, PORT, PORT), Ports(Protocol.UDP, PORT, PORT))
GROUND = Topology(
    bridges=(lab_bridge("br0", "10.1.0.0/24", "fd00:1::/64"), lab_bridge("br1", "10.2.0.0/24", "fd00:2::/64")),
    nodes=(
        bridged("web", "br0", app="shop", role="web"),
        bridged("api", "br0", app="shop", role="api"),
        bridged("db", "br1", app="shop", role="db"),
        routed("watched", "10.9.0.5", "fd00:9::5", app="watched"),
        outside("far", "203.0.113.10", "2001:db8:7::10"),
    ),
)


def rule(name: str, source: str, destination: str, action: Action = Action.ALLOW) -> Rule:
    return Rule(
        RuleId(f"shop/{name}"), action, Selected(Equal("role", source)), Selected(Equal("role", destination)), ON
    )


WEB_API, API_DB, DB_API = rule("web-api", "web", "api"), rule("api-db", "api", "db"), rule("db-api", "db", "api")
FAR = Rule(RuleId("shop/far"), Action.ALLOW, Selected(Equal("role", "web")), Networks(("far",)), ON)
WATCHED = Rule(RuleId("shop/watched"), Action.DENY, Networks(("far",)), Selected(Equal("app", "watched")), ON)
POLICY = PolicySet(
    policies=(Policy("shop", (API_DB, FAR, WATCHED, WEB_API)),),
    modes=(
        EnforcementMode("shop", Equal("app", "shop"), Mode.FULL, 10),
        EnforcementMode("watched", Equal("app", "watched"), Mode.VISIBILITY, 10),
    ),
    network_sets=(NetworkSet("far", (Prefix("203.0.113.0/24"), Prefix("2001:db8:7::/48"))),),
)
OUT, IN = Direction.EGRESS, Direction.INGRESS
TRIED = {
    ("web", "api"): {(OUT, Verdict.ALLOWED, "shop/web-api"), (IN, Verdict.ALLOWED, "shop/web-api")},
    ("api", "db"): {(OUT, Verdict.ALLOWED, "shop/api-db"), (IN, Verdict.ALLOWED, "shop/api-db")},
    ("web", "far"): {(OUT, Verdict.ALLOWED, "shop/far")},
    ("web", "db"): {(OUT, Verdict.DENIED, "default")},
    ("far", "db"): {(IN, Verdict.DENIED, "default")},
    ("far", "watched"): {(IN, Verdict.WOULD_DENY, "shop/watched")},
    ("watched", "api"): {(OUT, Verdict.WOULD_DENY, "default"), (IN, Verdict.DENIED, "default")},
}
"""Who is tried to whom, and what is told of it at which end, by which rule."""
TIMES = 3


class Listener:
    """What is heard of a host, in a batch a ``take``."""

    def __init__(self, on: Enforced, source: KernelFlows) -> None:
        self.on, self.source, self.recording = on, source, Recording()

    async def take(self) -> tuple[Flow, ...]:
        """Everything until nothing more comes."""
        quiet = 0
        while quiet < 2:
            heard = await asyncio.to_thread(self.source.read, 0.3)
            self.recording.decided(heard.decisions, time.time())
            self.recording.ended(heard.ended, time.time())
            quiet = 0 if heard.decisions or heard.ended else quiet + 1
        assert self.on.intent is not None
        return tuple(flows(self.recording.take(names(self.on.intent))))


@contextmanager
def listening(on: Enforced) -> Iterator[Listener]:
    with closing(KernelFlows(on.lab.netns(on.lab.host_name))) as source:
        yield Listener(on, source)


def probes(on: Enforced) -> list[Probe]:
    return [
        Probe(source, destination, protocol, PORT, family)
        for source, destination in TRIED
        for protocol in (Protocol.TCP, Protocol.UDP)
        for family in (4, 6)
    ]


def right(results: list[Result]) -> bool:
    """Whether what was tried went as policy says."""
    return all(
        each.reached
        == all(said is not Verdict.DENIED for _, said, _ in TRIED[each.probe.source, each.probe.destination])
        for each in results
    )


def test_each_connection_is_told_once_at_each_end_with_its_rule_and_its_verdict() -> None:
    async def scenario(on: Enforced) -> None:
        with listening(on) as listener:
            await on.apply(POLICY)
            for _ in range(TIMES):
                assert right(await on.lab.probe(probes(on)))
            flows = await listener.take()
            assert {count for _, _, count in listener.source.losses()} == {0}
        name = {on.lab.address(each, family): each for each in on.lab.names for family in (4, 6)}
        told = {
            (name[f.key.source], name[f.key.destination], f.key.protocol, ":" in f.key.source, f.key.end, f.key.verdict,
             f.key.rule): f.tally.connections
            for f in flows
        }  # fmt: skip
        wanted = {
            (source, destination, int(protocol), six, *one): TIMES
            for (source, destination), ends in TRIED.items()
            for one in ends
            for protocol in (Protocol.TCP, Protocol.UDP)
            for six in (False, True)
        }
        assert told == wanted
        assert {f.key.port for f in flows} == {PORT}
        ids = {each.id: each.name for each in on.lab.sightings()}
        for flow in flows:
            here = {ids[each] for each in (flow.key.source_workload, flow.key.destination_workload) if each}
            assert here == {name[flow.key.source], name[flow.key.destination]} - {"far"}

    on_ground(GROUND, scenario)


def test_what_connections_carried_is_told_when_they_end() -> None:
    async def scenario(on: Enforced) -> None:
        with listening(on) as listener:
            await on.apply(POLICY)
            kept = await on.lab.open([Probe("web", "api", Protocol.TCP, PORT), Probe("api", "db", Protocol.UDP, PORT)])
            for _ in range(5):
                assert all(each.alive for each in await on.lab.send(kept))
            assert not [each for each in await listener.take() if each.key.verdict is Verdict.CARRIED]
            with closing(Conntrack(on.lab.netns(on.lab.host_name))) as tracking:
                kept_ones = [each for each in tracking.connections() if each.protocol in (Protocol.TCP, Protocol.UDP)]
                entries = {(each.source, each.destination, each.protocol) for each in kept_ones}
                for each in list(tracking.connections()):
                    tracking.end(each)
            flows = [each for each in await listener.take() if each.key.verdict is Verdict.CARRIED]
        assert {(each.key.source, each.key.destination, each.key.protocol) for each in flows} == entries
        for flow in flows:
            assert flow.key.end is IN
            assert flow.key.rule == ""
            assert flow.tally.ended == 1
            assert flow.tally.packets >= 10
            assert flow.tally.bytes_out > 0
            assert flow.tally.bytes_in > 0
            assert 0 < flow.tally.seconds < 120

    on_ground(GROUND, scenario)


def test_a_live_connection_that_a_change_ends_is_told_as_denied_in_its_own_direction() -> None:
    async def scenario(on: Enforced) -> None:
        with listening(on) as listener:
            await on.apply(POLICY)
            kept = await on.lab.open([Probe("web", "api", Protocol.TCP, PORT)])
            await listener.take()
            await on.apply(PolicySet(policies=(Policy("shop", (API_DB,)),), modes=POLICY.modes))
            await on.lab.send(kept)
            await on.lab.send(kept, back=True)
            flows = [each for each in await listener.take() if each.key.verdict is Verdict.DENIED]
        told = Counter((each.key.source, each.key.destination, each.key.end, each.key.rule) for each in flows)
        assert set(told) == {(on.lab.address("web"), on.lab.address("api"), OUT, "default")}

    on_ground(GROUND, scenario)
