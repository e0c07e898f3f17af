"""What is in force is kept by a disk that is slow, hangs or is full: the newest, and nobody waits for it."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from stockade.agent import keeping
from stockade.agent.keeping import Keeping
from stockade.agent.state import AssignmentFile
from stockade.core.model.ids import HostId, Revision, Version
from stockade.core.model.intent import Intent
from stockade.core.model.policy import Births
from stockade.wire import Assignment


def intent(revision: int) -> Intent:
    return Intent(HostId("h"), Revision(revision), Version(1), Births.PASS, fingerprint=f"f{revision}")


class Disk(AssignmentFile):
    """A file on a disk that can be made to hang, and be full. ``written`` are the revisions that it took."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.lets = threading.Event()
        self.lets.set()
        self.full = False
        self.begun = 0
        self.settles = threading.Event()
        self.settles.set()
        self.begun_to_settle = 0
        self.written: list[int] = []

    def write(self, assignment: Assignment) -> None:
        """Write when it is let."""
        self.begun += 1
        self.lets.wait(20)
        if self.full:
            raise OSError(28, "No space left on device")
        super().write(assignment)
        self.written.append(assignment.intent.revision)

    def settle(self) -> None:
        """Settle when it is let."""
        self.begun_to_settle += 1
        self.settles.wait(20)
        super().settle()


@asynccontextmanager
async def running(disk: Disk) -> AsyncIterator[Keeping]:
    kept = Keeping(disk)
    tasks = [asyncio.create_task(each()) for each in (kept.run, kept.settle)]
    try:
        yield kept
    finally:
        for each in tasks:
            each.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await kept.finish()


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not holds():
            await asyncio.sleep(0.005)


def test_of_what_came_while_the_disk_hung_the_last_is_kept(tmp_path: Path) -> None:
    async def test() -> None:
        disk = Disk(tmp_path)
        async with running(disk) as kept:
            disk.lets.clear()
            kept.keep(intent(1))
            await until(lambda: disk.begun == 1)
            for revision in (2, 3, 4):
                kept.keep(intent(revision))
            disk.lets.set()
            await until(lambda: disk.written[-1:] == [4])
        assert disk.written == [1, 4]
        assert disk.read() == Assignment(intent(4))

    asyncio.run(test())


def test_what_is_not_written_when_it_ends_is_written_then(tmp_path: Path) -> None:
    async def test() -> None:
        disk = Disk(tmp_path)
        async with running(disk) as kept:
            kept.keep(intent(7))
        assert disk.read() == Assignment(intent(7))
        assert kept.failed == 0

    asyncio.run(test())


def test_what_a_full_disk_did_not_take_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "AGAIN", 0.01)

    async def test() -> None:
        disk = Disk(tmp_path)
        async with running(disk) as kept:
            kept.keep(intent(1))
            await until(lambda: disk.written == [1])
            disk.full = True
            kept.keep(intent(2))
            await until(lambda: kept.failed >= 3)
            assert disk.read() == Assignment(intent(1))
            disk.full = False
            await until(lambda: disk.written == [1, 2])

    asyncio.run(test())


def test_what_is_written_while_it_is_settled_is_settled_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "SETTLE", 0.01)

    async def test() -> None:
        disk = Disk(tmp_path)
        disk.settles.clear()
        async with running(disk) as kept:
            for revision in (1, 2, 3, 4):
                kept.keep(intent(revision))
                await until(lambda revision=revision: disk.written[-1:] == [revision])  # type: ignore[misc]
                await until(lambda: disk.begun_to_settle == 1)
            disk.settles.set()
            await until(lambda: disk.begun_to_settle == 2)
            await asyncio.sleep(0.1)
        assert disk.begun_to_settle == 2

    asyncio.run(test())
