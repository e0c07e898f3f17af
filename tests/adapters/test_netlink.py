"""Links, addresses and namespaces as the kernel tells them, against a lab that knows what is there."""

import asyncio
import contextlib
import ipaddress
import os
import struct
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from stockade.adapters import netlink
from stockade.adapters.netlink import (
    AddressesSeen,
    LinkGone,
    LinkSeen,
    LinksListed,
    LinkWatch,
    Namespace,
    NamespaceGone,
    facts,
    list_links,
    wire,
)
from stockade.adapters.netlink.facts import is_own
from stockade.core.model.ids import HostId, Realm, WorkloadId
from stockade.core.model.inventory import Attachment, BridgeState, Failsafe
from stockade.core.model.net import Protocol
from stockade.testing.lab import Lab, Link, Node, Topology, bridged, lab_bridge, outside, routed
from stockade.testing.probe.values import Probe

real = pytest.mark.real

BRIDGES = (
    lab_bridge("br0", "10.1.0.0/24", "fd00:1::/64"),
    lab_bridge("br1", "10.2.0.0/24", "fd00:2::/64", realm="lab/br1"),
)
WORLD = Topology(
    BRIDGES,
    (
        bridged("web", "br0"),
        Node("dual", (Link("br1"), Link("br0"))),
        routed("vm", "10.9.0.5", "fd00:9::5"),
        outside("net", "203.0.113.10"),
        outside("wire", bridge="br0"),
    ),
)
BURST = 200


def in_lab(scenario, topology=WORLD):
    async def main():
        async with Lab(topology) as lab:
            with Namespace.at(lab.netns("lab")) as host:
                return await scenario(lab, host)

    return asyncio.run(main())


class Follower:
    """Reads a watch in the background and keeps every event."""

    def __init__(self, watch):
        self.watch, self.events = watch, []
        self._news = asyncio.Event()

    async def __aenter__(self):
        self._task = asyncio.create_task(self._follow())
        await self.until(lambda: self.events)
        return self

    async def __aexit__(self, *_):
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        self.watch.close()

    async def _follow(self):
        async for event in self.watch.events():
            self.events.append(event)
            self._news.set()

    async def until(self, holds):
        """Wait until something holds; the bound is for a test that would otherwise hang."""
        async with asyncio.timeout(20):
            while not holds():
                self._news.clear()
                await self._news.wait()

    def of(self, kind):
        return [each for each in self.events if isinstance(each, kind)]


# Following


@real
def test_everything_is_listed_and_then_followed():
    async def scenario(lab, host):
        async with Follower(LinkWatch(host)) as seen:
            first = seen.events[0]
            assert isinstance(first, LinksListed)
            assert {"lo", "br0", "br1", *(plug.port for plug in lab.plugs("dual"))} <= {x.name for x in first.links}
            await lab.add(bridged("late", "br1"))
            port = lab.plugs("late")[0].port
            await seen.until(lambda: any(each.name == port and each.running for each in seen.of(LinkSeen)))
            link = seen.of(LinkSeen)[-1]
            assert (link.kind, link.master, link.leads_elsewhere) == ("veth", lab.layout.bridge_index("br1"), True)
            await lab.move("late", Link("br0"))  # leaves a bridge, and is not gone for that
            await seen.until(lambda: seen.of(LinkSeen)[-1].master == lab.layout.bridge_index("br0"))
            assert seen.of(LinkGone) == []
            await lab.remove("late")
            await seen.until(lambda: seen.of(LinkGone))
            assert seen.of(LinkGone) == [LinkGone(link.index, port)]
            assert seen.watch.now == list_links(host)
            assert seen.watch.lost == 0

    in_lab(scenario)


@real
def test_addresses_are_told_whole():
    async def scenario(lab, host):
        async with Follower(LinkWatch(host)) as seen:
            index = lab.layout.bridge_index("br0")
            before = seen.events[0].of(index).addresses
            await lab.run("lab", ["ip", "address", "add", "10.1.7.1/24", "dev", "br0"])
            await seen.until(lambda: seen.of(AddressesSeen))
            assert set(seen.of(AddressesSeen)[-1].addresses) == {*before, "10.1.7.1/24"}
            await lab.run("lab", ["ip", "address", "del", "10.1.7.1/24", "dev", "br0"])
            await seen.until(lambda: len(seen.of(AddressesSeen)) == 2)
            assert seen.of(AddressesSeen)[-1] == AddressesSeen(index, before)
            assert seen.of(AddressesSeen)[-1].subnets == ("10.1.0.0/24", "fd00:1::/64")

    in_lab(scenario)


def burst(first, count=BURST):
    lines = [f"link add b{n} type veth peer name c{n}" for n in range(first, first + count)]
    lines += [f"link set b{n} up\naddress add 10.99.{n % 250}.1/24 dev b{n}" for n in range(first, first + count)]
    lines += [f"link del b{n}" for n in range(first, first + count, 2)]
    return "\n".join(lines).encode()


async def storm(lab, first):
    done = await lab.run("lab", ["ip", "-batch", "-"], input=burst(first))
    assert done.status == 0, done.stderr


@real
def test_a_burst_of_links_is_followed_without_loss():
    async def scenario(lab, host):
        async with Follower(LinkWatch(host)) as seen:
            await storm(lab, 0)
            await seen.until(lambda: len(seen.of(LinkGone)) == BURST)  # both ends of every second pair
            await settled(seen, host)
            assert len({each.name for each in seen.of(LinkSeen) if each.name[0] in "bc"}) >= 2 * BURST
            assert (seen.watch.lost, len(seen.of(LinksListed))) == (0, 1)

    in_lab(scenario)


@real
def test_what_was_lost_is_counted_and_listed_again():
    async def scenario(lab, host):
        async with Follower(LinkWatch(host, buffer=1)) as seen:  # the kernel gives a little more than that
            for first in (0, BURST, 2 * BURST):
                await storm(lab, first)
                await settled(seen, host)
            assert seen.watch.lost > 0
            # The first listing, and one more after losses; losses while listing share the next one.
            assert 2 <= len(seen.of(LinksListed)) <= 1 + seen.watch.lost
            await lab.run("lab", ["ip", "link", "del", "b1"])
            await settled(seen, host)
            assert "b1" not in {each.name for each in seen.watch.now.links}

    in_lab(scenario)


async def settled(seen, host):
    """Wait until what is followed is what is there."""
    for _ in range(500):
        if seen.watch.now == list_links(host):
            return
        await asyncio.sleep(0.01)
    followed, there = seen.watch.now, list_links(host)
    assert set(followed.links) ^ set(there.links) == set()
    assert set(followed.addresses) ^ set(there.addresses) == set()


# Namespaces


@real
def test_a_container_s_ports_and_endpoints_are_found_from_its_namespace():
    async def scenario(lab, host):
        links = list_links(host)
        for name in ("web", "dual", "vm"):
            with Namespace.of(lab.pid(name)) as inside:
                found = netlink.endpoints_of(inside, links, host=host, realms={"br1": Realm("lab/br1")})
                ports = netlink.ports_of(inside, links, host)
            expected = sorted(lab.sighting(name).endpoints, key=lambda each: each.port)
            assert [without_link_local(each) for each in found] == expected
            assert sorted(each.name for each in ports) == [each.port for each in expected]
            assert all(any(ipaddress.ip_address(a).is_link_local for a in each.addresses) for each in found)

    in_lab(scenario)


def without_link_local(endpoint):
    kept = tuple(each for each in endpoint.addresses if not ipaddress.ip_address(each).is_link_local)
    return msgspec.structs.replace(endpoint, addresses=kept)


@real
def test_a_namespace_without_ports_has_no_endpoints():
    async def scenario(lab, host):
        await lab.add(Node("alone", ()))
        with Namespace.at(lab.netns("alone")) as alone:
            assert netlink.ports_of(alone, list_links(host), host) == ()
            assert netlink.endpoints_of(alone, list_links(host), host=host) == ()

    in_lab(scenario)


@real
def test_traffic_that_passes_the_host_by_is_opaque():
    async def scenario(lab, host):
        await lab.add(Node("alone", ()))
        await lab.run("lab", ["ip", "link", "add", "mv0", "link", "br0", "type", "macvlan", "mode", "bridge"])
        moved = ["nsenter", f"--net={lab.netns('alone')}", "ip", "-br", "link"]
        await lab.run("lab", ["sh", "-c", f"ip link set mv0 netns /proc/{inner(lab, 'alone')}/ns/net"])
        assert "mv0" in subprocess.run(moved, capture_output=True, text=True, check=True).stdout
        with Namespace.at(lab.netns("alone")) as alone:
            (found,) = netlink.endpoints_of(alone, list_links(host), host=host)
        assert (found.attachment, found.port) == (Attachment.OPAQUE, "")

    in_lab(scenario)


def inner(lab, name):
    """The pid of a node's server as processes of the lab count."""
    words = Path(f"/proc/{lab.pid(name)}/status").read_text().split()
    place = words.index("NSpid:")
    return words[place + 2]


@real
def test_a_namespace_stays_open_after_its_processes_and_says_when_it_cannot_be_had():
    async def scenario(lab, host):
        pid, path = lab.pid("web"), lab.netns("web")
        with Namespace.of(pid) as kept:
            await lab.remove("web")
            assert [each.name for each in await kept.run(list_links_here)] == ["lo"]
            with pytest.raises(NamespaceGone, match="gone"):
                Namespace.of(pid)
            with pytest.raises(NamespaceGone, match="cannot be opened"):
                Namespace.at(path)
        with pytest.raises(NamespaceGone, match="it was closed"):
            kept.call(list_links_here)

    in_lab(scenario)


def list_links_here():
    return list_links().links


@real
def test_code_run_inside_leaves_this_process_where_it_is():
    async def scenario(lab, host):
        before = Path("/proc/self/ns/net").readlink()
        assert await host.run(lambda: Path("/proc/thread-self/ns/net").stat().st_ino) == host.inode
        with pytest.raises(ZeroDivisionError):
            host.call(lambda: 1 // 0)
        assert Path("/proc/self/ns/net").readlink() == before
        assert await asyncio.to_thread(lambda: Path("/proc/thread-self/ns/net").readlink()) == before

    in_lab(scenario)


# What a host is


@real
@pytest.mark.parametrize("bridge_nf", [True, False])
def test_a_host_is_what_the_lab_says_it_is(bridge_nf):
    async def scenario(lab, host):
        expected = lab.host()
        uplinks = [plug.port for name in ("net", "wire") for plug in lab.plugs(name)]
        found = netlink.host_facts(
            expected.id, expected.workload, namespace=host, uplinks=uplinks, realms=[("br1", Realm("lab/br1"))],
            resolvers=Path("/nowhere"),
        )  # fmt: skip
        off = BridgeState.BRIDGE if facts.bridges_are_tracked() else BridgeState.NONE
        bridges = [
            msgspec.structs.replace(each, state=BridgeState.INET if bridge_nf else off) for each in lab.host().bridges
        ]
        assert found.host == msgspec.structs.replace(expected, bridges=tuple(bridges))
        assert found.endpoint == lab.sighting("lab").endpoints[0]

    in_lab(scenario, msgspec.structs.replace(WORLD, bridge_nf=bridge_nf))


SERVER = """
import socket, time
found = [socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True) for port in (2222, 22)]
print("listening", flush=True)
kept = [each.accept() for each in found for _ in range(2)]
time.sleep(1000)
"""


@real
def test_ssh_sessions_are_told_from_other_connections(tmp_path):
    async def scenario(lab, host):
        (tmp_path / "sshd").symlink_to(sys.executable)
        out, into = os.pipe()
        with os.fdopen(out) as said:
            await lab.start("lab", [str(tmp_path / "sshd"), "-c", SERVER], streams=(0, into, into))
            os.close(into)
            assert said.readline() == "listening\n"
            probes = [Probe("web", "lab", Protocol.TCP, port, family) for port in (2222, 22) for family in (4, 6)]
            await lab.open(probes, listen=False)
            await lab.open([Probe("web", "lab", Protocol.TCP, 3333), Probe("lab", "web", Protocol.TCP, 2222)])
            return facts_of(lab, host)

    def facts_of(lab, host):
        found = netlink.host_facts(HostId("lab"), WorkloadId("lab"), namespace=host)
        ends = [lab.address("web"), lab.address("web", 6)]
        return found.host.failsafe, tuple(
            sorted(Failsafe(end, Protocol.TCP, port) for end in ends for port in (22, 2222))
        )

    found, expected = in_lab(scenario)
    assert found == expected


# Parts


def test_where_bridged_traffic_can_be_judged():
    assert facts.bridge_state((True, True), tracking=True) is BridgeState.INET
    assert facts.bridge_state((False, False), tracking=True) is BridgeState.BRIDGE
    assert facts.bridge_state((False, False), tracking=False) is BridgeState.NONE
    assert facts.bridge_state((True, False), tracking=True) is BridgeState.NONE  # never judged twice, never half


def test_bridge_tracking_is_found_loaded_loadable_or_built_in(tmp_path):
    assert not facts.bridges_are_tracked(tmp_path)
    modules = tmp_path / "lib/modules" / os.uname().release
    modules.mkdir(parents=True)
    (modules / "modules.dep").write_text("kernel/net/bridge/netfilter/nf_conntrack_bridge.ko.xz: kernel/a.ko.xz\n")
    assert facts.bridges_are_tracked(tmp_path)
    (modules / "modules.dep").unlink()
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/kallsyms").write_text("0000000000000000 t nf_ct_bridge_register\n")
    assert not facts.bridges_are_tracked(tmp_path)
    (tmp_path / "proc/kallsyms").write_text("0000000000000000 t nf_ct_bridge_post\n")
    assert facts.bridges_are_tracked(tmp_path)
    (tmp_path / "proc/kallsyms").unlink()
    (tmp_path / "sys/module/nf_conntrack_bridge").mkdir(parents=True)
    assert facts.bridges_are_tracked(tmp_path)


@real
def test_resolvers_are_read_as_libc_reads_them(tmp_path):
    file = tmp_path / "resolv.conf"
    file.write_text(
        "# nameserver 1.1.1.1\nsearch example\nnameserver 192.0.2.53\n nameserver\t2001:DB8::53 trailing\n"
        "nameserver fe80::1%eth0\nnameserver nonsense\nnameserver\nnameservers 1.2.3.4\n"
    )
    found = netlink.host_facts(HostId("h"), WorkloadId("w"), resolvers=file)
    assert found.host.resolvers == ("192.0.2.53", "2001:db8::53", "fe80::1")


def test_connections_are_read_from_proc(tmp_path):
    head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
    four = " {}: {} {} {} 00000000:00000000 00:00000000 00000000     0        0 {} 1 x\n"
    any4 = "00000000:0016"
    (tmp_path / "thread-self/net").mkdir(parents=True)
    (tmp_path / "thread-self/net/tcp").write_text(
        head
        + four.format(0, any4, "00000000:0000", "0A", 11)
        + four.format(1, f"{word('192.0.2.1')}:0016", f"{word('198.51.100.7')}:D431", "01", 12)
        + four.format(2, f"{word('192.0.2.1')}:0016", f"{word('198.51.100.8')}:D431", "06", 0)
        + four.format(3, f"{word('192.0.2.1')}:0050", f"{word('198.51.100.9')}:D431", "01", 13)
    )
    mapped = "0000000000000000FFFF0000" if sys.byteorder == "little" else "00000000000000000000FFFF"
    (tmp_path / "thread-self/net/tcp6").write_text(
        head + four.format(0, f"{mapped}{word('192.0.2.1')}:0016", f"{mapped}{word('198.51.100.10')}:D431", "01", 14)
    )
    assert [each.source for each in facts.ssh_sessions(tmp_path)] == ["198.51.100.7", "198.51.100.10"]


def word(address):
    return f"{struct.unpack('=I', ipaddress.ip_address(address).packed)[0]:08X}"


@pytest.mark.parametrize("data", [b"", b"\0" * 15, b"\0" * 16, b"\x08\0\0\0" * 8, b"\xff" * 64])
def test_broken_messages_are_read_as_nothing_or_as_they_are(data):
    for message in wire.messages(data):
        assert message.body == data[16:]


def test_a_port_that_is_not_yet_one_is_no_way_outside():
    """An engine puts its end of a link on the bridge, and only then sends the other end into the container."""
    being_laid = LinkSeen(7, "veth7", "veth", master=3, peer_index=8)
    assert not is_own(being_laid, frozenset())
    assert not is_own(msgspec.structs.replace(being_laid, netnsid=1, running=True), frozenset())
    assert is_own(msgspec.structs.replace(being_laid, running=True), frozenset()), "two bridges of the host, joined"
    assert is_own(being_laid, frozenset({"veth7"}))
