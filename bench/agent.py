"""What Stockade holds in memory and takes of a processor on a host with many workloads and nothing to do, in one
process as ``stockade up`` is, and as an agent with its controller in another (``python -m bench.agent``).
"""

import asyncio
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import NamedTuple

from bench.figures import Figure, at_most, program
from bench.guarded import Guarded, guarded
from bench.nurseries import LABELS, NamespaceNursery
from stockade.errors import StockadeError
from stockade.testing.engine_host import UPLINK, EngineHost
from stockade.testing.processes import nft_helpers
from stockade.wire.api import WorkloadsReply

ROOT = Path(__file__).parents[1]
WORKLOADS = 500
IDLE, IDLE_QUICK = 60.0, 10.0
REST, REST_QUICK = 300.0, 20.0
"""Seconds between the last change and the first look: what has just come is looked at again at twice its age, and not
oftener than every five minutes once it is old."""
PATIENCE = 240.0
MEGABYTE, TICKS = 1 << 20, os.sysconf("SC_CLK_TCK")
POLICY = LABELS.format(name="web", role="web") + (
    """
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
    - name: web-to-web
      allow: {from: role = web, to: role = web, on: [tcp/80, ping]}
"""
)


class Use(NamedTuple):
    """What a process uses: memory in bytes, and seconds of a processor since it began."""

    resident: int
    private: int
    seconds: float


def main() -> None:
    """Print every figure as it is measured."""
    program(__doc__, figures)


async def figures(*, quick: bool) -> AsyncIterator[Figure]:
    """Yield what one process takes, then what two take."""
    if os.geteuid() != 0:
        raise StockadeError("a host of many workloads needs root", remedy="run it as root")
    count, idle, rest = (WORKLOADS, IDLE_QUICK, REST_QUICK) if quick else (WORKLOADS, IDLE, REST)
    with tempfile.TemporaryDirectory(prefix="stockade-bench-") as folder:
        for whole in (True, False):
            nursery = NamespaceNursery(Path(folder))
            async with nursery.host as host:
                await asyncio.to_thread(populate, host, count)
                async with _whole(host) if whole else _apart(host, Path(folder)) as running:
                    up, processes = running
                    await _settled(up, count)
                    await asyncio.sleep(rest)
                    processes["the holder of the tables"] = nft_helpers(up.state)
                    for each in await _measured(processes, count, idle):
                        yield each


def populate(host: EngineHost, count: int) -> None:
    """Make so many network namespaces, each on the host's bridge."""
    lines = [line for number in range(count) for line in _one(number)]
    subprocess.run(
        [*host.inside, "ip", "-batch", "-"], input="\n".join(lines).encode(), check=True, capture_output=True
    )
    within = "for n in $(ip netns list | cut -d' ' -f1); do ip -n $n address add 10.98.$((${n#web-} / 250 + 1))."
    within += "$((${n#web-} % 250 + 1))/16 dev eth0; ip -n $n link set eth0 up; done"
    host.on_host("sh", "-ec", within, timeout=PATIENCE)


def _one(number: int) -> tuple[str, ...]:
    name = f"web-{number}"
    return (
        f"netns add {name}",
        f"link add v{number} type veth peer name eth0 netns {name}",
        f"link set v{number} master br0 up",
    )


@contextlib.asynccontextmanager
async def _whole(host: EngineHost) -> AsyncIterator[tuple[Guarded, dict[str, list[int]]]]:
    """Agent and controller in one process."""
    async with guarded(host, NamespaceNursery.follow) as up:
        yield up, {"stockade up": [up.pid]}


@contextlib.asynccontextmanager
async def _apart(host: EngineHost, folder: Path) -> AsyncIterator[tuple[Guarded, dict[str, list[int]]]]:
    """An agent, and a controller elsewhere on this host."""
    state = folder / "apart"
    up = Guarded(host, state, ())
    code = "from bench.apart import main; main()"
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for words in (("controller", str(state)), ("agent", str(state), "engine-1", UPLINK)):
            state.mkdir(exist_ok=True)
            processes.append(_started(host, state, code, words))
            await up.until((state / "api.sock").exists)
        yield up, {"an agent alone": [processes[1].pid], "a controller alone": [processes[0].pid]}
    finally:
        for each in reversed(processes):
            each.terminate()
            await asyncio.to_thread(each.wait)
        await up.close()


def _started(host: EngineHost, state: Path, code: str, words: Sequence[str]) -> "subprocess.Popen[bytes]":
    with (state / "up.log").open("ab") as log:
        argv = [*host.inside, sys.executable, "-c", code, *words]
        environment = {**host.environment, "PYTHONPATH": str(ROOT)}
        return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)


async def _settled(up: Guarded, count: int) -> None:
    """Wait until everybody is known, labelled and contained."""
    await up.until(lambda: len(up.client.call("workloads", WorkloadsReply).workloads) > count)
    await up.until(up.in_force)
    await up.applied(POLICY)


async def _measured(processes: dict[str, list[int]], count: int, idle: float) -> list[Figure]:
    before = {name: used(pids) for name, pids in processes.items()}
    began = time.monotonic()
    await asyncio.sleep(idle)
    lasted = time.monotonic() - began
    after = {name: used(pids) for name, pids in processes.items()}
    return [each for name in processes for each in _figures(name, count, before[name], after[name], lasted)]


def _figures(name: str, count: int, before: Use, after: Use, lasted: float) -> list[Figure]:
    told = f"{name}, {count} workloads"
    memory, core = (after.resident / MEGABYTE, 100 * (after.seconds - before.seconds) / lasted)
    if not name.startswith("an agent"):
        return [
            Figure(f"{told}: resident", memory, "MB"),
            Figure(f"{told}: idle for {lasted:.0f} s", core, "% of a core"),
        ]
    return [
        at_most(f"{told}: resident", memory, "MB", 60),
        at_most(f"{told}: idle for {lasted:.0f} s", core, "% of a core", 1),
    ]


def used(pids: Sequence[int]) -> Use:
    """Return what some processes use together. Children that have ended count too: they are its as well."""
    every = [_used(pid) for pid in pids]
    return Use(sum(each.resident for each in every), sum(each.private for each in every), sum(e.seconds for e in every))


def _used(pid: int) -> Use:
    rows = (line.split() for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()[1:])
    sizes = {row[0]: int(row[1]) * 1024 for row in rows}
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return Use(sizes["Rss:"], sizes["Private_Dirty:"], sum(map(int, fields[11:15])) / TICKS)


if __name__ == "__main__":
    main()
