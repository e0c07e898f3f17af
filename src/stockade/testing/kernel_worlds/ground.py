"""The ground on which random worlds are tried: one lab, built once, and the host's kernel as the program meets it.

The lab has every kind of place: two bridges, a workload on both, one of many addresses, routed endpoints, machines
outside, endpoints that nobody reports. A container engine's part is played by foreign tables (destination translation,
source translation for one network) and by a real proxy. Some ports are taken from connection tracking by a foreign
rule. Foreign tables are made once and must never be touched.
"""

import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from stockade.adapters.netfilter.conntrack import Conntrack
from stockade.adapters.nft import NftKernel
from stockade.agent.machine import changed_hands
from stockade.agent.sweep import Ahead, sweep
from stockade.core.compile.compiler import compile_snapshot
from stockade.core.compile.nft.render import render
from stockade.core.compile.nft.ruleset import Ruleset
from stockade.core.model.ids import Address, HostId
from stockade.core.model.intent import Intent
from stockade.core.model.inventory import Published
from stockade.core.model.net import PORTED, Protocol
from stockade.core.model.snapshot import Snapshot
from stockade.core.reconcile import steps, text
from stockade.testing.kernel_worlds import proxy
from stockade.testing.lab import Lab, Link, Node, Topology, bridged, lab_bridge, outside, routed, workload_id
from stockade.testing.lab.namespaces import Command
from stockade.testing.probe.values import Probe

FRONT, BACK = "br0", "br1"
ON_FRONT = ("web-1", "api-1", "db-1", "cache", "batch", "mail")
ON_BACK = ("web-2", "db-2", "cron", "queue", "probe")
TWIN = "search"
"""On both bridges."""
ROUTED = ("vm-1", "vm-2", "vm-3", "vm-4")
OUTSIDE = ("pay-1", "pay-2", "far", "dc")
STRAYS = ("stray", "stray-vm")
"""Links that are seen and whose workloads nobody reports."""
RESOLVERS = ("192.168.7.53", "fd00:7::35")
TRANSLATED = "10.2.0."
"""How the addresses begin whose source is translated on their way out."""

RETRANS = "25"
"""Milliseconds between two questions for a neighbour; after three it counts as failed."""
BELIEVED = "3600"
"""Seconds for which one that answered is not asked again."""
UNTRACKED_PORTS = (1900, 1999)
"""UDP ports, either end, that a foreign rule takes from connection tracking."""


class Door(msgspec.Struct, frozen=True):
    """A published port: ``engine`` as an engine with a proxy makes it, else translation for every source."""

    protocol: Protocol
    port: int
    to: str
    to_port: int
    engine: bool


DOORS = tuple(
    Door(protocol, port + 1000 * place, to, to_port, engine)
    for place, to in enumerate((ON_FRONT[0], ON_BACK[0]))
    for protocol, port, to_port, engine in (
        (Protocol.TCP, 18080, 8080, True),
        (Protocol.TCP, 18443, 80, False),
        (Protocol.UDP, 18053, 53, True),
        (Protocol.UDP, 18054, 1000, False),
        (Protocol.SCTP, 13868, 3868, False),
    )
)
"""This kernel has no SCTP sockets, so nobody can proxy SCTP."""


def topology(name: str = "lab", *, realms: bool = False, bridge_nf: bool = True) -> Topology:
    """Return the ground's plan. ``realms``: each bridge is a network of its own, as a container engine's are."""
    many = Node("mail", (Link(FRONT, tuple(map(Address, ("10.1.0.80", "10.1.0.81", "fd00:1::80", "fd00:1::81")))),))
    return Topology(
        bridges=(
            lab_bridge(FRONT, "10.1.0.0/24", "fd00:1::/64", realm=f"{name}/{FRONT}" if realms else ""),
            lab_bridge(BACK, "10.2.0.0/24", "fd00:2::/64", realm=f"{name}/{BACK}" if realms else ""),
        ),
        nodes=(
            *(bridged(each, FRONT) for each in ON_FRONT if each != many.name),
            many,
            *(bridged(each, BACK) for each in ON_BACK),
            Node(TWIN, (Link(FRONT), Link(BACK))),
            *(routed(each, f"10.9.0.{n + 2}", f"fd00:9::{n + 2}") for n, each in enumerate(ROUTED)),
            outside("pay-1", "1.2.3.4", "2a00:1::5"),
            outside("pay-2", "1.2.3.7", "2a00:2::5"),
            outside("far", "8.8.4.4", "2a00:3::5"),
            outside("dc", *RESOLVERS),
            msgspec.structs.replace(bridged(STRAYS[0], FRONT), sighted=False),
            msgspec.structs.replace(routed(STRAYS[1], "10.9.0.90", "fd00:9::90"), sighted=False),
        ),
        host=name,
        bridge_nf=bridge_nf,
    )


class Ground:
    """A lab with a kernel to program. ``async with Ground(topology()) as ground``."""

    def __init__(self, plan: Topology, *, doors: tuple[Door, ...] = DOORS) -> None:
        self.lab = Lab(plan)
        self.doors = doors
        self.intent: Intent | None = None
        self._folder = tempfile.TemporaryDirectory(prefix="stockade-ground-")
        self._proxy: Command | None = None

    async def __aenter__(self) -> Self:
        try:
            await self.lab.__aenter__()
            netns = self.lab.netns(self.lab.host_name)
            self.tracking = Conntrack(netns)
            self.kernel = NftKernel(Path(self._folder.name) / "nft.sock", self.tracking, netns=netns)
            self.ahead = Ahead(self.kernel)
            await self._ask_neighbours_again()
            if self.doors:
                await self.lab.nft("\n".join(self._foreign()))
                await self._start_proxy()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End everything."""
        if hasattr(self, "kernel"):
            with contextlib.suppress(OSError):
                self.kernel.helper.release()
            self.tracking.close()
        await self.lab.close()
        self._folder.cleanup()

    async def listen_for(self, probes: Iterable[Probe]) -> None:
        """Have whatever is probed answer, ports published apart: behind those somebody listens already."""
        doors = {(door.protocol, door.port) for door in self.doors}
        wanted: dict[tuple[str, Protocol], set[int]] = {}
        for each in probes:
            if each.protocol in PORTED and (each.protocol, each.port) not in doors:
                wanted.setdefault((each.destination, each.protocol), set()).add(each.port)
        for (name, protocol), ports in wanted.items():
            await self.lab.listen(name, protocol, *sorted(ports))

    def published(self) -> tuple[Published, ...]:
        """Return the doors in the model's words, one for each family."""
        return tuple(
            Published(
                door.protocol,
                door.port,
                workload_id(self.lab.topology, door.to),
                Address(self.lab.address(door.to, family)),
                door.to_port,
                proxied=door.engine,
            )
            for door in self.doors
            for family in (4, 6)
        )

    def intend(self, snapshot: Snapshot) -> Intent:
        """Compile a snapshot for the ground's host."""
        return compile_snapshot(snapshot)[HostId(self.lab.host_name)]

    def apply(self, snapshot: Snapshot) -> None:
        """Bring a snapshot into force as an agent does: look ahead, change, forget what changed hands, sweep."""
        intent = self.intend(snapshot)
        changes = steps(render(intent), self.kernel.observe())
        self.ahead.look(intent)
        for step in changes:
            self.kernel.commit(text(step))
        self.tracking.forget(changed_hands(self.intent, intent))
        sweep(self.tracking, intent)
        self._ten_seconds_pass(render(intent))
        self.intent = intent

    def _ten_seconds_pass(self, ruleset: Ruleset) -> None:
        """What a proxy was let do for a first leg of the world before is over."""
        emptied = [
            f"flush set {table.family} stockade {name}\n"
            for table in ruleset.tables
            for name, each in table.sets.items()
            if each.dynamic
        ]
        if emptied:
            self.kernel.commit("".join(emptied))

    def check_proxy(self) -> None:
        """Raise where the proxy has ended: every answer that comes through it would be nobody's."""
        if self._proxy is not None and self._proxy.status is not None:
            raise RuntimeError(f"the lab's proxy ended with status {self._proxy.status}")

    async def remove(self) -> None:
        """Take our tables away, as ``off`` does."""
        observed = self.kernel.observe()
        for table in observed.tables:
            self.kernel.commit(f"delete table {table.family} stockade\n")
        self.ahead.doubt(Ruleset())
        self.intent = None

    async def foreign(self) -> str:
        """Return what is in the foreign tables now."""
        said = [
            (await self.lab.run(self.lab.host_name, ["nft", "-s", "list", "table", *table.split()])).stdout
            for table in ("ip foreign", "ip6 foreign", "inet foreign")
        ]
        return "".join(said)

    async def _ask_neighbours_again(self) -> None:
        """A neighbour that did not answer under one policy is asked again soon: the next policy may let it.

        One that answered is believed for as long as worlds are tried: in the next it may be a stranger, whom the host
        does not hear, and whether it is known still would be a matter of seconds.
        """
        lab = self.lab
        for name in lab.names:
            links = ["default", *(plug.interface for plug in lab.plugs(name))]
            if name == lab.host_name:
                ports = (plug.port for node in lab.names for plug in lab.plugs(node) if not plug.bridge)
                links = ["default", FRONT, BACK, *ports]
            settings = [
                (f"net/{ip}/neigh/{link}/{key}", value)
                for ip in ("ipv4", "ipv6")
                for link in links
                for key, value in (("retrans_time_ms", RETRANS), ("delay_first_probe_time", BELIEVED))
            ]
            await lab.sysctl(name, settings)

    # A container engine's part, and others'

    def _foreign(self) -> Iterator[str]:
        first, last = UNTRACKED_PORTS
        yield "table inet foreign {"
        for hook in ("prerouting", "output"):
            yield f"chain {hook} {{ type filter hook {hook} priority raw;"
            yield f"udp dport {first}-{last} notrack"
            yield f"udp sport {first}-{last} notrack\n}}"
        yield "}"
        for family, ip, loopback in ((4, "ip", "127.0.0.0/8"), (6, "ip6", "::1")):
            yield f"table {ip} foreign {{"
            yield "chain prerouting { type nat hook prerouting priority -100;"
            for door in self.doors:
                bridge = self.lab.plugs(door.to)[0].bridge
                inwards = f'iifname != "{bridge}" ' if door.engine else ""
                yield f"{inwards}fib daddr type local {self._translation(door, family)}"
            yield "}\nchain output { type nat hook output priority -100;"
            for door in self.doors:
                yield f"{ip} daddr != {loopback} fib daddr type local {self._translation(door, family)}"
            yield "}"
            if family == 4:
                yield "chain postrouting { type nat hook postrouting priority 100;"
                yield f'ip saddr {TRANSLATED}0/24 oifname "up*" masquerade'
                yield "}"
            yield "}"

    def _translation(self, door: Door, family: int) -> str:
        address = self.lab.address(door.to, family)
        to = f"[{address}]" if family == 6 else address
        name = door.protocol.name.lower()
        return f"meta l4proto {name} {name} dport {door.port} dnat to {to}:{door.to_port}"

    async def _start_proxy(self) -> None:
        ports = [
            (int(door.protocol), door.port, self.lab.address(door.to, family), door.to_port)
            for door in self.doors
            if door.engine
            for family in (4, 6)
        ]
        said, say = os.pipe()
        with Path(os.devnull).open("r+b") as null:
            command = [sys.executable, "-I", "-S", str(proxy.__file__), json.dumps(ports)]
            streams = (null.fileno(), say, null.fileno())
            self._proxy = await self.lab.start(self.lab.host_name, command, streams=streams)
        os.close(say)
        if os.read(said, 16) != b"ready\n":
            raise RuntimeError("the lab's proxy did not start")
        os.close(said)
