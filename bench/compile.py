"""Compile the benchmark world from nothing, then one change at a time (``python -m bench.compile``)."""

import gc
import random
import resource
import time
from collections.abc import Iterator

from immutables import Map

from bench.figures import Figure, at_most, options, percentile, show
from bench.world import changed, world
from stockade.core.compile.compiler import Compiler
from stockade.core.compile.nft.render import render
from stockade.core.model.snapshot import Snapshot

SIZES = (1_000, 10_000, 100_000)
RULES_PER_WORKLOAD = 0.1


def main() -> None:
    """Print every figure as it is measured."""
    asked = options(__doc__)
    show(figures(quick=asked.quick), as_json=asked.json)


def figures(*, quick: bool) -> Iterator[Figure]:
    """Yield the figures of a curve of worlds; targets are those of the largest."""
    sizes = SIZES[:2] if quick else SIZES
    for size in sizes:
        snapshot = world(size, int(size * RULES_PER_WORKLOAD))
        gc.collect()
        began = time.process_time()
        compiler = Compiler(snapshot)
        took = time.process_time() - began
        name = f"full compile, {size} workloads x {int(size * RULES_PER_WORKLOAD)} rules"
        if size != SIZES[-1]:
            yield Figure(name, took, "s of one core")
            continue
        yield at_most(name, took, "s of one core", 1.0, "Antrea: 6 s, 100,000 pods x 75,000 policies")
        yield at_most("peak memory, world and compiler", _gigabytes(), "GB", 1.0, "Antrea: 1.6 GB")
    yield from _changes(compiler, snapshot, 300 if quick else 10_000)
    yield from _one_host(compiler)


def _changes(compiler: Compiler, snapshot: Snapshot, count: int) -> Iterator[Figure]:
    """One workload's labels change; measured to the fingerprints of every host that must hear of it."""
    source = random.Random(1)
    workloads = Map(snapshot.workloads)
    took, moved = [], []
    for _ in range(count):
        new = changed(snapshot, source)
        workloads = workloads.set(new.id, new)
        after = snapshot._replace(workloads=workloads)
        began = time.perf_counter()
        hosts = compiler.update(after, [new.id])
        took.append((time.perf_counter() - began) * 1000)
        moved.append(len(hosts))
    yield at_most(f"one change, p50 of {count}", percentile(took, 0.5), "ms", 2.0, "0.08 ms match + 0.4 ms compile")
    yield at_most(f"one change, p99 of {count}", percentile(took, 0.99), "ms", 2.0)
    yield Figure("hosts that a change moves, mean", sum(moved) / len(moved), "hosts")


def _one_host(compiler: Compiler) -> Iterator[Figure]:
    hosts = sorted(compiler.snapshot.hosts)[:5]
    began = time.perf_counter()
    intents = [compiler.intent(host) for host in hosts]
    made = time.perf_counter()
    for intent in intents:
        render(intent)
    rendered = time.perf_counter()
    yield Figure("one host's intent put together", (made - began) / len(hosts) * 1000, "ms")
    yield Figure("one host's ruleset rendered", (rendered - made) / len(hosts) * 1000, "ms")


def _gigabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


if __name__ == "__main__":
    main()
