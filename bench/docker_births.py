"""Births on a real Docker engine with a real ``stockade up`` on its host, and what that adds to a container's start."""

import asyncio
import contextlib
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from bench.cradle import ADDRESSES, births, control, figures_of, figures_of_records
from bench.figures import Figure
from bench.newborns import DENIED, TCP, UDP, Place, Watch
from stockade.cli.client import Client, Unreachable
from stockade.core.model.ids import Version
from stockade.errors import StockadeError
from stockade.testing.engine import UPLINK, Engine
from stockade.testing.processes import nft_helpers
from stockade.wire.api import (
    ApplyRequest,
    BirthsReply,
    File,
    RollbackRequest,
    StatusReply,
    VersionReply,
    WorkloadsReply,
)

KIND = "Docker"
NETWORK, GATEWAY = "shop", "172.30.0.1"
PROGRAM = "/bin/newborn"
PATIENCE = 40.0
POLICY = f"""
apiVersion: stockade.dev/v1
kind: EnforcementMode
metadata: {{name: shop}}
spec: {{select: app = shop, mode: full, priority: 10}}
---
apiVersion: stockade.dev/v1
kind: Policy
metadata: {{name: shop}}
spec:
  scope: app = shop
  rules:
    - name: web-to-api
      allow: {{from: role = web, to: role = api, on: [tcp/{TCP}, udp/{UDP}]}}
    - name: what-a-forged-sender-would-use
      allow: {{from: role = api, to: role = db, on: [udp/{DENIED + 2}]}}
"""


async def docker_births(program: Path, count: int) -> list[Figure]:
    """Let so many containers be born; return what came of them, and of one more without policy."""
    async with Engine(files={PROGRAM: program.read_bytes()}) as engine, _guarded(engine) as guarded:
        await asyncio.to_thread(_settle_in, engine)
        await guarded.known(3)
        await guarded.applied(POLICY)
        cradle = DockerCradle(engine)
        with _watch(engine) as watch:
            found = await births(cradle, watch, PROGRAM, count, pause=0.1)
            figures = [*figures_of(KIND, found, watch.scans)]
            figures += figures_of_records(KIND, guarded.client.call("births", BirthsReply, last=count).births)
            await guarded.opened()
            return [*figures, *control(KIND, await births(cradle, watch, PROGRAM, 1, first=count + 1))]


async def start_cost(count: int) -> list[Figure]:
    """Start so many containers on an engine with Stockade on its host, and as many on one without, in turn."""
    async with Engine() as engine, Engine() as plain, _guarded(engine) as guarded:
        for each in (engine, plain):
            await asyncio.to_thread(_settle_in, each)
        await guarded.known(3)
        await guarded.applied(POLICY)
        pairs = await asyncio.to_thread(_pairs, engine, plain, count)
    told = f"a container's start, {count} pairs"
    added = statistics.median(one - other for one, other in pairs) * 1000
    whole = statistics.median(other for _, other in pairs) * 1000
    return [
        Figure(f"{told}: what Stockade adds, median", added, "ms", compared_with="the same engine without it"),
        Figure(f"{told}: without it, median", whole, "ms"),
    ]


def _pairs(engine: Engine, plain: Engine, count: int) -> list[tuple[float, float]]:
    dice, found = random.Random(1), []
    for number in range(count):
        took = {}
        for each in dice.sample((engine, plain), 2):
            began = time.perf_counter()
            _start(each, f"one-{number}", "web", _address(number))
            took[each] = time.perf_counter() - began
        found.append((took[engine], took[plain]))
        for each in (engine, plain):
            each.remove(f"one-{number}")
    return found


class DockerCradle:
    """Containers of a shop, born as web servers."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def bear(self, number: int, argv: list[str]) -> None:
        """Run a container; the engine itself tells of it."""
        await asyncio.to_thread(_start, self._engine, _name(number), "web", self.address(number), argv)

    async def bury(self, number: int) -> None:
        """Remove a container."""
        await asyncio.to_thread(self._engine.remove, _name(number))

    def address(self, number: int) -> str:
        """Return an address of the shop's network; it is used again much later."""
        return _address(number)


def _name(number: int) -> str:
    return f"born-{number}"


def _address(number: int) -> str:
    return f"172.30.0.{100 + number % ADDRESSES}"


def _start(engine: Engine, name: str, role: str, address: str, argv: list[str] | None = None) -> None:
    labels = ("--label", "com.docker.compose.project=shop", "--label", f"com.docker.compose.service={role}")
    words = ("run", "-d", "--name", name, "--network", NETWORK, "--ip", address, *(labels if role else ()))
    engine.docker(*words, engine.image, *(argv or ("sleep", "100000")))


def _settle_in(engine: Engine) -> None:
    """Make the shop's network, and who is there before anybody is born."""
    engine.docker("network", "create", "--subnet", "172.30.0.0/24", "--ipv6", "--subnet", "fd00:30::/64", NETWORK)
    for number, (name, role) in enumerate({"api-1": "api", "db-1": "db", "other": ""}.items()):
        _start(engine, name, role, f"172.30.0.{10 + number}")


def _watch(engine: Engine) -> Watch:
    def place(name: str) -> Place:
        found = engine.inspect(name)["NetworkSettings"]["Networks"][NETWORK]
        netns = f"/proc/{engine.pid(name)}/ns/net"
        return Place(netns, found["IPAddress"], found["GlobalIPv6Address"], found["MacAddress"])

    host = Place(f"/proc/{engine.host_pid}/ns/net", GATEWAY)
    return Watch(place("api-1"), place("db-1"), [place("other")], [place("other"), host])


class Guarded:
    """``stockade up`` on an engine's host."""

    def __init__(self, engine: Engine, state: Path) -> None:
        self._engine, self._state = engine, state
        self._process: subprocess.Popen[bytes] | None = None
        self.client = Client(state / "api.sock")

    async def start(self) -> None:
        """Start it and wait until it answers."""
        argv = [*self._engine.inside, sys.executable, "-m", "stockade", "up", "--state", str(self._state)]
        with (self._state / "up.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*argv, "--host", "docker-1", "--uplink", UPLINK],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._engine.environment,
                process_group=0,  # Ctrl-C is for this process, which then ends it
            )
        await self._until(lambda: self.client.call("status", StatusReply))

    async def close(self) -> None:
        """End it, and whoever holds the tables."""
        if self._process is not None:
            self._process.terminate()
            await asyncio.to_thread(self._process.wait)
        for pid in nft_helpers(self._state):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)

    async def known(self, workloads: int) -> None:
        """Wait until so many workloads are known, and what follows from them is in force."""
        await self._until(lambda: len(self.client.call("workloads", WorkloadsReply).workloads) > workloads)
        await self._until(self._in_force)

    async def applied(self, text: str) -> None:
        """Apply a policy; wait until it is in force."""
        request = ApplyRequest(files=(File("bench.yaml", text),), note="benchmark", yes=True, wait=20)
        await asyncio.to_thread(self.client.call, "apply", VersionReply, request)
        await self._until(self._in_force)

    async def opened(self) -> None:
        """Go back to the beginning: nothing is dropped."""
        request = RollbackRequest(version=Version(0), note="benchmark")
        await asyncio.to_thread(self.client.call, "rollback", VersionReply, request)
        await self._until(self._in_force)

    def _in_force(self) -> bool:
        hosts = self.client.call("status", StatusReply).hosts
        return bool(hosts) and all(each.current for each in hosts)

    async def _until(self, happens: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            with contextlib.suppress(Unreachable):
                if await asyncio.to_thread(happens):
                    return
            await asyncio.sleep(0.02)
        said = (self._state / "up.log").read_text(errors="replace").splitlines()[-3:]
        raise StockadeError(f"Stockade on the engine's host did not come so far: {' | '.join(said)}")


@contextlib.asynccontextmanager
async def _guarded(engine: Engine) -> AsyncIterator[Guarded]:
    with tempfile.TemporaryDirectory(prefix="stockade-bench-") as folder:
        guarded = Guarded(engine, Path(folder))
        try:
            await guarded.start()
            yield guarded
        finally:
            await guarded.close()
