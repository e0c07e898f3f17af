"""``stockade up`` on a real engine's host, driven as its user does: over the API, and judged by real packets."""

import asyncio
import contextlib
import ipaddress
import json
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

from stockade.cli import emergency
from stockade.cli.client import Client, Unreachable
from stockade.testing.engine import HOST_ADDRESSES, OUTSIDE_ADDRESSES, UPLINK
from stockade.testing.lab import Posts
from stockade.testing.probe.values import Probe, Result
from stockade.testing.processes import end_nft_helpers, nft_helpers
from stockade.wire.api import ApplyRequest, File, StatusReply, VersionReply, WorkloadsReply, WorkloadView

PATIENCE = 40.0
PAUSE = 0.05
HOST, OUTSIDE = "host", "outside"


class Engine(Protocol):
    """Docker's or Podman's, from ``stockade.testing``."""

    @property
    def inside(self) -> list[str]: ...
    @property
    def environment(self) -> dict[str, str]: ...
    @property
    def host_pid(self) -> int: ...
    @property
    def outside_pid(self) -> int: ...
    def on_host(self, *command: str) -> str: ...
    def inspect(self, name: str) -> dict[str, Any]: ...
    def pid(self, name: str) -> int: ...


class Contained:
    """An engine with Stockade on its host."""

    def __init__(self, engine: Engine, state: Path, posts: Posts, known: dict[str, dict[int, str]]) -> None:
        self.engine, self.state, self.posts, self._addresses = engine, state, posts, known
        self.client = Client(state / "api.sock")
        self.process: subprocess.Popen[bytes] | None = None

    # The server

    def start(self, *words: str) -> None:
        """Start ``stockade up``; its words go to ``up.log``."""
        argv = [*self.engine.inside, sys.executable, "-m", "stockade", "up", "--state", str(self.state)]
        # Docker's host shares the machine's storage: its Podman, where there is one, is none of its business.
        without = [] if "--podman" in words else ["--no-podman"]
        with (self.state / "up.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*argv, "--host", "docker-1", "--uplink", UPLINK, *without, *words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.engine.environment,
            )

    async def answering(self) -> None:
        """Wait until it answers."""
        await self.until(lambda: self.client.call("status", StatusReply))

    async def interrupt(self) -> None:
        """Ctrl-C."""
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)
        assert await asyncio.to_thread(self.process.wait, PATIENCE) == 0

    def said(self) -> str:
        """Return all that it has said."""
        return (self.state / "up.log").read_text(errors="replace")

    def cli(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a verb as its user does, in another terminal."""
        argv = [*self.engine.inside, sys.executable, "-m", "stockade", *words, "--state", str(self.state)]
        return subprocess.run(
            argv, capture_output=True, text=True, timeout=60, check=False, env=self.engine.environment
        )

    async def close(self) -> None:
        """End the server, and leave nothing in the kernel's way: the engine's namespaces outlive a test."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            await asyncio.to_thread(self.process.wait, PATIENCE)
        end_nft_helpers(self.state)
        await self.until(lambda: not nft_helpers(self.state))
        ours = self.engine.on_host("nft", "list", "tables")
        for family in emergency.FAMILIES:
            if f"table {family} stockade" in ours:
                await self.until(
                    lambda family=family: self.engine.on_host("nft", "delete", "table", family, "stockade") == ""
                )

    # Policy

    async def apply(self, *texts: str, **more: object) -> int:
        """Apply documents; wait until they are in force. Return the version's number."""
        files = tuple(File(f"{number}.yaml", text) for number, text in enumerate(texts))
        request = ApplyRequest(files=files, note="test", yes=True, wait=20, **more)  # type: ignore[arg-type]
        reply = await asyncio.to_thread(self.client.call, "apply", VersionReply, request)
        assert reply.realised, reply.waiting
        return int(reply.version.number)

    def workloads(self) -> dict[str, WorkloadView]:
        """Return what is known, by name."""
        return {each.name: each for each in self.client.call("workloads", WorkloadsReply).workloads}

    async def known(self, names: Iterable[str], *, gone: Iterable[str] = ()) -> None:
        """Wait until these are known and running, with all that was said of them in force; and those are gone."""
        wanted, unwanted = set(names), set(gone)

        def met() -> bool:
            found = self.workloads()
            return wanted <= set(found) and not unwanted & set(found) and self.in_force()

        await self.until(met)
        await self.until(self._no_address_is_tentative)

    def _no_address_is_tentative(self) -> bool:
        """Whether every address of the host can be used. On a bridge without a port none ever can."""
        links = json.loads(self.engine.on_host("ip", "-6", "-j", "address", "show", "tentative") or "[]")
        return not any(link and "NO-CARRIER" not in link["flags"] for link in links)

    def in_force(self) -> bool:
        """Whether the host enforces the newest revision."""
        status = self.client.call("status", StatusReply)
        return bool(status.hosts) and all(each.current for each in status.hosts)

    async def until(self, happens: Callable[[], object], within: float = PATIENCE) -> None:
        """Wait until something is so; it may fail until then."""
        deadline = time.monotonic() + within
        while True:
            with contextlib.suppress(Unreachable):
                if await asyncio.to_thread(happens):
                    return
            assert time.monotonic() < deadline, self.said()[-3000:]
            await asyncio.sleep(PAUSE)

    # Packets

    async def man(self, *names: str) -> None:
        """Put a probe server into each of these containers, and look up its first addresses."""
        for name in names:
            if not self.engine.inspect(name)["HostConfig"]["NetworkMode"].startswith(("host", "container:")):
                self._addresses[name] = addresses_of(self.engine, name)
            await self.posts.man(name, Path(f"/proc/{self.engine.pid(name)}/ns/net"))

    async def probe(self, probes: Sequence[Probe]) -> list[Result]:
        """Try all at once."""
        return await self.posts.probe(probes)


def addresses_of(engine: Engine, name: str, network: str = "") -> dict[int, str]:
    """Return a container's addresses by family: in one network, or (none named) in its first."""
    networks = engine.inspect(name)["NetworkSettings"]["Networks"]
    chosen = networks[network] if network else next(iter(networks.values()))
    found = {4: chosen["IPAddress"], 6: chosen["GlobalIPv6Address"]}
    return {family: address for family, address in found.items() if address}


@contextlib.asynccontextmanager
async def contained(engine: Engine, state: Path, *words: str) -> AsyncIterator[Contained]:
    """Stockade on an engine's host, from its start to its last trace; posts at the host and outside."""
    known = {HOST: _first(HOST_ADDRESSES), OUTSIDE: _first(OUTSIDE_ADDRESSES)}
    async with Posts(lambda name, family: known[name][family]) as posts:
        on = Contained(engine, state, posts, known)
        await posts.man(HOST, Path(f"/proc/{engine.host_pid}/ns/net"), host=True)
        await posts.man(OUTSIDE, Path(f"/proc/{engine.outside_pid}/ns/net"))
        try:
            on.start(*words)
            await on.answering()
            yield on
        finally:
            await on.close()


def _first(prefixes: Iterable[str]) -> dict[int, str]:
    found = [ipaddress.ip_interface(each).ip for each in prefixes]
    return {each.version: str(each) for each in found}
