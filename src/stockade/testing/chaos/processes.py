"""Faults of processes: killed, ended, stopped, starved, out of memory or descriptors, or there twice."""

import asyncio
import os
import resource
import signal
import sys
from collections.abc import AsyncIterator
from random import Random

from stockade.testing.chaos.fault import fault
from stockade.testing.chaos.ground import Ground, until
from stockade.testing.processes import nft_helpers

ADOPTS = "the next start adopts the tables without a gap"
REPLACED = "`up` notices at once and starts another, which adopts the tables"
STANDS = "a newborn waits; when it goes on, so does the newborn"
BUSY = "while True: pass"


@fault("`up` is killed", ADOPTS)
async def up_killed(on: Ground, _dice: Random) -> AsyncIterator[None]:
    await on.crash()
    yield


@fault("`up` is told to end", ADOPTS)
async def up_ended(on: Ground, _dice: Random) -> AsyncIterator[None]:
    on.up.send_signal(signal.SIGTERM)
    yield
    await on.up.wait(30)


@fault("`up` stands still", STANDS)
async def up_stopped(on: Ground, _dice: Random) -> AsyncIterator[None]:
    on.up.send_signal(signal.SIGSTOP)
    yield
    on.up.send_signal(signal.SIGCONT)


@fault("the helper is killed", REPLACED)
async def helper_killed(on: Ground, _dice: Random) -> AsyncIterator[None]:
    await on.end_helper()
    yield


@fault("the helper is told to end", REPLACED)
async def helper_ended(on: Ground, _dice: Random) -> AsyncIterator[None]:
    await on.end_helper(signal.SIGTERM)
    yield


@fault("the helper stands still", "changes wait for it")
async def helper_stopped(on: Ground, _dice: Random) -> AsyncIterator[None]:
    helpers = nft_helpers(on.state)
    _tell(helpers, signal.SIGSTOP)
    yield
    _tell(helpers, signal.SIGCONT)


@fault("`up` and helper are killed together", ADOPTS)
async def both_killed(on: Ground, _dice: Random) -> AsyncIterator[None]:
    await on.end_both()
    yield


@fault("`up` and helper stand still", STANDS)
async def both_stopped(on: Ground, _dice: Random) -> AsyncIterator[None]:
    pids = on.pids()
    _tell(pids, signal.SIGSTOP)
    yield
    _tell(pids, signal.SIGCONT)


@fault("`up` and helper are stopped and go on many times a second", "everything takes longer")
async def stop_storm(on: Ground, dice: Random) -> AsyncIterator[None]:
    pids = on.pids()
    for _ in range(60):
        _tell(pids, signal.SIGSTOP)
        await asyncio.sleep(dice.uniform(0, 0.01))
        _tell(pids, signal.SIGCONT)
        await asyncio.sleep(dice.uniform(0, 0.005))
    yield


@fault("`up` and helper get hardly any processor", "everything takes longer")
async def starved(on: Ground, _dice: Random) -> AsyncIterator[None]:
    busy = [
        await on.lab.start(on.lab.host_name, [sys.executable, "-ISc", BUSY]) for _ in range(2 * (os.cpu_count() or 1))
    ]
    _nice(on, 19)
    yield
    for each in busy:
        each.kill()
    _nice(on, 0)


@fault("the helper gets no more memory", "a change that needs more is refused or ends it; `up` goes on with another")
async def helper_out_of_memory(on: Ground, _dice: Random) -> AsyncIterator[None]:
    helpers = nft_helpers(on.state)
    for each in helpers:
        room = _pages(each) * resource.getpagesize()
        resource.prlimit(each, resource.RLIMIT_AS, (room, resource.RLIM_INFINITY))
    yield
    for each in set(helpers) & set(nft_helpers(on.state)):
        resource.prlimit(each, resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


@fault("`up` gets no more descriptors", "callers are not answered until there are some", refuses=True)
async def out_of_descriptors(on: Ground, _dice: Random) -> AsyncIterator[None]:
    before = resource.prlimit(on.up.pid, resource.RLIMIT_NOFILE)
    used = max(map(int, os.listdir(f"/proc/{on.up.pid}/fd")))
    resource.prlimit(on.up.pid, resource.RLIMIT_NOFILE, (used + 1, before[1]))
    yield
    resource.prlimit(on.up.pid, resource.RLIMIT_NOFILE, before)


@fault("a second `up` on the same state", "it ends with an error that names the first's process")
async def second_up(on: Ground, _dice: Random) -> AsyncIterator[None]:
    first = on.up
    words = ["-m", "stockade", "up", "--no-docker", "--state", str(on.state), "--host", on.lab.host_name]
    done = await on.host(sys.executable, *words)
    if done.status == 0 or "Traceback" in done.stderr or first.status is not None:
        on.found.append(f"a second `up`: status {done.status}, {done.stderr.strip()[-200:]}")
    yield


@fault("a process gets the number of one that has just ended, in another namespace", "nobody is taken for another")
async def pid_reused(on: Ground, dice: Random) -> AsyncIterator[None]:
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
    with open(f"/proc/{pid}/statm", encoding="ascii") as file:
        return int(file.read().split()[0])


def _inner(pid: int) -> int:
    """Return a process's number within the lab."""
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return int(next(line for line in file if line.startswith("NSpid:")).split()[-1])
