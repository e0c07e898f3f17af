"""A flow store in a process of its own, started when it is first needed and again when it has died.

Implements ``seams.flow_store.FlowStore``. Safe from several threads; requests queue. What was asked of a process that
died is not asked again: whoever asked is told, and may put the same batch again.
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
KEPT = "What was stored is stored."


class FlowStoreApart:
    """The flows in a folder, or on a server by URL."""

    def __init__(self, where: str | Path, *, retention: Retention | None = None, journal: Path | None = None) -> None:
        kept = Retention() if retention is None else retention
        self._opening = Opening(str(where), kept, None if journal is None else str(journal))
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._line: socket.socket | None = None
        self._closed = False

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
        """Have the process end, and wait for it."""
        with self._lock:
            self._closed = True
            self._end()

    @property
    def pid(self) -> int | None:
        """The process, while there is one."""
        return None if self._process is None else self._process.pid

    def _call(self, call: str, *arguments: Any) -> Any:
        body = msgspec.msgpack.encode(Request(call, msgspec.Raw(msgspec.msgpack.encode(arguments))))
        with self._lock:
            line = self._started()
            answer = self._ask(line, body, ANSWERED_IN)
        if answer.failure is not None:
            raise _failed(answer.failure, refused=answer.refused)
        return msgspec.msgpack.decode(answer.answer, type=ready(CALLS[call][1]))

    def _started(self) -> socket.socket:
        if self._closed:
            raise FlowStoreFailed("the flow store is closed", kept=KEPT)
        if self._line is not None and self._process is not None and self._process.poll() is None:
            return self._line
        self._end()
        ours, theirs = socket.socketpair()
        module = f"{__package__}.serving"
        words = [sys.executable, "-m", module, msgspec.json.encode(self._opening).decode()]
        with theirs:
            self._process = subprocess.Popen(words, stdin=theirs.fileno(), stdout=subprocess.DEVNULL)
        self._line = ours
        greeting = self._ask(ours, None, OPENED_IN)
        if greeting.failure is not None:
            self._end()
            raise _failed(greeting.failure)
        return ours

    def _ask(self, line: socket.socket, body: bytes | None, patience: float) -> Answer:
        """Send a request, or nothing, and wait for an answer; a process that gives none is ended."""
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
        self._end(kill=True)
        raise FlowStoreFailed(
            f"the flow store failed: {why}",
            kept=KEPT,
            remedy="Try again: it is started anew. Its words are in the log.",
        )

    def _end(self, *, kill: bool = False) -> None:
        """Hang up, upon which the process ends."""
        if self._line is not None:
            self._line.close()
        process, self._line, self._process = self._process, None, None
        if process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                if not kill:
                    process.wait(ENDED_IN)
            if process.poll() is None:
                process.kill()
            process.wait()


def _failed(failure: tuple[str, str, str], *, refused: bool = False) -> FlowStoreFailed:
    message, kept, remedy = failure
    return (FlowsRefused if refused else FlowStoreFailed)(message, kept=kept, remedy=remedy)
