"""The gate's socket: one question a connection, one line each way (``stockade/gate/gate.c`` asks).

A question is ``BY TAB CONTAINER TAB NETNS NEWLINE``; the answer is a line, empty where the container may start. A start
waits for it, just when the agent has most to do about that container: so questions are answered in a thread of their
own, one after the other, in few turns of the interpreter; who does not ask at once is heard by others.
"""

import asyncio
import contextlib
import os
import socket
import struct
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from stockade.core.model.ids import HostId, WorkloadId
from stockade.core.model.inventory import Sighting, WorkloadKind
from stockade.core.model.policy import Births, Where
from stockade.seams.clock import Clock
from stockade.seams.gate import Answer, Knock
from stockade.seams.places import Place, Places, Stirs
from stockade.seams.runtime import Gone, Listed, RuntimeEvent, Seen

NAME = "gate"
SOCKET = "gate.sock"
BIRTHS = "births"
"""File name of what is written down, beside the socket (in memory) and in the state folder (for the next boot)."""
WORD_SIZE = 512
"""Bytes of that file: always as many, so that it is written anew where a disk is full."""
BACKLOG = 1024
PATIENCE = 2.0
"""Seconds in which a question must have arrived."""
AT_ONCE = 0.005
"""Seconds in which it mostly has: others wait no longer."""
STARTING, MOMENT = 1.0, 0.01
"""Seconds for which somebody who asks waits for an agent that has just begun, and between looks whether it has."""
LATE = 128
"""Threads for those who wait."""
REMEMBERED = 30.0
"""Seconds for which a birth is told of: by then its own runtime has."""
PAUSES = tuple(0.01 * 1.4**number for number in range(12))
"""Seconds between looks, at most, at a namespace that has no address yet: somewhat over a second in all."""
TOGETHER = 0.001
"""Seconds to wait for what comes with a first address."""
LONGEST = 8192
LARGEST = 1 << 16


class GateSocket:
    """Implements ``seams.gate.Gate``. ``run``: the folder of the socket; ``state``: of what outlives a boot."""

    def __init__(self, host: HostId, run: Path, state: Path, *, places: Places, stirs: Stirs, clock: Clock) -> None:
        self._host = host
        self._path = run / SOCKET
        self._files = tuple(dict.fromkeys((run / BIRTHS, state / BIRTHS)))
        self._places = places
        self._stirs = stirs
        self._clock = clock

    async def attend(self, answer: Answer, starting: Callable[[], bool]) -> AsyncIterator[RuntimeEvent]:
        """Listen, answer, and tell of each container that may start where it is met; forget it after a while."""
        here, told = asyncio.get_running_loop(), asyncio.Queue[RuntimeEvent | None]()
        following = _Following(self._host, self._places, self._stirs, self._clock, told.put_nowait)

        def may_start(knock: Knock, namespace: int, at: float) -> None:
            here.call_soon_threadsafe(following.follow, knock, namespace, at)

        porter = _Porter(_listening(self._path), self._clock, answer, starting, may_start)
        thread = ThreadPoolExecutor(1, thread_name_prefix="gate")
        serving = here.run_in_executor(thread, porter.serve)
        serving.add_done_callback(lambda _: told.put_nowait(None))
        try:
            yield Listed(())
            while (event := await told.get()) is not None:
                yield event
        finally:
            porter.end()
            thread.shutdown(wait=False)
            try:
                await serving
            finally:  # no sooner: somebody may be answered until then
                following.end()

    def keep(self, births: Births, where: Where) -> None:
        """Write it where no disk can hang, and where it outlives a boot; in place, since a full disk gives no other."""
        line = f"{where.file}:{where.line}" if where.line else ""
        word = f"{births.value}\n{line}".encode()[: WORD_SIZE - 1] + b"\n"
        for path in self._files:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.pwrite(descriptor, word.ljust(WORD_SIZE), 0)
            finally:
                os.close(descriptor)


class _Porter:
    """Answers at a socket, in whatever thread calls ``serve``. Whoever ``may_start`` is told of, its namespace held."""

    def __init__(
        self,
        listener: socket.socket,
        clock: Clock,
        answer: Answer,
        starting: Callable[[], bool],
        may_start: Callable[[Knock, int, float], None],
    ) -> None:
        self._listener = listener
        self._clock = clock
        self._answer = answer
        self._starting = starting
        self._may_start = may_start
        self._ended = False

    def serve(self) -> None:
        """Answer whoever asks, until the end."""
        with self._listener, ThreadPoolExecutor(LATE, thread_name_prefix="gate-late") as late:
            while (connection := self._next()) is not None:
                at, said = self._clock.now(), _heard(connection, AT_ONCE)
                if b"\n" in said and not self._starting():
                    self._answered(connection, said, at)
                else:
                    late.submit(self._patiently, connection, said, at)

    def end(self) -> None:
        """Have ``serve`` return. Any thread may call it."""
        self._ended = True
        with contextlib.suppress(OSError):  # it has returned already
            self._listener.shutdown(socket.SHUT_RDWR)

    def _next(self) -> socket.socket | None:
        while not self._ended:
            try:
                return self._listener.accept()[0]
            except OSError:  # the end, or nothing left to take it with
                time.sleep(MOMENT)
        return None

    def _patiently(self, connection: socket.socket, said: bytes, at: float) -> None:
        until = time.monotonic() + PATIENCE
        while b"\n" not in said and (left := until - time.monotonic()) > 0 and len(said) < LONGEST:
            said += (more := _heard(connection, left))
            if not more:
                break
        for _ in range(round(STARTING / MOMENT)):
            if not self._starting():
                break
            time.sleep(MOMENT)
        self._answered(connection, said, at)

    def _answered(self, connection: socket.socket, said: bytes, at: float) -> None:
        """Answer what was asked; nothing, where that is no question."""
        with connection, contextlib.suppress(OSError, ValueError):
            line, end, _ = said.partition(b"\n")
            if not end:
                return
            knock = Knock(*line.decode().split("\t")[:3])
            namespace, reason = _held(knock.netns), ""
            try:
                reason = self._answer(knock)
                connection.sendall(f"{reason}\n".encode())
            finally:
                if namespace is not None and (reason or not knock.container):
                    os.close(namespace)
                elif namespace is not None:
                    self._may_start(knock, namespace, at)


class _Following:
    """Looks where each is met who may start, and tells of it, in the event loop of whoever attends."""

    def __init__(
        self, host: HostId, places: Places, stirs: Stirs, clock: Clock, tell: Callable[[RuntimeEvent], None]
    ) -> None:
        self._host = host
        self._places = places
        self._stirs = stirs
        self._clock = clock
        self._tell = tell
        self._looking: set[asyncio.Task[None]] = set()
        self._at: dict[str, WorkloadId] = {}
        """Who was told of last at each port of the host."""

    def follow(self, knock: Knock, namespace: int, at: float) -> None:
        """Look for who knocked at a time, in a namespace that is closed in the end."""
        task = asyncio.ensure_future(self._follow(knock, namespace, at))
        self._looking.add(task)
        task.add_done_callback(self._looking.discard)

    def end(self) -> None:
        """Look no more."""
        for task in self._looking:
            task.cancel()

    async def _follow(self, knock: Knock, namespace: int, at: float) -> None:
        """Tell where it is met. One in the host's own namespace, or gone already, is nobody's birth."""
        name = WorkloadId(f"gate:{self._host}:{knock.container}")
        last = None
        try:
            async for place in self._looks(f"/proc/self/fd/{namespace}"):
                if place != last:
                    last = place
                    self._move_in(name, place)
                    born = Sighting(
                        name, knock.container[:12], WorkloadKind.CONTAINER, self._host, endpoints=place.endpoints
                    )
                    self._tell(Seen(born, at, marks=(f"container:{knock.container}", place.mark)))
        except OSError:
            if last is None:
                return
        finally:
            os.close(namespace)
        await asyncio.sleep(REMEMBERED)
        self._at = {port: who for port, who in self._at.items() if who != name}
        self._tell(Gone(name, self._clock.now()))

    async def _looks(self, path: str) -> AsyncIterator[Place]:
        """Look into a namespace until somebody is met there: where the network is made after the knock, it is there
        before the first instruction.
        """
        place = await asyncio.to_thread(self._places, path)
        yield place
        if _met(place):
            return
        stirs = await asyncio.to_thread(self._stirs, path)
        try:
            for pause in PAUSES:
                place = await asyncio.to_thread(self._places, path)
                yield place
                if _met(place):
                    return
                await _stirred(stirs, pause)
        finally:
            os.close(stirs)

    def _move_in(self, name: WorkloadId, place: Place) -> None:
        """A port's name is given again when its container has ended, which this socket hears nothing of."""
        ports = {each.port: name for each in place.endpoints if each.port}
        for ended in sorted({self._at[port] for port in ports if port in self._at} - {name}):
            self._tell(Gone(ended, self._clock.now()))
        self._at |= ports


def _listening(path: Path) -> socket.socket:
    """Listen where only its owner may ask."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        listener.bind(str(path))
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    finally:
        os.umask(mask)
    return listener


def _heard(connection: socket.socket, seconds: float) -> bytes:
    """Return what is said within so many seconds; nothing, where nothing is or nobody will say any more."""
    whole = int(seconds)
    patience = struct.pack("@ll", whole, max(1, int((seconds - whole) * 1e6)))
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, patience)
    try:
        return connection.recv(LONGEST)
    except OSError:
        return b""


def _met(place: Place) -> bool:
    return any(each.addresses for each in place.endpoints)


async def _stirred(descriptor: int, patience: float) -> None:
    """Wait until a descriptor says something, and for what comes with it, and read it away; or so many seconds."""
    loop, said = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(descriptor, said.set)
    try:
        async with asyncio.timeout(patience):
            await said.wait()
        await asyncio.sleep(TOGETHER)
        while os.read(descriptor, LARGEST):
            pass
    except OSError:  # nothing is left, nothing came, or more than there was room for
        return
    finally:
        loop.remove_reader(descriptor)


def _held(path: str) -> int | None:
    """Hold a namespace open while it is certain whose it is: its process waits for our answer."""
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC) if path else None
    except OSError:
        return None
