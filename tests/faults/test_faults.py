"""One fault at a time, under steady traffic: what holds meanwhile, what the user is told, and how it ends."""

import asyncio
import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from faults import (
    DENIED,
    EXTRA_RULE,
    GROUND,
    HELD,
    TEMPORARY,
    apply,
    end,
    lost,
    owned,
    passed,
    there,
    told,
)
from stockade.cli.client import Refused
from stockade.cli.demo import shop_files
from stockade.cli.demo_stage import Stage, stage
from stockade.cli.exits import Exit
from stockade.core.model.net import Protocol
from stockade.testing.lab import bridged, enter
from stockade.testing.probe.values import Probe
from stockade.testing.processes import nft_helpers
from stockade.testing.steady import Steady
from stockade.wire.api import (
    ApplyRequest,
    File,
    LabelsRequest,
    StatusReply,
    VersionReply,
    WorkloadReply,
    WorkloadsReply,
)

pytestmark = [pytest.mark.real, pytest.mark.fault, pytest.mark.timeout(120)]
SOON = 10.0
NEWBORN = bridged("newborn", "shop", app="shop", env="prod", role="web")
NO_ROOM = "there is no room left for the database: database or disk is full"
NOT_ITS_OWN = Probe("newborn", "db-1", Protocol.UDP, 7101)
CONNECT = "import socket, sys; socket.create_connection((sys.argv[1], 8080), 1).close()"


@asynccontextmanager
async def enforced(under: str | None = None) -> AsyncIterator[tuple[Stage, Steady]]:
    """The shop with its policy in force and steady traffic; at the end nothing denied has passed, nothing was cut."""
    enter()
    async with stage(GROUND, under) as on:
        await told(on)
        await apply(on)
        async with Steady(on.lab, (*HELD, *DENIED)) as steady:
            await asyncio.sleep(0.2)
            yield on, steady
            await holds(steady)


async def holds(steady: Steady) -> None:
    """Nothing denied has arrived, everything allowed has gone on."""
    await asyncio.sleep(0.2)
    counts = await steady.told()
    assert not passed(counts)
    assert not lost(counts)
    assert all(each.done for each in counts)


async def until(happens: Callable[[], object], within: float = SOON) -> None:
    """Wait until something is so; it may fail until then."""
    deadline = time.monotonic() + within
    while not await asyncio.to_thread(happens):
        assert time.monotonic() < deadline, "it did not happen"
        await asyncio.sleep(0.05)


async def cli(on: Stage, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command of Stockade on the host, and return what its user sees."""
    done = await on.lab.run(on.lab.host_name, [sys.executable, "-m", "stockade", *words, "--state", str(on.state)])
    return subprocess.CompletedProcess(words, done.status, done.stdout, done.stderr)


async def newborn(on: Stage, *, known: bool) -> None:
    """What the newborn may do it can once it is known; before that nothing, and what it may not, never."""
    done = await on.lab.run("newborn", [sys.executable, "-c", CONNECT, on.lab.address("api-1")])
    assert (done.status == 0) is known, done
    assert not (await on.lab.probe([NOT_ITS_OWN], patience=0.5))[0].delivered


async def newborn_is_known(on: Stage) -> None:
    """Wait until it is, and its policy in force; then see it."""
    await until(lambda: any(each.name == "newborn" for each in on.client.call("workloads", WorkloadsReply).workloads))
    await on.settled(0, 0)
    await newborn(on, known=True)


def status(on: Stage) -> StatusReply:
    return on.client.call("status", StatusReply)


def test_a_helper_that_is_killed_is_replaced_at_once_and_its_tables_are_held_again() -> None:
    async def run() -> None:
        async with enforced() as (on, steady):
            before = nft_helpers(on.state)
            assert await owned(on.lab)
            await end(*before)
            began = time.monotonic()
            while not await owned(on.lab):
                assert time.monotonic() < began + 1.0, "nobody holds the tables"
            assert nft_helpers(on.state) != before
            await holds(steady)

    asyncio.run(run())


def test_a_helper_that_is_killed_leaves_its_tables_to_its_deputy() -> None:
    async def run() -> None:
        async with enforced() as (on, steady):
            await until(lambda: len(nft_helpers(on.state)) == 3)
            helper, spare, deputy = nft_helpers(on.state)
            await end(helper)
            assert await owned(on.lab), "the tables were held by two"
            await on.lab.run(on.lab.host_name, ["nft", "flush", "ruleset"])
            assert await there(on.lab)
            await until(lambda: len(nft_helpers(on.state)) == 3)
            assert {spare, deputy} < set(nft_helpers(on.state))
            await holds(steady)

    asyncio.run(run())


def test_where_helper_and_deputy_are_killed_their_spare_begins_another_and_what_was_changed_is_put_right() -> None:
    async def run() -> None:
        async with enforced() as (on, steady):
            await until(lambda: len(nft_helpers(on.state)) == 3)
            helper, spare, deputy = nft_helpers(on.state)
            await end(helper, deputy)
            await on.lab.run(on.lab.host_name, ["nft", "flush", "ruleset"])
            await until(lambda: len(nft_helpers(on.state)) == 3)
            assert spare in nft_helpers(on.state)
            await on.settled(1, 0)
            assert await owned(on.lab)
            assert await there(on.lab)
            counts = await steady.told()
            assert all(each.done for each in counts)

    asyncio.run(run())


def test_a_flush_of_everything_leaves_what_is_owned() -> None:
    async def run() -> None:
        async with enforced() as (on, steady):
            await on.lab.run(on.lab.host_name, ["nft", "flush", "ruleset"])
            await asyncio.sleep(0.5)
            assert await there(on.lab)
            await holds(steady)

    asyncio.run(run())


def test_while_the_agent_stands_still_the_newborn_waits_and_the_rest_goes_on() -> None:
    async def run() -> None:
        async with enforced() as (on, steady):
            assert on.server is not None
            on.server.send_signal(signal.SIGSTOP)
            try:
                await on.add(NEWBORN)
                await newborn(on, known=False)
                await holds(steady)
            finally:
                on.server.send_signal(signal.SIGCONT)
            await newborn_is_known(on)

    asyncio.run(run())


def test_a_second_up_on_the_same_state_is_refused_and_the_first_goes_on() -> None:
    async def run() -> None:
        async with enforced() as (on, steady):
            pid = status(on).pid
            done = await cli(on, "up", "--no-docker")
            assert done.returncode not in (0, None)
            assert "Traceback" not in done.stderr
            assert str(pid) in done.stderr
            assert status(on).pid == pid
            await holds(steady)

    asyncio.run(run())


def test_a_damaged_database_is_said_and_leaves_in_force_what_is() -> None:
    async def run() -> None:
        async with enforced() as (on, steady):
            await crash(on)
            for each in on.state.glob("stockade.db-*"):
                each.unlink()
            database = on.state / "stockade.db"
            database.write_bytes(b"?" * 4096)
            done = await cli(on, "up", "--no-docker")
            assert done.returncode == Exit.ERROR
            assert "the database file is damaged" in done.stderr
            assert "Traceback" not in done.stderr
            assert await there(on.lab)
            await holds(steady)
            database.unlink()  # as the error says: move it away, apply the policy again
            await on.start()
            await on.answering()
            on.tell_all()
            await until(lambda: "remove the file `assignment`" in str(status(on).hosts))
            await until(lambda: len(on.client.call("workloads", WorkloadsReply).workloads) > len(on.names) - 1)
            request = ApplyRequest(files=tuple(shop_files()), note="again", yes=True, wait=0)
            await asyncio.to_thread(on.client.call, "apply", VersionReply, request)
            await holds(steady)
            await on.stop()
            (on.state / "assignment").unlink()
            await again(on)

    asyncio.run(run())


def test_a_damaged_assignment_costs_a_restart_its_head_start_and_nothing_else() -> None:
    async def run() -> None:
        async with enforced() as (on, steady):
            await crash(on)
            (on.state / "assignment").write_bytes(b"\xc1" * 100)
            await again(on)
            await holds(steady)

    asyncio.run(run())


async def crash(on: Stage) -> None:
    assert on.server is not None
    on.server.kill()
    await on.server.wait(SOON)


async def again(on: Stage) -> None:
    await on.start()
    await on.answering()
    await on.settled(0, 0)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A disk of 6 MiB."""
    enter()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "small", str(tmp_path)], check=True)
    yield tmp_path
    subprocess.run(["umount", str(tmp_path)], check=True)


def fill(disk: Path) -> Path:
    """Leave no byte free; return the file to remove again."""
    filler = disk / "filler"
    with filler.open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(4096)):
            pass
    return filler


async def until_refused(change: Callable[[int], Awaitable[object]]) -> tuple[int, Refused]:
    """Change something until there is no room; return the last that was acknowledged, and the refusal."""
    for number in range(1000):
        try:
            await change(number)
        except Refused as problem:
            return number - 1, problem
    raise AssertionError("there is room for everything")


def test_a_full_disk_refuses_what_cannot_be_kept_and_enforces_on(small: Path) -> None:
    async def run() -> None:
        async with enforced(str(small)) as (on, steady):

            async def relabel(number: int) -> None:
                request = LabelsRequest(labels={"app": "extra", "team": f"v{number}"})
                await asyncio.to_thread(on.client.call, "set-labels", WorkloadReply, request, workload=TEMPORARY)

            async def draft(number: int) -> None:
                await apply(on, File("extra.yaml", EXTRA_RULE % (20_000 + number)))

            await relabel(-1)
            filler = fill(small)
            team, problem = await until_refused(relabel)
            assert (problem.message, "Free some space" in problem.remedy) == (NO_ROOM, True)
            await until_refused(draft)
            await on.add(NEWBORN)
            await newborn(on, known=False)
            shown = await cli(on, "status")
            assert shown.returncode == Exit.LOOK
            assert f"not stored: {NO_ROOM}" in shown.stdout
            await holds(steady)
            version = status(on).version
            filler.unlink()
            await newborn_is_known(on)
            assert (status(on).version, status(on).unstored) == (version, "")
            found = on.client.call("workloads", WorkloadsReply).workloads
            assert ("team", f"v{team}") in [(label.key, label.value) for each in found for label in each.labels]
            assert "Traceback" not in (on.state / "up.log").read_text()

    asyncio.run(run())


def test_off_opens_everything_with_a_full_disk_under_it_and_is_audited_later(small: Path) -> None:
    async def run() -> None:
        enter()
        async with stage(GROUND, str(small)) as on:
            await told(on)
            await apply(on)
            denied = Probe("intruder", "db-1", Protocol.UDP, 7001)
            assert not (await on.lab.probe([denied]))[0].delivered
            filler = fill(small)
            done = await cli(on, "off", "--note", "no room")
            assert done.returncode == 0, done.stderr
            assert "was ended" in done.stdout
            assert "no room left" in done.stderr
            assert (await on.lab.probe([denied]))[0].delivered
            filler.unlink()
            assert on.server is not None
            await on.server.wait(SOON)
            await again(on)
            assert (await on.lab.probe([denied]))[0].delivered
            assert "no room" in status(on).note

    asyncio.run(run())
