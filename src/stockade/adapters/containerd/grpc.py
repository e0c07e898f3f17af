"""gRPC over HTTP/2 on a Unix socket: unary calls and streams that answer one request, several at a time.

https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md. Messages are bytes; who calls knows what they mean.
All that goes wrong ends as ``ChannelLost`` (nobody is there any more, or speaks no gRPC) or ``CallFailed`` (the answer
is an error); no error of a library leaves this module. It bounds no wait: who calls does, and a call that is cancelled
is called off at the other side too.
"""

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator, Mapping
from typing import Self
from urllib.parse import unquote

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes

OK = 0
_CHUNK = 1 << 16
_WINDOW = 4 << 20
"""Bytes that may be on their way to us before we have read them."""
_PREFIX = struct.Struct(">?I")

Headers = Mapping[str, str]


class ChannelLost(Exception):  # noqa: N818 - reads as what happened
    """The connection is no more, or what is at its other end speaks no gRPC."""


class CallFailed(Exception):  # noqa: N818 - reads as what happened
    """The answer is an error; ``code`` is gRPC's."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class Channel:
    """One connection. ``open`` makes it; it is of no more use after ``ChannelLost``."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, largest: int) -> None:
        self._reader = reader
        self._writer = writer
        self._largest = largest
        self._http = H2Connection(H2Configuration(client_side=True))
        self._calls: dict[int, _Call] = {}
        self._end: ChannelLost | None = None
        self._reading: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, path: str, *, largest: int = 64 << 20) -> Self:
        """Connect. ``largest``: bytes that one message may have. Raises ``OSError``."""
        channel = cls(*await asyncio.open_unix_connection(path), largest)
        channel._begin()
        return channel

    async def call(self, method: str, request: bytes, headers: Headers | None = None) -> bytes:
        """Ask (``package.Service/Method``); return the one message of the answer."""
        async with self.stream(method, request, headers) as answers:
            found = [message async for message in answers]
        if len(found) != 1:
            raise ChannelLost(f"{method} was answered by {len(found)} messages")
        return found[0]

    @contextlib.asynccontextmanager
    async def stream(
        self, method: str, request: bytes, headers: Headers | None = None
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """Ask; yield the messages of the answer as they come. Leaving calls it off."""
        number = self._ask(method, request, headers or {})
        call = self._calls[number]
        try:
            await self._drain()
            yield call.messages()
        finally:
            self._calls.pop(number, None)
            if not call.ended:
                self._call_off(number)

    def close(self) -> None:
        """Hang up. May be called twice."""
        self._break(ChannelLost("the connection was closed"))
        if self._reading is not None:
            self._reading.cancel()

    # Saying

    def _begin(self) -> None:
        self._http.initiate_connection()
        self._http.update_settings({SettingCodes.ENABLE_PUSH: 0, SettingCodes.INITIAL_WINDOW_SIZE: _WINDOW})
        self._http.increment_flow_control_window(_WINDOW)
        self._flush()
        self._reading = asyncio.create_task(self._read())

    def _ask(self, method: str, request: bytes, headers: Headers) -> int:
        if self._end is not None:
            raise ChannelLost(str(self._end)) from self._end
        try:
            number = self._http.get_next_available_stream_id()
            self._http.send_headers(number, _head(method, headers))
            data = _PREFIX.pack(False, len(request)) + request
            step = self._http.max_outbound_frame_size
            for start in range(0, len(data), step):
                self._http.send_data(number, data[start : start + step], end_stream=start + step >= len(data))
        except ProtocolError as problem:
            raise ChannelLost(f"{method} could not be asked: {problem}") from problem
        self._calls[number] = _Call(method, self._largest)
        self._flush()
        return number

    def _call_off(self, number: int) -> None:
        with contextlib.suppress(ProtocolError):
            self._http.reset_stream(number, error_code=8)  # CANCEL
            self._flush()

    def _flush(self) -> None:
        if data := self._http.data_to_send():
            self._writer.write(data)

    async def _drain(self) -> None:
        try:
            await self._writer.drain()
        except OSError as problem:
            raise ChannelLost(f"the connection broke: {problem.strerror or problem}") from problem

    # Hearing

    async def _read(self) -> None:
        try:
            while data := await self._reader.read(_CHUNK):
                for event in self._http.receive_data(data):
                    self._heed(event)
                self._flush()
            self._break(ChannelLost("the connection was closed at the other end"))
        except ProtocolError as problem:
            self._break(ChannelLost(f"what answers speaks no HTTP/2: {problem}"))
        except OSError as problem:
            self._break(ChannelLost(f"the connection broke: {problem.strerror or problem}"))

    def _heed(self, event: Event) -> None:
        match event:
            case ResponseReceived() | TrailersReceived():
                if call := self._calls.get(event.stream_id or 0):
                    call.hear({_text(name): _text(value) for name, value in event.headers or ()})
            case DataReceived():
                self._http.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id or 0)
                if call := self._calls.get(event.stream_id or 0):
                    call.take(event.data or b"")
            case StreamEnded():
                if call := self._calls.get(event.stream_id or 0):
                    call.finish()
            case StreamReset():
                if call := self._calls.get(event.stream_id or 0):
                    call.end(ChannelLost(f"{call.method} was broken off (HTTP/2 error {event.error_code})"))
            case ConnectionTerminated():
                self._break(ChannelLost("the other end is going away"))
            case _:
                pass

    def _break(self, why: ChannelLost) -> None:
        self._end = self._end or why
        for call in self._calls.values():
            call.end(self._end)
        self._writer.close()


class _Call:
    """What came in answer to one request."""

    def __init__(self, method: str, largest: int) -> None:
        self.method = method
        self.ended = False
        self._largest = largest
        self._rest = bytearray()
        self._status: tuple[int, str] | None = None
        self._found: asyncio.Queue[bytes | Exception | None] = asyncio.Queue()

    async def messages(self) -> AsyncIterator[bytes]:
        while (found := await self._found.get()) is not None:
            if isinstance(found, Exception):
                raise found
            yield found

    def hear(self, headers: Mapping[str, str]) -> None:
        """Take in what the answer begins or ends with; an error may be all that there is."""
        if (status := headers.get(":status", "200")) != "200":
            self.end(ChannelLost(f"{self.method} was answered by HTTP status {status}, which is no gRPC"))
        if code := headers.get("grpc-status"):
            number = int(code) if code.isdigit() else 2
            self._status = number, unquote(headers.get("grpc-message", ""))

    def take(self, data: bytes) -> None:
        self._rest += data
        while len(self._rest) >= _PREFIX.size:
            compressed, length = _PREFIX.unpack_from(self._rest)
            if compressed or length > self._largest:
                self.end(ChannelLost(f"{self.method} was answered by a message that is too large, or compressed"))
                return
            if len(self._rest) < _PREFIX.size + length:
                return
            self._found.put_nowait(bytes(self._rest[_PREFIX.size : _PREFIX.size + length]))
            del self._rest[: _PREFIX.size + length]

    def finish(self) -> None:
        """Take in that nothing more will come."""
        if self._status is None:
            self.end(ChannelLost(f"the answer to {self.method} ended without a status"))
        elif self._status[0] != OK:
            self.end(CallFailed(*self._status))
        else:
            self.end(None)

    def end(self, why: Exception | None) -> None:
        if not self.ended:
            self.ended = True
            self._found.put_nowait(why)


def _text(raw: str | bytes) -> str:
    return raw if isinstance(raw, str) else raw.decode(errors="replace")


def _head(method: str, headers: Headers) -> list[tuple[str, str]]:
    return [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", f"/{method}"),
        (":authority", "localhost"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        ("user-agent", "stockade"),
        *headers.items(),
    ]
