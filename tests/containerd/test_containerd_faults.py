"""A daemon that dies, hangs, restarts; shims that hang; events that never come; pids that are others' by now."""

import asyncio
import itertools
import os
import signal
import subprocess
import tempfile
from pathlib import Path

import pytest

from stockade.adapters.containerd import ContainerdSettings, session
from stockade.core.model.inventory import WorkloadState
from stockade.seams.runtime import Listed, Lost
from stockade.testing.containerd import FOREVER, IMAGE, Containerd

pytestmark = [pytest.mark.real, pytest.mark.fault]

CREATED, RUNNING, STOPPED = WorkloadState.CREATED, WorkloadState.RUNNING, WorkloadState.STOPPED
aside = asyncio.to_thread


def kinds(told) -> list[type]:
    """What kinds of event were told, runs of the same squashed."""
    return [kind for kind, _ in itertools.groupby(map(type, told.told))]


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_what_runs_outlives_the_daemon(containerd, follow, end):
    async def test() -> None:
        await aside(containerd.run, "web")
        pod = await aside(lambda: containerd.pods.run("shop"))
        main = await aside(lambda: containerd.pods.create(pod, "main", IMAGE, FOREVER))
        await aside(containerd.pods.start, main)
        async with follow(containerd) as told:
            before = {name: told[name] for name in told.named()}
            assert set(before) == {"web", "shop", "main"}
            await aside(getattr(containerd, end))
            await told.until(lambda told: told.lost)
            assert "containerd" in told.lost
            assert {name: told[name] for name in told.named()} == before, (
                "what was told stays true until it lists again"
            )
            count = len(told.told)
            await asyncio.sleep(1.5)
            assert len(told.told) <= count + 1, "the same loss is not told again and again"
            await aside(containerd.start)
            await told.until(lambda told: not told.lost)
            await told.quiet(1)
            assert {name: told[name] for name in told.named()} == before
            assert kinds(told) == [Listed, Lost, Listed]
            await aside(containerd.run, "late")
            await told.until(lambda told: told["late"].endpoints)

    asyncio.run(test())


def test_what_happened_while_the_daemon_was_away(containerd, follow):
    async def test() -> None:
        pids = {name: await aside(containerd.run, name) for name in ("kept", "died")}
        async with follow(containerd) as told:
            kept = told["kept"]
            containerd.kill()
            await told.until(lambda told: told.lost)
            os.kill(pids["died"], signal.SIGKILL)
            await asyncio.sleep(1)
            await aside(containerd.start)
            await told.until(lambda told: not told.lost)
            await told.until(lambda told: told["died"].state is STOPPED)
            assert told["died"].endpoints == ()
            assert told["kept"] == kept

    asyncio.run(test())


def test_what_happened_while_the_line_was_cut(containerd, follow, wire):
    async def test() -> None:
        await wire.join()
        for name in ("kept", "stopped", "removed", "recreated"):
            await aside(containerd.run, name)
        async with follow(containerd, socket=wire.path) as told:
            before = {name: told.named()[name] for name in told.named()}
            await wire.cut()
            await told.until(lambda told: told.lost)
            await aside(containerd.ctr, "tasks", "kill", "--signal", "SIGKILL", "stopped")
            await aside(containerd.remove, "removed", "recreated")
            await aside(containerd.run, "recreated", "--label", "new=yes")
            await aside(lambda: containerd.run("born", namespace="elsewhere"))
            await wire.join()
            await told.until(lambda told: not told.lost)
            await told.quiet()
            assert set(told.named()) == {"kept", "stopped", "recreated", "born"}
            assert told["kept"] == before["kept"].sighting
            assert told["stopped"].state is STOPPED
            assert ("new", "yes") in told["recreated"].facts.labels
            assert told["recreated"].created > before["recreated"].sighting.created
            assert told.named()["recreated"].marks != before["recreated"].marks
            assert told["born"].endpoints
        await wire.cut()

    asyncio.run(test())


def test_a_daemon_that_hangs(containerd, follow):
    async def test() -> None:
        await aside(containerd.run, "web")
        async with follow(containerd, settings=ContainerdSettings(answer=2, heartbeat=0.5, last_retry=0.5)) as told:
            before = told["web"]
            containerd.freeze()
            try:
                await told.until(lambda told: told.lost)
                assert told.lost == "containerd did not answer within 2 s"
                assert told["web"] == before
            finally:
                containerd.thaw()
            await told.until(lambda told: not told.lost)
            await told.quiet()
            assert told["web"] == before
            assert kinds(told) == [Listed, Lost, Listed]

    asyncio.run(test())


def test_no_containerd_yet(containerd, follow):
    async def test() -> None:
        with tempfile.TemporaryDirectory(prefix="stk") as folder:
            path = Path(folder) / "containerd.sock"
            async with follow(containerd, socket=str(path)) as told:
                assert told.lost == f"no containerd listens at {path}"
                path.symlink_to(containerd.socket)
                await told.until(lambda told: not told.lost)
                assert kinds(told) == [Lost, Listed]

    asyncio.run(test())


def test_events_that_never_come_are_made_up_for(containerd, follow, monkeypatch):
    monkeypatch.setattr(session, "FILTERS", ('topic=="/nothing/ever"',))

    async def test() -> None:
        for name in ("old", "stopped"):
            await aside(containerd.run, name)
        async with follow(containerd, settings=ContainerdSettings(settle=0.5, resync=1)) as told:
            await aside(containerd.run, "silent")
            await aside(containerd.remove, "old")
            await aside(containerd.ctr, "tasks", "kill", "--signal", "SIGKILL", "stopped")
            await told.until(lambda told: told["silent"].endpoints and told["silent"].state is RUNNING)
            await told.until(lambda told: told["stopped"].state is STOPPED and "old" not in told.named())
            await told.quiet()
            count = len(told.told)
            await asyncio.sleep(3)
            assert len(told.told) == count, "listing again tells nothing twice"

    asyncio.run(test())


def test_a_link_that_comes_to_one_that_runs(containerd, follow):
    """Nobody tells of it but the kernel: places are looked at again with each listing."""

    async def test() -> None:
        pid = await aside(lambda: containerd.run("web", cni=False))
        async with follow(containerd, settings=ContainerdSettings(settle=0.5, resync=1)) as told:
            assert told["web"].endpoints == ()
            lines = (
                f"ip link add later0 type veth peer name eth0 netns {pid}",
                "ip link set later0 up",
                f"nsenter --net=/proc/{pid}/ns/net ip address add 10.9.8.7/24 dev eth0",
            )
            await aside(containerd.on_host, "sh", "-ec", "\n".join(lines))
            await told.until(lambda told: told["web"].endpoints and told["web"].endpoints[0].addresses == ("10.9.8.7",))
            assert told["web"].endpoints[0].port == "later0"
            await aside(
                containerd.on_host, *containerd.within(pid), "ip", "address", "add", "10.9.8.8/24", "dev", "eth0"
            )
            await told.until(lambda told: len(told["web"].endpoints[0].addresses) == 2)

    asyncio.run(test())


def test_a_shim_that_hangs_changes_nothing(containerd, follow):
    async def test() -> None:
        pid = await aside(containerd.run, "web")
        await aside(containerd.run, "other")
        shim = parent_of(pid)
        async with follow(
            containerd, settings=ContainerdSettings(answer=2, settle=0.5, resync=1, patience=0.3)
        ) as told:
            before = told["web"]
            os.kill(shim, signal.SIGSTOP)
            try:
                await asyncio.sleep(6)
                assert told["web"] == before
                await aside(containerd.run, "born")
                await told.until(lambda told: told["born"].endpoints)
                async with follow(containerd, settings=ContainerdSettings(answer=2)) as newcomer:
                    assert newcomer["other"].endpoints
                    assert newcomer["web"].state is CREATED
                    os.kill(shim, signal.SIGCONT)
                    await newcomer.until(lambda told: told["web"] == before)
            finally:
                os.kill(shim, signal.SIGCONT)
            await told.quiet()
            assert told["web"] == before
            assert kinds(told)[0] is Listed
            assert Lost not in kinds(told)

    asyncio.run(test())


def reuse(pid: int) -> "subprocess.Popen[bytes]":
    """Start a process under a pid that has just become free, in a network namespace of its own."""
    for _ in range(200):
        Path("/proc/sys/kernel/ns_last_pid").write_text(str(pid - 1))
        process = subprocess.Popen(["unshare", "-n", "sleep", "1000"])
        if process.pid == pid:
            return process
        process.kill()
        process.wait()
    pytest.fail(f"pid {pid} was not to be had")


@pytest.mark.parametrize("away", [False, True])
def test_a_pid_that_is_somebody_elses_by_now(containerd, follow, away):
    async def test() -> None:
        pid = await aside(containerd.run, "web")
        async with follow(containerd, settings=ContainerdSettings(answer=2, heartbeat=0.5, last_retry=0.5)) as told:
            mark = told.named()["web"].marks[-1]
            containerd.freeze()
            if away:
                await told.until(lambda told: told.lost)
            os.kill(pid, signal.SIGKILL)
            while Path(f"/proc/{pid}").exists():  # its shim, which lives, takes note of its end
                await asyncio.sleep(0.05)
            other = reuse(pid)
            try:
                containerd.thaw()
                await told.until(lambda told: not told.lost and told["web"].state is STOPPED)
                await told.quiet(1)
                assert told["web"].endpoints == ()
                assert told.named()["web"].marks == ("container:web",)
                assert all(mark in each.marks or len(each.marks) == 1 for each in told.about("web"))
            finally:
                other.kill()
                other.wait()

    asyncio.run(test())


def test_thirty_at_once(containerd: Containerd, follow):
    async def test() -> None:
        names = [f"c{index:02}" for index in range(30)]
        await aside(containerd.run, "first")
        async with follow(containerd) as told:
            free = asyncio.Semaphore(10)

            async def start(name: str) -> int:
                async with free:
                    return await aside(containerd.run, name)

            pids = await asyncio.gather(*map(start, names))
            await told.until(
                lambda told: all(told[name].endpoints and told[name].state is RUNNING for name in names), 60
            )
            marks = [told.named()[name].marks[-1] for name in names]
            ports = {told[name].endpoints[0].port for name in names}
            assert len(set(pids)) == len(set(marks)) == len(ports) == 30
            addresses = {address for name in names for address in told[name].endpoints[0].addresses}
            assert len(addresses) == 60
            for name in names:
                assert told.about(name)[0].sighting.state is CREATED
            await aside(containerd.remove, *names)
            await told.until(lambda told: set(told.named()) == {"first"}, 60)

    asyncio.run(test())
