"""A flow store in a process of its own, started when it is first needed and again when it has died.

Implements ``seams.flow_store.FlowStore``. Safe from several threads, so many of which it serves at once as there are
lines to the process; the others wait for one. What was asked of a process that died is not asked again: whoever asked
is told, and may put the same batch again.
"""

import contextlib
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from stockade.adapters.clickhouse.speech import CALLS, Answer, Opening, Request, receive, send
from stockade.decoding import ready
from stockade.seams.flow_store import (
    FlowFilter,
    FlowGroups,
    FlowMark,
    FlowPage,
    FlowQuery,
    FlowsRefused,
    FlowStats,
    FlowStoreFailed,
    HostLoss,
    Put,
    Retention,
    StoredBatch,
)

OPENED_IN, ANSWERED_IN = 60.0, 120.0
"""Seconds that a process may take to open the store, and to answer."""
ENDED_IN = 10.0
LINES = 4
"""Two for puts (``controller.together``), so that a question waits for none of them, nor they for it."""
KEPT = "What was stored is stored."


class _Served:
    """A process, and the lines to it that nobody is speaking on."""

    def __init__(self, process: subprocess.Popen[bytes], lines: list[socket.socket]) -> None:
        self.process = process
        self.idle = lines

    @property
    def alive(self) -> bool:
        """Whether it can be asked."""
        return self.process.poll() is None

    def end(self, *, kill: bool = False) -> None:
        """Hang up, upon which the process ends. Who still waits for an answer is told that there is none."""
        while self.idle:
            self.idle.pop().close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            if not kill:
                self.process.wait(ENDED_IN)
        if self.alive:
            self.process.kill()
        self.process.wait()


class FlowStoreApart:
    """The flows in a folder, or on a server by URL."""

    def __init__(self, where: str | Path, *, retention: Retention | None = None, journal: Path | None = None) -> None:
        kept = Retention() if retention is None else retention
        self._opening = Opening(str(where), kept, None if journal is None else str(journal))
        self._lines = threading.BoundedSemaphore(LINES)
        self._lock = threading.Lock()
        self._served: _Served | None = None
        self._closed = False
        self._closing = threading.Lock()

    def put(self, batches: Sequence[StoredBatch]) -> Put:
        """Store batches that are not there yet."""
        found: Put = self._call("put", tuple(batches))
        return found

    def groups(self, query: FlowQuery) -> FlowGroups:
        """Return flows summed up."""
        found: FlowGroups = self._call("groups", query)
        return found

    def mark(self, where: FlowFilter) -> FlowMark:
        """Return a mark of some flows."""
        found: FlowMark = self._call("mark", where)
        return found

    def flows(self, where: FlowFilter, limit: int, after: str | None = None) -> FlowPage:
        """Return single flows, newest first."""
        found: FlowPage = self._call("flows", where, limit, after)
        return found

    def losses(self, since: float, until: float) -> tuple[HostLoss, ...]:
        """Return what was lost, oldest first."""
        found: tuple[HostLoss, ...] = self._call("losses", since, until)
        return found

    def trim(self, now: float) -> tuple[HostLoss, ...]:
        """Forget what is too old, and the oldest of what is too much."""
        found: tuple[HostLoss, ...] = self._call("trim", now)
        return found

    def stats(self) -> FlowStats:
        """Return what is held."""
        found: FlowStats = self._call("stats")
        return found

    def close(self) -> None:
        """Have the process end, once it has answered what it was asked, and wait for it."""
        self._closed = True
        with self._closing, contextlib.ExitStack() as silence:
            for _ in range(LINES):
                silence.enter_context(self._lines)
            if self._served is not None:
                self._served.end()
                self._served = None

    @property
    def pid(self) -> int | None:
        """The process, while there is one."""
        return None if self._served is None else self._served.process.pid

    def _call(self, call: str, *arguments: Any) -> Any:
        body = msgspec.msgpack.encode(Request(call, msgspec.Raw(msgspec.msgpack.encode(arguments))))
        answer = self._asked(body)
        if answer.failure is not None:
            raise _failed(answer.failure, refused=answer.refused)
        return msgspec.msgpack.decode(answer.answer, type=ready(CALLS[call][1]))

    def _asked(self, body: bytes) -> Answer:
        """Ask on a line that is free. A process that gives no answer is ended, and with it what others asked of it."""
        with self._lines:
            with self._lock:
                served = self._started()
                line = served.idle.pop()
            try:
                answer = _ask(line, body, ANSWERED_IN)
            except BaseException:
                line.close()
                with self._lock:
                    served.end(kill=True)
                raise
            with self._lock:
                if served is self._served:
                    served.idle.append(line)
                else:  # it died since
                    line.close()
        return answer

    def _started(self) -> _Served:
        if self._closed:
            raise FlowStoreFailed("the flow store is closed", kept=KEPT)
        if self._served is not None and self._served.alive:
            return self._served
        if self._served is not None:
            self._served.end(kill=True)
            self._served = None
        served = self._start()
        try:
            greeting = _ask(served.idle[0], None, OPENED_IN)
        except BaseException:
            served.end(kill=True)
            raise
        if greeting.failure is not None:
            served.end()
            raise _failed(greeting.failure)
        self._served = served
        return served

    def _start(self) -> _Served:
        with contextlib.ExitStack() as theirs:
            pairs = [socket.socketpair() for _ in range(LINES)]
            numbers = [theirs.enter_context(other).fileno() for _, other in pairs]
            opening = msgspec.json.encode(self._opening).decode()
            words = [sys.executable, "-m", f"{__package__}.serving", opening, *map(str, numbers)]
            process = subprocess.Popen(words, pass_fds=numbers, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        return _Served(process, [ours for ours, _ in pairs])


def _ask(line: socket.socket, body: bytes | None, patience: float) -> Answer:
    """Send a request, or nothing, and wait for an answer; ``FlowStoreFailed`` where there comes none."""
    try:
        line.settimeout(patience)
        if body is not None:
            send(line, body)
        if data := receive(line):
            return msgspec.msgpack.decode(data, type=ready(Answer))
        why = "its process died"
    except TimeoutError:
        why = f"it did not answer within {patience:.0f} s"
    except OSError as problem:
        why = f"its process cannot be reached ({problem.strerror})"
    raise FlowStoreFailed(
        f"the flow store failed: {why}",
        kept=KEPT,
        remedy="Try again: it is started anew. Its words are in the log.",
    )


def _failed(failure: tuple[str, str, str], *, refused: bool = False) -> FlowStoreFailed:
    message, kept, remedy = failure
    return (FlowsRefused if refused else FlowStoreFailed)(message, kept=kept, remedy=remedy)
