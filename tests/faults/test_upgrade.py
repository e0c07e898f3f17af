"""Another version takes over what this one enforces, and hands it back, under traffic: no gap, nothing lost.

Which versions: ``releases``.
"""

import asyncio
import signal
import sys
from operator import ne
from pathlib import Path

import pytest
from releases import releases

from faults import DENIED, GROUND, HELD, apply, lost, owned, passed, there, told
from stockade.cli.demo_stage import Stage, stage
from stockade.core.model.net import Protocol
from stockade.testing.lab import bridged, enter
from stockade.testing.probe.values import Probe
from stockade.testing.processes import nft_helpers
from stockade.testing.steady import Steady
from stockade.wire.api import WorkloadsReply

pytestmark = [pytest.mark.real, pytest.mark.fault, pytest.mark.timeout(300)]
RELEASES = releases()
CONNECT = "import socket, sys; socket.create_connection((sys.argv[1], 8080), 1).close()"
ENDINGS = (signal.SIGTERM, signal.SIGKILL)


@pytest.mark.parametrize("name", RELEASES)
def test_another_version_takes_over_and_hands_back(name: str, tmp_path: Path) -> None:
    enter()
    other = str(RELEASES[name](tmp_path))

    async def run() -> None:
        async with stage(GROUND, python=other) as on:
            await told(on)
            await apply(on)
            async with Steady(on.lab, (*HELD, *DENIED)) as steady:
                await asyncio.sleep(0.3)
                await steady.told()
                await holds(steady)
                for number, python in enumerate((sys.executable, other, sys.executable)):
                    before = await left(on)
                    await taken_over(on, python, ENDINGS[number % 2])
                    assert name != "other" or all(map(ne, before, await left(on))), "nothing was another version's"
                    await holds(steady)
                    await born(on, f"born-{number}")
                    await holds(steady)

    asyncio.run(run())


async def taken_over(on: Stage, python: str, ending: signal.Signals) -> None:
    """End the version that runs and start another one; wait until what it makes of policy is in force."""
    assert on.server is not None
    on.server.send_signal(ending)
    await on.server.wait(20)
    assert await there(on.lab)
    on.python = python
    await on.start()
    await on.answering()
    on.tell_all()
    await on.settled(1, len(on.names))
    assert await owned(on.lab)


async def left(on: Stage) -> tuple[int, str, str]:
    """Return what a version leaves behind: the helper that came with it, and its tables."""
    helper = nft_helpers(on.state)[0]
    inet, bridge = [
        (await on.lab.run(on.lab.host_name, ["nft", "-s", "list", "table", family, "stockade"])).stdout
        for family in ("inet", "bridge")
    ]
    return helper, inet, bridge


async def holds(steady: Steady) -> None:
    """Nothing denied has arrived, everything allowed has gone on."""
    await asyncio.sleep(0.3)
    counts = await steady.told()
    assert not passed(counts)
    assert not lost(counts)
    assert all(each.done for each in counts)


async def born(on: Stage, name: str) -> None:
    """A newborn waits until it is known, and has its policy then."""
    denied = Probe(name, "db-1", Protocol.UDP, 7101)
    await on.lab.add(bridged(name, "shop", app="shop", env="prod", role="web"))
    connect = [sys.executable, "-c", CONNECT, on.lab.address("api-1")]
    assert (await on.lab.run(name, connect)).status != 0
    on.teller.tell(on.lab.sighting(name))
    deadline = asyncio.get_running_loop().time() + 20
    while name not in {each.name for each in on.client.call("workloads", WorkloadsReply).workloads}:
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.05)
    await on.settled(1, 0)
    assert (await on.lab.run(name, connect)).status == 0
    assert not (await on.lab.probe([denied], patience=0.5))[0].delivered
