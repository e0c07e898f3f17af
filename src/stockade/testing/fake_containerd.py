"""An honest fake of a containerd: its API over gRPC on a Unix socket, without a process behind any container.

It refuses what the real one refuses (``tests/containerd/test_fake_containerd_real.py`` asks both the same), and can be
made to do what a broken one does: hang, go away, break off, answer what is no message.
"""

import asyncio
import contextlib
import struct
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, Event, RequestReceived, StreamEnded, StreamReset, WindowUpdated
from h2.exceptions import ProtocolError

from stockade.adapters.containerd.protobuf import Message, Value, encode
from stockade.adapters.containerd.wire import (
    CONTAINERS,
    CRI_METADATA,
    EVENTS,
    NAMESPACES,
    TASKS,
    VERSION,
    Key,
    Status,
    Task,
)

INVALID, NOT_FOUND, PRECONDITION, UNIMPLEMENTED = 3, 5, 9, 12
_PREFIX = struct.Struct(">?I")


class FakeContainer(msgspec.Struct, frozen=True):
    """A container as it is kept. ``spec``: bytes that stand for the largest part of a real one."""

    key: Key
    image: str = ""
    labels: Mapping[str, str] = {}
    created: float = 0.0
    sandbox: str = ""
    """As containerd 2 tells it."""
    extension: bytes = b""
    """As the CRI plugin told it before: JSON."""
    spec: bytes = b""


class FakeContainerd:
    """``async with FakeContainerd(path) as containerd``; what is changed by its methods is told as events."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.asked: list[str] = []
        """Every method that was called, in order."""
        self.hangs = False
        """Answers nothing any more, as one that was stopped."""
        self.raw: dict[str, bytes] = {}
        """By method: bytes to answer instead of a message."""
        self.before: dict[str, Callable[[], None]] = {}
        """By method: what happens before it is answered."""
        self.containers: dict[Key, FakeContainer] = {}
        self.tasks: dict[Key, Task] = {}
        self.silent: set[Key] = set()
        """Containers whose shim answers nothing."""
        self._lines: set[_Line] = set()
        self._server: asyncio.AbstractServer | None = None

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def open(self) -> None:
        """Take connections."""
        self._server = await asyncio.start_unix_server(self._accept, str(self.path))

    def close(self) -> None:
        """Cut every connection and take no more."""
        if self._server is not None:
            self._server.close()
        self.path.unlink(missing_ok=True)
        for line in list(self._lines):
            line.cut()

    def go_away(self) -> None:
        """End every connection in good order, as a server that stops."""
        for line in list(self._lines):
            line.go_away()

    def break_off(self, method: str) -> None:
        """Reset every stream on which a method is being answered."""
        for line in list(self._lines):
            line.break_off(method)

    # What happens in it

    def create(self, container: FakeContainer) -> None:
        """Add a container."""
        self.containers[container.key] = container
        self._tell(container.key, "/containers/create", {1: container.key.id, 2: container.image})

    def run(self, key: Key, pid: int) -> None:
        """Give a container a task, and start it."""
        self.tasks[key] = Task(pid, Status.CREATED)
        self._tell(key, "/tasks/create", {1: key.id, 6: pid})
        self.tasks[key] = Task(pid, Status.RUNNING)
        self._tell(key, "/tasks/start", {1: key.id, 2: pid})

    def exit(self, key: Key, process: str = "") -> None:
        """End a container's first process, or one that was executed in it."""
        if not process:
            self.tasks[key] = Task(self.tasks[key].pid, Status.STOPPED)
        self._tell(key, "/tasks/exit", {1: key.id, 2: process or key.id, 3: 1})

    def delete(self, key: Key) -> None:
        """Remove a container."""
        self.tasks.pop(key, None)
        del self.containers[key]
        self._tell(key, "/containers/delete", {1: key.id})

    def _tell(self, key: Key, topic: str, fields: Mapping[int, Value]) -> None:
        event = encode({1: f"containerd.events{topic}", 2: encode(fields)})
        envelope = encode({1: timestamp(time.time()), 2: key.namespace, 3: topic, 4: event})
        for line in list(self._lines):
            line.publish(topic, envelope)

    # Questions

    def answer(self, method: str, request: Message, namespace: str) -> "list[bytes] | tuple[int, str]":
        """Return the messages of the answer, or a gRPC code and why."""
        if method in (f"{VERSION}/Version", f"{NAMESPACES}/List"):
            return [self._names() if method.startswith(NAMESPACES) else encode({1: "v0.0.0"})]
        if not method.startswith((f"{CONTAINERS}/", f"{TASKS}/")):
            return UNIMPLEMENTED, f"unknown service {method.partition('/')[0]}"
        if not namespace:
            return PRECONDITION, "namespace is required"
        key = Key(namespace, request.text(1))
        within = [self.containers[each] for each in sorted(self.containers) if each.namespace == namespace]
        match method.rpartition("/")[2]:
            case "ListStream":
                return [encode({1: container_message(each)}) for each in within]
            case "Get" if method.startswith(CONTAINERS) and key in self.containers:
                return [encode({1: container_message(self.containers[key])})]
            case "Get" if method.startswith(TASKS) and key in self.tasks:
                return [encode({1: self._task(key)})]
            case "Get":
                return NOT_FOUND, f'"{key.id}" in namespace "{namespace}": not found'
            case "List" if method.startswith(TASKS):
                there = (each.key for each in within if each.key in self.tasks and each.key not in self.silent)
                return [encode({1: [self._task(each) for each in there]})]
            case other:
                return UNIMPLEMENTED, f"unknown method {other}"

    def _names(self) -> bytes:
        return encode({1: [encode({1: each}) for each in sorted({key.namespace for key in self.containers})]})

    def _task(self, key: Key) -> bytes:
        task = self.tasks[key]
        return encode({2: key.id, 3: task.pid, 4: int(task.status)})

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = _Line(self, writer)
        self._lines.add(line)
        try:
            with contextlib.suppress(ProtocolError, OSError):
                await line.serve(reader)
        finally:
            self._lines.discard(line)
            writer.close()


def container_message(container: FakeContainer) -> bytes:
    """Return a container as it goes over the wire."""
    extension = encode({1: CRI_METADATA, 2: encode({1: "cri", 2: container.extension})})
    return encode(
        {
            1: container.key.id,
            2: container.labels,
            3: container.image,
            5: encode({1: "spec", 2: container.spec}),
            8: timestamp(container.created),
            10: [extension] if container.extension else [],
            11: container.sandbox,
        }
    )


def timestamp(seconds: float) -> bytes:
    """Return a moment as it goes over the wire."""
    return encode({1: int(seconds), 2: round(seconds % 1 * 1e9)})


class _Asked(msgspec.Struct):
    """One stream: what is asked on it, and what waits for room on the way back."""

    method: str
    namespace: str
    request: bytes = b""
    topics: tuple[str, ...] = ()
    waiting: bytearray = msgspec.field(default_factory=bytearray)
    trailers: list[tuple[str, str]] | None = None


class _Line:
    """One connection."""

    def __init__(self, containerd: FakeContainerd, writer: asyncio.StreamWriter) -> None:
        self._containerd = containerd
        self._writer = writer
        self._http = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        self._asked: dict[int, _Asked] = {}

    async def serve(self, reader: asyncio.StreamReader) -> None:
        self._http.initiate_connection()
        self._flush()
        while data := await reader.read(65536):
            while self._containerd.hangs:
                await asyncio.sleep(0.01)
            for event in self._http.receive_data(data):
                self._heed(event)
            self._flush()

    def publish(self, topic: str, envelope: bytes) -> None:
        for number, asked in self._asked.items():
            if topic in asked.topics:
                self._say(number, [envelope])
        self._flush()

    def cut(self) -> None:
        self._writer.close()

    def go_away(self) -> None:
        self._http.close_connection()
        self._flush()

    def break_off(self, method: str) -> None:
        for number, asked in list(self._asked.items()):
            if asked.method == method:
                self._http.reset_stream(number, 2)
                del self._asked[number]
        self._flush()

    def _heed(self, event: Event) -> None:
        match event:
            case RequestReceived():
                headers = {str(name): str(value) for name, value in event.headers or ()}
                namespace = headers.get("containerd-namespace", "")
                self._asked[event.stream_id or 0] = _Asked(headers[":path"].removeprefix("/"), namespace)
            case DataReceived():
                self._asked[event.stream_id or 0].request += event.data or b""
                self._http.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id or 0)
            case StreamEnded():
                self._answer(event.stream_id or 0)
            case StreamReset():
                self._asked.pop(event.stream_id or 0, None)
            case WindowUpdated():
                for number in list(self._asked):
                    self._send(number)
            case _:
                pass

    def _answer(self, number: int) -> None:
        asked, containerd = self._asked[number], self._containerd
        containerd.asked.append(asked.method)
        if before := containerd.before.get(asked.method):
            before()
        request = Message(asked.request[_PREFIX.size :])
        if asked.method.startswith(f"{TASKS}/Get") and Key(asked.namespace, request.text(1)) in containerd.silent:
            return
        if asked.method == f"{EVENTS}/Subscribe":
            self._subscribe(number, [each.decode() for each in request.all_data(1)])
        elif asked.method in containerd.raw:
            self._begin(number)
            self._finish(number, containerd.raw[asked.method])
        else:
            self._reply(number, containerd.answer(asked.method, request, asked.namespace))

    def _subscribe(self, number: int, filters: Iterable[str]) -> None:
        """The real one knows more filters; this one says so."""
        topics = [each.removeprefix('topic=="').removesuffix('"') for each in filters]
        if any(f'topic=="{topic}"' != each for topic, each in zip(topics, filters, strict=True)):
            self._reply(number, (INVALID, "only filters by topic are known here"))
            return
        self._begin(number)
        self._asked[number].topics = tuple(topics)

    def _reply(self, number: int, answer: "list[bytes] | tuple[int, str]") -> None:
        if isinstance(answer, tuple):
            code, why = answer
            headers = [*_HEAD, ("grpc-status", str(code)), ("grpc-message", why.replace('"', "%22"))]
            self._http.send_headers(number, headers, end_stream=True)
            del self._asked[number]
            return
        self._begin(number)
        self._finish(number, b"".join(map(_framed, answer)))

    def _begin(self, number: int) -> None:
        self._http.send_headers(number, _HEAD)

    def _finish(self, number: int, data: bytes) -> None:
        self._asked[number].waiting += data
        self._asked[number].trailers = [("grpc-status", "0")]
        self._send(number)

    def _say(self, number: int, messages: Iterable[bytes]) -> None:
        self._asked[number].waiting += b"".join(map(_framed, messages))
        self._send(number)

    def _send(self, number: int) -> None:
        """Send as much as the other side has room for."""
        asked = self._asked[number]
        while asked.waiting:
            room = min(self._http.local_flow_control_window(number), self._http.max_outbound_frame_size)
            if room <= 0:
                return
            self._http.send_data(number, bytes(asked.waiting[:room]))
            del asked.waiting[:room]
        if asked.trailers is not None:
            self._http.send_headers(number, asked.trailers, end_stream=True)
            del self._asked[number]

    def _flush(self) -> None:
        if data := self._http.data_to_send():
            self._writer.write(data)


_HEAD = [(":status", "200"), ("content-type", "application/grpc")]


def _framed(message: bytes) -> bytes:
    return _PREFIX.pack(False, len(message)) + message
