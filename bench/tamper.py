"""How fast our tables are put right after somebody changed them, and how soon the operator's side hears of it.

A real agent holds a real lab's host; a program that is not ours (nft) changes the tables, over and over. Variants:
tables that nobody owns, as on kernels before 6.9, and owned ones whose holder and its deputy, or these and the spare,
were killed just before; where the holder alone is killed nobody can change anything. Times are those of the kernel's
own messages: from the stranger's transaction to the last one that puts things right. After every change the tables are
what was compiled.
"""

import asyncio
import contextlib
import os
import select
import signal
import socket
import struct
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

from bench.figures import Figure, at_least, at_most, percentile, program
from bench.hosts import host_kernel, in_a_lab
from bench.replacing import Line, World
from bench.shop import GROUND
from stockade.adapters.netlink import Namespace
from stockade.adapters.nft import NftKernel
from stockade.agent.inspecting import EVERY
from stockade.agent.run import Agent
from stockade.agent.state import AssignmentFile
from stockade.agent.values import HostObserved
from stockade.cli.inspection import HostInspection
from stockade.controller.clock import SystemClock
from stockade.core.compile.nft.render import render
from stockade.core.compile.nft.ruleset import TABLE, Ruleset
from stockade.core.model.ids import HostId
from stockade.core.posture.host import assess
from stockade.core.posture.host.assess import OWN_TABLES
from stockade.core.reconcile import settled
from stockade.errors import StockadeError
from stockade.testing.lab import Lab
from stockade.wire import AgentMessage, Findings

COUNT, FEW = 200, 20
LOOKS = 50
PATIENCE = 20.0
QUIET = 0.1
"""Seconds without a transaction after which nothing more is to come."""
SETTLED = 1.0
STRANGER = b"nft\0"
NEWGEN, PROCESS = 15, 3
PLAIN = (
    "insert rule inet stockade forwarding accept",
    "flush chain inet stockade judge_c",
    "add table inet stockade { flags dormant; }",
    "add rule inet stockade outgoing accept",
    "flush set inet stockade interfaces",
    "insert rule bridge stockade prerouting accept",
)
"""What the stranger does to tables that nobody owns. What would delete one is left out: it would come back owned."""
ORPHANED = (
    "flush ruleset",
    "insert rule inet stockade forwarding accept",
    "delete table bridge stockade",
    "flush chain inet stockade judge_c",
    "delete table inet stockade",
    "insert rule bridge stockade prerouting accept",
)
"""The same for tables that have lost their owner."""
VARIANTS = (
    ("plain tables", ()),
    ("owned, holder and deputy killed", ("deputy", "pid")),
    ("owned, holder, deputy and spare killed", ("spare", "deputy", "pid")),
)


async def figures(*, quick: bool = False) -> AsyncIterator[Figure]:
    """Measure every variant, then what looking around costs."""
    count = FEW if quick else COUNT
    for name, killed in VARIANTS:
        async with _enforced(plain=not killed) as stage:
            took, told = await stage.tampered(killed, ORPHANED if killed else PLAIN, count)
        what = f"{name}, {count} tamperings"
        yield at_least(f"{what}: put right", len(took), "times", count)
        yield Figure(f"{what}: change to repaired, p50", percentile(took, 0.5) * 1000, "ms")
        beside = "Calico looks every 180 s"
        yield at_most(f"{what}: change to repaired, p99", percentile(took, 0.99) * 1000, "ms", 100, beside)
        yield at_most(f"{what}: change to told, slowest", max(told), "s", 5)
    async with _enforced(plain=False) as stage:
        changed = await stage.outlived(ORPHANED, count)
    yield at_most(
        f"owned, holder killed alone, {count} tries: changes that a stranger could make", changed, "changes", 0
    )
    yield await _looking()


async def _looking() -> Figure:
    """Measure what an idle agent pays for looking at everything, with nothing remembered from look to look."""
    async with Lab(GROUND) as lab:
        with Namespace.at(lab.netns(lab.host_name)) as here, tempfile.TemporaryDirectory() as folder:
            began = time.process_time()
            for _ in range(LOOKS):
                assess(HostInspection(Path(folder), Path(folder) / "api.sock", here).look(), None)
            spent = (time.process_time() - began) / LOOKS
    name = f"one look at a host of {len(GROUND.nodes)} endpoints every {EVERY:g} s"
    return at_most(name, spent / EVERY * 100, "% of a core", 1, f"{spent * 1000:.1f} ms each")


class Stage:
    """A lab's host under an agent, and a stranger in it."""

    def __init__(self, lab: Lab, kernel: NftKernel, ear: "Ear", wanted: Ruleset, *, plain: bool) -> None:
        self._lab, self._kernel, self._ear = lab, kernel, ear
        self._wanted = wanted
        self._plain = plain

    async def tampered(
        self, killed: tuple[str, ...], changes: tuple[str, ...], count: int
    ) -> tuple[list[float], list[float]]:
        """Change our tables so many times; return the seconds to repaired, and to told, each time.

        ``killed``: who is killed just before, in this order.
        """
        took, told = [], []
        with listening(self._lab) as heard:
            for number in range(count):
                before = self._ear.told
                at = await self._change(killed, changes[number % len(changes)], heard)
                took.append(await self._put_right(heard) - at)
                told.append(await self._ear.later_than(before) - at)
        return took, told

    async def outlived(self, changes: tuple[str, ...], count: int) -> int:
        """Kill the holder alone and try to change our tables, so many times; return how often that could be done."""
        changed = 0
        with listening(self._lab) as heard:
            for number in range(count):
                said = await self._with_deputy()
                heard.forget()
                os.kill(int(said["pid"]), signal.SIGKILL)
                await self._lab.run(self._lab.host_name, ["nft", changes[number % len(changes)]])
                await asyncio.sleep(QUIET)
                changed += bool(heard.changed)
        return changed

    async def _with_deputy(self) -> dict[str, Any]:
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            said = await asyncio.to_thread(self._kernel.helper.ping)
            if said["deputy"]:
                return said
            await asyncio.sleep(QUIET)
        raise StockadeError("the holder of our tables has no deputy")

    async def _change(self, killed: tuple[str, ...], change: str, heard: "Listener") -> float:
        """Have a stranger do it; return when the kernel did. Where the tables are owned their holder is killed first,
        as often as it takes to come before the next one.
        """
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            heard.forget()
            said = await asyncio.to_thread(self._kernel.helper.ping) if killed else {}
            for pid in filter(None, (int(said[each]) for each in killed)):
                os.kill(pid, signal.SIGKILL)
            await self._lab.run(self._lab.host_name, ["nft", change])
            await asyncio.sleep(QUIET)
            if heard.changed:
                return heard.changed
        raise StockadeError(f"nobody could do this to our tables: {change}")

    async def _put_right(self, heard: "Listener") -> float:
        """Wait until nothing more comes; return when the last transaction came, if all is well then."""
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            await asyncio.sleep(QUIET)
            if heard.mended > heard.changed and time.monotonic() - heard.mended > QUIET:
                mended = heard.mended
                if settled(self._wanted, await asyncio.to_thread(self._kernel.observe)):
                    return mended
        raise StockadeError("our tables were not put right")


class Ear(Line):
    """A controller's end of the line that hears when our tables are said to have been changed."""

    def __init__(self) -> None:
        super().__init__()
        self.told = 0
        self._at = 0.0
        self._known: set[float] = set()

    async def say(self, message: AgentMessage) -> int:
        """Take what the agent says."""
        if isinstance(message, Findings):
            some = {each.since for each in (*message.passed, *message.findings) if each.check == OWN_TABLES}
            if some - self._known:
                self._known, self._at = some, time.monotonic()
                self.told += 1
        return await super().say(message)

    async def later_than(self, before: int) -> float:
        """Wait until it is told once more; return when it was."""
        until = time.monotonic() + PATIENCE
        while self.told <= before:
            if time.monotonic() > until:
                raise StockadeError("nobody was told that our tables were changed")
            await asyncio.sleep(QUIET / 10)
        return self._at


class Listener:
    """Transactions on our tables as they come: when a stranger's came, and when the last of ours."""

    def __init__(self, found: socket.socket) -> None:
        self._socket = found
        self.changed = self.mended = 0.0
        self._touched = False
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._listen)

    def forget(self) -> None:
        """Begin anew."""
        self.changed = self.mended = 0.0

    def begin(self) -> None:
        """Listen in a thread of its own."""
        self._thread.start()

    def end(self) -> None:
        """Stop listening."""
        self._over.set()
        self._thread.join()

    def _listen(self) -> None:
        while not self._over.is_set():
            if select.select([self._socket], [], [], QUIET)[0]:
                self._heard(self._socket.recv(1 << 18), time.monotonic())

    def _heard(self, data: bytes, now: float) -> None:
        """A transaction's messages come first, its author last."""
        at = 0
        while at + 20 <= len(data):
            (length, kind) = struct.unpack_from("=IH", data, at)
            content = data[at + 20 : at + length]
            if kind & 0xFF != NEWGEN:
                self._touched |= TABLE.encode() + b"\0" in content
            elif self._touched:
                self._touched = False
                if struct.pack("=HH", 4 + len(STRANGER), PROCESS) + STRANGER in content:
                    self.changed = self.changed or now
                else:
                    self.mended = now
            at += max(20, length + 3 & ~3)


@contextlib.contextmanager
def listening(lab: Lab) -> Iterator[Listener]:
    """Listen to every transaction in the lab's host while the block lasts."""
    with Namespace.at(lab.netns(lab.host_name)) as here:
        found = here.call(lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12))
    with contextlib.suppress(PermissionError):
        found.setsockopt(socket.SOL_SOCKET, 33, 1 << 24)  # SO_RCVBUFFORCE
    found.bind((0, 1 << 6))
    listener = Listener(found)
    listener.begin()
    try:
        yield listener
    finally:
        listener.end()
        found.close()


@contextlib.asynccontextmanager
async def _enforced(*, plain: bool) -> AsyncIterator[Stage]:
    """Have a real agent hold a lab's host; ``plain``: in tables that were there before, and that nobody owns."""
    async with Lab(GROUND) as lab:
        if plain:
            await lab.nft("table inet stockade { }\ntable bridge stockade { }\n")
        with (
            host_kernel(lab) as kernel,
            tempfile.TemporaryDirectory(prefix="stockade-bench-") as folder,
            Namespace.at(lab.netns(lab.host_name)) as here,
        ):
            ear, intent = Ear(), World(lab).intent
            inspection = HostInspection(Path(folder), Path(folder) / "api.sock", here)
            ear.attach(_agent(lab, kernel, ear, AssignmentFile(Path(folder)), inspection))
            try:
                await ear.realise(intent)
                await asyncio.sleep(SETTLED)
                yield Stage(lab, kernel, ear, render(intent), plain=plain)
            finally:
                await ear.stop()


def _agent(lab: Lab, kernel: NftKernel, link: Line, state: AssignmentFile, inspection: HostInspection) -> Agent:
    return Agent(
        HostId(lab.host_name),
        runtimes=(),
        looks=_never,
        kernel=kernel,
        link=link,
        state=state,
        clock=SystemClock(),
        changes=kernel.ruleset_changes,
        holder=kernel.holder,
        inspection=inspection,
    )


async def _never() -> AsyncIterator[HostObserved]:
    await asyncio.Event().wait()
    return
    yield


if __name__ == "__main__":
    program(__doc__, figures, in_a_lab)
