"""What a hostile container sends from a raw socket, and what becomes of it where its endpoint and its victim enforce.

web may reach api on udp/9000 and nothing else; db may be reached by nobody. Every test also shows an honest packet
that passes, so that silence is not mistaken for enforcement.
"""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from stockade.core.compile.compiler import compile_snapshot
from stockade.core.compile.nft.render import render
from stockade.core.compile.nft.ruleset import Ruleset
from stockade.core.fold import fold
from stockade.core.model.event import HostSeen, PolicyActivated, WorkloadSeen
from stockade.core.model.ids import RuleId, Version
from stockade.core.model.net import Ports, Protocol
from stockade.core.model.policy import Action, EnforcementMode, Mode, Policy, PolicySet, Rule, Selected
from stockade.core.model.selector import Equal
from stockade.core.policy import complete
from stockade.core.reconcile import steps, text
from stockade.testing.lab import Lab, Topology, bridged, enter, lab_bridge
from stockade.testing.probe import packets

pytestmark = [pytest.mark.real, pytest.mark.timeout(60)]
WAY = Rule(
    RuleId("shop/web-to-api"),
    Action.ALLOW,
    Selected(Equal("role", "web")),
    Selected(Equal("role", "api")),
    (Ports(Protocol.UDP, 9000, 9000),),
)
POLICY = PolicySet(
    policies=(Policy("shop", (WAY,)),), modes=(EnforcementMode("shop", Equal("app", "shop"), Mode.FULL, 10),)
)
GROUND = Topology(
    bridges=(lab_bridge("br0", "10.1.0.0/24", "fd00:1::/64"),),
    nodes=(
        bridged("web", "br0", app="shop", role="web"),
        bridged("api", "br0", app="shop", role="api"),
        bridged("db", "br0", app="shop", role="db"),
        bridged("other", "br0", app="other"),
    ),
)
Scenario = Callable[[Lab], Awaitable[None]]


def contained(scenario: Scenario) -> None:
    """Run a scenario in a lab whose host enforces."""

    async def run() -> None:
        async with Lab(GROUND) as lab:
            seen = [WorkloadSeen(each) for each in lab.sightings()]
            events = [HostSeen(lab.host()), *seen, *lab.labels(), PolicyActivated(Version(1), complete(POLICY))]
            (intent,) = compile_snapshot(fold(events)).values()
            await lab.nft("table inet stockade { }\ntable bridge stockade { }\n")
            for step in steps(render(intent), Ruleset()):
                told = [each for each in text(step).splitlines(keepends=True) if not each.startswith("add table")]
                await lab.nft("".join(told))
            await scenario(lab)

    enter()
    asyncio.run(run())


def udp(source: str, destination: str, nonce: str, port: int = 9000) -> bytes:
    segment = packets.udp(source, destination, 7000, port, nonce.encode())
    return packets.ip(source, destination, packets.UDP, segment)


async def arrives(lab: Lab, sender: str, receiver: str, frame: bytes, nonce: str) -> bool:
    assert await lab.inject(sender, [frame]) == [0]
    return bool(await lab.seen(receiver, nonce))


async def honest(lab: Lab, family: int = 4) -> bool:
    """Tell whether an honest packet of web's gets to api."""
    nonce = lab.nonce()
    return await arrives(
        lab, "web", "api", lab.frame("web", udp(lab.address("web", family), lab.address("api", family), nonce)), nonce
    )


@pytest.mark.parametrize("family", [4, 6])
def test_a_raw_socket_gains_nothing(family: int) -> None:
    async def scenario(lab: Lab) -> None:
        nonce = lab.nonce()
        frame = lab.frame("web", udp(lab.address("web", family), lab.address("db", family), nonce))
        assert not await arrives(lab, "web", "db", frame, nonce)
        assert await honest(lab, family)

    contained(scenario)


@pytest.mark.parametrize("family", [4, 6])
def test_another_s_address_gains_nothing(family: int) -> None:
    async def scenario(lab: Lab) -> None:
        nonce = lab.nonce()
        frame = lab.frame("db", udp(lab.address("web", family), lab.address("api", family), nonce))
        assert not await arrives(lab, "db", "api", frame, nonce)
        assert await honest(lab, family)

    contained(scenario)


def test_another_s_mac_with_its_address_gains_nothing() -> None:
    async def scenario(lab: Lab) -> None:
        assert await honest(lab)
        nonce, web = lab.nonce(), lab.plugs("web")[0].mac
        frame = lab.frame("db", udp(lab.address("web"), lab.address("api"), nonce), mac=web)
        assert not await arrives(lab, "db", "api", frame, nonce)

    contained(scenario)


def test_a_frame_for_one_at_the_mac_of_another_gains_nothing() -> None:
    async def scenario(lab: Lab) -> None:
        nonce, db = lab.nonce(), lab.plugs("db")[0].mac
        frame = lab.frame("web", udp(lab.address("web"), lab.address("api"), nonce), to=db)
        assert not await arrives(lab, "web", "db", frame, nonce)
        assert await honest(lab)

    contained(scenario)


@pytest.mark.parametrize("vlan", [0, 7])
def test_a_tagged_frame_gains_nothing(vlan: int) -> None:
    async def scenario(lab: Lab) -> None:
        for receiver in ("api", "db"):
            nonce = lab.nonce()
            frame = lab.frame("web", udp(lab.address("web"), lab.address(receiver), nonce), vlan=vlan)
            assert not await arrives(lab, "web", receiver, frame, nonce)
        assert await honest(lab)

    contained(scenario)


def test_an_unknown_ethertype_gains_nothing() -> None:
    async def scenario(lab: Lab) -> None:
        nonce = lab.nonce()
        ends = lab.plugs("web")[0].mac, lab.plugs("api")[0].mac
        frame = packets.ethernet(*ends, nonce.encode().ljust(60), ethertype=0x88B5)
        assert not await arrives(lab, "web", "api", frame, nonce)
        assert await honest(lab)

    contained(scenario)


def test_a_tagged_frame_from_who_is_not_enforced_does_not_reach_who_is() -> None:
    async def scenario(lab: Lab) -> None:
        nonce = lab.nonce()
        frame = lab.frame("other", udp(lab.address("other"), lab.address("db"), nonce), vlan=0)
        assert not await arrives(lab, "other", "db", frame, nonce)

    contained(scenario)


def test_forged_neighbours_turn_nobody_away() -> None:
    async def scenario(lab: Lab) -> None:
        assert await honest(lab)
        db, web, api = (lab.plugs(name)[0].mac for name in ("db", "web", "api"))
        claim = packets.arp(db, lab.address("api"), lab.address("web"), reply_to=web)
        advert = packets.neighbour_advert(db, lab.address("api", 6), lab.address("web", 6))
        await asyncio.sleep(0.05)
        assert await lab.inject("db", [packets.ethernet(db, web, claim, ethertype=packets.ARP)]) == [0]
        assert await lab.inject("db", [lab.frame("db", advert)]) == [0]
        neighbours = await lab.run("web", ["ip", "neigh"])
        assert db not in str(neighbours.stdout)
        assert api != db

    contained(scenario)


def test_a_segment_from_the_middle_of_nothing_gains_nothing() -> None:
    async def scenario(lab: Lab) -> None:
        ends = lab.address("web"), lab.address("api")
        segment = packets.tcp(*ends, 7001, 9000, flags=packets.ACK | packets.PSH, acknowledge=5, payload=b"hello")
        assert await lab.inject("web", [lab.frame("web", packets.ip(*ends, packets.TCP, segment))]) == [0]
        assert await lab.seen("api", "6/7001") == []
        assert await honest(lab)

    contained(scenario)


def test_bridged_packets_that_nobody_judges_do_not_pass() -> None:
    async def scenario(lab: Lab) -> None:
        assert await honest(lab)
        names = ("bridge-nf-call-iptables", "bridge-nf-call-ip6tables")
        await lab.sysctl(lab.host_name, [(f"net/bridge/{name}", "0") for name in names])
        assert not await honest(lab)
        await lab.sysctl(lab.host_name, [(f"net/bridge/{name}", "1") for name in names])
        assert await honest(lab)

    contained(scenario)
