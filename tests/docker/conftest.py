"""A real engine for the tests of this folder, and a follower that keeps what Docker's adapter tells."""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from stockade.adapters.docker import DockerRuntime, EngineSettings
from stockade.core.model.ids import HostId
from stockade.core.model.inventory import Attachment, Endpoint
from stockade.seams.places import Place
from stockade.testing.engine import Engine, EngineError, EngineOptions
from stockade.testing.following import Follower, following

SETTINGS = EngineSettings(answer=3, heartbeat=0.5, patience=0.3, last_retry=0.5)


class SystemClock:
    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()


@contextlib.asynccontextmanager
async def follow(engine: Engine, socket: str = "", **more: object) -> AsyncIterator[Follower]:
    def places(namespace: str) -> Place:
        try:
            ports = engine.ports_of(namespace)
        except EngineError as problem:
            raise OSError(str(problem)) from problem
        endpoints = (Endpoint(Attachment.BRIDGED, port=port, mac=mac) for mac, port in sorted(ports.items()))
        return Place(f"netns:{namespace}", tuple(endpoints))

    settings = {"settings": SETTINGS, "jitter": random.Random(7).random, **more}
    runtime = DockerRuntime(
        HostId("host-a"), socket=socket or str(engine.socket), places=places, clock=SystemClock(), **settings
    )
    async with following(runtime) as told:
        yield told


class Wire:
    """A Unix socket before the engine's, which can be cut, and made deaf to what the engine's events stream says."""

    def __init__(self, target: str, path: str) -> None:
        self.path = path
        self.muted = False
        self._target = target
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.AbstractServer | None = None

    async def join(self) -> None:
        self._server = await asyncio.start_unix_server(self._accept, self.path)

    async def cut(self) -> None:
        """Close every connection in mid-word, and take no new one."""
        if self._server is not None:
            self._server.close()
        Path(self.path).unlink(missing_ok=True)
        self.drop()
        await asyncio.sleep(0)

    def drop(self) -> None:
        """Close every connection in mid-word."""
        for task in self._tasks:
            task.cancel()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        there_reader, there_writer = await asyncio.open_unix_connection(self._target)
        first = await reader.read(65536)
        there_writer.write(first)
        follows = b"/events" in first.splitlines()[0] if first else False
        passing = (self._pass(reader, there_writer, False), self._pass(there_reader, writer, follows))
        try:
            await asyncio.gather(*passing)
        except asyncio.CancelledError:
            pass  # cut
        finally:
            self._tasks.discard(task)
            for each in (writer, there_writer):
                each.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, follows: bool) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                if not (follows and self.muted):
                    writer.write(data)
            writer.write_eof()


@pytest.fixture
def wire(engine: Engine) -> Iterator[Wire]:
    """A cuttable way to the session's engine; its test calls ``join`` and leaves nothing open."""
    path = engine.root / "wire.sock"
    yield Wire(str(engine.socket), str(path))
    path.unlink(missing_ok=True)


@pytest.fixture(scope="session")
def _running_engine() -> Iterator[Engine]:
    with Engine() as engine:
        yield engine


@pytest.fixture
def engine(_running_engine: Engine) -> Iterator[Engine]:
    """The session's engine, empty before and after."""
    yield _running_engine
    _running_engine.clear()


@pytest.fixture(scope="session")
def _bare() -> Iterator[Engine]:
    with Engine(EngineOptions(userland_proxy=False)) as engine:
        yield engine


@pytest.fixture
def bare(_bare: Engine) -> Iterator[Engine]:
    """An engine without docker-proxy."""
    yield _bare
    _bare.clear()


@pytest.fixture(scope="session")
def _restoring() -> Iterator[Engine]:
    with Engine(EngineOptions(live_restore=True)) as engine:
        yield engine


@pytest.fixture
def restoring(_restoring: Engine) -> Iterator[Engine]:
    """An engine whose containers outlive its daemon."""
    yield _restoring
    _restoring.clear()


@pytest.fixture(name="follow")
def _follow() -> Callable[..., contextlib.AbstractAsyncContextManager[Follower]]:
    """``async with follow(engine) as told``: a ``DockerRuntime`` at work on the engine."""
    return follow
