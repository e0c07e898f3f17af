"""containerd's API on its Unix socket: what is asked, every wait bounded. Nothing that is asked changes anything.

All that goes wrong ends as ``ContainerdLost`` (nobody answers, or not in gRPC), ``Late`` and ``Refused`` (about one
question), or ``NotFound``; no error of a library or of the system leaves this module.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import TypeVar

import msgspec

from stockade.adapters.containerd import wire
from stockade.adapters.containerd.grpc import CallFailed, Channel, ChannelLost, Headers
from stockade.adapters.containerd.protobuf import Malformed, encode
from stockade.adapters.containerd.wire import Container, Happened, Key, Task
from stockade.seams.following import Broken

DEFAULT_SOCKET = "/run/containerd/containerd.sock"
NOT_FOUND = 5
_T = TypeVar("_T")


class ContainerdSettings(msgspec.Struct, frozen=True):
    """Bounds, in seconds unless they are counts or bytes."""

    connect: float = 5.0
    answer: float = 10.0
    """How long one question may take. A shim that hangs holds up the questions about its container."""
    heartbeat: float = 5.0
    """How often a containerd whose events are silent is asked whether it lives."""
    settle: float = 1.0
    """How long after the first listing everything is listed once more: nothing tells when a subscription begins."""
    resync: float = 60.0
    """How often everything is listed again."""
    patience: float = 1.0
    """How long to wait before asking again about a container that could not be asked about, or has no place yet."""
    growing: float = 10.0
    """How long after an event a container without a place on the network is looked at again, each ``patience``."""
    first_retry: float = 0.1
    last_retry: float = 10.0
    questions: int = 16
    """How many containers are asked about at the same moment."""
    largest_message: int = 64 << 20


class ContainerdLost(Broken):
    """Nobody answers, too late, or not in a way that we understand; the message is for a user."""


class Late(ContainerdLost):
    """No answer in time."""


class Refused(ContainerdLost):
    """containerd answered with an error."""


class Unreadable(ContainerdLost):
    """An answer arrived and is not what the API says it is."""


class NotFound(Exception):  # noqa: N818 - reads as what happened
    """No such container, or it has no task."""


class ContainerdApi:
    """One containerd. ``open`` first."""

    def __init__(self, path: str, settings: ContainerdSettings) -> None:
        self._path = path
        self._settings = settings
        self._channel: Channel | None = None

    async def open(self) -> None:
        """Connect."""
        try:
            async with asyncio.timeout(self._settings.connect):
                self._channel = await Channel.open(self._path, largest=self._settings.largest_message)
        except FileNotFoundError as problem:
            raise ContainerdLost(f"no containerd listens at {self._path}") from problem
        except PermissionError as problem:
            raise ContainerdLost(f"not allowed to open {self._path}: run as root") from problem
        except TimeoutError as problem:
            raise ContainerdLost(f"containerd does not take connections at {self._path}") from problem
        except OSError as problem:
            why = problem.strerror or problem
            raise ContainerdLost(f"containerd cannot be reached at {self._path}: {why}") from problem

    def close(self) -> None:
        """Hang up."""
        if self._channel is not None:
            self._channel.close()

    async def ping(self) -> None:
        """Return when containerd has answered."""
        await self._ask(f"{wire.VERSION}/Version", b"")

    async def namespaces(self) -> list[str]:
        """Return the names of all namespaces, sorted."""
        return sorted(_read(wire.namespaces, await self._ask(f"{wire.NAMESPACES}/List", b"")))

    async def containers(self, namespace: str) -> list[Container]:
        """Return all containers of a namespace. They come one by one: all may be more than one answer may hold."""
        method = f"{wire.CONTAINERS}/ListStream"
        async with (
            self._bounded(method),
            self._open_channel().stream(method, b"", _within(namespace)) as answers,
        ):
            return [_read(partial(wire.container, namespace), answer) async for answer in answers]

    async def container(self, key: Key) -> Container:
        """Return one container. Raises ``NotFound``."""
        answer = await self._ask(f"{wire.CONTAINERS}/Get", encode({1: key.id}), key.namespace)
        return _read(partial(wire.container, key.namespace), answer)

    async def task(self, key: Key) -> Task | None:
        """Return a container's task; None where it has none."""
        try:
            return _read(wire.task, await self._ask(f"{wire.TASKS}/Get", encode({1: key.id}), key.namespace))
        except NotFound:
            return None

    async def tasks(self, namespace: str) -> dict[Key, Task]:
        """Return the tasks of a namespace; those whose shim does not answer may be missing."""
        return _read(partial(wire.tasks, namespace), await self._ask(f"{wire.TASKS}/List", b"", namespace))

    @contextlib.asynccontextmanager
    async def events(self, filters: Sequence[str]) -> AsyncIterator[AsyncIterator[Happened]]:
        """Subscribe to the events of all namespaces; yield them as they come."""
        method = f"{wire.EVENTS}/Subscribe"
        try:
            async with self._open_channel().stream(method, encode({1: list(filters)})) as answers:
                yield self._events(answers)
        except ChannelLost as problem:
            raise _lost(problem) from problem

    async def _events(self, answers: AsyncIterator[bytes]) -> AsyncIterator[Happened]:
        try:
            async for answer in answers:
                yield _read(wire.happened, answer)
        except (ChannelLost, CallFailed) as problem:
            raise _lost(problem) from problem
        raise ContainerdLost("containerd ended its events stream")

    async def _ask(self, method: str, request: bytes, namespace: str = "") -> bytes:
        async with self._bounded(method):
            return await self._open_channel().call(method, request, _within(namespace))

    @contextlib.asynccontextmanager
    async def _bounded(self, method: str) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._settings.answer):
                yield
        except TimeoutError as problem:
            raise Late(f"containerd did not answer within {self._settings.answer:g} s") from problem
        except ChannelLost as problem:
            raise _lost(problem) from problem
        except CallFailed as problem:
            if problem.code == NOT_FOUND:
                raise NotFound(str(problem)) from problem
            raise Refused(
                f"containerd refused {method.partition('/')[2]} with code {problem.code}: {problem}"
            ) from problem

    def _open_channel(self) -> Channel:
        if self._channel is None:
            raise ContainerdLost("the connection to containerd was never opened")
        return self._channel


def _within(namespace: str) -> Headers:
    return {"containerd-namespace": namespace} if namespace else {}


def _lost(problem: Exception) -> ContainerdLost:
    return ContainerdLost(f"containerd is gone: {problem}")


def _read(decode: Callable[[bytes], _T], answer: bytes) -> _T:
    try:
        return decode(answer)
    except Malformed as problem:
        raise Unreadable(f"containerd's answer is not what its API says: {problem}") from problem
