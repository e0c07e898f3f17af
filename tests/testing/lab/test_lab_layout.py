"""Where everything goes in a lab: the same topology, the same lab; nothing doubled; mistakes told at once."""

import ipaddress

import pytest

from stockade.core.model.ids import HostId
from stockade.core.model.inventory import Attachment, BridgeState
from stockade.testing.lab import LabError, Link, Node, Topology, bridged, facts, lab_bridge, outside, routed
from stockade.testing.lab.layout import Layout, link_local
from stockade.testing.lab.topology import check

BRIDGES = (
    lab_bridge("br0", "10.1.0.0/24", "fd00:1::/64"),
    lab_bridge("br1", "10.2.0.0/24", "fd00:2::/64", realm="lab/br1"),
)
NODES = (
    bridged("web", "br0", role="web", app="shop"),
    bridged("api", "br0", "10.1.0.10"),
    routed("vm", "10.9.0.5", "fd00:9::5"),
    outside("net", "203.0.113.10"),
    outside("wire", "10.1.0.200", bridge="br0"),
    Node("dual", (Link("br0"), Link("br1"))),
    Node("stranger", (Link("br1"),), sighted=False),
)
TOPOLOGY = Topology(BRIDGES, NODES, labels=(("role", "host"),))


def laid(topology=TOPOLOGY):
    layout = Layout(topology)
    for node in topology.nodes:
        layout.plug(node)
    return layout


def test_the_same_topology_is_the_same_lab():
    assert laid().plugs == laid().plugs


def test_names_numbers_and_macs_are_given_once_and_fit():
    plugs = list(
        laid(Topology(BRIDGES, tuple(bridged(f"a-very-long-name-{n}", "br0") for n in range(200)))).all_plugs()
    )
    assert len({plug.port for plug in plugs}) == 200
    assert max(len(plug.port) for plug in plugs) == 15
    assert len({plug.port_index for plug in plugs} | {plug.mac for plug in plugs} | {p.port_mac for p in plugs}) == 600
    assert len({address for plug in plugs for address in plug.bare}) == 400


def test_free_addresses_lie_in_the_subnet_and_are_free():
    web = laid().plugs["web"][0]
    assert web.addresses == (("10.1.0.10", 24), ("fd00:1::a", 64))
    api_first = Topology(BRIDGES, (NODES[1], NODES[0]))
    assert laid(api_first).plugs["web"][0].bare == ("10.1.0.11", "fd00:1::a")


def test_addresses_come_back_when_a_node_goes_and_port_names_do_not():
    layout = laid(Topology(BRIDGES, (NODES[0],)))
    (old,) = layout.unplug("web")
    (new,) = layout.plug(NODES[0])
    assert (new.bare, new.mac) == (old.bare, old.mac)
    assert new.port != old.port


def test_a_full_subnet_says_so():
    tiny = Topology((lab_bridge("br0", "10.1.0.0/28"),), tuple(bridged(f"n{n}", "br0") for n in range(6)))
    with pytest.raises(LabError, match=r"10\.1\.0\.0/28 has no address left"):
        laid(tiny)


def test_next_hops_are_neighbours_on_the_same_bridge_and_the_host_for_the_rest():
    layout = laid()
    web, dual = layout.plugs["web"][0], layout.plugs["dual"][0]
    assert layout.next_hop_mac(web, dual.bare[0]) == dual.mac
    assert layout.next_hop_mac(web, link_local(dual.mac)) == dual.mac
    assert layout.next_hop_mac(web, layout.plugs["dual"][1].bare[0]) == layout.next_hop_mac(web, "203.0.113.10")
    vm = layout.plugs["vm"][0]
    assert layout.next_hop_mac(vm, "10.1.0.10") == vm.port_mac


@pytest.mark.parametrize(
    ("topology", "complaint"),
    [
        (Topology(nodes=(bridged("web", "br9"),)), "there is no bridge br9"),
        (Topology(BRIDGES, (NODES[0], NODES[0])), "two nodes are called web"),
        (Topology(BRIDGES, (bridged("lab", "br0"),)), "two nodes are called lab"),
        (Topology(nodes=(routed("vm"),)), "needs addresses"),
        (Topology((lab_bridge("a-name-too-long-for-linux", "10.1.0.0/24"),)), "cannot be a bridge's name"),
    ],
)
def test_what_no_lab_can_be_built_from_is_refused_with_a_remedy(topology, complaint):
    with pytest.raises(LabError, match=complaint) as caught:
        check(topology)
    assert caught.value.remedy


def test_an_address_outside_its_bridge_is_refused():
    with pytest.raises(LabError, match=r"10\.9\.9\.9 lies in no subnet of br0"):
        laid(Topology(BRIDGES, (bridged("web", "br0", "10.9.9.9"),)))


def test_sightings_are_what_an_agent_would_report():
    layout = laid()
    seen = {each.name: each for each in facts.sightings(layout, NODES)}
    assert list(seen) == ["lab", "api", "dual", "vm", "web"]
    (web,) = seen["web"].endpoints
    assert (web.attachment, web.bridge, web.port) == (Attachment.BRIDGED, "br0", "v0-web")
    assert seen["web"].facts.labels == (("stockade.app", "shop"), ("stockade.role", "web"))
    assert [each.realm for each in seen["dual"].endpoints] == ["", "lab/br1"]
    assert seen["vm"].endpoints[0].attachment is Attachment.ROUTED
    (own,) = seen["lab"].endpoints
    assert {"192.0.2.1", "10.1.0.1", "10.2.0.1", "fd00:1::1"} < set(own.addresses)
    assert all(str(ipaddress.ip_address(each)) == each for each in own.addresses)


def test_the_host_names_its_uplinks_bridges_and_strangers():
    host = facts.host(laid(), NODES, (), BridgeState.INET)
    assert host.id == HostId("lab")
    assert host.interfaces == ("br0", "br1", "lo", "up3", "up4")
    assert [(each.name, each.uplinks) for each in host.bridges] == [("br0", ("up4",)), ("br1", ())]
    assert [each.port for each in host.unknown] == ["v7-stranger"]


def test_labels_are_what_an_operator_set():
    assert [(each.id, each.labels) for each in facts.labels(TOPOLOGY, NODES)] == [
        ("lab:lab:lab", (("role", "host"),)),
        ("lab:lab:web", (("app", "shop"), ("role", "web"))),
    ]
