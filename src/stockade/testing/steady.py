"""Traffic that never stops between a lab's nodes while something else happens: what may pass, and what may not.

    async with Steady(lab, flows) as steady:
        ...
        told = await steady.told()

What arrived where it should not have is told by the other end itself, with the moment of each. Unlike a probe it asks
nobody's patience: thousands of packets a second for as long as a test lasts.
"""

import asyncio
import enum
import json
import os
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from stockade.testing.lab import Command, Lab, LabError
from stockade.testing.probe import steadily

PATIENCE = 30.0


class Kind(str, enum.Enum):
    """What a flow does, and so what its counts mean."""

    HOLD = "hold"
    """One TCP connection that talks without end."""
    STREAM = "stream"
    """Numbered UDP datagrams, each echoed."""
    OPEN = "open"
    """One TCP connection after the other."""
    TRY = "try"
    """Datagrams and connections that policy denies."""


class Flow(msgspec.Struct, frozen=True):
    """Traffic from a node to a port of another; ``pause`` seconds lie between two of it."""

    kind: Kind
    source: str
    destination: str
    port: int
    family: int = 4
    pause: float = 0.01


class Count(msgspec.Struct, frozen=True):
    """What came of a flow since it was last told.

    ``done``: echoed, opened, or (``TRY``) sent. ``lost``: not so, or (``TRY``) answered. ``arrived``: the moments
    (CLOCK_MONOTONIC) at which the other end met something of a ``TRY``; of others, of what was lost.
    """

    flow: Flow
    done: int
    lost: int
    arrived: tuple[float, ...]
    detail: str


class Steady:
    """Flows while the block lasts. Each ``TRY`` needs a destination and port that no other flow has."""

    def __init__(self, lab: Lab, flows: tuple[Flow, ...]) -> None:
        self._lab = lab
        self.flows = flows
        self._desks: dict[str, _Desk] = {}

    async def __aenter__(self) -> Self:
        try:
            ports = {(flow.destination, flow.port): None for flow in self.flows}
            for name in {each: None for each, _ in ports}:
                await self._sit(f"to {name}", name, [{"do": "serve", "port": port} for at, port in ports if at == name])
            for name in {flow.source: None for flow in self.flows}:
                await self._sit(f"from {name}", name, [self._job(flow) for flow in self.flows if flow.source == name])
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End all traffic."""
        for desk in self._desks.values():
            await desk.close()
        self._desks.clear()

    async def told(self) -> tuple[Count, ...]:
        """Return what came of each flow since this was last asked, in the order of the flows."""
        names = list(self._desks)
        answers = dict(zip(names, await asyncio.gather(*(self._desks[name].ask() for name in names)), strict=True))
        return tuple(self._count(flow, answers) for flow in self.flows)

    def _count(self, flow: Flow, answers: dict[str, list[dict[str, Any]]]) -> Count:
        own = [each for each in self.flows if each.source == flow.source].index(flow)
        sent = answers[f"from {flow.source}"][own]
        arrived = sent["moments"]
        if flow.kind is Kind.TRY:
            ports = list({(each.destination, each.port): None for each in self.flows})
            there = [port for at, port in ports if at == flow.destination].index(flow.port)
            arrived = answers[f"to {flow.destination}"][there]["moments"]
        return Count(flow, sent["done"], sent["lost"], tuple(arrived), sent["detail"])

    def _job(self, flow: Flow) -> dict[str, Any]:
        address = self._lab.address(flow.destination, flow.family)
        return {"do": flow.kind.value, "address": address, "port": flow.port, "pause": flow.pause}

    async def _sit(self, key: str, name: str, jobs: list[dict[str, Any]]) -> None:
        self._desks[key] = await _Desk(self._lab, name).open(jobs)


class _Desk:
    """The bare interpreter that does a node's part."""

    def __init__(self, lab: Lab, name: str) -> None:
        self._lab, self._name = lab, name
        self._command: Command | None = None
        self._give = -1
        self._reader = asyncio.StreamReader(limit=1 << 20)
        self._transport: asyncio.BaseTransport | None = None

    async def open(self, jobs: list[dict[str, Any]]) -> Self:
        (stdin, self._give), (take, stdout) = os.pipe(), os.pipe()
        os.set_inheritable(self._give, False)
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(self._reader), os.fdopen(take, "rb", 0)
        )
        argv = [sys.executable, "-I", "-S", str(Path(steadily.__file__)), json.dumps(jobs)]
        try:
            self._command = await self._lab.start(self._name, argv, streams=(stdin, stdout, 2))
        finally:
            os.close(stdin)
            os.close(stdout)
        await self._line()
        return self

    async def ask(self) -> list[dict[str, Any]]:
        os.write(self._give, b"?\n")
        answer = json.loads(await self._line())
        if answer["ended"]:
            raise LabError(f"the steady traffic of {self._name} ended: {answer['ended'][0]}")
        jobs: list[dict[str, Any]] = answer["jobs"]
        return jobs

    async def close(self) -> None:
        if self._give >= 0:
            os.close(self._give)
            self._give = -1
        if self._command is not None:
            await self._command.wait(PATIENCE)
        if self._transport is not None:
            self._transport.close()

    async def _line(self) -> bytes:
        line = await asyncio.wait_for(self._reader.readline(), PATIENCE)
        if not line:
            raise LabError(f"the steady traffic of {self._name} has ended", remedy="its errors are above")
        return line
