"""Births on real runtimes' hosts with a real ``stockade up`` on them, and what the gate adds to a start."""

import asyncio
import random
import statistics
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence

from bench.cradle import births, births_at_once, calm_of, control, figures_of, figures_of_records, without_targets
from bench.figures import Figure, at_most, percentile
from bench.guarded import Guarded, guarded
from bench.newborns import DENIED, TCP, UDP
from bench.nurseries import FOREVER, RESIDENTS, Nursery, starving
from bench.stopwatch import Stopwatch
from stockade.wire.api import BirthsReply, CompletenessReply

LATE = 120.0
"""Seconds within which a newborn must be let talk where it was starved, or one of many."""
FREE = 5
"""Births without policy. Whoever scans asks for a link address once a second, so that one alone may go unmet."""
CALM = 0.5
"""Seconds between the end of one newborn and the beginning of the next, where it is told how long a birth takes."""
CENSUS = 35.0
"""Seconds until an agent has told again how soon its sources tell."""
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


async def engine_births(nursery: Nursery, count: int, many: int, starved: int) -> AsyncIterator[Figure]:
    """Let ``count`` workloads be born, then ``many`` at once, then some while all starve, then some without policy."""
    kind, program = nursery.kind, nursery.program
    async with nursery.host, guarded(nursery.host, nursery.follow) as up:
        stopwatch = await _ready(nursery, up)
        with await asyncio.to_thread(nursery.watch) as watch:
            calm = calm_of(count)
            found = await births(nursery, watch, program, calm, pause=CALM, patience=LATE, alive=1)
            for each in (*figures_of(kind, found, watch.scans), *_recorded(kind, up, calm)):
                yield each
            for each in (*_gate(kind, stopwatch), *await _discovery(kind, up)):
                yield each
            crowd = await births(nursery, watch, program, count - calm, first=calm + 1, pause=0.1, patience=LATE)
            for each in without_targets(figures_of(f"{kind}, several alive", crowd, watch.scans)):
                yield each
            first = count + 1
            if many:
                found = await births_at_once(nursery, watch, program, many, first=first, patience=LATE)
                for each in without_targets(figures_of(f"{kind}, at once", found, watch.scans)):
                    yield each
                yield _refused(f"{many} births, {kind}, at once", nursery)
            first += many
            if starved:
                with starving(up.pid):
                    found = await births(nursery, watch, program, starved, first=first, patience=LATE)
                for each in without_targets(figures_of(f"{kind}, starved", found, watch.scans)):
                    yield each
                yield _refused(f"{starved} births, {kind}, starved", nursery)
            first += starved
            await up.opened()
            for each in control(kind, await births(nursery, watch, program, FREE, first=first, patience=LATE)):
                yield each


def _refused(name: str, nursery: Nursery) -> Figure:
    refused, nursery.refused = nursery.refused, 0
    return Figure(f"{name}: refused by the gate in time, and started again", refused, "starts")


async def _ready(nursery: Nursery, up: Guarded) -> Stopwatch:
    """Have the shop there, its policy in force, and the gate in its place."""
    await asyncio.to_thread(nursery.settle_in)
    await up.known(len(RESIDENTS))
    await up.applied(nursery.policy + POLICY)
    stopwatch = await asyncio.to_thread(Stopwatch, nursery.host)
    await nursery.put_gate(up, stopwatch)
    return stopwatch


def _recorded(kind: str, up: Guarded, count: int) -> Iterator[Figure]:
    return figures_of_records(kind, up.client.call("births", BirthsReply, last=count).births)


def _gate(kind: str, stopwatch: Stopwatch) -> Iterator[Figure]:
    took = stopwatch.take()
    if took:
        name = f"{len(took):,} births, {kind}: the gate's program, exec to exit"
        yield Figure(f"{name}, p50", percentile(took, 0.5), "ms")
        yield at_most(f"{name}, p99", percentile(took, 0.99), "ms", 10)


async def _discovery(kind: str, up: Guarded) -> list[Figure]:
    """Say how soon each source told of a workload, once the agent has told of it."""
    deadline = time.monotonic() + CENSUS
    while True:
        reply = await asyncio.to_thread(up.client.call, "completeness", CompletenessReply)
        tallies = [each.tally for each in reply.found.sources if each.tally.discovered]
        if tallies or time.monotonic() > deadline:
            break
        await asyncio.sleep(0.5)
    return [
        Figure(f"births, {kind}: discovery by {each.source}, {share}", value * 1000, "ms")
        for each in tallies
        for share, value in (("p50", each.p50), ("p99", each.p99))
        if value is not None
    ]


async def gate_cost(make: Callable[..., Nursery], count: int) -> AsyncIterator[Figure]:
    """Start so many workloads on a host with the gate, and as many on one without, in turn."""
    gated, plain = make(), make(gate=False)
    async with (
        gated.host,
        plain.host,
        guarded(gated.host, gated.follow) as one,
        guarded(plain.host, plain.follow) as two,
    ):
        for nursery, up in ((gated, one), (plain, two)):
            await asyncio.to_thread(nursery.settle_in)
            await up.known(len(RESIDENTS))
            await up.applied(nursery.policy + POLICY)
            await nursery.put_gate(up)
        pairs = await asyncio.to_thread(_pairs, gated, plain, count)
    for each in _costs(f"a start, {gated.kind}, {count} pairs", "the gate", pairs):
        yield each


async def stockade_cost(make: Callable[..., Nursery], count: int) -> AsyncIterator[Figure]:
    """Start so many workloads on a host with Stockade, and as many on one without, in turn."""
    with_it, plain = make(), make()
    async with with_it.host, plain.host, guarded(with_it.host, with_it.follow) as up:
        for nursery in (with_it, plain):
            await asyncio.to_thread(nursery.settle_in)
        await up.known(len(RESIDENTS))
        await up.applied(with_it.policy + POLICY)
        pairs = await asyncio.to_thread(_pairs, with_it, plain, count)
    for each in _costs(f"a start, {plain.kind}, {count} pairs", "Stockade", pairs):
        yield each


def _costs(name: str, what: str, pairs: Sequence[tuple[float, float]]) -> Iterator[Figure]:
    added = statistics.median(one - other for one, other in pairs) * 1000
    yield Figure(f"{name}: what {what} adds, median", added, "ms", compared_with="the same without it")
    yield Figure(f"{name}: without {what}, median", statistics.median(other for _, other in pairs) * 1000, "ms")


def _pairs(one: Nursery, other: Nursery, count: int) -> list[tuple[float, float]]:
    dice, found = random.Random(1), []
    for number in range(count):
        took = {}
        for each in dice.sample((one, other), 2):
            began = time.perf_counter()
            each.start(f"one-{number}", "web", FOREVER, number)
            took[each] = time.perf_counter() - began
        found.append((took[one], took[other]))
        for each in (one, other):
            each.remove(f"one-{number}")
    return found
