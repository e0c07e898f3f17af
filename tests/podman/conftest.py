"""A real Podman for the tests of this folder: root's, and that of a user called ann."""

import contextlib
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from stockade.adapters.netlink import LinkPlaces
from stockade.adapters.netlink.namespace import Namespace
from stockade.adapters.podman import PodmanRuntime, PodmanSettings
from stockade.core.model.ids import HostId
from stockade.seams.places import Place
from stockade.testing.following import Follower, following
from stockade.testing.podman import Podman, PodmanOptions, why_not, why_not_journald, why_not_rootless

HOST = HostId("host-a")
SETTINGS = PodmanSettings(answer=60, patience=0.3, last_retry=0.5)


class SystemClock:
    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()


def places(podman: Podman) -> Callable[[str], Place]:
    """Look into namespaces as somebody on Podman's machine does."""
    of_links = LinkPlaces(HOST)

    def look(path: str) -> Place:
        with Namespace.at(f"/proc/{podman.host_pid}/ns/net") as machine:
            return machine.call(lambda: of_links(path))

    return look


@contextlib.asynccontextmanager
async def follow(podman: Podman, **more: object) -> AsyncIterator[Follower]:
    settings = {**{name: getattr(SETTINGS, name) for name in SETTINGS.__struct_fields__}, **more}
    runtime = PodmanRuntime(
        HOST,
        places=places(podman),
        clock=SystemClock(),
        jitter=random.Random(7).random,
        settings=PodmanSettings(**{**settings, "enter": tuple(podman.joined)}),  # type: ignore[arg-type]
        here=Path(f"/proc/{podman.host_pid}"),
        runtime_folders=Path(f"/proc/{podman.host_pid}/root/run/user"),
    )
    async with following(runtime, within=120) as told:
        yield told


@pytest.fixture(name="follow")
def _follow() -> Callable[..., contextlib.AbstractAsyncContextManager[Follower]]:
    """``async with follow(podman) as told``: a ``PodmanRuntime`` at work."""
    return follow


@pytest.fixture(scope="session")
def able() -> None:
    """Podman can run here."""
    if reason := why_not():
        pytest.skip(f"this machine: {reason}")


@pytest.fixture(scope="session")
def able_rootless() -> None:
    """A user's Podman can run here."""
    if reason := why_not_rootless():
        pytest.skip(f"this machine: {reason}")


@pytest.fixture(scope="session")
def able_journald() -> None:
    """There can be a journal for Podman's events here."""
    if reason := why_not_journald():
        pytest.skip(f"this machine: {reason}")


@pytest.fixture(scope="session")
def _running(able: None) -> Iterator[Podman]:
    with Podman(PodmanOptions(users=() if why_not_rootless() else ("ann",))) as podman:
        yield podman


@pytest.fixture
def podman(_running: Podman) -> Iterator[Podman]:
    """The session's Podman, empty before and after."""
    yield _running
    _running.clear()


@pytest.fixture
def rootless(able_rootless: None, podman: Podman) -> Podman:
    """The same, where a user's Podman can run too."""
    return podman
