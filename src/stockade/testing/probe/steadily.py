"""Traffic that never stops, from inside one network namespace: standard library only, run as a bare interpreter.

``python -I -S steadily.py JOBS`` does its jobs (a JSON list) until its input ends. A line of input is a question: what
has come of the jobs since the last one is the answer, one JSON line, a list in the order of the jobs. Moments are
CLOCK_MONOTONIC seconds, the same in every namespace of a machine.

    {"do": "serve", "port": P}                     TCP and UDP echo; ``met``: moments of connections and datagrams
    {"do": "hold", "address": A, "port": P}        one TCP connection, a numbered line after the other, each echoed
    {"do": "stream", "address": A, "port": P}      numbered UDP datagrams, each echoed
    {"do": "open", "address": A, "port": P}        one TCP connection after the other, each closed again
    {"do": "try", "address": A, "port": P}         what should be denied: datagrams, and connections nobody waits for

``pause`` is what lies between two, in seconds.
"""

import asyncio
import contextlib
import errno
import json
import os
import socket
import sys
import time
from typing import Any

PATIENCE = 10.0
"""Seconds within which a held connection must be echoed: a fault may delay packets, it may not lose connections."""
SYN_EVERY = 8
"""A ``try`` begins a TCP connection with every so many datagrams."""
MOST = 200
"""Moments told of one answer; the count goes on."""
ROOM = 1 << 22

Job = dict[str, Any]


class Tally:
    """What has come of one job since it was last asked for."""

    def __init__(self) -> None:
        self.done = 0
        self.lost = 0
        self.moments: list[float] = []
        self.detail = ""

    def mark(self) -> None:
        """Count one that arrived, and when."""
        self.done += 1
        if len(self.moments) < MOST:
            self.moments.append(time.monotonic())

    def lose(self, detail: str) -> None:
        """Count one that was lost, and when."""
        self.lost += 1
        self.detail = detail
        if len(self.moments) < MOST:
            self.moments.append(time.monotonic())

    def take(self) -> dict[str, Any]:
        """Return what was counted, and begin anew."""
        told = {"done": self.done, "lost": self.lost, "moments": self.moments, "detail": self.detail}
        self.done, self.lost, self.moments, self.detail = 0, 0, [], ""
        return told


async def main(jobs: list[Job]) -> None:
    """Do the jobs until the input ends."""
    tallies = [Tally() for _ in jobs]
    tasks = [asyncio.ensure_future(WORK[job["do"]](job, tally)) for job, tally in zip(jobs, tallies, strict=False)]
    asked: asyncio.Queue[bool] = asyncio.Queue()
    asyncio.get_running_loop().add_reader(0, _hear, asked)
    _say("ready")
    while await asked.get():
        ended = [str(task.exception()) for task in tasks if task.done() and not task.cancelled() and task.exception()]
        _say(json.dumps({"ended": ended, "jobs": [tally.take() for tally in tallies]}))
    os._exit(0)  # there is nothing to put in order


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _hear(asked: "asyncio.Queue[bool]") -> None:
    said = os.read(0, 4096)
    for _ in range(said.count(b"\n")):
        asked.put_nowait(True)
    if not said:
        asked.put_nowait(False)


async def _serve(job: Job, tally: Tally) -> None:
    """Echo over TCP and UDP, both families."""

    async def attend(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tally.mark()
        with contextlib.suppress(OSError):
            while line := await reader.read(65536):
                writer.write(line)
        writer.close()

    class Echo(asyncio.DatagramProtocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport: Any = transport

        def datagram_received(self, data: bytes, address: Any) -> None:
            tally.mark()
            self.transport.sendto(data, address)

    listening = socket.create_server(("::", job["port"]), family=socket.AF_INET6, dualstack_ipv6=True, backlog=1024)
    both = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    both.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    both.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, ROOM)
    both.bind(("::", job["port"]))
    await asyncio.get_running_loop().create_datagram_endpoint(Echo, sock=both)
    server = await asyncio.start_server(attend, sock=listening)
    await server.serve_forever()


async def _hold(job: Job, tally: Tally) -> None:
    """Keep one connection talking; a connection that ends, or is silent for too long, is lost, and opened anew."""
    while True:
        try:
            reader, writer = await asyncio.wait_for(asyncio.open_connection(job["address"], job["port"]), PATIENCE)
        except (TimeoutError, OSError) as problem:
            tally.lose(f"not opened: {problem!r}")
            await asyncio.sleep(job["pause"])
            continue
        try:
            await _talk(reader, writer, job, tally)
        except (TimeoutError, OSError) as problem:
            tally.lose(repr(problem))
            writer.close()


async def _talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, job: Job, tally: Tally) -> None:
    number = 0
    while True:
        word = b"%d\n" % number
        writer.write(word)
        if await asyncio.wait_for(reader.readline(), PATIENCE) != word:
            raise ConnectionResetError("ended")
        tally.done += 1
        number += 1
        await asyncio.sleep(job["pause"])


async def _open(job: Job, tally: Tally) -> None:
    """Open one connection after the other."""
    while True:
        try:
            _, writer = await asyncio.wait_for(asyncio.open_connection(job["address"], job["port"]), PATIENCE)
            writer.close()
            tally.done += 1
        except (TimeoutError, OSError) as problem:
            tally.lose(repr(problem))
        await asyncio.sleep(job["pause"])


async def _stream(job: Job, tally: Tally) -> None:
    """Send numbered datagrams; one whose echo has not come when a hundred later ones have is lost."""
    desk = _datagrams(job)
    loop = asyncio.get_running_loop()
    out: dict[bytes, None] = {}

    def hear() -> None:
        with contextlib.suppress(OSError):
            while word := desk.recv(64):
                if out.pop(word, 1) is None:
                    tally.done += 1

    loop.add_reader(desk.fileno(), hear)
    number = 0
    while True:
        word = b"%d" % number
        number += 1
        out[word] = None
        try:
            desk.send(word)
        except OSError as problem:
            out.pop(word)
            tally.lose(repr(problem))
        if len(out) > 100:
            out.pop(next(iter(out)))
            tally.lose("no echo")
        await asyncio.sleep(job["pause"])


async def _try(job: Job, tally: Tally) -> None:
    """Send what should be denied. ``done`` counts what was sent; ``lost`` is what was answered all the same."""
    desk = _datagrams(job)
    number = 0
    while True:
        number += 1
        tally.done += 1
        with contextlib.suppress(OSError):  # refused by the sender's own filter, which is a denial too
            desk.send(b"%d" % number)
        with contextlib.suppress(OSError):
            while desk.recv(64):
                tally.lose("a datagram was answered")
        if number % SYN_EVERY == 0:
            _begin(job)
        await asyncio.sleep(job["pause"])


def _datagrams(job: Job) -> socket.socket:
    """Return a socket connected to a job's address, never waiting and with room for much."""
    desk = socket.socket(socket.AF_INET6 if ":" in job["address"] else socket.AF_INET, socket.SOCK_DGRAM)
    desk.setblocking(False)
    desk.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, ROOM)
    desk.connect((job["address"], job["port"]))
    return desk


def _begin(job: Job) -> None:
    """Begin a TCP connection and forget it: whether it came about is for the other end to say."""
    end = socket.socket(socket.AF_INET6 if ":" in job["address"] else socket.AF_INET, socket.SOCK_STREAM)
    end.setblocking(False)
    result = end.connect_ex((job["address"], job["port"]))
    if result not in (0, errno.EINPROGRESS):
        end.close()
        return
    asyncio.get_running_loop().call_later(1.5, end.close)


WORK = {"serve": _serve, "hold": _hold, "stream": _stream, "open": _open, "try": _try}

if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
