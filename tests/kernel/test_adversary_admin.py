"""What a container does that has CAP_NET_ADMIN in its own namespace: links, addresses, tunnels, forwarding of its own.

web may reach api on udp/9000 and nothing else; db may be reached by nobody; ``middle`` is on both bridges. Every test
also shows a packet that passes, so that silence is not mistaken for enforcement. What needs no link or setting of its
own is in ``test_adversary``.
"""

import asyncio

import pytest
from plain_tables import Scenario, in_lab
from test_adversary import POLICY, arrives, honest, udp

from stockade.core.model.net import Protocol
from stockade.testing.lab import Lab, Link, Node, Topology, bridged, lab_bridge
from stockade.testing.probe import packets
from stockade.testing.probe.values import Probe

pytestmark = [pytest.mark.real, pytest.mark.timeout(120)]
GROUND = Topology(
    bridges=(lab_bridge("br0", "10.1.0.0/24", "fd00:1::/64"), lab_bridge("br1", "10.2.0.0/24", "fd00:2::/64")),
    nodes=(
        bridged("web", "br0", app="shop", role="web"),
        bridged("api", "br0", app="shop", role="api"),
        bridged("db", "br0", app="shop", role="db"),
        Node("middle", (Link("br0"), Link("br1")), (("app", "shop"), ("role", "middle"))),
        bridged("far", "br1", app="shop", role="db"),
        bridged("one", "br0", app="other"),
        bridged("two", "br0", app="other"),
    ),
)
GRE, IPIP, IPV6_IN_IP, ESP = 47, 4, 41, 50


def contained(scenario: Scenario) -> None:
    """Run a scenario in a lab whose host enforces."""
    in_lab(GROUND, POLICY, scenario)


async def does(lab: Lab, name: str, *commands: str) -> None:
    """Do as root does in a node's namespace."""
    for each in commands:
        done = await lab.run(name, each.split())
        assert done.status == 0, f"{each}: {done.stderr}"


async def delivered(lab: Lab, *probes: Probe) -> list[bool]:
    return [each.delivered for each in await lab.probe(probes)]


async def arrives_by(lab: Lab, sender: str, receiver: str, frame: bytes, nonce: str, link: str) -> bool:
    assert await lab.inject(sender, [frame], link) == [0]
    return bool(await lab.seen(receiver, nonce))


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("whose", ["web", "api"])
def test_the_address_of_a_neighbour_or_of_a_permitted_peer_gains_nothing(family: int, whose: str) -> None:
    """db gives itself the address of one who may talk, or may be talked to."""

    async def scenario(lab: Lab) -> None:
        assert await honest(lab, family)
        taken = lab.address(whose, family)
        await does(lab, "db", f"ip address add {taken}/{32 if family == 4 else 128} dev eth0{' nodad' * (family == 6)}")
        for receiver in {"api", "two"} - {whose}:
            nonce = lab.nonce()
            frame = lab.frame("db", udp(taken, lab.address(receiver, family), nonce))
            assert not await arrives(lab, "db", receiver, frame, nonce), receiver
            probe = Probe("db", receiver, Protocol.UDP, 9000, family, source_address=taken)
            assert await delivered(lab, probe) == [False], receiver
        assert await honest(lab, family), "and whoever has it loses nothing by it"

    contained(scenario)


@pytest.mark.parametrize("family", [4, 6])
def test_another_mac_on_its_own_link_gains_nothing(family: int) -> None:
    """A container that takes a MAC of its own choice, or its neighbour's, is nobody until it has its own again."""

    async def scenario(lab: Lab) -> None:
        own, another = lab.plugs("web")[0].mac, lab.plugs("api")[0].mac
        denied = Probe("web", "db", Protocol.UDP, 9000, family)
        allowed = Probe("web", "api", Protocol.UDP, 9000, family)
        for mac in ("02:00:00:00:99:01", another):
            await does(lab, "web", f"ip link set eth0 address {mac}")
            assert await delivered(lab, denied, allowed) == [False, False], mac
        await does(lab, "web", f"ip link set eth0 address {own}")
        await asyncio.sleep(0.2)
        assert await delivered(lab, denied, allowed) == [False, True]

    contained(scenario)


@pytest.mark.parametrize("mode", ["bridge", "private", "vepa"])
def test_a_macvlan_on_its_own_link_gains_nothing(mode: str) -> None:
    async def scenario(lab: Lab) -> None:
        done = await lab.run("web", f"ip link add mv0 link eth0 type macvlan mode {mode}".split())
        if done.status:
            pytest.skip(f"this kernel has no macvlan: {done.stderr.strip()}")
        await does(lab, "web", "ip link set mv0 up", "ip address add 10.1.0.97/24 dev mv0")
        probes = [
            Probe("web", receiver, Protocol.UDP, 9000, source_address="10.1.0.97") for receiver in ("api", "db", "two")
        ]
        assert await delivered(lab, *probes) == [False, False, False]
        for source in ("10.1.0.97", lab.address("web"), lab.address("api")):
            nonce = lab.nonce()
            mac = "02:00:00:00:99:02"
            frame = packets.ethernet(mac, lab.plugs("db")[0].mac, udp(source, lab.address("db"), nonce))
            assert await lab.inject("web", [frame], "mv0") == [0]
            assert not await lab.seen("db", nonce), source
        assert await honest(lab)

    contained(scenario)


@pytest.mark.parametrize("protocol", [GRE, IPIP, IPV6_IN_IP, ESP])
def test_a_tunnel_by_a_protocol_of_its_own_gains_nothing(protocol: int) -> None:
    """What policy allows is udp/9000: tunnelled packets reach nobody, not the peer that may be reached on it either."""

    async def scenario(lab: Lab) -> None:
        async def tunnelled(sender: str, receiver: str) -> bool:
            nonce = lab.nonce()
            ends = lab.address(sender), lab.address(receiver)
            inner = udp(lab.address("one"), lab.address(receiver), nonce)
            packet = packets.ip(*ends, protocol, (bytes(4) if protocol == GRE else b"") + inner)
            assert await lab.inject(sender, [lab.frame(sender, packet)]) == [0]
            found = await lab.seen(receiver, nonce) or await lab.seen(receiver, f"{protocol}/0")
            await lab.clear()
            return bool(found)

        assert await honest(lab)
        tried = [await tunnelled("one", "two") for _ in range(3)]
        assert any(tried), "between those that are not enforced it arrives, and is seen"
        assert not await tunnelled("web", "api")
        assert not await tunnelled("web", "db")
        assert await honest(lab)

    contained(scenario)


def test_a_vxlan_to_a_peer_that_is_not_permitted_gains_nothing() -> None:
    async def scenario(lab: Lab) -> None:
        async def laid(one: str, other: str, net: int) -> None:
            name = f"vx{net}"
            for place, (here, there) in enumerate(((one, other), (other, one)), 1):
                done = await lab.run(
                    here,
                    f"ip link add {name} type vxlan id {net} remote {lab.address(there)} dstport 4789 dev eth0".split(),
                )
                if done.status:
                    pytest.skip(f"this kernel has no vxlan: {done.stderr.strip()}")
                await does(lab, here, f"ip address add 172.30.{net}.{place}/24 dev {name}", f"ip link set {name} up")

        async def through(sender: str, receiver: str, net: int) -> bool:
            nonce = lab.nonce()
            inner = udp(f"172.30.{net}.1", f"172.30.{net}.2", nonce)
            frame = packets.ethernet("02:00:00:00:99:03", "ff:ff:ff:ff:ff:ff", inner)
            return await arrives_by(lab, sender, receiver, frame, nonce, f"vx{net}")

        await laid("web", "db", 7)
        await laid("one", "two", 8)
        assert await through("one", "two", 8), "between those that are not enforced the tunnel carries"
        assert not await through("web", "db", 7)
        assert not await through("db", "web", 7)
        assert await honest(lab)

    contained(scenario)


@pytest.mark.parametrize("family", [4, 6])
def test_forwarding_between_two_networks_that_it_is_on_gains_nothing(family: int) -> None:
    """``middle`` forwards for whoever asks, masquerading included; db of the other network is as far as before."""

    async def scenario(lab: Lab) -> None:
        await lab.sysctl("middle", [("net/ipv4/ip_forward", "1"), ("net/ipv6/conf/all/forwarding", "1")])
        rules = "table inet own { chain c { type nat hook postrouting priority 100; masquerade\n}\n}\n"
        hop, far = lab.address("middle", family), lab.address("far", family)
        await does(lab, "web", f"ip {'-6 ' * (family == 6)}route add {far} via {hop} dev eth0")
        probe = Probe("web", "far", Protocol.UDP, 9000, family)
        assert await delivered(lab, probe) == [False]
        done = await lab.run("middle", ["nft", "-f", "-"], input=rules.encode())
        assert done.status == 0, done.stderr
        assert await delivered(lab, probe) == [False]
        assert await honest(lab, family)

    contained(scenario)


def test_a_default_route_through_another_container_gains_nothing() -> None:
    async def scenario(lab: Lab) -> None:
        await lab.sysctl("one", [("net/ipv4/ip_forward", "1"), ("net/ipv6/conf/all/forwarding", "1")])
        await does(
            lab,
            "web",
            f"ip route replace default via {lab.address('one')} dev eth0",
            f"ip -6 route replace default via {lab.address('one', 6)} dev eth0",
        )
        denied = [Probe("web", "far", Protocol.UDP, 9000, family) for family in (4, 6)]
        assert await delivered(lab, *denied) == [False, False]
        assert await honest(lab)

    contained(scenario)


def test_a_proxy_for_addresses_that_are_not_its_own_answers_nobody() -> None:
    """db answers questions for other link addresses, by proxy ARP; its neighbours never hear that it does."""

    async def scenario(lab: Lab) -> None:
        async def answers(proxy: str, asker: str, asked: str) -> bool:
            await does(lab, proxy, f"ip route add {asked}/32 dev lo", f"ip neigh add proxy {asked} dev eth0")
            assert await lab.inject(asker, [udp(lab.address(asker), asked, lab.nonce())], "") == [0]
            await asyncio.sleep(0.5)
            neighbours = await lab.run(asker, ["ip", "neigh", "show", asked])
            return lab.plugs(proxy)[0].mac in neighbours.stdout

        for each in ("db", "two"):
            settings = ("conf/eth0/proxy_arp", "1"), ("ip_forward", "1"), ("neigh/eth0/proxy_delay", "0")
            assert await lab.sysctl(each, [(f"net/ipv4/{name}", value) for name, value in settings]) == ()
        assert await answers("two", "one", "10.1.0.94"), "between those that are not enforced a proxy is believed"
        assert not await answers("db", "one", "10.1.0.95")
        assert not await answers("db", "web", "10.1.0.96")
        assert await honest(lab)

    contained(scenario)


def test_everything_at_once_gains_nothing() -> None:
    """Its rules flushed, reverse path filters off, promiscuous, all multicast, another queue: it is who it was."""

    async def scenario(lab: Lab) -> None:
        await lab.sysctl("web", [("net/ipv4/conf/all/rp_filter", "0"), ("net/ipv4/conf/eth0/rp_filter", "0")])
        await does(
            lab,
            "web",
            "nft flush ruleset",
            "ip link set eth0 promisc on",
            "ip link set eth0 allmulticast on",
            "ip link set eth0 txqueuelen 1",
        )
        for family in (4, 6):
            probes = [Probe("web", name, Protocol.UDP, 9000, family) for name in ("db", "far", "api")]
            assert await delivered(lab, *probes) == [False, False, True]
        nonce = lab.nonce()
        frame = lab.frame("one", udp(lab.address("one"), lab.address("two"), nonce))
        assert await arrives(lab, "one", "two", frame, nonce)
        assert not await lab.seen("web", nonce), "what others say to each other does not reach it"

    contained(scenario)
