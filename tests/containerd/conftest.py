"""A real containerd of either version for the tests of this folder, and a follower of what its adapter tells."""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from stockade.adapters.containerd import ContainerdRuntime, ContainerdSettings
from stockade.adapters.netlink import LinkPlaces, Namespace
from stockade.core.model.ids import HostId
from stockade.seams.places import Place
from stockade.testing.containerd import VERSIONS, Containerd, ContainerdOptions, why_not
from stockade.testing.following import Follower, following

SETTINGS = ContainerdSettings(answer=5, heartbeat=0.5, settle=0.5, patience=0.3, last_retry=0.5)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if reason := why_not():
        pytest.skip(f"this machine: {reason}")


class SystemClock:
    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()


@contextlib.asynccontextmanager
async def follow(containerd: Containerd, socket: str = "", **more: object) -> AsyncIterator[Follower]:
    """Follow a containerd as an agent on its host does: places are found in the host's network namespace."""
    path = f"/proc/{containerd.host_pid}/ns/net"
    with Namespace.at(path) as host:

        def places(namespace: str) -> Place:
            return host.call(lambda: LinkPlaces(HostId("host-a"))(namespace))

        settings = {"settings": SETTINGS, "places": places, "jitter": random.Random(7).random, **more}
        runtime = ContainerdRuntime(
            HostId("host-a"),
            socket=socket or str(containerd.socket),
            clock=SystemClock(),
            host_network=path,
            **settings,
        )
        async with following(runtime) as told:
            yield told


@pytest.fixture(name="follow")
def _follow() -> Callable[..., contextlib.AbstractAsyncContextManager[Follower]]:
    """``async with follow(containerd) as told``: a ``ContainerdRuntime`` at work on it."""
    return follow


@pytest.fixture(scope="session", params=VERSIONS)
def _running(request: pytest.FixtureRequest) -> Iterator[Containerd]:
    with Containerd(ContainerdOptions(version=request.param)) as containerd:
        yield containerd


@pytest.fixture
def containerd(_running: Containerd) -> Iterator[Containerd]:
    """The session's containerd, empty before and after; each test runs on each version."""
    yield _running
    _running.clear()


class Wire:
    """A Unix socket before containerd's, which can be cut."""

    def __init__(self, target: str, path: str) -> None:
        self.path = path
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
        for task in self._tasks:
            task.cancel()
        await asyncio.sleep(0)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        there_reader, there_writer = await asyncio.open_unix_connection(self._target)
        try:
            await asyncio.gather(_pass(reader, there_writer), _pass(there_reader, writer))
        except asyncio.CancelledError:
            pass  # cut
        finally:
            self._tasks.discard(task)
            for each in (writer, there_writer):
                each.close()


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
        writer.write_eof()


@pytest.fixture
def wire(containerd: Containerd) -> Iterator[Wire]:
    """A cuttable way to containerd; its test calls ``join`` and leaves nothing open."""
    path = containerd.root / "wire.sock"
    yield Wire(str(containerd.socket), str(path))
    path.unlink(missing_ok=True)
