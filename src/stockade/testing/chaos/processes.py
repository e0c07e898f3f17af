"""Faults of processes: killed, ended, stopped, starved, out of memory or descriptors, or there twice."""

import asyncio
import os
import resource
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

from stockade.testing.chaos.fault import fault
from stockade.testing.chaos.ground import Ground, until
from stockade.testing.lab.entry import entered
from stockade.testing.processes import nft_helpers

ADOPTS = "the next start adopts the tables without a gap"
REPLACED = "`up` notices at once and starts another, which adopts the tables"
STANDS = "a newborn waits; when it goes on, so does the newborn"
BUSY = "while True: pass"


def bound(_on: Ground) -> str:
    """Say that who is made to wait can never be let go first again."""
    return "only the machine's root may give a process its priority back" if entered() else ""


@fault(ADOPTS)
async def up_killed(on: Ground, _dice: Random) -> AsyncIterator[None]:
    """`up` is killed."""
    await on.crash()
    yield


@fault(ADOPTS)
async def up_ended(on: Ground, _dice: Random) -> AsyncIterator[None]:
    """`up` is told to end."""
    on.up.send_signal(signal.SIGTERM)
    yield
    await on.up.wait(30)


@fault(STANDS)
async def up_stopped(on: Ground, _dice: Random) -> AsyncIterator[None]:
    """`up` stands still."""
    on.up.send_signal(signal.SIGSTOP)
    yield
    on.up.send_signal(signal.SIGCONT)


@fault(REPLACED)
async def helper_killed(on: Ground, _dice: Random) -> AsyncIterator[None]:
    """The helper is killed."""
    await on.end_helper()
    yield


@fault(REPLACED)
async def helper_ended(on: Ground, _dice: Random) -> AsyncIterator[None]:
    """The helper is told to end."""
    await on.end_helper(signal.SIGTERM)
    yield


@fault("changes wait for it")
async def helper_stopped(on: Ground, _dice: Random) -> AsyncIterator[None]:
    """The helper stands still."""
    helpers = nft_helpers(on.state)
    _tell(helpers, signal.SIGSTOP)
    yield
    _tell(helpers, signal.SIGCONT)


@fault(ADOPTS)
async def both_killed(on: Ground, _dice: Random) -> AsyncIterator[None]:
    """`up` and helper are killed together."""
    await on.end_both()
    yield


@fault(STANDS)
async def both_stopped(on: Ground, _dice: Random) -> AsyncIterator[None]:
    """`up` and helper stand still."""
    pids = on.pids()
    _tell(pids, signal.SIGSTOP)
    yield
    _tell(pids, signal.SIGCONT)


@fault("everything takes longer")
async def stop_storm(on: Ground, dice: Random) -> AsyncIterator[None]:
    """`up` and helper are stopped and go on many times a second."""
    pids = on.pids()
    for _ in range(60):
        _tell(pids, signal.SIGSTOP)
        await asyncio.sleep(dice.uniform(0, 0.01))
        _tell(pids, signal.SIGCONT)
        await asyncio.sleep(dice.uniform(0, 0.005))
    yield


@fault("everything takes longer", missing=bound)
async def starved(on: Ground, _dice: Random) -> AsyncIterator[None]:
    """`up` and helper get hardly any processor."""
    busy = [
        await on.lab.start(on.lab.host_name, [sys.executable, "-ISc", BUSY]) for _ in range(2 * (os.cpu_count() or 1))
    ]
    _nice(on, 19)
    yield
    for each in busy:
        each.kill()
    _nice(on, 0)


@fault("a change that needs more is refused or ends it; `up` goes on with another")
async def helper_out_of_memory(on: Ground, _dice: Random) -> AsyncIterator[None]:
    """The helper gets no more memory."""
    helpers = nft_helpers(on.state)
    for each in helpers:
        room = _pages(each) * resource.getpagesize()
        resource.prlimit(each, resource.RLIMIT_AS, (room, resource.RLIM_INFINITY))
    yield
    for each in set(helpers) & set(nft_helpers(on.state)):
        resource.prlimit(each, resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


@fault("callers are not answered until there are some", refuses=True)
async def out_of_descriptors(on: Ground, _dice: Random) -> AsyncIterator[None]:
    """`up` gets no more descriptors."""
    before = resource.prlimit(on.up.pid, resource.RLIMIT_NOFILE)
    used = max(int(each.name) for each in Path(f"/proc/{on.up.pid}/fd").iterdir())
    resource.prlimit(on.up.pid, resource.RLIMIT_NOFILE, (used + 1, before[1]))
    yield
    resource.prlimit(on.up.pid, resource.RLIMIT_NOFILE, before)


@fault("it ends with an error that names the first's process")
async def second_up(on: Ground, _dice: Random) -> AsyncIterator[None]:
    """A second `up` on the same state."""
    first = on.up
    words = ["-m", "stockade", "up", "--no-docker", "--state", str(on.state), "--host", on.lab.host_name]
    done = await on.host(sys.executable, *words)
    if done.status == 0 or "Traceback" in done.stderr or first.status is not None:
        on.found.append(f"a second `up`: status {done.status}, {done.stderr.strip()[-200:]}")
    yield


@fault("nobody is taken for another")
async def pid_reused(on: Ground, dice: Random) -> AsyncIterator[None]:
    """A process gets the number of one that has just ended, in another namespace."""
    one, other = dice.sample(["web-1", "api-1", "db-1", "intruder"], 2)
    first = await on.lab.start(one, ["sleep", "60"])
    number = _inner(first.pid)
    first.kill()
    await first.wait(10)
    again = f"echo {number - 1} > /proc/sys/kernel/ns_last_pid; sleep 2 & echo $!; wait"

    async def reused() -> bool:
        return (await on.lab.run(other, ["sh", "-c", again])).stdout.strip() == str(number)

    await until(reused, "the number was never given again")
    yield


def _tell(pids: list[int], number: int) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def _nice(on: Ground, value: int) -> None:
    for pid in on.pids():
        os.setpriority(os.PRIO_PROCESS, pid, value)


def _pages(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[0])


def _inner(pid: int) -> int:
    """Return a process's number within the lab."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith("NSpid:")).split()[-1])
