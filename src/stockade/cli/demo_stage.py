"""The demo's stage: the shop's lab, a real ``stockade up`` in its host's namespace, and probes between its nodes."""

import asyncio
import os
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
from stockade.testing.lab import Command, Lab, Node
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


class Stage:
    """What the story is told with."""

    def __init__(self, lab: Lab, teller: Teller, client: Client, state: Path) -> None:
        self.lab = lab
        self.teller = teller
        self.client = client
        self.state = state

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
        """Wait until so many workloads are known and a version is in force."""
        return await asyncio.to_thread(self._settled, version, workloads)

    def _settled(self, version: int, workloads: int) -> StatusReply:
        deadline = time.monotonic() + PATIENCE
        while True:
            known = self.client.call("workloads", WorkloadsReply).workloads  # first: the status then covers them
            status = self.client.call("status", StatusReply)
            here = [host for host in status.hosts if host.realised is not None and host.realised >= version]
            if here and len(known) >= workloads and all(host.revision == status.revision for host in here):
                return status
            if time.monotonic() > deadline:
                raise StockadeError(
                    f"version {version} was not in force within {PATIENCE:.0f} s",
                    kept="the lab is taken down",
                    remedy=f"{[host.error for host in status.hosts if host.error] or 'run it again'}",
                )
            time.sleep(PAUSE)


@asynccontextmanager
async def stage() -> AsyncIterator[Stage]:
    """Set the stage; nothing of it is left afterwards."""
    with tempfile.TemporaryDirectory(prefix="stockade-demo-") as folder:
        state = Path(folder)
        async with Lab(SHOP) as lab, telling(state / "lab.sock") as teller:
            argv = [sys.executable, "-m", "stockade", "up", "--state", str(state), "--lab", str(state / "lab.sock")]
            outside = [plug.port for node in SHOP.nodes if node.outside for plug in lab.plugs(node.name)]
            argv += ["--no-docker", "--host", SHOP.host, *(word for each in outside for word in ("--uplink", each))]
            with (state / "up.log").open("wb") as log, Path(os.devnull).open("rb") as nothing:
                server = await lab.start(lab.host_name, argv, streams=(nothing.fileno(), log.fileno(), log.fileno()))
            try:
                client = Client(state / "api.sock")
                await _answering(client, server, state / "up.log")
                yield Stage(lab, teller, client, state)
            finally:
                server.send_signal(15)
                await server.wait(timeout=PATIENCE)


async def _answering(client: Client, server: Command, log: Path) -> None:
    """Wait until the server answers; where it ends or never does, say what it last said."""
    deadline = time.monotonic() + PATIENCE
    while server.status is None and time.monotonic() < deadline:
        try:
            await asyncio.to_thread(client.call, "status", StatusReply)
        except Unreachable:
            await asyncio.sleep(PAUSE)
        else:
            return
    said = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-3:]
    raise StockadeError(
        f"stockade up did not answer within {PATIENCE:.0f} s" if server.status is None else "stockade up ended",
        kept="the lab is taken down",
        remedy=f"it last said: {' | '.join(said) or 'nothing'}",
    )


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
