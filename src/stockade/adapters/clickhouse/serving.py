"""The process that holds a flow store for another: ``python -m stockade.adapters.clickhouse.serving OPENING LINE...``.

Its lines are sockets, by their numbers, to whom it serves; each has a thread of its own. It ends when all are closed.
So neither the memory that the database takes nor whatever befalls it is enforcement's.
"""

import contextlib
import os
import signal
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import msgspec

from stockade.adapters.clickhouse.faults import LOCKED_MESSAGE
from stockade.adapters.clickhouse.speech import CALLS, Answer, Opening, Request, receive, send
from stockade.adapters.clickhouse.store import ClickHouseFlowStore, open_flow_store
from stockade.decoding import ready
from stockade.errors import StockadeError
from stockade.logs import log_of
from stockade.memory import look_rarely
from stockade.seams.flow_store import FlowsRefused, FlowStoreFailed

LATER = 5
"""The process's niceness: it is in nobody's way."""
LOCKED_FOR, LOOK = 15.0, 0.1
"""Seconds for which one that served before may still be ending."""
log = log_of("flow-store")
NOTHING = msgspec.Raw(b"\xc0")


def main() -> None:
    """Open, say whether that went well, serve."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # it ends when nobody is served any more
    os.setpriority(os.PRIO_PROCESS, 0, LATER)
    look_rarely()
    opening = msgspec.json.decode(sys.argv[1], type=ready(Opening))
    with contextlib.ExitStack() as closing:
        lines = [closing.enter_context(socket.socket(fileno=int(number))) for number in sys.argv[2:]]
        try:
            store = _open(opening)
        except StockadeError as problem:
            send(lines[0], _failure(problem))
            return
        send(lines[0], msgspec.msgpack.encode(Answer(NOTHING)))
        with contextlib.closing(store), ThreadPoolExecutor(len(lines), thread_name_prefix="line") as serving:
            list(serving.map(partial(_serve, store), lines))


def _serve(store: ClickHouseFlowStore, line: socket.socket) -> None:
    """Answer whoever speaks on a line, until it is closed."""
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        while data := receive(line):
            send(line, _answer(store, data))


def _open(opening: Opening) -> ClickHouseFlowStore:
    until = time.monotonic() + LOCKED_FOR
    while True:
        try:
            return open_flow_store(
                opening.where,
                retention=opening.retention,
                journal=None if opening.journal is None else Path(opening.journal),
            )
        except FlowStoreFailed as problem:
            if not problem.message.startswith(LOCKED_MESSAGE) or time.monotonic() > until:
                raise
        time.sleep(LOOK)


def _answer(store: ClickHouseFlowStore, data: bytes) -> bytes:
    try:
        request = msgspec.msgpack.decode(data, type=ready(Request))
        arguments = msgspec.msgpack.decode(request.arguments, type=ready(CALLS[request.call][0]))
        found = getattr(store, request.call)(*arguments)
        return msgspec.msgpack.encode(Answer(msgspec.Raw(msgspec.msgpack.encode(found))))
    except StockadeError as problem:
        return _failure(problem)
    except Exception as problem:
        log.exception("unforeseen")
        kept = "What was stored is stored."
        return _failure(FlowStoreFailed(f"the flow store failed unforeseen: {problem!r}", kept=kept))


def _failure(problem: StockadeError) -> bytes:
    refused = isinstance(problem, FlowsRefused)
    return msgspec.msgpack.encode(Answer(NOTHING, (problem.message, problem.kept, problem.remedy), refused))


if __name__ == "__main__":
    main()
