"""A host that has lost its tables, as after a reboot: what was in force last is in force before `up` runs."""

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from faults import DENIED, GROUND, HELD, apply, end, judging, lost, owned, passed, there, told
from stockade.cli.demo_stage import Stage, stage
from stockade.cli.exits import Exit
from stockade.core.model.net import Protocol
from stockade.testing.lab import bridged, enter
from stockade.testing.probe.values import Probe
from stockade.testing.processes import nft_helpers
from stockade.testing.steady import Steady
from stockade.wire.api import WorkloadsReply

pytestmark = [pytest.mark.real, pytest.mark.fault, pytest.mark.timeout(180)]
GOES_ON_WITHIN = 20.0
"""Seconds in which every flow has done something, on a machine that is busy."""
NEWBORN = bridged("newborn", "shop", app="shop", env="prod", role="web")
CONNECT = "import socket, sys; socket.create_connection((sys.argv[1], 8080), 1).close()"
NOT_ITS_OWN = Probe("newborn", "db-1", Protocol.UDP, 7101)


@asynccontextmanager
async def enforcing() -> AsyncIterator[tuple[Stage, Steady]]:
    """The shop, its policy applied, its traffic going on."""
    enter()
    async with stage(GROUND) as on:
        await told(on)
        await apply(on)
        async with Steady(on.lab, (*HELD, *DENIED)) as steady:
            await settle(steady)
            yield on, steady


@asynccontextmanager
async def rebooted() -> AsyncIterator[tuple[Stage, Steady]]:
    """The same; then nothing of Stockade lives, and the kernel has forgotten."""
    async with enforcing() as (on, steady):
        await killed(on)
        await end(*nft_helpers(on.state))
        await on.lab.run(on.lab.host_name, ["nft", "flush", "ruleset"])
        assert not await there(on.lab)
        yield on, steady


async def killed(on: Stage) -> None:
    assert on.server is not None
    on.server.kill()
    await on.server.wait(10)


async def settle(steady: Steady, pause: float = 0.5) -> tuple[list[str], list[str]]:
    """Let traffic run until all of it moved; return what passed that is denied, what was lost that is allowed."""
    deadline, moved = time.monotonic() + GOES_ON_WITHIN, set()
    leaked: dict[str, str] = {}
    cut: dict[str, str] = {}
    while True:
        await asyncio.sleep(pause)
        counts = await steady.told()
        leaked |= {each.partition(":")[0]: each for each in passed(counts)}
        cut |= {each.partition(":")[0]: each for each in lost(counts)}
        moved |= {each.flow for each in counts if each.done}
        if moved >= {each.flow for each in counts}:
            return list(leaked.values()), list(cut.values())
        assert time.monotonic() < deadline, "a flow stands still"


async def restore(on: Stage, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "stockade", *(words or ("restore",)), "--state", str(on.state)]
    done = await on.lab.run(on.lab.host_name, command)
    return subprocess.CompletedProcess(command, done.status, done.stdout, done.stderr)


def test_what_was_in_force_is_restored_without_a_server_and_up_adopts_it_without_a_gap() -> None:
    async def run() -> None:
        async with rebooted() as (on, steady):
            assert len((await settle(steady))[0]) == len(DENIED), "without tables, what is denied passes"
            done = await restore(on)
            assert done.returncode == Exit.DONE, done
            assert "is in force again" in done.stderr
            assert await judging(on.lab)
            assert await owned(on.lab), "the tables are held after the command has ended"
            await settle(steady)  # what arrived before it was in force
            assert await settle(steady, 1.0) == ([], [])
            await on.lab.add(NEWBORN)
            await newborn(on, admitted=False)
            assert "was in force already" in (await restore(on)).stderr
            await on.start()
            await on.answering()
            on.tell_all()
            await known(on, "newborn")
            await newborn(on, admitted=True)
            assert "`stockade up` runs" in (await restore(on)).stderr
            assert await settle(steady) == ([], [])

    asyncio.run(run())


async def newborn(on: Stage, *, admitted: bool) -> None:
    """What it may do it can once it is admitted; what it may not, never."""
    done = await on.lab.run("newborn", [sys.executable, "-c", CONNECT, on.lab.address("api-1")])
    assert (done.status == 0) is admitted, done
    assert not (await on.lab.probe([NOT_ITS_OWN], patience=0.5))[0].delivered


async def known(on: Stage, name: str) -> None:
    """Wait until a workload is known and what follows of it is in force."""
    deadline = asyncio.get_running_loop().time() + 20
    while name not in {each.name for each in on.client.call("workloads", WorkloadsReply).workloads}:
        assert asyncio.get_running_loop().time() < deadline, "it is never known"
        await asyncio.sleep(0.05)
    await on.settled(0, 0)


def test_what_came_into_force_after_what_was_kept_stays_in_force() -> None:
    async def run() -> None:
        async with enforcing() as (on, steady):
            kept = on.state / "assignment"
            older = kept.read_bytes()
            await on.lab.add(NEWBORN)
            on.tell_all()
            await known(on, "newborn")
            await newborn(on, admitted=True)
            await killed(on)
            kept.write_bytes(older)  # as if it had been killed before the disk had taken what it put into force
            done = await restore(on)
            assert done.returncode == Exit.ERROR
            assert "after what was kept" in done.stderr
            await newborn(on, admitted=True)
            await on.start()
            await on.answering()
            on.tell_all()
            await known(on, "newborn")
            await newborn(on, admitted=True)
            assert "assignment-superseded" in (on.state / "up.log").read_text()
            assert kept.read_bytes() != older
            assert await settle(steady) == ([], [])

    asyncio.run(run())


def test_a_host_that_was_opened_stays_open() -> None:
    async def run() -> None:
        async with rebooted() as (on, _):
            assert (await restore(on, "off", "--local")).returncode == Exit.DONE
            done = await restore(on)
            assert done.returncode == Exit.DONE
            assert "stays open" in done.stderr
            assert not await there(on.lab)

    asyncio.run(run())


def test_what_was_kept_and_cannot_be_read_is_said_and_changes_nothing() -> None:
    async def run() -> None:
        async with rebooted() as (on, _):
            (on.state / "assignment").write_bytes(b"\xc1" * 100)
            done = await restore(on)
            assert done.returncode == Exit.ERROR
            assert "damaged, or another version" in done.stderr
            assert "Traceback" not in done.stderr
            assert not await there(on.lab)
            (on.state / "assignment").unlink()
            done = await restore(on)
            assert done.returncode == Exit.DONE
            assert "keeps no assignment" in done.stderr
            assert not await there(on.lab)

    asyncio.run(run())
