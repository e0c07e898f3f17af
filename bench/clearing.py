"""What it costs to close a socket of netfilter's while the kernel clears up what was deleted from a ruleset."""

import asyncio
import time

from bench.figures import Figure, percentile
from bench.hosts import bring_about, host_kernel
from stockade.adapters.nft import NftKernel
from stockade.adapters.nft.netlink import Readings
from stockade.core.compile.nft.ruleset import ElementSet, Ruleset, Table
from stockade.testing.lab import Lab, Topology, lab_bridge

GROUND = Topology(bridges=(lab_bridge("br0", "172.20.0.0/24", "fd72::/64"),))
EMPTY = ElementSet("ipv4_addr")
FULL = ElementSet("ipv4_addr", elements=frozenset({"10.0.0.1", "10.0.0.2"}))
PAUSE = 0.02


async def clearing(count: int) -> list[Figure]:
    """Delete elements so many times; return how long it then takes to read over a kept socket, and to close another."""
    async with Lab(GROUND) as lab:
        with host_kernel(lab) as kernel:
            kept, closed = await asyncio.to_thread(_times, kernel, lab.netns(lab.host_name), count)
    name = "elements are deleted, then"
    return [
        Figure(f"{name} the ruleset's number is read, p50 of {count}", percentile(kept, 0.5), "ms"),
        Figure(f"{name} a netfilter socket is closed, p50 of {count}", percentile(closed, 0.5), "ms"),
        Figure(f"{name} a netfilter socket is closed, p99", percentile(closed, 0.99), "ms"),
    ]


def _times(kernel: NftKernel, netns: str, count: int) -> tuple[list[float], list[float]]:
    """Return milliseconds: each way has deletions of its own."""
    kept, closed = [], []
    for _ in range(count):
        _delete_some(kernel)
        began = time.perf_counter()
        kernel.generation()
        kept.append((time.perf_counter() - began) * 1000)
        _delete_some(kernel)
        once = Readings(netns)
        once.generation()
        began = time.perf_counter()
        once.close()
        closed.append((time.perf_counter() - began) * 1000)
    return kept, closed


def _delete_some(kernel: NftKernel) -> None:
    time.sleep(PAUSE)
    for elements in (FULL, EMPTY):
        bring_about(kernel, Ruleset((Table("inet", sets={"some": elements}),)))
