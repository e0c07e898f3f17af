"""A lab: a host with bridges, nodes plugged into it, and real packets between them. With root or without.

The lab's host is a network namespace of its own; the machine's links, rules and settings are never touched. Nothing
outlives the lab, however it ends.

    async with Lab(Topology(bridges=(lab_bridge("br0", "10.1.0.0/24"),), nodes=(bridged("web", "br0"),))) as lab:
        results = await lab.probe([Probe("web", lab.host_name, Protocol.TCP, 22)])
"""

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from ipaddress import ip_address
from types import TracebackType
from typing import Any, Self

import msgspec

from stockade.adapters.netlink.facts import bridge_state, bridges_are_tracked
from stockade.core.model.event import LabelsSet
from stockade.core.model.ids import Address
from stockade.core.model.inventory import BridgeState, Host, Published, Sighting
from stockade.core.model.net import Protocol, is_v6
from stockade.testing.lab import facts, wiring
from stockade.testing.lab.entry import entered
from stockade.testing.lab.layout import Layout, Plug, bridge_mac
from stockade.testing.lab.namespaces import Command, Done, Namespace, Namespaces
from stockade.testing.lab.probing import PATIENCE, Prober
from stockade.testing.lab.topology import LabError, Link, Node, Topology, check, check_node
from stockade.testing.probe import packets
from stockade.testing.probe.values import Flow, Heard, Observed, Probe, Result

SLOWEST_LINK = 10.0
BRIDGE_SWITCHES = ("iptables", "ip6tables", "arptables")

Setting = tuple[str, str]


class Lab:
    """A lab while its block lasts. Nodes, the host among them, go by name."""

    def __init__(self, topology: Topology) -> None:
        check(topology)
        self.topology = topology
        self.layout = Layout(topology)
        self.nodes: dict[str, Node] = {}
        self.absent: tuple[str, ...] = ()
        """Settings of the host that this kernel does not have."""
        self._ends: dict[str, Namespace] = {}
        self._namespaces = Namespaces()
        self._prober = Prober(self._ends, self.address)

    # The life of the lab

    async def __aenter__(self) -> Self:
        try:
            await self._namespaces.open()
            await self._make_host()
            await self.add(*self.topology.nodes)
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End everything in the lab and wait until it is gone. May be called twice."""
        await self._namespaces.close()
        self._ends.clear()
        self.nodes.clear()

    # Nodes

    async def add(
        self,
        *nodes: Node,
        before_links: Callable[[str], Awaitable[object]] | None = None,
        once_laid: Callable[[str], object] | None = None,
    ) -> None:
        """Bring nodes to life, all at the same time. When this returns their links carry packets.

        ``before_links`` is awaited with each one's name once it can run commands and before it has any link;
        ``once_laid`` is called with it when its links are laid, which is when whoever laid them would tell of it.
        """
        for node in nodes:
            check_node(self.topology, node)
            if node.name in self._ends:
                raise LabError(f"there is a node {node.name} already", remedy="choose another name, or remove it first")
        try:
            plugs = {node.name: self.layout.plug(node) for node in nodes}
            await _all(self._birth(node) for node in nodes)
            if before_links is not None:
                await asyncio.gather(*(before_links(node.name) for node in nodes))
            await self._lay({name: each for name, each in plugs.items() if each})
            if once_laid is not None:
                for name in plugs:
                    once_laid(name)
            await self._carrying([plug for each in plugs.values() for plug in each])
        except BaseException:
            await self._take_back(nodes)
            raise
        order = {name: place for place, name in enumerate(self.layout.plugs)}
        for held in (self._ends, self.nodes):
            _sort(held, order)

    async def remove(self, *names: str) -> None:
        """End nodes and everything in them. When this returns their links are gone from the host.

        A node is none of the lab's as soon as this is called: whoever is cancelled here leaves no half of one behind.
        """
        for name in names:
            end = self._end(name)
            if name == self.host_name:
                raise LabError("the lab's host cannot be removed", remedy="close the lab")
            plugs = self.layout.unplug(name)
            del self._ends[name], self.nodes[name]
            self._prober.forget(name)
            try:
                await self._send(self.host_name, [wiring.delete_link(plug.port_index) for plug in plugs])
                await self._namespaces.clear(end)
            finally:
                await end.close()

    async def move(self, name: str, link: Link, place: int = 0) -> None:
        """Plug a node's link in anew: another bridge, other addresses, another MAC. What runs in it runs on."""
        self._end(name)
        node = self.nodes[name]
        check_node(self.topology, msgspec.structs.replace(node, links=(link,)))
        old = self.layout.plugs[name][place]
        if bool(old.bridge) != bool(link.bridge):
            raise LabError(f"{name}: a link on a bridge stays on one", remedy="remove the node and add it again")
        new = self.layout.relay(old, link)
        links = (*node.links[:place], link, *node.links[place + 1 :])
        self.nodes[name] = msgspec.structs.replace(node, links=links)
        await self._relay(old, new)

    async def run(self, name: str, argv: Sequence[str], *, input: bytes = b"", timeout: float = 60.0,  # noqa: A002
                  env: Mapping[str, str] | None = None, cwd: str = "") -> Done:  # fmt: skip
        """Run a command in a node and wait for its end. Raises ``TimeoutError``, and kills it then."""
        (stdin, give), (take_out, stdout), (take_err, stderr) = os.pipe(), os.pipe(), os.pipe()
        try:
            command = await self.start(name, argv, streams=(stdin, stdout, stderr), env=env, cwd=cwd)
        except BaseException:
            for each in (give, take_out, take_err):
                os.close(each)
            raise
        finally:
            for each in (stdin, stdout, stderr):
                os.close(each)
        talk = asyncio.gather(_write(give, input), _read_all(take_out), _read_all(take_err), command.wait())
        try:
            _, out, err, status = await asyncio.wait_for(talk, timeout)
        except BaseException:
            command.kill()
            raise
        return Done(status, out.decode(errors="replace"), err.decode(errors="replace"))

    async def start(self, name: str, argv: Sequence[str], *, streams: Sequence[int] = (),
                    env: Mapping[str, str] | None = None, cwd: str = "") -> Command:  # fmt: skip
        """Start a command in a node and let it run: until it ends, it is killed, or its node or the lab goes.

        ``streams`` are descriptors for its input, output and errors (none: /dev/null); they stay the caller's.
        """
        return await self._namespaces.start(self._end(name), argv, streams=streams, env=env, cwd=cwd)

    async def nft(self, commands: str) -> str:
        """Feed nft, on the host; return what it says. Raises ``LabError`` with its complaint."""
        done = await self.run(self.host_name, ["nft", "-f", "-"], input=commands.encode())
        if done.status:
            raise LabError(f"nft: {done.stderr.strip()}", kept="the host's rules are as they were")
        return done.stdout

    async def sysctl(self, name: str, settings: Iterable[Setting]) -> tuple[str, ...]:
        """Write settings (path under /proc/sys, value) in a node; return those that this kernel does not have."""
        return tuple(await self._end(name).ask("sysctl", settings=list(settings)))

    # Where things are

    @property
    def host_name(self) -> str:
        """The host's name among the nodes."""
        return self.topology.host

    @property
    def host_pid(self) -> int:
        """A process in the host's namespace: ``/proc/<pid>/ns/net``."""
        return self._end(self.host_name).pid

    @property
    def names(self) -> tuple[str, ...]:
        """All nodes' names, the host's first."""
        return tuple(self._ends)

    def pid(self, name: str) -> int:
        """Return a process in a node's namespace."""
        return self._end(name).pid

    def netns(self, name: str) -> str:
        """Return the path of a node's network namespace."""
        return str(self._end(name).path)

    def inside(self, name: str, *, stranger: bool = False) -> list[str]:
        """Return the words before a command that run it in a node. Such a command is not the lab's: end it yourself.

        ``stranger``: for a process that did not ``enter`` as this one did, such as one in another terminal.
        """
        words = ["nsenter", f"--net={self.netns(name)}"]
        if stranger and entered():
            words += [f"--user=/proc/{self.pid(name)}/ns/user", "--preserve-credentials"]
        return [*words, "--"]

    def address(self, name: str, family: int = 4) -> str:
        """Return a node's first address of a family."""
        own: Iterable[str] = self.topology.addresses if name == self.host_name else self._addresses(name)
        for each in own:
            if is_v6(each) == (family == 6):
                return each
        raise LabError(f"{name} has no IPv{family} address", remedy="probe another family, or give it one")

    def plugs(self, name: str) -> tuple[Plug, ...]:
        """Return a node's links as they are laid: port on the host, MAC, addresses."""
        self._end(name)
        return self.layout.plugs.get(name, ())

    def next_hop_mac(self, name: str, destination: str) -> str:
        """Return the MAC to which a node addresses a frame for an address."""
        return self.layout.next_hop_mac(self.plugs(name)[0], destination)

    def bridge_mac(self, name: str) -> str:
        """Return a bridge's own MAC."""
        return bridge_mac(name)

    # Facts, in the model's words

    def host(self, *, published: tuple[Published, ...] = (), state: BridgeState | None = None) -> Host:
        """Return the host as the model has it. ``state`` of its bridges: what ``bridge_nf`` makes of them."""
        return facts.host(self.layout, self.nodes.values(), published, state or self._bridge_state())

    def sightings(self) -> tuple[Sighting, ...]:
        """Return every workload as a source would report it, the host's own first."""
        return facts.sightings(self.layout, self.nodes.values())

    def sighting(self, name: str) -> Sighting:
        """Return one workload as a source would report it."""
        self._end(name)
        node = self.nodes.get(name)
        return facts.sighting(self.layout, node) if node else facts.host_sighting(self.layout)

    def labels(self) -> tuple[LabelsSet, ...]:
        """Return the labels of all nodes that have any, as what an operator has set."""
        return facts.labels(self.topology, self.nodes.values())

    # Packets

    async def probe(self, probes: Iterable[Probe], *, patience: float = PATIENCE, listen: bool = True) -> list[Result]:
        """Try all of these at once; return their results in the same order. ``listen`` opens the ports probed."""
        return await self._prober.probe(probes, patience=patience, listen=listen)

    async def matrix(
        self,
        names: Iterable[str] = (),
        on: Iterable[tuple[Protocol, int]] = ((Protocol.TCP, 8080), (Protocol.UDP, 8080), (Protocol.ICMP, 0)),
        *,
        family: int = 4,
        patience: float = PATIENCE,
    ) -> dict[tuple[str, str], tuple[Result, ...]]:
        """Try everybody to everybody: for each (source, destination) the results in the order of ``on``.

        All nodes where no ``names`` are given. The host is among them; a node is not tried to itself.
        """
        who, what = tuple(names) or self.names, tuple(on)
        pairs = [(source, destination) for source in who for destination in who if source != destination]
        probes = [Probe(*pair, protocol, port, family) for pair in pairs for protocol, port in what]
        results = iter(await self.probe(probes, patience=patience))
        return {pair: tuple(next(results) for _ in what) for pair in pairs}

    async def listen(self, name: str, protocol: Protocol, *ports: int, address: str = "") -> None:
        """Have a node answer on ports (a probe does that by itself)."""
        await self._prober.listen(name, [(protocol, port, address) for port in ports])

    async def unlisten(self, name: str, protocol: Protocol, *ports: int, address: str = "") -> None:
        """Have a node answer there no longer. Connections that are there live on."""
        await self._prober.unlisten(name, [(protocol, port, address) for port in ports])

    async def open(self, probes: Iterable[Probe], *, patience: float = PATIENCE, listen: bool = True) -> list[Flow]:
        """Open connections and keep them open. ``listen``: to ports that are opened first."""
        return await self._prober.open(probes, patience=patience, listen=listen)

    async def send(self, flows: Iterable[Flow], *, back: bool = False, patience: float = PATIENCE) -> list[Heard]:
        """Find out whether flows still carry packets, asked from their opener or (``back``) from their other end."""
        return await self._prober.send(flows, back=back, patience=patience)

    async def shut(self, flows: Iterable[Flow]) -> None:
        """Close flows."""
        await self._prober.close(flows)

    async def inject(self, name: str, frames: Sequence[bytes], link: str = "eth0") -> list[int]:
        """Send frames as they are by a node's link; ``link`` empty: IP packets, from its stack. Returns errnos."""
        return await self._prober.inject(name, frames, link)

    def frame(self, name: str, packet: bytes, *, mac: str = "", to: str = "", vlan: int | None = None,
              ethertype: int = 0) -> bytes:  # fmt: skip
        """Return the frame in which a node would send an IP packet; what is given replaces what would be true."""
        link = self.plugs(name)[0]
        towards = to or self.next_hop_mac(name, packets.parse_ip(packet).destination)
        return packets.ethernet(mac or link.mac, towards, packet, vlan=vlan, ethertype=ethertype)

    async def seen(self, name: str, key: str) -> list[Observed]:
        """Return the frames with a nonce, or of ``protocol/source port``, that have arrived at a node."""
        return (await self._prober.seen([(name, key)]))[0]

    async def seen_all(self, wanted: Iterable[tuple[str, str]]) -> list[list[Observed]]:
        """Return the same for many (node, key) at once."""
        return await self._prober.seen(wanted)

    async def clear(self) -> None:
        """Have every node forget what has arrived at it so far."""
        await self._prober.clear()

    @property
    def nonce(self) -> Callable[[], str]:
        """Makes marks by which hand-made packets are known again."""
        return self._prober.nonce

    # Building

    async def _make_host(self) -> None:
        end = self._ends[self.host_name] = await self._namespaces.birth(self.host_name, host=True)
        # Other namespaces of the lab start with the defaults of a new one; the host's come before its links do.
        self.absent = tuple(await end.ask("sysctl", settings=_host_settings(self.topology)))
        await self._send(self.host_name, wiring.host_basis(self.layout))
        await self._believe(self.host_name, self.layout.bridges)

    async def _birth(self, node: Node) -> None:
        end = await self._namespaces.birth(node.name)
        self._ends[node.name], self.nodes[node.name] = end, node
        await end.ask("sysctl", settings=_node_settings(dad=self.topology.dad))

    async def _take_back(self, nodes: Iterable[Node]) -> None:
        """Undo a birth that failed, however far it came."""
        for node in nodes:
            gone = [wiring.delete_link(plug.port_index).hex() for plug in self.layout.unplug(node.name)]
            await self._end(self.host_name).ask("netlink", messages=gone)
            if end := self._ends.pop(node.name, None):
                await end.close()
            self.nodes.pop(node.name, None)

    async def _lay(self, plugs: Mapping[str, tuple[Plug, ...]]) -> None:
        messages: list[bytes] = []
        for name, each in plugs.items():
            for plug in each:
                messages += wiring.host_end(self.layout, plug, self._ends[name].inner_pid)
        await self._send(self.host_name, messages)
        await self._believe(self.host_name, [plug.port for each in plugs.values() for plug in each if not plug.bridge])
        await _all(self._lay_node(name, each) for name, each in plugs.items())

    async def _lay_node(self, name: str, plugs: tuple[Plug, ...]) -> None:
        await self._believe(name, [plug.interface for plug in plugs])
        await self._send(name, wiring.node_end(self.layout, plugs))

    async def _carrying(self, plugs: Sequence[Plug]) -> None:
        """Wait until links carry packets: the kernel has them and their addresses work some time after they are up."""
        links: dict[str, set[str]] = {self.host_name: set()}
        addresses: dict[str, set[str]] = {self.host_name: set()}
        for plug in plugs:
            links[self.host_name] |= {plug.port, plug.bridge} - {""}
            links.setdefault(plug.node, set()).add(plug.interface)
            if not self.topology.dad:  # else they take longer than anybody waits
                addresses[self.host_name] |= _hex6(self.layout.opposite(plug))
                addresses.setdefault(plug.node, set()).update(_hex6(plug.bare))
        deadline = asyncio.get_running_loop().time() + SLOWEST_LINK
        for name, each in links.items():
            wanted = {"links": sorted(each), "addresses": sorted(addresses.get(name, ()))}
            while unready := await self._end(name).ask("unready", **wanted):
                if asyncio.get_running_loop().time() > deadline:
                    raise LabError(f"links of {name} do not come up: {', '.join(unready)}")
                await asyncio.sleep(0.001)
        # Whoever changes a link waits for everybody who was at it before: the last of them is through now.
        await self._send(self.host_name, [wiring.link_up(wiring.LOOPBACK)])

    async def _believe(self, name: str, links: Iterable[str]) -> None:
        """A forged neighbour is believed at once, not only a second after the true one has spoken."""
        await self.sysctl(name, [(f"net/ipv4/neigh/{link}/locktime", "0") for link in links])

    async def _relay(self, old: Plug, new: Plug) -> None:
        gone = wiring.no_addresses(self.layout, old)
        if new.mac != old.mac:
            gone += [wiring.change_link(old.index, up=False), wiring.change_link(old.index, mac=new.mac, up=True)]
        await self._send(old.node, gone)
        if new.bridge:
            master = self.layout.bridge_index(new.bridge)
            await self._send(self.host_name, [wiring.change_link(old.port_index, master=master)])
        else:
            await self._send(self.host_name, wiring.moved_routes(self.layout, old, new))
        await self._send(new.node, wiring.node_addresses(self.layout, new))
        await self._carrying([new])

    async def _send(self, name: str, messages: Sequence[bytes]) -> None:
        if not messages:
            return
        refused = await self._end(name).ask("netlink", messages=[each.hex() for each in messages])
        if refused:
            number, code = refused[0]
            raise LabError(f"the kernel refused link message {number} in {name}: {os.strerror(code)}")

    def _addresses(self, name: str) -> Iterable[str]:
        self._end(name)
        return (address for plug in self.layout.plugs.get(name, ()) for address, _ in plug.addresses)

    def _end(self, name: str) -> Namespace:
        if name not in self._ends:
            known = ", ".join(self._ends) or "none: the lab is closed"
            raise LabError(f"there is no node {name}", remedy=f"the nodes are {known}")
        return self._ends[name]

    def _bridge_state(self) -> BridgeState:
        shown = self.topology.bridge_nf and not any(path.startswith("net/bridge/") for path in self.absent)
        return bridge_state((shown, shown), tracking=bridges_are_tracked())


def _hex6(addresses: Iterable[Address]) -> set[str]:
    """Return the IPv6 addresses among these as ``/proc/net`` writes them."""
    return {ip_address(each).packed.hex() for each in addresses if is_v6(each)}


def _host_settings(topology: Topology) -> list[Setting]:
    on = str(int(topology.forwarding))
    switch = str(int(topology.bridge_nf))
    return [
        *_node_settings(dad=topology.dad),
        ("net/ipv4/ip_forward", on),
        ("net/ipv6/conf/all/forwarding", on),
        ("net/ipv6/conf/default/addr_gen_mode", "1"),  # link-locals are given by hand, to those that need one
        ("net/ipv4/conf/all/send_redirects", "0"),
        ("net/ipv4/conf/default/send_redirects", "0"),
        *((f"net/bridge/bridge-nf-call-{each}", switch) for each in BRIDGE_SWITCHES),
    ]


def _node_settings(*, dad: bool) -> list[Setting]:
    """Quiet and predictable: no router is sought, no error is rationed, no source is refused but by policy."""
    found = [
        ("net/ipv4/ip_local_port_range", "60000 65535"),
        ("net/ipv4/icmp_ratelimit", "0"),
        ("net/ipv6/icmp/ratelimit", "0"),
        ("net/ipv4/conf/all/rp_filter", "0"),
        ("net/ipv4/conf/default/rp_filter", "0"),
        ("net/ipv4/conf/all/accept_redirects", "0"),
        ("net/ipv6/conf/default/accept_ra", "0"),
        ("net/ipv6/conf/default/router_solicitations", "0"),
    ]
    return found if dad else [*found, ("net/ipv6/conf/all/accept_dad", "0"), ("net/ipv6/conf/default/accept_dad", "0")]


def _sort(held: dict[str, Any], order: Mapping[str, int]) -> None:
    """Put a dictionary in order: those that were born at the same moment came as they came."""
    for name in sorted(held, key=lambda name: order.get(name, -1)):
        held[name] = held.pop(name)


async def _all(steps: Iterable[Coroutine[None, None, None]]) -> None:
    """Do these at the same time; when this returns none is under way, and the first that failed is raised."""
    for outcome in await asyncio.gather(*steps, return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome


async def _write(fd: int, data: bytes) -> None:
    """Write and close; a reader that does not want all of it is its own affair."""

    def write() -> None:
        with contextlib.suppress(BrokenPipeError), open(fd, "wb", buffering=0) as pipe:
            view = memoryview(data)
            while view:
                view = view[pipe.write(view) :]

    await asyncio.to_thread(write)


async def _read_all(fd: int) -> bytes:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    with open(fd, "rb", buffering=0) as pipe:
        transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
        try:
            return await reader.read()
        finally:
            transport.close()
