"""Plan and explain, in process, on the world of the compile benchmark (``python -m bench.plan``)."""

import random
import time
from collections.abc import Iterator

import msgspec

from bench.figures import Figure, at_least, at_most, percentile, program
from bench.world import world
from stockade.core.model.net import Ports, Protocol
from stockade.core.model.policy import Policy, PolicySet
from stockade.core.model.snapshot import Snapshot
from stockade.core.plan.explain import explain
from stockade.core.plan.plan import plan
from stockade.core.policy import complete

PLANNED, PLANNED_QUICK = (100, 1_000, 3_000, 10_000, 30_000, 100_000), (100, 1_000)
EXPLAINED, EXPLAINED_QUICK = (1_000, 10_000, 100_000), (1_000,)
SIZE = 100_000
NEW, ONE = "everything new", "one rule's change"
KINDS = {NEW: 5.0, ONE: 0.2}
"""Seconds that each kind of plan may take."""
NOTHING = complete(PolicySet())
EXPLAIN = 50.0
TOO_LONG = 12.0
"""Seconds that a plan took, after which its kind is not tried in a larger world."""


def main() -> None:
    """Print every figure as it is measured."""
    program(__doc__, figures)


def figures(*, quick: bool) -> Iterator[Figure]:
    """Yield the curves, and how far the targets are kept."""
    yield from _planned(PLANNED_QUICK if quick else PLANNED)
    yield from _explained(EXPLAINED_QUICK if quick else EXPLAINED, 30)


def _planned(sizes: tuple[int, ...]) -> Iterator[Figure]:
    within, tried = dict.fromkeys(KINDS, 0), dict.fromkeys(KINDS, 0)
    open_ = set(KINDS)
    for size in sizes:
        snapshot = world(size, max(10, size // 10))
        for kind in sorted(open_):
            draft = snapshot._replace(policy=_one_rule_less(snapshot.policy))
            took = _took(snapshot._replace(policy=NOTHING), snapshot) if kind == NEW else _took(snapshot, draft)
            yield Figure(f"plan, {kind}, {size:,} workloads x {max(10, size // 10):,} rules", took, "s")
            tried[kind] = size
            within[kind] = size if took < KINDS[kind] else within[kind]
            if took > TOO_LONG:
                open_.discard(kind)
    for kind, limit in KINDS.items():
        beside = f"tried up to {tried[kind]:,}"
        yield at_least(f"plan, {kind}, in {limit:g} s: largest world", within[kind], "workloads", SIZE, beside)


def _took(active: Snapshot, draft: Snapshot) -> float:
    began = time.process_time()
    plan(active, draft)
    return time.process_time() - began


def _one_rule_less(policy: PolicySet) -> PolicySet:
    first, *others = policy.policies
    less: Policy = msgspec.structs.replace(first, rules=first.rules[1:])
    return msgspec.structs.replace(policy, policies=(less, *others))


def _explained(sizes: tuple[int, ...], count: int) -> Iterator[Figure]:
    """Explain connections between random workloads, as the oracle judges them."""
    for size in sizes:
        snapshot = world(size, size // 10)
        dice, took = random.Random(1), []
        names = sorted(each.name for each in snapshot.workloads.values())
        for _ in range(count):
            source, destination = dice.sample(names, 2)
            began = time.process_time()
            explain(snapshot, source, destination, Ports(Protocol.TCP, 443, 443))
            took.append((time.process_time() - began) * 1000)
        name = f"explain one connection, {size:,} workloads x {size // 10:,} rules, p50"
        yield at_most(name, percentile(took, 0.5), "ms", EXPLAIN, "one core, in process")


if __name__ == "__main__":
    main()
