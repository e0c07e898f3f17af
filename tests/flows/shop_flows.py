"""The demo's shop with flow recording on, known traffic through it, and what the store tells of that."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable

import pytest

from stockade.cli.demo import shop_files
from stockade.cli.demo_stage import Stage, stage
from stockade.core.model.net import Protocol
from stockade.testing.lab import enter
from stockade.testing.probe.values import Probe
from stockade.wire.api import ApplyRequest, VersionReply
from stockade.wire.flows import FlowGroupsReply

PATIENCE = 60.0
WAYS = (
    ("web-1", "api-1", Protocol.TCP, 8080, "allowed"),
    ("api-1", "db-1", Protocol.TCP, 5432, "allowed"),
    ("web-1", "db-1", Protocol.TCP, 5432, "denied"),
    ("intruder", "db-1", Protocol.UDP, 7001, "denied"),
    ("payments", "db-1", Protocol.TCP, 5432, "denied"),
)
"""Who is tried to whom, and what becomes of it under the shop's policy."""
BY = "source.name,destination.name,source.address,destination.address,protocol,port,end,verdict"
Told = Counter[tuple[str, str, int, str]]


def on_stage(
    scenario: Callable[[Stage], Awaitable[None]], monkeypatch: pytest.MonkeyPatch, *, policy: bool = True
) -> None:
    monkeypatch.delenv("STOCKADE_FLOWS")

    async def run() -> None:
        async with stage() as on:
            on.tell_all()
            if not policy:
                await scenario(on)
                return
            request = ApplyRequest(files=shop_files(), note="shop", yes=True)
            reply = await asyncio.to_thread(on.client.call, "apply", VersionReply, request)
            await on.settled(reply.version.number, len(on.names))
            await scenario(on)

    enter()
    asyncio.run(run())


async def traffic(on: Stage, times: int) -> Told:
    """Send known traffic; return the connections of each way."""
    probes = [Probe(one, other, protocol, port, family) for one, other, protocol, port, _ in WAYS for family in (4, 6)]
    for _ in range(times):
        for result in await on.lab.probe(probes):
            said = next(way[4] for way in WAYS if way[:2] == (result.probe.source, result.probe.destination))
            assert result.reached == (said == "allowed"), result
    return Counter({(one, other, port, said): times * 2 for one, other, _, port, said in WAYS})


def told(on: Stage) -> Told:
    """Return what the store has: each connection as its last judge told of it."""
    reply = on.client.call("flow-groups", FlowGroupsReply, by=BY, limit=1000)
    names = {on.lab.address(each, family): each for each in on.names for family in (4, 6)}
    found: Told = Counter()
    for group in reply.groups:
        _, _, source, destination, _, port, end, verdict = group.values
        one, other = names.get(str(source)), names.get(str(destination))
        if one and other and verdict in ("allowed", "denied"):
            if end == "egress" and verdict == "allowed" and other != "payments":
                continue  # told of again by the end that it arrives at
            found[one, other, int(port), str(verdict)] += group.connections
    return found


async def until_told(on: Stage, wanted: Told) -> None:
    deadline, found = time.monotonic() + PATIENCE, Counter()
    while found != wanted:
        assert time.monotonic() < deadline, {"wanted": wanted - found, "too much": found - wanted}
        assert not found - wanted, "more was told than was sent"
        await asyncio.sleep(0.3)
        found = await asyncio.to_thread(told, on)


async def again(on: Stage) -> None:
    """Start ``up`` again, and wait until it has everything in force."""
    await on.start()
    await on.answering()
    await on.settled(1, len(on.names))
