"""An address that was somebody else's a moment ago: whoever has it now is answered where it is."""

import asyncio
import sys

import pytest

from faults import GROUND, apply, told
from stockade.cli.demo_stage import Stage, stage
from stockade.core.model.net import Protocol
from stockade.testing.lab import bridged, enter
from stockade.wire.api import WorkloadsReply

pytestmark = [pytest.mark.real, pytest.mark.timeout(120)]
ADDRESSES = ("10.20.0.77", "fd20::77")
PATIENCE = 6
"""Seconds: less than a kernel takes to find out by itself that somebody is not where it was (5 and 3 more)."""
CONNECT = "import socket, sys; socket.create_connection((sys.argv[1], 8080), float(sys.argv[2])).close()"


@pytest.mark.parametrize("family", [4, 6])
def test_who_knew_it_as_anothers_answers_where_it_is(family: int) -> None:
    async def run() -> None:
        enter()
        async with stage(GROUND) as on:
            await told(on)
            await apply(on)
            await on.lab.listen("api-1", Protocol.TCP, 8080)
            await born(on, "one", family)
            one = on.lab.sighting("one").id
            await on.lab.remove("one")
            on.teller.gone(one)
            await born(on, "two", family)

    asyncio.run(run())


async def born(on: Stage, name: str, family: int) -> None:
    """Be born, ask while nobody knows it yet, and be answered once it is known."""
    await on.lab.add(bridged(name, "shop", *ADDRESSES, app="shop", env="prod", role="web"))
    words = [sys.executable, "-c", CONNECT, on.lab.address("api-1", family), str(PATIENCE)]
    asking = asyncio.create_task(on.lab.run(name, words))
    await asyncio.sleep(0.5)
    on.tell_all()
    done = await asking
    assert done.status == 0, done.stderr
    known = on.client.call("workloads", WorkloadsReply).workloads
    assert name in {each.name for each in known}
