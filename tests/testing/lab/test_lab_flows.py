"""Connections that are kept, and packets that no honest stack would send."""

import asyncio

import pytest

from stockade.core.model.net import Protocol
from stockade.testing.lab import Lab, Link, Topology, bridged, lab_bridge, routed
from stockade.testing.probe import packets
from stockade.testing.probe.values import Outcome, Probe

pytestmark = pytest.mark.real

KEPT = (Protocol.TCP, Protocol.UDP, Protocol.SCTP)
NODES = (bridged("web", "br0"), bridged("api", "br0"), bridged("db", "br1"), routed("vm", "10.9.0.5", "fd00:9::5"))
SMALL = Topology(
    (lab_bridge("br0", "10.1.0.0/24", "fd00:1::/64"), lab_bridge("br1", "10.2.0.0/24", "fd00:2::/64")), NODES
)
FORWARD = "type filter hook forward priority 0;"


def in_lab(scenario):
    async def main():
        async with Lab(SMALL) as lab:
            return await scenario(lab)

    return asyncio.run(main())


# Connections that are kept


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("destination", ["api", "db", "lab"])
def test_a_flow_lives_in_both_directions_dies_with_a_rule_and_comes_back_with_it(destination, family):
    async def scenario(lab):
        flows = await lab.open(Probe("web", destination, each, 9000, family) for each in KEPT)
        assert [each.opened for each in flows] == [Outcome.REACHED] * 3
        for back in (False, True):
            assert all(each.alive and each.delivered for each in await lab.send(flows, back=back))
        chains = "".join(
            f"chain {hook} {{ type filter hook {hook} priority 0; iifname br0 drop; oifname br0 drop; }};"
            for hook in ("forward", "input")
        )
        await lab.nft(f"table inet test {{ {chains} }}")
        for heard in await lab.send(flows):
            assert (heard.outcome, heard.delivered) == (Outcome.TIMED_OUT, False)
        backwards = await lab.send(flows, back=True)
        assert [each.alive for each in backwards] == [False] * 3
        await lab.nft("delete table inet test")
        again = {each.flow.probe.protocol: each.alive for each in await lab.send(flows, patience=0.3)}
        assert (again[Protocol.UDP], again[Protocol.SCTP]) == (True, True)
        await lab.shut(flows)

    in_lab(scenario)


def test_one_direction_cut_is_told_from_both():
    async def scenario(lab):
        flows = await lab.open(Probe("web", "db", each, 9000) for each in KEPT)
        await lab.nft(f"table inet test {{ chain c {{ {FORWARD} ip saddr {lab.address('db')} drop; }}; }}")
        assert all((each.outcome, each.delivered) == (Outcome.TIMED_OUT, True) for each in await lab.send(flows))
        assert all((each.alive, each.delivered) == (False, False) for each in await lab.send(flows, back=True))

    in_lab(scenario)


def test_a_reset_connection_says_so_ever_after():
    async def scenario(lab):
        flows = await lab.open(Probe("web", "db", each, 9000) for each in (Protocol.TCP, Protocol.SCTP))
        tcp, sctp = flows
        assert (await lab.send([tcp]))[0].alive
        await lab.nft(f"table inet test {{ chain c {{ {FORWARD} meta l4proto tcp reject with tcp reset; }}; }}")
        for _ in range(2):
            assert (await lab.send([tcp]))[0].outcome is Outcome.RESET
        assert (await lab.send([sctp]))[0].alive

    in_lab(scenario)


def test_a_closed_flow_cannot_be_asked():
    async def scenario(lab):
        flows = await lab.open(Probe("web", "db", each, 9000) for each in KEPT)
        await lab.shut(flows)
        assert {each.outcome for each in await lab.send(flows)} == {Outcome.NOT_SENT}

    in_lab(scenario)


def test_connections_outlive_the_move_of_a_node_s_port_and_not_its_address():
    async def scenario(lab):
        flows = await lab.open(Probe("vm", "db", each, 9000) for each in KEPT)
        await lab.move("db", Link("br1", ("10.2.0.77", "fd00:2::77")))
        assert lab.address("db") == "10.2.0.77"
        assert (await lab.probe([Probe("vm", "db", Protocol.TCP, 9000)]))[0].reached
        assert not any(each.alive for each in await lab.send(flows))
        await lab.move("db", Link("br1", ("10.2.0.10", "fd00:2::a")))
        assert [each.alive for each in await lab.send(flows, patience=0.5)][1:] == [True, True]

    in_lab(scenario)


# What no honest stack would send


def udp(source, destination, nonce, sport=7000, port=9000):
    return packets.ip(source, destination, packets.UDP, packets.udp(source, destination, sport, port, nonce.encode()))


async def sent(lab, name, *frames):
    assert await lab.inject(name, frames) == [0] * len(frames)


def test_tagged_frames_and_unknown_ethertypes_pass_a_bridge_without_rules():
    async def scenario(lab):
        web, api = lab.address("web"), lab.address("api")
        tagged, odd = lab.nonce(), lab.nonce()
        mac = lab.plugs("web")[0].mac
        beacon = packets.ethernet(mac, lab.plugs("api")[0].mac, odd.encode().ljust(60), ethertype=0x88B5)
        await sent(lab, "web", lab.frame("web", udp(web, api, tagged), vlan=0), beacon)
        (vlan,) = await lab.seen("api", tagged)
        (strange,) = await lab.seen("api", odd)
        assert (vlan.vlan, vlan.port, strange.ethertype) == (0, 9000, 0x88B5)

    in_lab(scenario)


def test_spoofed_sources_arrive_as_they_were_sent():
    async def scenario(lab):
        claim, nonce = lab.address("db"), lab.nonce()
        await sent(lab, "web", lab.frame("web", udp(claim, lab.address("api"), nonce), mac="02:66:66:66:66:66"))
        (seen,) = await lab.seen("api", nonce)
        assert (seen.source, seen.source_mac) == (claim, "02:66:66:66:66:66")

    in_lab(scenario)


def test_forged_neighbours_turn_traffic_away():
    async def scenario(lab):
        web, api = lab.plugs("web")[0], lab.plugs("api")[0]
        gateway4, gateway6 = "10.1.0.1", "fd00:1::1"
        # api knows its gateway already, and so believes whoever answers again
        await lab.probe([Probe("api", "db", Protocol.UDP, 9000, family) for family in (4, 6)])
        forged4 = packets.ethernet(
            web.mac,
            api.mac,
            packets.arp(web.mac, gateway4, lab.address("api"), reply_to=api.mac),
            ethertype=packets.ARP,
        )
        forged6 = lab.frame("web", packets.neighbour_advert(web.mac, gateway6, lab.address("api", 6)))
        await asyncio.sleep(0.05)  # a neighbour that has just spoken is not contradicted within the same tick
        await sent(lab, "web", forged4, forged6)
        stolen = await lab.probe([Probe("api", "db", Protocol.UDP, 9000, family) for family in (4, 6)])
        assert [each.delivered for each in stolen] == [False, False]

    in_lab(scenario)


@pytest.mark.parametrize("family", [4, 6])
def test_fragments_are_put_together_at_the_other_end(family):
    async def scenario(lab):
        ends, nonce = (lab.address("web", family), lab.address("db", family)), lab.nonce()
        await lab.listen("db", Protocol.UDP, 9000)
        question = f"?{nonce}".encode().ljust(3000, b".")
        packet = packets.ip(*ends, packets.UDP, packets.udp(*ends, 7000, 9000, question))
        await sent(lab, "web", *(lab.frame("web", each) for each in packets.fragments(packet, 1200)))
        asked = await lab.seen("db", nonce)
        answered = await lab.seen("web", nonce)
        assert asked
        assert answered

    in_lab(scenario)


def test_a_segment_from_the_middle_of_nothing_is_reset():
    async def scenario(lab):
        ends = lab.address("web"), lab.address("db")
        segment = packets.tcp(*ends, 7001, 9000, flags=packets.ACK | packets.PSH, acknowledge=5, payload=b"hello")
        await sent(lab, "web", lab.frame("web", packets.ip(*ends, packets.TCP, segment)))
        (there,) = await lab.seen("db", "6/7001")
        (back,) = await lab.seen("web", "6/9000")
        assert there.flags == packets.ACK | packets.PSH
        assert back.flags & packets.RST

    in_lab(scenario)


@pytest.mark.parametrize("family", [4, 6])
def test_a_forged_error_about_a_live_connection_is_heard(family):
    async def scenario(lab):
        (flow,) = await lab.open([Probe("web", "db", Protocol.UDP, 9000, family)])
        web, db = lab.address("web", family), lab.address("db", family)
        nonce = lab.nonce()
        about = udp(web, db, nonce, flow.source_port)
        await sent(lab, "db", lab.frame("db", packets.unreachable(db, web, about)))
        (seen,) = await lab.seen("web", nonce)
        assert (seen.protocol, seen.source) == (packets.ICMP6 if family == 6 else packets.ICMP, db)

    in_lab(scenario)


def test_packets_by_hand_from_the_host_s_own_stack_meet_its_filter():
    async def scenario(lab):
        nonce = lab.nonce()
        packet = udp("192.0.2.1", lab.address("web"), nonce)
        assert await lab.inject("lab", [packet], link="") == [0]
        assert len(await lab.seen("web", nonce)) == 1
        await lab.nft("table inet test { chain c { type filter hook output priority 0; udp dport 9000 drop; }; }")
        assert await lab.inject("lab", [packet], link="") == [1]  # EPERM
        assert len(await lab.seen("web", nonce)) == 1

    in_lab(scenario)


def test_what_arrived_can_be_forgotten():
    async def scenario(lab):
        nonce = lab.nonce()
        await sent(lab, "web", lab.frame("web", udp(lab.address("web"), lab.address("api"), nonce)))
        assert await lab.seen("api", nonce)
        await lab.clear()
        assert await lab.seen("api", nonce) == []

    in_lab(scenario)
