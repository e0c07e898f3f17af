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
from stockade.core.model.inventory import Attachment, Endpoint, Sighting
from stockade.seams.places import Place
from stockade.seams.runtime import Gone, Listed, Lost, RuntimeEvent, Seen
from stockade.testing.engine import Engine, EngineError, EngineOptions

SETTINGS = EngineSettings(answer=3, heartbeat=0.5, patience=0.3, last_retry=0.5)


class SystemClock:
    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()


class Follower:
    """All that a runtime has told, and what is true by it now, keyed by container name."""

    def __init__(self, runtime: DockerRuntime) -> None:
        self.runtime = runtime
        self.told: list[RuntimeEvent] = []
        self.taken: list[float] = []
        self.now: dict[str, Seen] = {}
        self.lost = ""
        self.keeping: list[asyncio.Future[None]] = []
        self._changed = asyncio.Condition()

    def __getitem__(self, name: str) -> Sighting:
        return self.named()[name].sighting

    def named(self) -> dict[str, Seen]:
        return {seen.sighting.name: seen for seen in self.now.values()}

    def about(self, name: str) -> list[RuntimeEvent]:
        ids = {event.sighting.id for event in self.told if isinstance(event, Seen) and event.sighting.name == name}
        return [
            event
            for event in self.told
            if (isinstance(event, Seen) and event.sighting.id in ids) or (isinstance(event, Gone) and event.id in ids)
        ]

    async def until(self, wanted: Callable[["Follower"], object], within: float = 30.0) -> None:
        async def met() -> None:
            async with self._changed:
                await self._changed.wait_for(lambda: _holds(wanted, self))

        waiting = {asyncio.ensure_future(met()), *self.keeping}
        done, _ = await asyncio.wait(waiting, timeout=within, return_when=asyncio.FIRST_COMPLETED)
        for each in done:
            each.result()
        if not done:
            shown = "\n".join(map(repr, self.named().values()))
            pytest.fail(f"not within {within} s; lost: {self.lost!r}; last told: {self.told[-3:]}\n{shown}")

    async def quiet(self, seconds: float = 0.5) -> None:
        """Return when nothing was told for a while."""
        while True:
            count = len(self.told)
            await asyncio.sleep(seconds)
            if len(self.told) == count:
                return

    async def keep(self) -> None:
        async for event in self.runtime.events():
            async with self._changed:
                self._take(event)
                self._changed.notify_all()

    def _take(self, event: RuntimeEvent) -> None:
        self.told.append(event)
        self.taken.append(time.time())
        match event:
            case Listed():
                self.now = {seen.sighting.id: seen for seen in event.seen}
                self.lost = ""
            case Lost():
                self.lost = event.reason
            case Seen():
                self.now[event.sighting.id] = event
            case Gone():
                self.now.pop(event.id, None)


def _holds(wanted: Callable[[Follower], object], follower: Follower) -> bool:
    try:
        return bool(wanted(follower))
    except KeyError:  # not there yet
        return False


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
    follower = Follower(runtime)
    keeping = asyncio.create_task(follower.keep())
    follower.keeping.append(keeping)
    try:
        await follower.until(lambda told: told.told)
        yield follower
        assert not keeping.done(), keeping
    finally:
        keeping.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await keeping


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
