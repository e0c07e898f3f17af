"""Podman's events fail, its log is cut, it cannot be asked, we die: nothing stays wrong and nothing is left behind."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stockade.core.model.inventory import WorkloadState
from stockade.seams.runtime import Listed, Lost
from stockade.testing.podman import Podman, PodmanOptions

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]


async def aside(call, *words, **named):
    return await asyncio.to_thread(call, *words, **named)


def listeners(podman: Podman) -> list[int]:
    """The processes that listen to this Podman's events."""
    machine = Path(f"/proc/{podman.host_pid}/ns/net").readlink()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (folder / "cmdline").read_bytes().split(b"\0")
            if words[1:3] == [b"events", b"--stream"] and (folder / "ns" / "net").readlink() == machine:
                found.append(int(folder.name))
    return sorted(found)


def test_what_happened_while_nobody_told(podman, follow):
    """The events stop, and then end: what changed meanwhile is told, by their file or after, and nothing else."""

    async def test() -> None:
        for name in ("stays", "goes", "stops"):
            await aside(podman.run, name)
        async with follow(podman) as told:
            await told.until(lambda t: all(t[name].endpoints for name in ("stays", "goes", "stops")))
            (pid,) = listeners(podman)
            os.kill(pid, signal.SIGSTOP)
            await aside(podman.remove, "goes")
            await aside(podman.podman, "stop", "-t", "0", "stops")
            await aside(podman.run, "comes")
            os.kill(pid, signal.SIGKILL)
            await told.until(lambda t: any(isinstance(event, Lost) for event in t.told))
            await told.until(lambda t: set(t.named()) == {"stays", "stops", "comes"})
            await told.until(lambda t: t["stops"].state is WorkloadState.STOPPED and t["comes"].endpoints)
            lost = next(n for n, event in enumerate(told.told) if isinstance(event, Lost))
            assert "stopped telling its events" in told.told[lost].reason
            await told.until(lambda t: any(isinstance(event, Listed) for event in t.told[lost:]))
            assert not told.lost
            await aside(podman.run, "later")
            await told.until(lambda t: t["later"].endpoints)

    asyncio.run(test())


def test_who_does_not_wait_for_the_events_is_told_by_their_file(podman, follow):
    """The program that tells of events stands still; each is told all the same, and once when it goes on."""

    async def test() -> None:
        async with follow(podman) as told:
            await aside(podman.run, "first")
            await told.until(lambda t: t["first"].endpoints)
            (pid,) = listeners(podman)
            os.kill(pid, signal.SIGSTOP)
            await aside(podman.run, "web", "--label", "app=shop")
            await told.until(lambda t: t["web"].endpoints)
            states = [event.sighting.state for event in told.about("web")]
            assert states[:2] == [WorkloadState.CREATED, WorkloadState.RUNNING]
            assert told.about("web")[0].sighting.facts.labels == (("app", "shop"),)
            await aside(podman.remove, "web")
            await told.until(lambda t: "web" not in t.named())
            os.kill(pid, signal.SIGCONT)
            await aside(podman.run, "last")
            await told.until(lambda t: t["last"].endpoints)
            assert set(told.named()) == {"first", "last"}

    asyncio.run(test())


def test_an_event_that_was_lost_is_made_up_for(podman, follow):
    """The log is emptied under the reader: what it held is learnt by listing again."""

    async def test() -> None:
        async with follow(podman, resync=2.0) as told:
            await told.until(lambda t: t.told)
            (pid,) = listeners(podman)
            os.kill(pid, signal.SIGSTOP)
            await aside(podman.run, "unheard")
            await aside(podman.on_host, "sh", "-c", ": > /run/libpod/events/events.log")
            os.kill(pid, signal.SIGCONT)
            await told.until(lambda t: t["unheard"].endpoints)
            await aside(podman.on_host, "sh", "-c", ": > /run/libpod/events/events.log")
            await aside(podman.remove, "unheard")
            await told.until(lambda t: not t.now)

    asyncio.run(test())


def test_podman_that_cannot_be_asked(able, follow):
    """It says why, keeps what it knew, and lists again when it can."""
    with Podman(PodmanOptions(uplink=False)) as podman:

        async def test() -> None:
            settings = "/etc/containers/containers.conf"
            await aside(podman.run, "web")
            async with follow(podman) as told:
                await told.until(lambda t: t["web"].endpoints)
                before = told["web"]
                await aside(podman.on_host, "sh", "-c", f"cp {settings} /run/kept; echo nonsense > {settings}")
                for pid in listeners(podman):
                    os.kill(pid, signal.SIGKILL)
                await told.until(lambda t: "containers.conf" in t.lost)
                assert told["web"] == before
                await aside(podman.on_host, "cp", "/run/kept", settings)
                await told.until(lambda t: not t.lost)
                assert told["web"] == before
                await aside(podman.on_host, "sed", "-i", 's/"file"/"none"/', settings)
                for pid in listeners(podman):
                    os.kill(pid, signal.SIGKILL)
                await told.until(lambda t: "none" in t.lost)

        asyncio.run(test())


def test_events_that_a_journal_keeps(able_journald, follow):
    """The same, by the journal; and a journal that is started anew loses nothing for good."""
    with Podman(PodmanOptions(events="journald", uplink=False)) as podman:

        async def test() -> None:
            async with follow(podman, resync=5.0) as told:
                for name in ("one", "two"):
                    await aside(podman.run, name, "--label", f"name={name}")
                    await told.until(lambda t, name=name: t[name].endpoints)
                    states = [event.sighting.state for event in told.about(name)]
                    assert states[:2] == [WorkloadState.CREATED, WorkloadState.RUNNING]
                await aside(podman.remove, "one")
                await told.until(lambda t: "one" not in t.named())
                await aside(podman.on_host, "sh", "-c", "rm -r /run/log/journal/*; mkdir -p /run/log/journal")
                await aside(podman.run, "three")
                await told.until(lambda t: t["three"].endpoints, within=60)
                await aside(podman.remove, "two", "three")
                await told.until(lambda t: not t.now, within=60)

        asyncio.run(test())


ORPHAN = """
import asyncio, sys
sys.path.insert(0, sys.argv[1])
from conftest import PodmanRuntime, PodmanSettings, SystemClock
from stockade.core.model.ids import HostId

def nowhere(path):
    raise OSError(path)

async def main():
    settings = PodmanSettings(enter=tuple(sys.argv[2:]))
    runtime = PodmanRuntime(HostId("a"), places=nowhere, clock=SystemClock(), jitter=lambda: 0.5, settings=settings)
    async for _ in runtime.events():
        print("listed", flush=True)

asyncio.run(main())
"""


@pytest.mark.fault
def test_nobody_listens_on_when_we_are_killed(podman):
    argv = [sys.executable, "-c", ORPHAN, str(Path(__file__).parent), *podman.joined]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as follower:
        assert follower.stdout.readline() == b"listed\n"
        assert listeners(podman)
        follower.kill()
    deadline = time.monotonic() + 30
    while listeners(podman):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_closing_ends_whatever_was_started(podman, follow):
    async def test() -> None:
        async with follow(podman) as told:
            await told.until(lambda t: t.told)
            assert len(listeners(podman)) == 1
        assert not listeners(podman)

    asyncio.run(test())
