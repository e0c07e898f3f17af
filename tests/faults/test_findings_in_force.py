"""What a stranger does on a host under ``stockade up`` reaches the operator, goes again, and stays in the log."""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable

import pytest

from faults import GROUND, apply, end, judging, told
from stockade.cli.demo_stage import Stage, stage
from stockade.testing.lab import enter
from stockade.testing.processes import nft_helpers
from stockade.wire.api import AuditReply, FindingsReply, HostFinding, StatusReply

pytestmark = [pytest.mark.fault, pytest.mark.real, pytest.mark.timeout(300)]
PATIENCE = 60.0


def in_force(scenario: Callable[[Stage], Awaitable[None]]) -> None:
    """Run a scenario on a stage where the shop's policy is in force and everything was looked at once."""

    async def run() -> None:
        async with stage(GROUND) as on:
            await told(on)
            await apply(on)
            await until(on, lambda reply: {each.check for each in reply.unassessed} >= {"hooks"})
            await scenario(on)

    enter()
    asyncio.run(run())


async def until(on: Stage, holds: Callable[[FindingsReply], bool]) -> FindingsReply:
    deadline = time.monotonic() + PATIENCE
    while True:
        reply = await asyncio.to_thread(on.client.call, "findings", FindingsReply)
        if holds(reply):
            return reply
        assert time.monotonic() < deadline, reply
        await asyncio.sleep(0.05)


def of(reply: FindingsReply, check: str) -> list[HostFinding]:
    return [each for each in reply.findings if each.check == check]


async def logged(on: Stage, check: str) -> list[tuple[str, str]]:
    """Return (action, detail) of each time that a check found something, oldest first."""
    reply = await asyncio.to_thread(on.client.call, "audit", AuditReply, last=200)
    found = [each for each in reply.entries[::-1] if f": {check}: " in each.target]
    return [(each.action, each.detail) for each in found]


async def command(on: Stage, *words: str) -> tuple[int, str]:
    """Run a verb against the stage's server; return its exit code and what it printed."""
    socket = str(on.state / "api.sock")
    done = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "stockade", *words, "--socket", socket, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await done.communicate()
    return done.returncode or 0, out.decode()


def test_a_stranger_s_table_is_raised_shown_and_cleared() -> None:
    async def scenario(on: Stage) -> None:
        table = "table ip stranger { chain c { type filter hook prerouting priority -400; ip saddr set 10.0.0.1\n}\n}\n"
        await on.lab.nft(table)
        reply = await until(on, lambda reply: bool(of(reply, "rewritten-packets")))
        (finding,) = of(reply, "rewritten-packets")
        assert (finding.object, finding.severity.value) == ("ip stranger c", "high")
        code, text = await command(on, "findings")
        assert code == 2
        assert "rewritten-packets" in text
        assert "do: " in text
        code, text = await command(on, "status")
        assert code == 2
        assert "Findings" in text
        status = await asyncio.to_thread(on.client.call, "status", StatusReply)
        assert {each.value: count for each, count in status.findings}["high"] >= 1
        await on.lab.nft("delete table ip stranger\n")
        await until(on, lambda reply: not of(reply, "rewritten-packets"))
        assert [action for action, _ in await logged(on, "rewritten-packets")] == ["raise", "clear"]

    in_force(scenario)


def test_who_changed_our_tables_is_named_and_they_are_put_right() -> None:
    """Their holder is killed, and before there is another one somebody flushes everything."""

    async def scenario(on: Stage) -> None:
        assert await judging(on.lab)
        await _flushed(on)
        reply = await until(on, lambda reply: any("put right" in each.seen for each in of(reply, "own-tables")))
        (finding,) = of(reply, "own-tables")
        assert finding.severity.value == "high"
        assert "nft (process " in finding.seen
        assert await judging(on.lab)
        await until(on, lambda reply: not of(reply, "own-tables"))
        actions = [action for action, _ in await logged(on, "own-tables")]
        assert actions == ["raise", "clear"] * (len(actions) // 2)
        assert all("nft (process " in detail for _, detail in await logged(on, "own-tables"))

    in_force(scenario)


async def _flushed(on: Stage) -> None:
    """Flush the host's ruleset while nobody holds our tables: as often as it takes to come first."""
    for _ in range(50):
        await end(*nft_helpers(on.state))
        done = await on.lab.run(on.lab.host_name, ["nft", "delete", "table", "inet", "stockade"])
        if done.status == 0:
            return
        await asyncio.sleep(0.2)
    raise AssertionError("the holder was always there first")


def test_a_file_of_ours_that_others_may_write_is_raised_and_cleared() -> None:
    async def scenario(on: Stage) -> None:
        database = on.state / "stockade.db"
        kept = [each for each in on.state.iterdir() if each.name.startswith(("stockade.db", "assignment", "nft.sock"))]
        assert kept
        assert not [each for each in kept if each.stat().st_mode & 0o077], "what we make is ours alone"
        database.chmod(0o666)
        reply = await until(on, lambda reply: str(database) in {each.object for each in of(reply, "file-modes")})
        assert any("0666" in each.seen for each in of(reply, "file-modes"))
        database.chmod(0o600)
        await until(on, lambda reply: str(database) not in {each.object for each in of(reply, "file-modes")})

    in_force(scenario)
