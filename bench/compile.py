"""Compile the benchmark world from nothing, then one change at a time; and births on a host that has many workloads
(``python -m bench.compile``).
"""

import gc
import random
import resource
import time
from collections.abc import Iterator

from immutables import Map

from bench.figures import Figure, at_least, at_most, percentile, program
from bench.full_host import full_host
from bench.world import changed, world
from stockade.core.compile.compiler import Compiler
from stockade.core.compile.nft.render import render
from stockade.core.compile.rulebook import rulebook
from stockade.core.model.policy import End, Selected
from stockade.core.model.snapshot import Snapshot

SIZES = (1_000, 10_000, 100_000)
RULES_PER_WORKLOAD = 0.1
HOSTS = 100
"""Hosts whose intents are put together."""


def main() -> None:
    """Print every figure as it is measured."""
    program(__doc__, figures)


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
    yield from _world(snapshot)
    yield from _changes(compiler, snapshot, 300 if quick else 10_000)
    yield from _hosts(compiler)
    yield from full_host(30 if quick else 200)


def _world(snapshot: Snapshot) -> Iterator[Figure]:
    """What the largest world is made of, counted by the values themselves, not by the compiler."""
    book = rulebook(snapshot.policy)
    keys = book.keys()
    seen = {tuple((a.key, a.value) for a in each.labels.items if a.key in keys) for each in snapshot.workloads.values()}
    selectors = {end.selector for end in _ends(snapshot) if isinstance(end, Selected)}
    yield at_least("identities", len(seen), "", min(25_000, 0.25 * len(snapshot.workloads)))
    yield at_least("distinct selectors as written, without scopes", len(selectors), "", 0.036 * len(snapshot.workloads))
    yield Figure("distinct selectors that rules come to", len(book.selectors()), "")
    yield Figure("hosts", len(snapshot.hosts), "")


def _ends(snapshot: Snapshot) -> Iterator[End]:
    for policy in snapshot.policy.policies:
        for rule in policy.rules:
            yield from (rule.source, rule.destination)


def _changes(compiler: Compiler, snapshot: Snapshot, count: int) -> Iterator[Figure]:
    """One workload's labels change; measured to the fingerprints of every host that must hear of it."""
    source = random.Random(1)
    workloads = Map(snapshot.workloads)
    took, moved = [], []
    for _ in range(count):
        new = changed(snapshot, source)
        workloads = workloads.set(new.id, new)
        after = snapshot._replace(workloads=workloads)
        began = time.process_time()
        hosts = compiler.update(after, [new.id])
        took.append((time.process_time() - began) * 1000)
        moved.append(len(hosts))
    yield at_most(f"one change, p50 of {count}", percentile(took, 0.5), "ms", 2.0, "0.08 ms match + 0.4 ms compile")
    yield at_most(f"one change, p99 of {count}", percentile(took, 0.99), "ms", 2.0)
    yield Figure("hosts that a change moves, mean", sum(moved) / len(moved), "hosts")


def _hosts(compiler: Compiler) -> Iterator[Figure]:
    """Intents are put together when somebody asks for one; their fingerprints are settled before."""
    hosts = sorted(compiler.snapshot.hosts)
    for name in ("one host's intent put together, first", "one host's intent put together, again"):
        began = time.process_time()
        intents = [compiler.intent(host) for host in hosts[:HOSTS]]
        yield Figure(name, (time.process_time() - began) / len(intents) * 1000, "ms")
    began = time.process_time()
    for intent in intents[:5]:
        render(intent)
    yield Figure("one host's ruleset rendered", (time.process_time() - began) / 5 * 1000, "ms")


def _gigabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


if __name__ == "__main__":
    main()
