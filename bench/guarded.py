"""A real ``stockade up`` on the host of an engine under test, driven over the API."""

import asyncio
import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

from stockade.adapters.gate import BIRTHS, SOCKET
from stockade.cli.client import Client, Unreachable
from stockade.core.model.ids import Version
from stockade.errors import StockadeError
from stockade.testing.engine_host import UPLINK, EngineHost
from stockade.testing.processes import end_nft_helpers
from stockade.wire.api import ApplyRequest, File, RollbackRequest, StatusReply, VersionReply, WorkloadsReply

PATIENCE = 90.0


class Guarded:
    """``stockade up`` on an engine's host."""

    def __init__(self, engine: EngineHost, state: Path, words: Sequence[str]) -> None:
        self.state = state
        self._engine, self._words = engine, words
        self._process: subprocess.Popen[bytes] | None = None
        self.client = Client(state / "api.sock")

    @property
    def pid(self) -> int:
        """The process. ``StockadeError`` where it was not started."""
        if self._process is None:
            raise StockadeError("Stockade was not started on the engine's host")
        return self._process.pid

    @property
    def socket(self) -> Path:
        """Where the gate asks it, on the engine's host."""
        return self.state / SOCKET

    @property
    def births(self) -> Path:
        """Where it is written down what it does with unknown workloads."""
        return self.state / BIRTHS

    async def start(self) -> None:
        """Start it and wait until it answers."""
        with (self.state / "up.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*self._verb("up", "--host", "engine-1", "--uplink", UPLINK, *self._words)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._engine.environment,
                process_group=0,  # Ctrl-C is for this process, which then ends it
            )
        await self.until(lambda: self.client.call("status", StatusReply))

    async def close(self) -> None:
        """End it, and whoever holds the tables."""
        if self._process is not None:
            self._process.terminate()
            await asyncio.to_thread(self._process.wait)
        end_nft_helpers(self.state)

    def cli(self, *words: str) -> None:
        """Run a verb on the engine's host. ``StockadeError`` with its words where it failed."""
        done = subprocess.run(
            self._verb(*words), capture_output=True, text=True, env=self._engine.environment, check=False
        )
        if done.returncode not in (0, 2):  # 2: done, and the runtime has yet to heed it
            raise StockadeError(f"`stockade {' '.join(words)}` failed: {done.stderr.strip()}")

    async def known(self, workloads: int) -> None:
        """Wait until so many workloads are known, and what follows from them is in force."""
        await self.until(lambda: len(self.client.call("workloads", WorkloadsReply).workloads) > workloads)
        await self.until(self.in_force)

    async def applied(self, text: str) -> None:
        """Apply a policy; wait until it is in force."""
        request = ApplyRequest(files=(File("bench.yaml", text),), note="benchmark", yes=True, wait=20)
        await asyncio.to_thread(self.client.call, "apply", VersionReply, request)
        await self.until(self.in_force)

    async def opened(self) -> None:
        """Go back to the beginning: nothing is dropped."""
        request = RollbackRequest(version=Version(0), note="benchmark")
        await asyncio.to_thread(self.client.call, "rollback", VersionReply, request)
        await self.until(self.in_force)

    def in_force(self) -> bool:
        """Tell whether the host enforces the newest revision."""
        hosts = self.client.call("status", StatusReply).hosts
        return bool(hosts) and all(each.current for each in hosts)

    async def until(self, happens: Callable[[], object], what: str = "so far") -> None:
        """Wait until something is so; nobody may answer until then."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            with contextlib.suppress(Unreachable):
                if await asyncio.to_thread(happens):
                    return
            await asyncio.sleep(0.02)
        said = (self.state / "up.log").read_text(errors="replace").splitlines()[-3:]
        raise StockadeError(f"Stockade on the engine's host did not come {what}: {' | '.join(said)}")

    def _verb(self, *words: str) -> list[str]:
        return [*self._engine.inside, sys.executable, "-m", "stockade", *words, "--state", str(self.state)]


@contextlib.asynccontextmanager
async def guarded(engine: EngineHost, words: Sequence[str]) -> AsyncIterator[Guarded]:
    """Run Stockade on an engine's host while the block lasts. ``words`` say what it follows."""
    with tempfile.TemporaryDirectory(prefix="stockade-bench-") as folder:
        there = Guarded(engine, Path(folder), words)
        try:
            await there.start()
            yield there
        finally:
            await there.close()
