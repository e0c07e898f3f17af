"""Faults of what is kept on disk: no room, no answer, nothing to be written, damage, and files that are gone."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from random import Random

from stockade.testing.chaos.disk import Disk
from stockade.testing.chaos.fault import fault
from stockade.testing.chaos.ground import Ground

ADOPTED = "the next start adopts what the kernel holds and waits for its controller's assignment"


def no_disk(on: Ground) -> str:
    """Say that there is no disk to break."""
    return "" if on.disk else "no loop device with ext4 can be mounted here"


def _disk(on: Ground) -> Disk:
    assert on.disk is not None
    return on.disk


@fault("changes are refused: there is no room left; a newborn waits", refuses=True, missing=no_disk)
async def disk_full(on: Ground, _dice: Random) -> AsyncIterator[None]:
    """The disk is full."""
    filler = await asyncio.to_thread(_disk(on).fill)
    yield
    filler.unlink()


@fault("changes wait for it", missing=no_disk)
async def disk_hangs(on: Ground, _dice: Random) -> AsyncIterator[None]:
    """The disk hangs."""
    await asyncio.to_thread(_disk(on).freeze)
    yield
    await asyncio.to_thread(_disk(on).thaw)


@fault("everything that is written down takes longer", missing=no_disk)
async def disk_slow(on: Ground, dice: Random) -> AsyncIterator[None]:
    """The disk is slow: it falters again and again."""
    over = asyncio.Event()
    faltering = asyncio.create_task(_falter(_disk(on), dice, over))
    await asyncio.sleep(2)
    yield
    over.set()
    await faltering


async def _falter(disk: Disk, dice: Random, over: asyncio.Event) -> None:
    while not over.is_set():
        await asyncio.to_thread(disk.freeze)
        await asyncio.sleep(dice.uniform(0.02, 0.2))
        await asyncio.to_thread(disk.thaw)
        await asyncio.sleep(dice.uniform(0.01, 0.05))


@fault("`assignment-not-kept` in the log; the next start never goes back to it", refuses=True, missing=no_disk)
async def state_read_only(on: Ground, _dice: Random) -> AsyncIterator[None]:
    """Nothing can be made or renamed in the state folder, and `up` is killed."""
    _disk(on).lock(on.state)
    yield
    await on.crash()
    _disk(on).unlock(on.state)


@fault("the gate answers once it can", missing=no_disk)
async def run_read_only(on: Ground, _dice: Random) -> AsyncIterator[None]:
    """Nothing can be made in the run folder while `up` starts."""
    await on.crash()
    _disk(on).lock(on.run)
    await on.whole()
    yield
    _disk(on).unlock(on.run)


@fault("`up` does not start, and names the file")
async def database_damaged(on: Ground, dice: Random) -> AsyncIterator[None]:
    """The database's first page is damaged."""
    await on.crash()
    kept = [each for each in on.state.glob("stockade.db*") if each.is_file()]
    for each in kept:
        shutil.copy2(each, on.run / each.name)
    for each in on.state.glob("stockade.db-*"):
        each.unlink()
    (on.state / "stockade.db").write_bytes(dice.randbytes(4096))
    server = await on.on.start()
    if not await server.wait(60):
        on.found.append("`up` started on a damaged database")
    if "the database file is damaged" not in on.log()[-2000:]:
        on.found.append("nothing was said of a damaged database")
    yield
    for each in kept:
        shutil.copy2(on.run / each.name, each)
        (on.run / each.name).unlink()


@fault(ADOPTED)
async def assignment_garbage(on: Ground, dice: Random) -> AsyncIterator[None]:
    """The last assignment is garbage."""
    await on.crash()
    (on.state / "assignment").write_bytes(dice.randbytes(dice.randrange(1, 4096)))
    yield


@fault(ADOPTED)
async def assignment_cut_off(on: Ground, dice: Random) -> AsyncIterator[None]:
    """The last assignment is cut off."""
    await on.crash()
    path = on.state / "assignment"
    whole = path.read_bytes() if path.exists() else b""
    path.write_bytes(whole[: dice.randrange(max(1, len(whole)))])
    yield


@fault(ADOPTED)
async def state_files_deleted(on: Ground, _dice: Random) -> AsyncIterator[None]:
    """Files of the state folder are deleted under `up`, which is then killed."""
    for name in ("assignment", "births", "nft.sock.lock"):
        (on.state / name).unlink(missing_ok=True)
    yield
    await on.crash()


@fault("nobody reaches it; a start makes them again")
async def sockets_deleted(on: Ground, _dice: Random) -> AsyncIterator[None]:
    """The sockets are deleted under `up`."""
    for path in (on.state / "api.sock", on.state / "nft.sock", on.run / "gate.sock"):
        path.unlink(missing_ok=True)
    yield
    await on.crash()
