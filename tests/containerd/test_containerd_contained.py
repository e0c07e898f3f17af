"""A containerd host, contained: what its user asks for over the API is what real packets meet, pods or not."""

import asyncio
import contextlib
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from stockade.cli import emergency
from stockade.cli.client import Client, Unreachable
from stockade.core.model.net import Protocol
from stockade.testing.containerd import FOREVER, IMAGE, KUBERNETES, Containerd
from stockade.testing.engine_host import UPLINK
from stockade.testing.lab import Posts
from stockade.testing.probe.values import Probe
from stockade.testing.processes import end_nft_helpers, nft_helpers
from stockade.wire.api import ApplyRequest, File, StatusReply, VersionReply, WorkloadsReply, WorkloadView

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]

PATIENCE = 40.0
POLICY = """
apiVersion: stockade.dev/v1
kind: EnforcementMode
metadata: {name: shop}
spec: {select: app = shop, mode: full, priority: 10}
---
apiVersion: stockade.dev/v1
kind: Policy
metadata: {name: shop}
spec:
  scope: app = shop
  rules:
    - name: web-to-api
      allow: {from: role = web, to: role = api, on: [tcp/8080, ping]}
"""
WAYS = ((Protocol.TCP, 8080), (Protocol.TCP, 80), (Protocol.UDP, 53), (Protocol.ICMP, 0))
ALLOWED = {("web", "api", Protocol.TCP, 8080), ("web", "api", Protocol.ICMP, 0)}
aside = asyncio.to_thread


def labels(role: str) -> dict[str, str]:
    return {"stockade.app": "shop", "stockade.role": role}


def words(role: str) -> list[str]:
    return [word for key, value in labels(role).items() for word in ("--label", f"{key}={value}")]


class Contained:
    """A containerd with Stockade on its host."""

    def __init__(self, containerd: Containerd, state: Path) -> None:
        self.containerd, self.state = containerd, state
        self.client = Client(state / "api.sock")
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        argv = [*self.containerd.inside, sys.executable, "-m", "stockade", "up", "--state", str(self.state)]
        argv += ["--host", "node-1", "--uplink", UPLINK, "--containerd", "--no-docker"]
        with (self.state / "up.log").open("ab") as log:
            self.process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.containerd.environment
            )

    def said(self) -> str:
        return (self.state / "up.log").read_text(errors="replace")

    def workloads(self) -> dict[str, WorkloadView]:
        return {each.name: each for each in self.client.call("workloads", WorkloadsReply).workloads}

    def knows(self, *names: str) -> bool:
        """Whether these are known, with all that was said of them in force."""
        status = self.client.call("status", StatusReply)
        return set(names) <= set(self.workloads()) and bool(status.hosts) and all(each.current for each in status.hosts)

    async def apply(self, text: str) -> None:
        request = ApplyRequest(files=(File("policy.yaml", text),), note="test", yes=True, wait=20)
        reply = await aside(self.client.call, "apply", VersionReply, request)
        assert reply.realised, reply.waiting

    async def until(self, happens: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE
        while True:
            with contextlib.suppress(Unreachable):
                if await aside(happens):
                    return
            assert time.monotonic() < deadline, self.said()[-3000:]
            await asyncio.sleep(0.05)

    async def close(self) -> None:
        """End the server, and leave nothing in the kernel's way: containerd's host outlives a test."""
        if self.process is not None:
            self.process.terminate()
            await aside(self.process.wait, PATIENCE)
        end_nft_helpers(self.state)
        await self.until(lambda: not nft_helpers(self.state))
        ours = self.containerd.on_host("nft", "list", "tables")
        for family in emergency.FAMILIES:
            if f"table {family} stockade" in ours:
                self.containerd.on_host("nft", "delete", "table", family, "stockade")


@contextlib.asynccontextmanager
async def contained(containerd: Containerd, state: Path) -> AsyncIterator[Contained]:
    on = Contained(containerd, state)
    try:
        on.start()
        await on.until(lambda: on.client.call("status", StatusReply))
        yield on
    finally:
        await on.close()


def addresses_of(containerd: Containerd, pid: int) -> dict[int, str]:
    (link,) = json.loads(containerd.on_host(*containerd.within(pid), "ip", "-j", "address", "show", "dev", "eth0"))
    found = [each["local"] for each in link["addr_info"] if each["scope"] == "global"]
    return {6 if ":" in each else 4: each for each in found}


def test_pods_and_containers_of_one_bridge(containerd, tmp_path):
    async def run() -> None:
        async with contained(containerd, tmp_path) as on:
            pod = await aside(lambda: containerd.pods.run("web", labels=labels("web")))
            main = await aside(lambda: containerd.pods.create(pod, "main", IMAGE, FOREVER))
            await aside(containerd.pods.start, main)
            pids = {
                "web": await aside(containerd.pid, main, KUBERNETES),
                "api": await aside(containerd.run, "api", *words("api")),
                "other": await aside(containerd.run, "other"),
            }
            known = {name: addresses_of(containerd, pid) for name, pid in pids.items()}
            await on.until(lambda: on.knows(*pids, "main"))
            async with Posts(lambda name, family: known[name][family]) as posts:
                for name, pid in pids.items():
                    await posts.man(name, Path(f"/proc/{pid}/ns/net"))
                ends = [(one, other) for one in pids for other in pids if one != other]
                probes = [Probe(*pair, *way, family) for pair in ends for way in WAYS for family in (4, 6)]
                before = await posts.probe(probes)
                assert all(each.answered for each in before), "nothing is dropped before it was asked for"
                await on.apply(POLICY)
                after = await posts.probe(probes)
            for each in after:
                way = (each.probe.source, each.probe.destination, each.probe.protocol, each.probe.port)
                assert each.delivered == each.answered == (way in ALLOWED), each
            views = on.workloads()
            assert views["web"].kind.value == "pod"
            assert {each.key: each.value for each in views["web"].labels}["role"] == "web"
            assert views["main"].owner == views["web"].id
            containerd.kill()
            await on.until(lambda: "source-lost" in on.said())
            await aside(containerd.start)
            await on.until(lambda: on.knows(*pids, "main"))
            assert "Traceback" not in on.said()

    asyncio.run(run())
