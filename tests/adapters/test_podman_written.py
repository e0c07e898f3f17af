"""The file that another process reads is read as it is written, cut and replaced; the process is a real one."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from stockade.adapters.podman import written as reading
from stockade.adapters.podman.written import written

READER = """
import sys
held = open(sys.argv[1])
print("open", flush=True)
for _ in sys.stdin:
    held.close()
    held = open(sys.argv[1])
    print("open", flush=True)
"""


class Reader:
    """A process that has a file open, as ``podman events`` has."""

    def __init__(self, path: Path) -> None:
        command = [sys.executable, "-c", READER, str(path)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._opened()

    def reopen(self) -> None:
        assert self.process.stdin
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        self._opened()

    def _opened(self) -> None:
        assert self.process.stdout
        assert self.process.stdout.readline() == "open\n"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "events.log"
    path.write_text("from before\n")
    return path


@pytest.fixture
def reader(log: Path) -> Iterator[Reader]:
    made = Reader(log)
    yield made
    made.process.kill()
    made.process.communicate()


def add(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


async def until_told(lines: AsyncIterator[bytes], write: Callable[[str], None], text: str) -> bytes:
    """Write until it is heard: from when on somebody listens is theirs to say."""
    hearing = asyncio.ensure_future(anext(lines))
    while not hearing.done():
        write(text)
        await asyncio.wait({hearing}, timeout=0.2)
    return hearing.result()


def test_what_is_written_is_told_line_by_line_and_nothing_from_before(reader: Reader, log: Path) -> None:
    async def test() -> None:
        lines = written(reader.process.pid)
        assert await until_told(lines, lambda text: add(log, text), "one\n") == b"one"
        hearing = asyncio.ensure_future(anext(lines))
        add(log, "on")
        await asyncio.sleep(0.05)
        add(log, "e and more\nlast\n")
        heard = [await hearing]
        while heard[-1] != b"last":
            heard.append(await anext(lines))
        assert heard[-2:] == [b"one and more", b"last"]

    asyncio.run(asyncio.wait_for(test(), 30))


def test_a_file_that_is_cut_is_read_from_its_beginning(reader: Reader, log: Path) -> None:
    async def test() -> None:
        lines = written(reader.process.pid)
        await until_told(lines, lambda text: add(log, text), "one\n")
        log.write_text("")
        heard = await until_told(lines, lambda text: add(log, text), "two\n")
        while heard != b"two":
            heard = await anext(lines)

    asyncio.run(asyncio.wait_for(test(), 30))


def test_a_file_that_is_replaced_is_followed_once_its_reader_has_it(reader: Reader, log: Path) -> None:
    async def test() -> None:
        lines = written(reader.process.pid)
        await until_told(lines, lambda text: add(log, text), "one\n")
        new = log.with_name("new")
        new.write_text("")
        new.replace(log)
        reader.reopen()
        heard = await until_told(lines, lambda text: add(log, text), "two\n")
        while heard != b"two":
            heard = await anext(lines)

    asyncio.run(asyncio.wait_for(test(), 30))


def test_where_there_is_no_such_file_it_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "LOOKS", 3)
    (tmp_path / "journal").write_text("")
    reader = Reader(tmp_path / "journal")
    try:

        async def test() -> list[bytes]:
            return [line async for line in written(reader.process.pid)]

        assert asyncio.run(asyncio.wait_for(test(), 30)) == []
    finally:
        reader.process.kill()
        reader.process.communicate()
