"""What faults strike at: a lab with ``stockade up`` on its host, its folders, and the processes in it."""

import asyncio
import contextlib
import os
import select
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar

from stockade.testing.chaos.clock import Clock
from stockade.testing.chaos.disk import Disk
from stockade.testing.lab import Command, Done, Lab
from stockade.testing.lab.telling import Teller
from stockade.testing.processes import nft_helpers
from stockade.wire.api import Message, StatusReply

SOON = 30.0
Reply = TypeVar("Reply", bound=Message)


class Caller(Protocol):
    """Whoever asks the API."""

    def call(self, name: str, reply: type[Reply], body: Message | None = None, **parameters: Any) -> Reply:
        """Call a route by its name."""
        ...


class Site(Protocol):
    """A lab with ``stockade up`` on its host (``cli.demo_stage.Stage`` is one)."""

    lab: Lab
    teller: Teller
    state: Path
    server: Command | None

    @property
    def client(self) -> Caller:
        """Who asks the API."""
        ...

    async def start(self) -> Command:
        """Start ``up``, and do not wait for it."""
        ...

    async def answering(self) -> None:
        """Wait until it answers."""
        ...

    async def settled(self, version: int, workloads: int) -> StatusReply:
        """Wait until what is wanted is in force."""
        ...

    def tell_all(self) -> None:
        """Tell of every workload."""
        ...


class Ground:
    """The site, and what a fault needs to strike at it. ``found``: what a fault itself saw that must not be."""

    def __init__(self, on: Site, run: Path, disk: Disk | None, clock: Clock | None, turn: asyncio.Lock) -> None:
        """``turn`` is held by whoever wants nobody born or gone, and nothing changed, for a while."""
        self.turn = turn
        self.on, self.lab, self.state = on, on.lab, on.state
        self.run, self.disk, self.clock = run, disk, clock
        self.found: list[str] = []

    # Processes

    @property
    def up(self) -> Command:
        """The server that was started last."""
        assert self.on.server is not None
        return self.on.server

    def pids(self) -> list[int]:
        """Return the server and the helper, as this process counts."""
        return [*([self.up.pid] if self.up.status is None else []), *nft_helpers(self.state)]

    async def crash(self) -> None:
        """Kill the server."""
        self.up.kill()
        await self.up.wait(SOON)

    async def end_helper(self, number: int = signal.SIGKILL) -> None:
        """End the helper that lives, and wait until it is no more: until then it holds the tables."""
        for pid in nft_helpers(self.state):
            with contextlib.suppress(ProcessLookupError):
                pinned = os.pidfd_open(pid)
                os.kill(pid, number)
                poll = select.poll()
                poll.register(pinned, select.POLLIN)
                await asyncio.to_thread(poll.poll, 5000)
                os.close(pinned)

    async def end_both(self) -> None:
        """Kill the server first, so that nobody puts another helper there."""
        await self.crash()
        await self.end_helper()

    async def whole(self) -> None:
        """Have a server that answers and whose host has everything in force."""
        if self.on.server is None or self.on.server.status is not None:
            await self.on.start()
        await self.on.answering()
        await self.on.settled(0, 0)

    # The host

    async def host(self, *argv: str, given: str = "") -> Done:
        """Run a command on the host; what comes of it is the caller's affair."""
        return await self.lab.run(self.lab.host_name, list(argv), input=given.encode())

    async def must(self, *argv: str, given: str = "") -> str:
        """Run a command on the host that has to succeed: a fault that did not strike is no fault."""
        done = await self.host(*argv, given=given)
        assert done.status == 0, (argv, done)
        return done.stdout

    def port(self, node: str) -> str:
        """Return the name of a node's port on the host."""
        return self.lab.plugs(node)[0].port

    def status(self) -> StatusReply:
        """Ask the server how it is."""
        return self.on.client.call("status", StatusReply)

    def log(self) -> str:
        """Return what the server has said so far."""
        return (self.state / "up.log").read_text(encoding="utf-8", errors="replace")


async def until(happens: Callable[[], Awaitable[object]], otherwise: str, within: float = SOON) -> None:
    """Wait until something is so; ``AssertionError`` where it never is."""
    deadline = time.monotonic() + within
    while not await happens():
        assert time.monotonic() < deadline, otherwise
        await asyncio.sleep(0.05)
