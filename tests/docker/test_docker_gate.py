"""The birth gate in a real engine: what could not be contained is not started, and Docker says why."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from test_docker_contained import POLICY, shop

from contained import Contained, contained
from stockade.testing.engine import Engine, EngineError
from stockade.wire.api import BirthsReply, WorkloadsReply

pytestmark = [pytest.mark.docker, pytest.mark.timeout(180)]

DAEMON = "/etc/docker/daemon.json"
MINE = '{"debug": false}'


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "small", str(tmp_path)], check=True)
    try:
        yield tmp_path
    finally:
        subprocess.run(["umount", "-l", str(tmp_path)], check=True)


def runtimes(engine: Engine) -> tuple[str, set[str]]:
    told = json.loads(engine.docker("info", "--format", "{{json .}}"))
    return told["DefaultRuntime"], set(told["Runtimes"])


async def gated(on: Contained) -> None:
    """Put the gate in, as its user does, and have Docker heed it."""
    done = await asyncio.to_thread(on.cli, "gate", "install", "docker", "--yes")
    assert done.returncode == 2, done.stderr
    on.engine.reload()
    await on.until(lambda: runtimes(on.engine)[0] == "stockade")


async def ungated(engine: Engine) -> None:
    """Leave the engine to the next test as it was; it need not start anew for that."""
    engine.on_host("sh", "-c", f"""echo '{{"default-runtime": "runc"}}' > {DAEMON}""")
    engine.reload()
    while runtimes(engine)[0] != "runc":
        await asyncio.sleep(0.05)
    engine.on_host("rm", DAEMON)


@contextlib.asynccontextmanager
async def guarded(engine: Engine, state: Path, *policies: str) -> AsyncIterator[Contained]:
    """A host with the gate in its engine, where births are held if the policy says so."""
    async with contained(engine, state) as on:
        await on.until(on.in_force)
        if policies:
            await on.apply(*policies)
        await gated(on)
        try:
            yield on
        finally:
            engine.clear()
            await ungated(engine)


async def killed(on: Contained) -> None:
    assert on.process is not None
    on.process.kill()
    await asyncio.to_thread(on.process.wait, 10)


async def again(on: Contained) -> None:
    on.start()
    await on.answering()
    await on.until(on.in_force)


async def started(engine: Engine, name: str) -> None:
    await asyncio.to_thread(engine.run, name, *shop("web"))


async def refused(engine: Engine, name: str) -> str:
    """Start a container that must not start; return Docker's error on one line."""
    with pytest.raises(EngineError) as told:
        await asyncio.to_thread(engine.run, name, *shop("web"))
    assert engine.inspect(name)["State"]["Pid"] == 0
    return " ".join(str(told.value).split())


def test_where_the_agent_agrees_it_starts_with_its_place_already_known(engine, state):
    async def run() -> None:
        async with guarded(engine, state, POLICY) as on:
            await started(engine, "web-1")
            await on.known(["web-1"])
            born = engine.inspect("web-1")
            assert born["HostConfig"]["Runtime"] == "stockade"
            sources = {each.name: each for each in on.client.call("workloads", WorkloadsReply).workloads}
            assert sources["web-1"].state == "running"
            (record,) = on.client.call("births", BirthsReply, workload="web-1").births
            assert record.leak == 0.0
            assert "Traceback" not in on.said()

    asyncio.run(run())


def test_while_the_agent_is_dead_nothing_is_born_and_docker_says_why(engine, state):
    async def run() -> None:
        async with guarded(engine, state, POLICY) as on:
            await killed(on)
            reason = await refused(engine, "web-1")
            assert "stockade: not started: the agent does not run, and this host holds unknown workloads" in reason
            assert "(births: hold, 0.yaml:5)" in reason
            await again(on)
            engine.docker("start", "web-1")
            await on.known(["web-1"])

    asyncio.run(run())


def test_an_agent_that_stands_still_is_not_waited_for(engine, state):
    async def run() -> None:
        async with guarded(engine, state, POLICY) as on:
            assert on.process is not None
            os.kill(on.process.pid, signal.SIGSTOP)
            try:
                assert "the agent did not answer in time" in await refused(engine, "web-1")
            finally:
                os.kill(on.process.pid, signal.SIGCONT)
            engine.docker("start", "web-1")
            await on.known(["web-1"])

    asyncio.run(run())


def test_where_births_pass_no_fault_of_ours_keeps_anything_from_starting(engine, state):
    async def run() -> None:
        async with guarded(engine, state) as on:
            assert on.process is not None
            os.kill(on.process.pid, signal.SIGSTOP)
            try:
                await started(engine, "web-1")
            finally:
                os.kill(on.process.pid, signal.SIGCONT)
            await killed(on)
            await started(engine, "web-2")
            await again(on)
            await on.known(["web-1", "web-2"])

    asyncio.run(run())


def test_what_cannot_be_written_down_is_not_born(small):
    """An engine of its own, since its mounts are those that were there when it began."""

    async def run() -> None:
        async with Engine() as engine, guarded(engine, small, POLICY) as on:
            filling = small / "filling"
            with contextlib.suppress(OSError), filling.open("wb") as file:
                while True:
                    file.write(bytes(65536))
            # Docker tells of a container before it starts it: by then that could not be written down, or soon after.
            await on.until(lambda: _is_refused(engine))
            reason = await refused(engine, "web-1")
            assert "it cannot be written down (there is no room left" in reason
            filling.unlink()
            await on.until(lambda: _starts(engine, "web-1"))
            await on.known(["web-1"])

    asyncio.run(run())


def _is_refused(engine: Engine) -> bool:
    with contextlib.suppress(EngineError):
        engine.remove("first")
    with contextlib.suppress(EngineError):
        engine.run("first", *shop("web"))
        return False
    return True


def _starts(engine: Engine, name: str) -> bool:
    with contextlib.suppress(EngineError):
        engine.docker("start", name)
        return True
    return False


def test_taken_out_docker_is_what_it_was(engine, state):
    async def run() -> None:
        async with contained(engine, state) as on:
            engine.on_host("sh", "-c", f"mkdir -p /etc/docker && printf '%s' '{MINE}' > {DAEMON}")
            before = runtimes(engine)
            await gated(on)
            assert runtimes(engine)[0] == "stockade"
            assert on.cli("gate", "status").returncode == 0
            await started(engine, "web-1")
            done = on.cli("gate", "remove", "docker", "--yes")
            assert "keep its name" in done.stderr
            engine.reload()
            await on.until(lambda: runtimes(engine)[0] == "runc")
            await killed(on)
            engine.docker("restart", "-t", "0", "web-1")
            assert engine.inspect("web-1")["HostConfig"]["Runtime"] == "stockade"
            engine.clear()
            assert on.cli("gate", "remove", "docker", "--yes").returncode == 2
            engine.restart()
            default, known = runtimes(engine)
            assert default == before[0]
            assert "stockade" not in known
            assert json.loads(engine.on_host("cat", DAEMON))["debug"] is False
            engine.on_host("rm", DAEMON)

    asyncio.run(run())
