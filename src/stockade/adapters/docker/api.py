"""HTTP/1.1 to a Docker engine on its Unix socket: GET only, kept connections, every wait bounded.

All that goes wrong ends as ``EngineLost`` (nobody answers, or not in HTTP), ``Refused`` (the engine says no) or
``NotFound``; no error of a library or of the system leaves this module.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Mapping
from typing import TypeVar
from urllib.parse import urlencode

import h11
import msgspec

from stockade.adapters.docker.wire import Refusal
from stockade.decoding import ready
from stockade.errors import StockadeError
from stockade.seams.following import Broken

OLDEST = (1, 41)
NEWEST = (1, 52)
DEFAULT_SOCKET = "/var/run/docker.sock"
_CHUNK = 1 << 16
_T = TypeVar("_T")


class EngineSettings(msgspec.Struct, frozen=True):
    """Bounds, in seconds unless they are counts or bytes."""

    connect: float = 5.0
    answer: float = 10.0
    """How long one request may take. A container that is being started answers only when it has been."""
    heartbeat: float = 5.0
    """How often an engine whose events are silent is asked whether it lives."""
    resync: float = 60.0
    """How often everything is listed again, in case the engine dropped an event."""
    overlap: float = 5.0
    """How far back the events stream begins, so that nothing falls between it and the first listing."""
    patience: float = 1.0
    """How long to wait before asking again about a container that did not answer."""
    starting: float = 10.0
    """How long a container that was met before it ran is taken for one that is being started."""
    first_retry: float = 0.1
    last_retry: float = 10.0
    inspections: int = 16
    """How many containers are asked about at the same moment."""
    largest_answer: int = 256 << 20
    largest_event: int = 16 << 20


class EngineLost(Broken):
    """Nobody answers, too late, or not in a way that we understand; the message is for a user."""


class Late(EngineLost):
    """No answer in time."""


class Refused(EngineLost):
    """The engine answered with an error."""


class NotFound(Exception):  # noqa: N818 - reads as what happened
    """No such container or network."""


class Unreadable(Exception):  # noqa: N818 - reads as what happened
    """An answer arrived and is not what the API says it is."""


def engine_socket(environment: Mapping[str, str]) -> str:
    """Return the path of the engine's socket: ``DOCKER_HOST``, or Docker's default. Refuses anything but ``unix://``."""
    address = environment.get("DOCKER_HOST", "")
    if not address:
        return DEFAULT_SOCKET
    scheme, found, path = address.partition("://")
    if found and scheme == "unix" and path:
        return path
    raise StockadeError(
        f"DOCKER_HOST={address} is not a Unix socket; Stockade reads the Docker engine of the host it runs on",
        kept="Nothing was changed.",
        remedy=f"Unset DOCKER_HOST, or set it to unix://{DEFAULT_SOCKET}.",
    )


class EngineApi:
    """One engine. ``open`` first: it agrees on a version of the API."""

    def __init__(self, path: str, settings: EngineSettings) -> None:
        self._path = path
        self._settings = settings
        self._idle: list[_Connection] = []
        self._prefix = ""

    async def open(self) -> None:
        """Ask the engine which API it speaks, and settle on the newest that both know."""
        answer = await self._ask("/_ping")
        offered = _version(answer.headers.get("api-version", ""))
        if offered < OLDEST:
            raise EngineLost(f"Docker speaks API {_dotted(offered)}; Stockade needs {_dotted(OLDEST)} (Docker 20.10)")
        self._prefix = f"/v{_dotted(min(offered, NEWEST))}"

    async def ping(self) -> None:
        """Return when the engine has answered."""
        await self._ask("/_ping")

    async def get(self, path: str, kind: type[_T], **query: str) -> _T:
        """Return the decoded answer of one GET."""
        answer = await self._ask(self._target(path, query))
        try:
            return msgspec.json.decode(answer.body, type=ready(kind))
        except msgspec.MsgspecError as problem:
            raise Unreadable(f"Docker's answer to {path} is not what its API says: {problem}") from problem

    @contextlib.asynccontextmanager
    async def lines(self, path: str, **query: str) -> AsyncIterator[AsyncIterator[bytes]]:
        """Open an answer that does not end; yield its lines as they come."""
        target = self._target(path, query)
        connection = await self._connect()
        try:
            head = await self._within(connection.begin(target))
            if head.status_code != 200:
                body = await self._within(connection.body(self._settings.largest_answer))
                raise _refusal(target, head.status_code, body)
            yield self._lines(connection)
        finally:
            connection.close()

    def close(self) -> None:
        """Close what is open."""
        for connection in self._idle:
            connection.close()
        self._idle.clear()

    def _target(self, path: str, query: Mapping[str, str]) -> str:
        return f"{self._prefix}{path}" + (f"?{urlencode(query)}" if query else "")

    async def _ask(self, target: str) -> "_Answer":
        while self._idle:
            # The engine may have closed a kept connection meanwhile; that is no news about the engine.
            with contextlib.suppress(_Stale):
                return await self._exchange(self._idle.pop(), target)
        return await self._exchange(await self._connect(), target)

    async def _exchange(self, connection: "_Connection", target: str) -> "_Answer":
        try:
            answer = await self._within(connection.ask(target, self._settings.largest_answer))
        except BaseException:
            connection.close()
            raise
        if connection.reusable():
            self._idle.append(connection)
        else:
            connection.close()
        if answer.status != 200:
            raise _refusal(target, answer.status, answer.body)
        return answer

    async def _connect(self) -> "_Connection":
        try:
            async with asyncio.timeout(self._settings.connect):
                return _Connection(*await asyncio.open_unix_connection(self._path))
        except FileNotFoundError as problem:
            raise EngineLost(f"no Docker engine listens at {self._path}") from problem
        except PermissionError as problem:
            raise EngineLost(f"not allowed to open {self._path}: run as root, or join the group docker") from problem
        except TimeoutError as problem:
            raise EngineLost(f"Docker does not take connections at {self._path}") from problem
        except OSError as problem:
            raise EngineLost(f"Docker cannot be reached at {self._path}: {problem.strerror or problem}") from problem

    async def _within(self, waiting: Awaitable[_T]) -> _T:
        try:
            async with asyncio.timeout(self._settings.answer):
                return await waiting
        except TimeoutError as problem:
            raise Late(f"Docker did not answer within {self._settings.answer:g} s") from problem
        except (OSError, h11.RemoteProtocolError) as problem:
            raise EngineLost(f"the connection to Docker broke: {problem}") from problem

    async def _lines(self, connection: "_Connection") -> AsyncIterator[bytes]:
        rest = bytearray()
        try:
            async for piece in connection.pieces():
                rest += piece
                *whole, last = rest.split(b"\n")
                rest = last
                for line in whole:
                    yield bytes(line)
                if len(rest) > self._settings.largest_event:
                    raise EngineLost("Docker sent an event larger than any that it should send")
        except (OSError, h11.RemoteProtocolError, _Stale) as problem:
            raise EngineLost("Docker cut its events stream") from problem
        raise EngineLost("Docker ended its events stream")


# One connection


class _Stale(EngineLost):
    """The other side closed before it said anything."""

    def __init__(self) -> None:
        super().__init__("Docker closed the connection, or answered in no HTTP")


class _Answer(msgspec.Struct, frozen=True):
    status: int
    headers: dict[str, str]
    body: bytes


class _Connection:
    """One connection, one request at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._http = h11.Connection(h11.CLIENT)

    async def ask(self, target: str, limit: int) -> _Answer:
        head = await self.begin(target)
        headers = {name.decode(): value.decode("latin-1") for name, value in head.headers}
        return _Answer(head.status_code, headers, await self.body(limit))

    async def begin(self, target: str) -> h11.Response:
        """Send a GET; return the head of the answer."""
        headers = [("Host", "docker"), ("User-Agent", "stockade"), ("Accept", "application/json")]
        sent = self._http.send(h11.Request(method="GET", target=target, headers=headers))
        sent = (sent or b"") + (self._http.send(h11.EndOfMessage()) or b"")
        try:
            self._writer.write(sent)
            await self._writer.drain()
            event = await self._next()
        except (ConnectionError, h11.RemoteProtocolError) as problem:
            raise _Stale from problem
        if not isinstance(event, h11.Response):
            raise _Stale
        return event

    async def body(self, limit: int) -> bytes:
        found = bytearray()
        async for piece in self.pieces():
            found += piece
            if len(found) > limit:
                raise EngineLost("Docker sent an answer larger than any that it should send")
        return bytes(found)

    async def pieces(self) -> AsyncIterator[bytes]:
        while not isinstance(event := await self._next(), h11.EndOfMessage):
            if not isinstance(event, h11.Data):
                raise _Stale
            yield bytes(event.data)

    def reusable(self) -> bool:
        """Get ready for the next request, where the connection may carry one."""
        if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            return False
        self._http.start_next_cycle()
        return True

    def close(self) -> None:
        self._writer.close()

    async def _next(self) -> "h11.Event | type[h11.PAUSED]":
        while (event := self._http.next_event()) is h11.NEED_DATA:
            self._http.receive_data(await self._reader.read(_CHUNK))
        if isinstance(event, h11.InformationalResponse):
            return await self._next()
        return event  # type: ignore[return-value]


# Small steps


def _version(text: str) -> tuple[int, int]:
    major, _, minor = text.partition(".")
    return (int(major), int(minor)) if major.isdigit() and minor.isdigit() else (0, 0)


def _dotted(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))


def _refusal(target: str, status: int, body: bytes) -> Exception:
    try:
        message = msgspec.json.decode(body, type=ready(Refusal)).message
    except msgspec.MsgspecError:
        message = json.dumps(body[:200].decode(errors="replace"))
    if status == 404:
        return NotFound(message)
    return Refused(f"Docker refused {target.partition('?')[0]} with {status}: {message}")
