"""What a hostile container sends and does to its own namespace, and what becomes of it where it and its victim enforce.

web may reach api on udp/9000 and nothing else; db may be reached by nobody. Every test also shows an honest packet
that passes, so that silence is not mistaken for enforcement.
"""

import asyncio

import pytest
from plain_tables import IN_BRIDGES, Scenario, in_lab

from stockade.core.model.ids import RuleId
from stockade.core.model.net import Ports, Protocol
from stockade.core.model.policy import Action, EnforcementMode, Mode, Policy, PolicySet, Rule, Selected
from stockade.core.model.selector import Equal
from stockade.testing.lab import Lab, Topology, bridged, lab_bridge
from stockade.testing.probe import packets
from stockade.testing.probe.values import Probe

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
ALL_NODES, ALL_NODES_MAC = "ff02::1", "33:33:00:00:00:01"
EVERYBODY, EVERYBODY_MAC = "255.255.255.255", "ff:ff:ff:ff:ff:ff"
ROUTER_SOLICITATION, ROUTER_ADVERTISEMENT = 133, 134


def contained(scenario: Scenario) -> None:
    """Run a scenario in a lab whose host enforces."""
    in_lab(GROUND, POLICY, scenario)


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


@pytest.mark.skipif(IN_BRIDGES, reason="this kernel judges in the bridge family here, which no sysctl turns off")
def test_bridged_packets_that_nobody_judges_do_not_pass() -> None:
    async def scenario(lab: Lab) -> None:
        assert await honest(lab)
        names = ("bridge-nf-call-iptables", "bridge-nf-call-ip6tables")
        await lab.sysctl(lab.host_name, [(f"net/bridge/{name}", "0") for name in names])
        assert not await honest(lab)
        await lab.sysctl(lab.host_name, [(f"net/bridge/{name}", "1") for name in names])
        assert await honest(lab)

    contained(scenario)


def link_message(source: str, kind: int, nonce: str) -> bytes:
    """Return an ICMPv6 message from a link's neighbour to all nodes on it (RFC 4861, 4.1 and 4.2)."""
    message = packets.icmp6(source, ALL_NODES, kind, 0, bytes(12) + nonce.encode())
    return packets.ip(source, ALL_NODES, packets.ICMP6, message, ttl=255)


def test_a_container_is_no_router() -> None:
    async def scenario(lab: Lab) -> None:
        for kind, passes in ((ROUTER_ADVERTISEMENT, False), (ROUTER_SOLICITATION, True)):
            for receiver in ("api", "other"):
                nonce = lab.nonce()
                frame = lab.frame("web", link_message(lab.address("web", 6), kind, nonce), to=ALL_NODES_MAC)
                assert await arrives(lab, "web", receiver, frame, nonce) == passes, (kind, receiver)

    contained(scenario)


def test_a_container_is_no_dhcp_server() -> None:
    async def scenario(lab: Lab) -> None:
        for receiver in ("api", "other"):
            nonce, web = lab.nonce(), lab.address("web")
            offer = packets.udp(web, EVERYBODY, 67, 68, nonce.encode())
            frame = lab.frame("web", packets.ip(web, EVERYBODY, packets.UDP, offer), to=EVERYBODY_MAC)
            assert not await arrives(lab, "web", receiver, frame, nonce)
        assert await honest(lab)

    contained(scenario)


# With CAP_NET_ADMIN in its own namespace


async def inside(lab: Lab, *commands: str) -> None:
    """Do as root does in web's namespace."""
    for each in commands:
        done = await lab.run("web", each.split())
        assert done.status == 0, f"{each}: {done.stderr}"


@pytest.mark.parametrize(("family", "another"), [(4, "10.1.0.99"), (6, "fd00:1::99")])
def test_an_address_that_it_gives_itself_gains_nothing(family: int, another: str) -> None:
    async def scenario(lab: Lab) -> None:
        await inside(lab, f"ip address add {another} dev eth0")
        for receiver, probe in (
            ("api", Probe("web", "api", Protocol.UDP, 9000, family, source_address=another)),
            ("other", Probe("web", "other", Protocol.UDP, 9000, family, source_address=another)),
        ):
            (result,) = await lab.probe([probe])
            assert not result.delivered, receiver
        assert await honest(lab, family)

    contained(scenario)


def test_a_link_of_its_own_behind_its_own_bridge_gains_nothing() -> None:
    """Another MAC and another address of the subnet, by the container's own link: nobody's endpoint."""

    async def scenario(lab: Lab) -> None:
        mac = "02:00:00:00:99:99"
        await inside(
            lab,
            "ip link add inner type bridge",
            "ip link add v0 type veth peer name v1",
            f"ip link set v1 address {mac}",
            *(f"ip link set {each} master inner" for each in ("eth0", "v0")),
            *(f"ip link set {each} up" for each in ("inner", "v0", "v1")),
        )
        await asyncio.sleep(0.1)
        for receiver in ("api", "db", "other"):
            nonce = lab.nonce()
            packet = udp("10.1.0.98", lab.address(receiver), nonce)
            frame = packets.ethernet(mac, lab.plugs(receiver)[0].mac, packet)
            assert await lab.inject("web", [frame], "v1") == [0]
            assert not await lab.seen(receiver, nonce), receiver
        nonce = lab.nonce()
        own = lab.frame("web", udp(lab.address("web"), lab.address("api"), nonce))
        assert await lab.inject("web", [own], "v1") == [0]
        assert await lab.seen("api", nonce), "its own frames leave by that bridge, too: it does work"

    contained(scenario)


def test_rules_and_marks_of_its_own_gain_nothing() -> None:
    async def scenario(lab: Lab) -> None:
        everything = "table inet own { chain c { type filter hook output priority 0; meta mark set 0xffffffff; }; }"
        done = await lab.run("web", ["nft", "-f", "-"], input=everything.encode())
        assert done.status == 0, done.stderr
        denied = [Probe("web", "db", Protocol.UDP, 9000, family) for family in (4, 6)]
        allowed = [Probe("web", "api", Protocol.UDP, 9000, family) for family in (4, 6)]
        assert [each.delivered for each in await lab.probe([*denied, *allowed])] == [False, False, True, True]
        await inside(lab, "nft flush ruleset")
        assert [each.delivered for each in await lab.probe([*denied, *allowed])] == [False, False, True, True]

    contained(scenario)


def test_a_link_that_goes_down_and_comes_back_by_another_name_gains_nothing() -> None:
    async def scenario(lab: Lab) -> None:
        addresses = [lab.address("web", family) for family in (4, 6)]
        await inside(
            lab,
            "ip link set eth0 down",
            "ip link set eth0 name other0",
            "ip link set other0 up",
            f"ip address replace {addresses[0]}/24 dev other0",
            f"ip address replace {addresses[1]}/64 dev other0",
        )
        denied = [Probe("web", "db", Protocol.UDP, 9000, family) for family in (4, 6)]
        allowed = [Probe("web", "api", Protocol.UDP, 9000, family) for family in (4, 6)]
        await asyncio.sleep(0.2)
        assert [each.delivered for each in await lab.probe([*denied, *allowed])] == [False, False, True, True]

    contained(scenario)


def test_a_route_through_another_container_gains_nothing() -> None:
    """What web may not say to db itself, no neighbour says for it: ``other`` forwards whatever it is given."""

    async def scenario(lab: Lab) -> None:
        await lab.sysctl("other", [("net/ipv4/ip_forward", "1"), ("net/ipv6/conf/all/forwarding", "1")])
        await inside(
            lab,
            f"ip route add {lab.address('db')}/32 via {lab.address('other')} dev eth0",
            f"ip -6 route add {lab.address('db', 6)}/128 via {lab.address('other', 6)} dev eth0",
        )
        results = await lab.probe([Probe("web", "db", Protocol.UDP, 9000, family) for family in (4, 6)])
        assert not any(each.delivered for each in results)
        assert await honest(lab)

    contained(scenario)
