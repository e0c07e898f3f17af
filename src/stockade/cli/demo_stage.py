"""The demo's stage: the shop's lab, a real ``stockade up`` in its host's namespace, and probes between its nodes."""

import asyncio
import os
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from stockade.cli.client import Client, Unreachable
from stockade.cli.shop_lab import SHOP
from stockade.core.model.net import Protocol
from stockade.errors import StockadeError
from stockade.testing.lab import Command, Lab, Node, Topology
from stockade.testing.lab.telling import Teller, telling
from stockade.testing.probe.values import ECHO4, ECHO6, Probe, Result
from stockade.wire.api import ExplainReply, StatusReply, WorkloadsReply

PATIENCE = 30.0
PAUSE = 0.02
WAYS = (
    ("http", Protocol.TCP, 80),
    ("api", Protocol.TCP, 8080),
    ("postgres", Protocol.TCP, 5432),
    ("metrics", Protocol.TCP, 9100),
    ("dns", Protocol.UDP, 53),
    ("ping", Protocol.ICMP, ECHO4),
)
"""What is tried between every two nodes: a short name, the protocol, the port."""


class Cell(NamedTuple):
    """One probe's outcome beside what was expected of it; None: nothing was."""

    probe: Probe
    way: str
    expected: bool | None
    observed: bool

    @property
    def right(self) -> bool:
        """Whether the packets did what policy says."""
        return self.expected is None or self.expected == self.observed


KERNEL_ALONE = "namespace"
"""The runtime of a workload of which only the kernel's census tells."""


class Stage:
    """What the story is told with."""

    def __init__(self, lab: Lab, teller: Teller, client: Client, state: Path) -> None:
        self.lab = lab
        self.teller = teller
        self.client = client
        self.state = state
        self.server: Command | None = None
        self.python = sys.executable
        """What ``stockade up`` is started with: another environment's is another version."""

    async def start(self) -> Command:
        """Start ``stockade up`` on the lab's host, and do not wait for it; it writes to ``up.log``."""
        argv = [self.python, "-m", "stockade", "up", "--state", str(self.state)]
        argv += ["--lab", str(self.state / "lab.sock"), "--no-docker", "--host", self.lab.host_name]
        for node in (each for each in self.lab.topology.nodes if each.outside):
            argv += [word for plug in self.lab.plugs(node.name) for word in ("--uplink", plug.port)]
        with (self.state / "up.log").open("ab") as log, Path(os.devnull).open("rb") as nothing:
            streams = (nothing.fileno(), log.fileno(), log.fileno())
            self.server = await self.lab.start(self.lab.host_name, argv, streams=streams)
        return self.server

    async def answering(self) -> None:
        """Wait until the server answers; where it ends or never does, say what it last said."""
        server, deadline = self.server, time.monotonic() + PATIENCE
        while server is not None and server.status is None and time.monotonic() < deadline:
            try:
                await asyncio.to_thread(self.client.call, "status", StatusReply)
            except Unreachable:
                await asyncio.sleep(PAUSE)
            else:
                return
        said = (self.state / "up.log").read_text(encoding="utf-8", errors="replace").strip().splitlines()[-3:]
        late = server is not None and server.status is None
        raise StockadeError(
            f"stockade up did not answer within {PATIENCE:.0f} s" if late else "stockade up ended",
            kept="the lab is taken down",
            remedy=f"it last said: {' | '.join(said) or 'nothing'}",
        )

    async def stop(self) -> None:
        """End ``stockade up`` in good order."""
        if self.server is not None:
            self.server.send_signal(signal.SIGTERM)
            await self.server.wait(timeout=PATIENCE)

    @property
    def names(self) -> tuple[str, ...]:
        """The nodes, in the order in which they are shown."""
        return tuple(name for name in self.lab.names if name != self.lab.host_name)

    def tell_all(self) -> None:
        """Tell of every node that is a workload, with the labels that its creator gave it."""
        self.teller.tell(*(each for each in self.lab.sightings() if each.name in self.names))

    async def add(self, node: Node) -> None:
        """Bring a workload into the world: it is told of as it is created, as a runtime does."""
        await self.lab.add(node)
        self.teller.tell(self.lab.sighting(node.name))

    async def matrix(self, judge: bool, names: Iterable[str] | None = None) -> tuple[Cell, ...]:
        """Probe every way between every two nodes, both families; ``judge``: beside what ``explain`` says."""
        probes = [
            (way, probe)
            for family in (4, 6)
            for one in names or self.names
            for other in self.names
            if one != other
            for way, protocol, port in WAYS
            for probe in [_probe(one, other, protocol, port, family)]
        ]
        results = await self.lab.probe([probe for _, probe in probes])
        expected = await asyncio.to_thread(self._expected, [p for _, p in probes]) if judge else [None] * len(probes)
        return tuple(
            Cell(probe, way, wanted, _passed(result))
            for (way, probe), result, wanted in zip(probes, results, expected, strict=True)
        )

    def _expected(self, probes: Iterable[Probe]) -> list[bool | None]:
        return [self.explained(each).explanation.allowed for each in probes]

    def explained(self, probe: Probe) -> ExplainReply:
        """Ask the server why a probe should pass, or not."""
        source = self.lab.address(probe.source, probe.family)
        destination = self.lab.address(probe.destination, probe.family)
        return self.client.call("explain", ExplainReply, source=source, destination=destination, on=_on(probe))

    async def settled(self, version: int, workloads: int) -> StatusReply:
        """Wait until so many workloads were told of and a version is in force.

        A namespace that the kernel alone shows has not been told of: nobody knows yet whose it is.
        """
        return await asyncio.to_thread(self._settled, version, workloads)

    def _settled(self, version: int, workloads: int) -> StatusReply:
        deadline = time.monotonic() + PATIENCE
        while True:
            known = self.client.call("workloads", WorkloadsReply).workloads  # first: the status then covers them
            status = self.client.call("status", StatusReply)
            here = [host for host in status.hosts if host.current and (host.realised or 0) >= version]
            told = sum(each.runtime != KERNEL_ALONE for each in known)
            if here and len(here) == len(status.hosts) and told >= workloads:
                return status
            if time.monotonic() > deadline:
                raise StockadeError(
                    f"version {version} was not in force within {PATIENCE:.0f} s",
                    kept="the lab is taken down",
                    remedy=f"{[host.error for host in status.hosts if host.error] or 'run it again'}",
                )
            time.sleep(PAUSE)


@asynccontextmanager
async def stage(
    topology: Topology = SHOP, under: str | None = None, python: str = sys.executable
) -> AsyncIterator[Stage]:
    """Set the stage, its files in a folder ``under`` another one (or where temporary files go); nothing is left."""
    with tempfile.TemporaryDirectory(prefix="stockade-demo-", dir=under) as folder:
        state = Path(folder)
        async with Lab(topology) as lab, telling(state / "lab.sock") as teller:
            on = Stage(lab, teller, Client(state / "api.sock"), state)
            on.python = python
            await on.start()
            try:
                await on.answering()
                yield on
            finally:
                await on.stop()


def _probe(one: str, other: str, protocol: Protocol, port: int, family: int) -> Probe:
    if protocol is Protocol.ICMP and family == 6:
        return Probe(one, other, Protocol.ICMPV6, ECHO6, 6)
    return Probe(one, other, protocol, port, family)


def _on(probe: Probe) -> str:
    if probe.protocol in (Protocol.ICMP, Protocol.ICMPV6):
        return f"{probe.protocol.name.lower()}/{probe.port // 256}"
    return f"{probe.protocol.name.lower()}/{probe.port}"


def _passed(result: Result) -> bool:
    """A packet that arrived passed, and so did its answer; a refusal is an answer too."""
    return result.delivered or result.answered
