"""The lab tested on itself: without rules everybody reaches everybody; a rule stops exactly what it names."""

import asyncio

import pytest

from stockade.core.model.net import Protocol
from stockade.testing.lab import Lab, LabError, Link, Node, Topology, bridged, lab_bridge, outside, routed
from stockade.testing.probe.values import Outcome, Probe

pytestmark = pytest.mark.real

PROTOCOLS = (Protocol.TCP, Protocol.UDP, Protocol.SCTP, Protocol.ICMP)
BRIDGES = (
    lab_bridge("br0", "10.1.0.0/24", "fd00:1::/64"),
    lab_bridge("br1", "10.2.0.0/24", "fd00:2::/64"),
)
WORLD = Topology(
    BRIDGES,
    (
        bridged("web", "br0"),
        bridged("api", "br0"),
        bridged("db", "br1"),
        Node("dual", (Link("br1"), Link("br0"))),
        routed("vm", "10.9.0.5", "fd00:9::5"),
        outside("net", "203.0.113.10", "2001:db8:113::10", "8.8.8.8"),
        outside("wire", bridge="br0"),
    ),
)
SMALL = Topology(BRIDGES, (bridged("web", "br0"), bridged("api", "br0"), bridged("db", "br1")))


def to(source, destination, protocol, family=4, **more):
    return Probe(source, destination, protocol, 0 if protocol is Protocol.ICMP else 9000, family, **more)


def everything(names):
    return [
        to(source, destination, protocol, family)
        for source in names
        for destination in names
        if source != destination
        for protocol in PROTOCOLS
        for family in (4, 6)
    ]


def in_lab(topology, scenario):
    async def main():
        async with Lab(topology) as lab:
            return await scenario(lab)

    return asyncio.run(main())


def without(family, match):
    hook = "type filter hook forward priority 0"
    return f"table {family} test {{ chain c {{ {hook}; {match}; }}; }}"


@pytest.mark.parametrize("bridge_nf", [True, False])
def test_without_rules_everybody_reaches_everybody(bridge_nf):
    async def scenario(lab):
        results = await lab.probe(everything(lab.names))
        assert len(results) == 8 * 7 * 8
        assert [each for each in results if not (each.reached and each.delivered)] == []

    in_lab(Topology(WORLD.bridges, WORLD.nodes, bridge_nf=bridge_nf), scenario)


def test_a_matrix_tries_everybody_to_everybody():
    async def scenario(lab):
        await lab.nft(without("inet", "iifname br0 oifname br0 udp dport 8080 drop"))
        found = await lab.matrix(("web", "api", "lab"))
        assert set(found) == {(a, b) for a in ("web", "api", "lab") for b in ("web", "api", "lab") if a != b}
        assert [each.reached for each in found["web", "api"]] == [True, False, True]
        assert all(each.reached for pair, cell in found.items() if "lab" in pair for each in cell)
        assert len(await lab.matrix(on=[(Protocol.SCTP, 99)], family=6)) == 4 * 3

    in_lab(SMALL, scenario)


def test_other_addresses_of_the_world_answer_too():
    async def scenario(lab):
        probes = [to("web", "net", Protocol.TCP, address="8.8.8.8"), to("web", "lab", Protocol.UDP, address="10.2.0.1")]
        assert all(each.reached for each in await lab.probe(probes))

    in_lab(WORLD, scenario)


MATCHES = {
    (Protocol.TCP, 4): "tcp dport 9000",
    (Protocol.TCP, 6): "tcp dport 9000",
    (Protocol.UDP, 4): "udp dport 9000",
    (Protocol.UDP, 6): "udp dport 9000",
    (Protocol.SCTP, 4): "sctp dport 9000",
    (Protocol.SCTP, 6): "sctp dport 9000",
    (Protocol.ICMP, 4): "icmp type echo-request",
    (Protocol.ICMP, 6): "icmpv6 type echo-request",
}


@pytest.mark.parametrize(("protocol", "family"), MATCHES)
def test_a_rule_stops_exactly_what_it_names(protocol, family):
    async def scenario(lab):
        ip = "ip6" if family == 6 else "ip"
        pairs = [("db", "vm"), ("web", "api")]  # on one bridge, and between a bridge and an interface of its own
        for source, destination in pairs:
            ends = f"{ip} saddr {lab.address(source, family)} {ip} daddr {lab.address(destination, family)}"
            await lab.nft(without("inet", f"{ends} {MATCHES[protocol, family]} drop"))
        results = await lab.probe(everything(("web", "api", "db", "vm", "lab")))
        denied = [each.probe for each in results if not each.reached]
        assert sorted((each.source, each.destination) for each in denied) == pairs
        assert {(each.protocol, each.family) for each in denied} == {(protocol, family)}
        assert all(each.delivered == each.reached for each in results)
        assert {each.outcome for each in results if not each.reached} == {Outcome.TIMED_OUT}

    in_lab(WORLD, scenario)


def test_bridged_traffic_passes_the_host_by_where_bridge_nf_is_off():
    async def scenario(lab):
        await lab.nft(without("inet", "drop"))
        on_one, between = await lab.probe([to("web", "api", Protocol.TCP), to("web", "db", Protocol.TCP)])
        assert (on_one.reached, between.delivered) == (True, False)

    in_lab(Topology(SMALL.bridges, SMALL.nodes, bridge_nf=False), scenario)


@pytest.mark.parametrize("protocol", [Protocol.TCP, Protocol.UDP, Protocol.SCTP])
@pytest.mark.parametrize("family", [4, 6])
def test_a_closed_port_refuses(protocol, family):
    async def scenario(lab):
        probes = [to("web", name, protocol, family) for name in ("api", "db", "lab")]
        for result in await lab.probe(probes, listen=False):
            assert (result.outcome, result.delivered, result.answered) == (Outcome.REFUSED, True, True)
        await lab.listen("api", protocol, 9000)
        assert (await lab.probe(probes[:1], listen=False))[0].reached
        await lab.unlisten("api", protocol, 9000)
        assert (await lab.probe(probes[:1], listen=False))[0].outcome is Outcome.REFUSED

    in_lab(SMALL, scenario)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("family", [4, 6])
def test_an_icmp_error_is_told_by_type_and_code(protocol, family):
    async def scenario(lab):
        kind = "icmpv6" if family == 6 else "icmp"
        # From a hook that also sees bridged packets only routed ones can be rejected: web and db are on two bridges.
        await lab.nft(without("inet", f"meta nfproto ipv{family} reject with {kind} type admin-prohibited"))
        (result,) = await lab.probe([to("web", "db", protocol, family)])
        assert (result.outcome, result.delivered) == (Outcome.ICMP_ERROR, False)
        assert result.detail == ("icmpv6 1/1" if family == 6 else "icmp 3/13")

    in_lab(SMALL, scenario)


def test_what_the_sender_s_own_filter_takes_was_not_sent():
    async def scenario(lab):
        await lab.nft("table inet test { chain c { type filter hook output priority 0; udp dport 9000 drop; }; }")
        (result,) = await lab.probe([to("lab", "web", Protocol.UDP)])
        assert (result.outcome, result.detail, result.delivered) == (Outcome.NOT_SENT, "EPERM", False)

    in_lab(SMALL, scenario)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_delivered_tells_a_lost_question_from_a_lost_answer(protocol):
    async def scenario(lab):
        await lab.nft(without("inet", f"ip saddr {lab.address('api')} drop"))
        (result,) = await lab.probe([to("web", "api", protocol)])
        assert (result.outcome, result.delivered) == (Outcome.TIMED_OUT, True)

    in_lab(SMALL, scenario)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("family", [4, 6])
def test_what_the_host_s_input_drops_was_not_delivered_to_the_host(protocol, family):
    async def scenario(lab):
        rule = f"{MATCHES[protocol, family]} iifname br0 drop"
        await lab.nft(f"table inet test {{ chain c {{ type filter hook input priority 0; {rule}; }}; }}")
        web, db = await lab.probe([to("web", "lab", protocol, family), to("db", "lab", protocol, family)])
        assert (web.outcome, web.delivered, db.reached, db.delivered) == (Outcome.TIMED_OUT, False, True, True)

    in_lab(SMALL, scenario)


def test_five_hundred_probes_at_once_half_of_them_denied():
    async def scenario(lab):
        await lab.nft(without("inet", "tcp dport 9001 drop; udp dport 9001 drop"))
        names = ("web", "api", "db")
        probes = [
            Probe(source, destination, protocol, port)
            for source in names
            for destination in names
            if source != destination
            for protocol in (Protocol.TCP, Protocol.UDP)
            for port in (9000, 9001)
            for _ in range(25)
        ]
        for result in await lab.probe(probes):
            assert result.reached == result.delivered == (result.probe.port == 9000)

    in_lab(SMALL, scenario)


def test_sources_ports_and_ttl_are_as_asked_for():
    async def scenario(lab):
        mine = lab.address("dual")
        asked = [to("dual", "net", each, source_address=mine, source_port=25000, ttl=9) for each in PROTOCOLS]
        for result in await lab.probe(asked):
            assert result.reached
            (first, *_) = await lab.seen("net", f"{int(result.probe.protocol)}/25000")
            assert (first.source, first.source_port, first.ttl) == (mine, 25000, 8)

    in_lab(WORLD, scenario)


def test_a_ttl_that_runs_out_is_told():
    async def scenario(lab):
        for result in await lab.probe([to("web", "db", each, ttl=1) for each in PROTOCOLS]):
            assert (result.outcome, result.detail, result.delivered) == (Outcome.ICMP_ERROR, "icmp 11/0", False)

    in_lab(SMALL, scenario)


def test_unknown_nodes_and_families_are_errors_not_outcomes():
    async def scenario(lab):
        with pytest.raises(LabError, match="there is no node nobody"):
            await lab.probe([to("web", "nobody", Protocol.TCP)])
        with pytest.raises(LabError, match="there is no node nobody"):
            await lab.probe([to("nobody", "web", Protocol.TCP)])
        with pytest.raises(LabError, match="no IPv6 address"):
            await lab.probe([to("web", "four", Protocol.TCP, 6)])
        with pytest.raises(LabError, match="cannot be removed"):
            await lab.remove("lab")
        with pytest.raises(LabError, match="already"):
            await lab.add(bridged("web", "br0"))

    in_lab(Topology(BRIDGES, (*SMALL.nodes, routed("four", "10.9.0.4"))), scenario)
