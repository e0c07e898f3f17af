"""One machine, one label: how long until packets meet what follows from it. Over the API of a real ``stockade up``.

A workload asks another, four thousand times a second, what only some labels allow. What is told is the time from the
beginning of the call that sets its labels to the first datagram that passes, or to the last one that does.
"""

import asyncio
import socket
import struct
import time
from concurrent.futures import Future, ThreadPoolExecutor

from bench.figures import Figure, at_most, percentile
from bench.hosts import socket_at, widened
from bench.shop import GROUND, policy_text
from stockade.cli.demo import shop_files
from stockade.cli.demo_stage import Stage, stage
from stockade.errors import StockadeError
from stockade.testing.lab import Lab
from stockade.wire.api import ApplyRequest, File, LabelsRequest, VersionReply, WorkloadReply

WHO, TO, PORT = "extra", "db-1", 9053
OPEN, SHUT = {"app": "prometheus"}, {"app": "extra"}
PAUSE = 0.00025
SILENCE = 0.05
"""Seconds without a datagram after which no more is expected."""
PATIENCE = 10.0


async def relabelling(count: int) -> list[Figure]:
    """Set labels so many times; return how long it took to be in force."""
    async with stage(GROUND) as on:
        on.tell_all()
        await on.settled(0, sum(not node.outside for node in GROUND.nodes) + 1)
        await applied(on, policy_text(0))
        asking = Asking(on.lab)
        try:
            opened, shut, called = await asyncio.to_thread(_changes, on, asking, count)
        finally:
            asking.close()
    told = "a label is set (API) to packets that"
    return [
        at_most(f"{told} pass, p50 of {count}", percentile(opened, 0.5), "ms", 10, "one machine; Cilium, a node: 600"),
        Figure(f"{told} pass, p99", percentile(opened, 0.99), "ms"),
        at_most(f"{told} are dropped, p50 of {count}", percentile(shut, 0.5), "ms", 10, "one machine"),
        Figure(f"{told} are dropped, p99", percentile(shut, 0.99), "ms"),
        Figure("the call that sets it, answered: p50", percentile(called, 0.5), "ms"),
    ]


async def applied(on: Stage, *more: str) -> None:
    """Apply the shop's policy and more; wait until it is in force."""
    files = (*shop_files(), *(File(f"more-{number}.yaml", each) for number, each in enumerate(more)))
    request = ApplyRequest(files=files, note="benchmark", yes=True)
    reply = await asyncio.to_thread(on.client.call, "apply", VersionReply, request)
    await on.settled(reply.version.number, 0)


def _changes(on: Stage, asking: "Asking", count: int) -> tuple[list[float], list[float], list[float]]:
    opened, shut, called = [], [], []

    def call(labels: dict[str, str]) -> None:
        began = time.perf_counter()
        on.client.call("set-labels", WorkloadReply, LabelsRequest(labels=labels), workload=WHO)
        called.append((time.perf_counter() - began) * 1000)

    with ThreadPoolExecutor(1) as caller:
        for _ in range(count):
            began = time.monotonic()
            opened.append((asking.first_answered(caller.submit(call, OPEN)) - began) * 1000)
            began = time.monotonic()
            shut.append((asking.last_answered(caller.submit(call, SHUT)) - began) * 1000)
    return opened, shut, called


class Asking:
    """Datagrams that say when they were sent, and the end that they may reach."""

    def __init__(self, lab: Lab) -> None:
        self._to = widened(socket_at(lab.netns(TO), 4, socket.SOCK_DGRAM))
        self._to.bind((lab.address(TO), PORT))
        self._to.setblocking(False)
        self._from = socket_at(lab.netns(WHO), 4, socket.SOCK_DGRAM)
        self._from.connect((lab.address(TO), PORT))

    def close(self) -> None:
        """Close both ends."""
        self._from.close()
        self._to.close()

    def first_answered(self, change: "Future[None]") -> float:
        """Return when the first datagram was sent that arrived."""
        deadline = time.monotonic() + PATIENCE
        while not (found := self._ask()):
            _within(deadline)
        change.result()
        self._ask()
        return found[0]

    def last_answered(self, change: "Future[None]") -> float:
        """Return when the last datagram was sent that arrived, once none has for a while."""
        last = time.monotonic()
        deadline = last + PATIENCE
        while not change.done() or time.monotonic() < last + SILENCE:
            last = max([last, *self._ask()])
            _within(deadline)
        change.result()
        return last

    def _ask(self) -> list[float]:
        """Send one; return when those were sent that have arrived meanwhile."""
        self._from.send(struct.pack("d", time.monotonic()))
        time.sleep(PAUSE)
        found = []
        while True:
            try:
                found.append(struct.unpack("d", self._to.recv(64))[0])
            except BlockingIOError:
                return found


def _within(deadline: float) -> None:
    if time.monotonic() > deadline:
        raise StockadeError(f"a label's consequence was not in force within {PATIENCE:.0f} s")
