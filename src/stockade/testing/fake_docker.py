"""A Docker engine's API over a real Unix socket, from recorded answers, which can misbehave as a real one cannot be
made to: garbage, half answers, silence, refusals, events out of the blue.

It refuses what an engine refuses: a container or network that is not there is 404, a request before its time waits.
"""

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

Described = dict[str, Any]
Fault = Callable[[asyncio.StreamWriter], Awaitable[None]]


class FakeDocker:
    """``async with FakeDocker(path, …)``: serves until the block ends. Its containers may be changed at any time."""

    def __init__(self, path: Path, *, version: str = "1.41", networks: Iterable[Described] = ()) -> None:
        self.path = path
        self.version = version
        self.networks: list[Described] = list(networks)
        self.containers: dict[str, Described] = {}
        """What ``inspect`` answers, by id."""
        self.listings: dict[str, Described] = {}
        """What the listing says, by id."""
        self.faults: dict[str, Fault] = {}
        """By the part of a request's path before which it strikes, instead of an answer."""
        self.asked: list[str] = []
        self._streams: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self._server: asyncio.AbstractServer | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_unix_server(self._accept, self.path)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.close()
        for task in list(self._serving):
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)
        self.path.unlink(missing_ok=True)

    def hold(self, listing: Described, container: Described) -> None:
        """Have a container, without saying so."""
        self.listings[listing["Id"]] = listing
        self.containers[listing["Id"]] = container

    def drop(self, container: str) -> None:
        """Have a container no more, without saying so."""
        self.listings.pop(container, None)
        self.containers.pop(container, None)

    def say(self, message: Mapping[str, Any] | bytes) -> None:
        """Send one event, or any bytes, to everybody who listens."""
        line = message if isinstance(message, bytes) else json.dumps(message).encode() + b"\n"
        for stream in self._streams:
            stream.write(b"%x\r\n%s\r\n" % (len(line), line))

    def hang_up(self) -> None:
        """Close every events stream in mid-air."""
        for stream in self._streams:
            stream.close()

    @property
    def listeners(self) -> int:
        """How many follow the events."""
        return len(self._streams)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                while not writer.is_closing():
                    head = await reader.readuntil(b"\r\n\r\n")
                    await self._answer(head.split(b" ", 2)[1].decode(), reader, writer)
                    await writer.drain()
        finally:
            self._streams.discard(writer)
            writer.close()

    async def _answer(self, target: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked.append(target)
        for part, fault in self.faults.items():
            if part in target:
                await fault(writer)
                return
        path = urlsplit(target).path
        if path == "/_ping":
            writer.write(_answer(200, b"OK", version=self.version))
        elif path.endswith("/events"):
            await self._stream(reader, writer)
        else:
            status, found = self._find(path.removeprefix(f"/v{self.version}"), parse_qs(urlsplit(target).query))
            writer.write(_answer(status, json.dumps(found).encode()))

    def _find(self, path: str, query: Mapping[str, list[str]]) -> tuple[int, object]:
        if path == "/networks":
            return 200, self.networks
        if path == "/containers/json":
            wanted = json.loads(query.get("filters", ["{}"])[0]).get("id")
            return 200, [one for key, one in self.listings.items() if not wanted or key in wanted]
        name = path.removeprefix("/containers/").removesuffix("/json")
        for key, container in self.containers.items():
            if name in (key, container["Name"].removeprefix("/")):
                return 200, container
        return 404, {"message": f"No such container: {name}"}

    async def _stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
        self._streams.add(writer)
        await reader.read()


def _answer(status: int, body: bytes, version: str = "") -> bytes:
    lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(body)}", "Content-Type: application/json"]
    lines += [f"Api-Version: {version}"] if version else []
    return "\r\n".join([*lines, "", ""]).encode() + body
