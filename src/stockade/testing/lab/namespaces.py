"""A lab's namespaces, seen from outside: starts the nursery, talks to the server in each namespace, runs commands.

Closing, an exception, Ctrl-C and kill -9 of this process all end the nursery, and with it everything in it.
"""

import array
import asyncio
import contextlib
import functools
import itertools
import json
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import msgspec

from stockade.testing.lab.entry import remedy
from stockade.testing.lab.topology import LabError

SCM_CREDENTIALS = 2
PATIENCE = 30.0
"""Seconds that a namespace or command may take to come to life."""
SOURCES = Path(__file__).parents[3]

BOOT = "import sys; sys.path.insert(0, {root!r}); from stockade.testing.probe.nursery import main; main({fd}, {owner})"

Answer = Any


class Done(msgspec.Struct, frozen=True):
    """A command that has ended: exit status (negative: the signal that ended it) and what it wrote."""

    status: int
    stdout: str
    stderr: str


class Namespace:
    """One network namespace and the server in it. ``pid`` is the server's as this process counts."""

    def __init__(self, name: str, pid: int, inner_pid: int, sock: socket.socket) -> None:
        self.name, self.pid, self.inner_pid = name, pid, inner_pid
        self._sock = sock
        self._answers: dict[int, asyncio.Future[Answer]] = {}
        self._impatient: dict[int, asyncio.Future[int]] = {}
        self._numbers = itertools.count(1)
        self._task: asyncio.Task[None] | None = None
        self._writer: asyncio.StreamWriter | None = None

    @property
    def path(self) -> Path:
        """The namespace as a path, valid for as long as the namespace lives."""
        return Path(f"/proc/{self.pid}/ns/net")

    async def open(self) -> Self:
        """Begin to talk."""
        reader, self._writer = await asyncio.open_connection(sock=self._sock)
        self._task = asyncio.create_task(self._listen(reader))
        return self

    async def ask(self, op: str, **arguments: object) -> Answer:
        """Have the server do something; return what it answers. Raises ``LabError`` with its words."""
        _, answer = self.begin(op, **arguments)
        return await answer

    def begin(self, op: str, **arguments: object) -> tuple[int, "asyncio.Future[Answer]"]:
        """Send a request without waiting; return its number and its answer to come."""
        if self._writer is None or self._writer.is_closing():
            raise LabError(f"{self.name} is gone", remedy="add the node again")
        number = next(self._numbers)
        loop = asyncio.get_running_loop()
        answer = self._answers[number] = loop.create_future()
        self._impatient[number] = loop.create_future()
        data = msgspec.json.encode({"id": number, "op": op, **arguments})
        self._writer.write(struct.pack("!I", len(data)) + data)
        return number, answer

    async def patience_over(self, number: int) -> None:
        """Wait until a request is answered, or the server says that it is still waiting for some of it."""
        if number in self._answers:
            await asyncio.wait((self._answers[number], self._impatient[number]), return_when=asyncio.FIRST_COMPLETED)

    async def close(self) -> None:
        """Stop talking: the server ends, and with it the namespace once nobody else is in it."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        if self._writer is not None:
            self._writer.close()
        self._sock.close()

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        try:
            while True:
                size = int.from_bytes(await reader.readexactly(4), "big")
                self._hear(msgspec.json.decode(await reader.readexactly(size)))
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            for answer in self._answers.values():
                if not answer.done():
                    answer.set_exception(LabError(f"{self.name} is gone", remedy="add the node again"))
                    answer.exception()

    def _hear(self, message: dict[str, Any]) -> None:
        number = message["id"]
        if "waiting" in message:
            if number in self._impatient and not self._impatient[number].done():
                self._impatient[number].set_result(message["waiting"])
            return
        answer = self._answers.pop(number, None)
        self._impatient.pop(number, None)
        if answer is None or answer.done():
            return
        if "error" in message:
            answer.set_exception(LabError(f"{self.name}: {message['error']}"))
        else:
            answer.set_result(message["ok"])


class Command:
    """A command running in a namespace. ``pid`` is its pid as this process counts."""

    def __init__(self, pid: int, ended: "asyncio.Future[int]") -> None:
        self.pid = pid
        self._ended = ended

    @property
    def status(self) -> int | None:
        """Its exit status (negative: the signal that ended it), or None while it runs."""
        return self._ended.result() if self._ended.done() else None

    async def wait(self, timeout: float | None = None) -> int:
        """Wait for its end; return its status. Raises ``TimeoutError``; the command runs on then."""
        return await asyncio.wait_for(asyncio.shield(self._ended), timeout)

    def send_signal(self, number: int) -> None:
        """Send it a signal; nothing happens where it has ended."""
        if not self._ended.done():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill it (-9)."""
        self.send_signal(signal.SIGKILL)


class Namespaces:
    """The nursery's other end. To be opened, used and closed in one event loop."""

    def __init__(self) -> None:
        self._line: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._tags = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[int]] = {}
        self._ready: asyncio.Future[dict[str, Any]] | None = None
        self._all: list[Namespace] = []
        self.own_proc = False

    async def open(self) -> None:
        """Start the nursery. Raises ``LabError`` where the kernel forbids namespaces."""
        loop = asyncio.get_running_loop()
        self._line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._line.setblocking(False)
        self._ready = loop.create_future()
        boot = BOOT.format(root=str(SOURCES), fd=theirs.fileno(), owner=os.getpid())
        command = [sys.executable, "-I", "-S", "-c", boot]
        with theirs:
            self._process = subprocess.Popen(
                command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, start_new_session=True
            )
        loop.add_reader(self._line.fileno(), self._hear)
        said = await asyncio.wait_for(self._ready, PATIENCE)
        if said["op"] != "ready":
            raise LabError(
                f"no lab can be built: {said.get('step', 'start')}: {said.get('error', 'the nursery ended')}",
                kept="nothing was changed",
                remedy=remedy(),
            )
        self.own_proc = said["proc"]

    async def birth(self, name: str, *, host: bool = False, within: Path | None = None) -> Namespace:
        """Make a network namespace with a server in it; ``within``: no new one, but the server in one that is there."""
        ours, theirs = socket.socketpair()
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        with theirs, contextlib.ExitStack() as stack:
            there = [stack.enter_context(_opened(within))] if within else []
            self._send({"op": "birth", "host": host}, [theirs.fileno(), *there])
        try:
            data, pid = await asyncio.wait_for(_first_words(ours), PATIENCE)
            inner = json.loads(data[4:])["ok"]["pid"]
        except (ValueError, KeyError, TypeError):
            ours.close()
            raise LabError(f"{name} could not be born: {data.decode(errors='replace')}") from None
        except BaseException:
            ours.close()
            raise
        found = await Namespace(name, pid, inner, ours).open()
        self._all.append(found)
        return found

    async def start(self, namespace: Namespace, argv: Sequence[str], *, streams: Sequence[int] = (),
                    env: Mapping[str, str] | None = None, cwd: str = "") -> Command:  # fmt: skip
        """Start a command; ``streams`` are descriptors for its input, output and errors (none: /dev/null)."""
        tag = next(self._tags)
        self._waiting[tag] = ended = asyncio.get_running_loop().create_future()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        request = {
            "op": "run",
            "tag": tag,
            "argv": list(argv),
            "env": dict(os.environ if env is None else env),
            "cwd": cwd,
        }
        with ours, theirs, _opened(namespace.path) as netns, _opened(Path(os.devnull)) as null:
            self._send(request, [theirs.fileno(), netns, *(streams or (null, null, null))])
            theirs.close()
            data, pid = await asyncio.wait_for(_first_words(ours), PATIENCE)
            if data == b"{}":
                data, _ = await asyncio.wait_for(_first_words(ours), PATIENCE)  # empty: the command has taken over
        if data:
            raise LabError(f"{argv[0]}: {data.decode(errors='replace')}", remedy="is it installed and on the PATH?")
        return Command(pid, ended)

    async def clear(self, namespace: Namespace) -> None:
        """Kill everything that runs in a namespace."""
        tag = next(self._tags)
        self._waiting[tag] = done = asyncio.get_running_loop().create_future()
        with contextlib.suppress(FileNotFoundError):
            netns = namespace.path.stat().st_ino
            self._send({"op": "clear", "tag": tag, "netns": netns}, [])
            await asyncio.wait_for(done, PATIENCE)

    async def close(self) -> None:
        """End the nursery and everything in it, and wait until it has ended. May be called twice."""
        if self._line is not None:
            asyncio.get_running_loop().remove_reader(self._line.fileno())
            self._line.close()
            self._line = None
        if self._process is not None:
            self._end(self._process)
            self._process = None
        for each in self._all:
            await each.close()
        self._all.clear()

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        """Closing the line was enough; this waits for it, without the event loop, which may be closing too."""
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _send(self, message: dict[str, Any], descriptors: Iterable[int]) -> None:
        if self._line is None:
            raise LabError("the lab is closed", remedy="use it within its block")
        fds = array.array("i", descriptors)
        extra = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)] if fds else []
        try:
            self._line.sendmsg([json.dumps(message).encode()], extra)
        except OSError as problem:
            raise LabError(f"the lab's nursery does not listen: {problem}", remedy="build the lab again") from problem

    def _hear(self) -> None:
        assert self._line is not None
        try:
            data = self._line.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        message: dict[str, Any] = json.loads(data) if data else {"op": "over"}
        if not data:
            asyncio.get_running_loop().remove_reader(self._line.fileno())
        if self._ready is not None and not self._ready.done():
            self._ready.set_result(message)
        elif (waiting := self._waiting.pop(message.get("tag", 0), None)) and not waiting.done():
            waiting.set_result(message.get("status", 0))


async def _first_words(sock: socket.socket) -> tuple[bytes, int]:
    """Return the first bytes that come and the pid, as this process counts, of whoever sent them."""
    sock.setblocking(False)
    loop = asyncio.get_running_loop()
    readable: asyncio.Future[None] = loop.create_future()
    loop.add_reader(sock.fileno(), functools.partial(_settle, readable))
    try:
        await readable
    finally:
        loop.remove_reader(sock.fileno())
    data, extra, _, _ = sock.recvmsg(65536, socket.CMSG_SPACE(12))
    pid = next((struct.unpack("3i", value[:12])[0] for _, kind, value in extra if kind == SCM_CREDENTIALS), 0)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 0)
    return data, pid


def _settle(readable: "asyncio.Future[None]") -> None:
    if not readable.done():
        readable.set_result(None)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    fd = os.open(path, os.O_RDWR if path.name == "null" else os.O_RDONLY)
    try:
        yield fd
    finally:
        os.close(fd)
