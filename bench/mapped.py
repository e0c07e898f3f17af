"""What the map's benchmark asks: a controller and its console over the benchmarks' world, in a process of its own.

Told on stdin what to do, a line a time, and answers with a line: ``update N``: N rows of flows come in; ``rss``.
"""

import asyncio
import os
import random
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

from bench.world import world
from stockade.adapters.clickhouse.apart import FlowStoreApart
from stockade.adapters.sql import open_store
from stockade.controller.clock import SystemClock
from stockade.controller.http.peers import Access
from stockade.controller.links import LinkBook
from stockade.controller.loop import open_controller
from stockade.controller.run import running_controller
from stockade.controller.wiring import standard_parts
from stockade.core.model.flow import Flow, FlowKey, Tally, Verdict
from stockade.core.model.flow_table import FlowBatch, told
from stockade.core.model.ids import HostId, RuleId, Version
from stockade.core.model.inventory import Workload
from stockade.core.model.packet import Direction
from stockade.core.model.snapshot import Snapshot
from stockade.memory import look_rarely
from stockade.web.listening import bound_console, origin, serving_console
from stockade.wire.api import Caller, Role

BATCH = 3_000
"""Rows of one batch: what a host sends at once."""
SPAN = 3_000.0
"""Seconds, back from now, in which the first flows lie."""
WHO = Caller(name="bench", uid=os.geteuid(), role=Role.APPLY)


def serve(folder: str, workloads: int, rows: int) -> None:
    """Serve until stdin ends."""
    look_rarely()  # as ``up`` does
    asyncio.run(_serve(Path(folder), workloads, rows))


async def _serve(folder: Path, workloads: int, rows: int) -> None:
    snapshot = await _stored(folder, world(workloads, workloads // 10))
    bound = bound_console("127.0.0.1:0")
    assert bound is not None
    links = LinkBook(origin(bound), SystemClock())
    async with AsyncExitStack() as stack:
        flows = FlowStoreApart(folder / "flows")
        stack.callback(flows.close)
        running = running_controller(
            f"sqlite:///{folder}/state.db",
            folder / "api.sock",
            Access(os.geteuid()),
            doctor=tuple,
            links=links,
            flows=flows,
        )
        installation = await stack.enter_async_context(running)
        await stack.enter_async_context(serving_console(installation, bound))
        intake, number, talks = installation.controller.flows, 0, _talks(snapshot)
        assert intake is not None
        for _ in range(0, rows, BATCH):
            number += 1
            intake.take(_batch(talks, number, BATCH, SPAN), installation.controller.snapshot)
        _say(links.issue(WHO)[0])
        while asked := (await asyncio.to_thread(sys.stdin.readline)).split():
            if asked[0] == "update":
                number += 1
                batch = _batch(talks, number, int(asked[1]), 2.0)
                await asyncio.to_thread(intake.take, batch, installation.controller.snapshot)
                _say("done")
            else:
                _say(str(_resident()))


async def _stored(folder: Path, snapshot: Snapshot) -> Snapshot:
    """Store a world as the state of an installation that has been there for long."""
    store = open_store(f"sqlite:///{folder}/state.db")
    try:
        controller = await open_controller(store, SystemClock(), standard_parts(store.secret(), tuple))
        made = snapshot._replace(revision=controller.snapshot.revision, version=Version(0))
        store.checkpoint(made)
        return made
    finally:
        store.close()


Talk = tuple[Workload, Workload, int]


def _talks(snapshot: Snapshot) -> Iterator[Talk]:
    """Yield pairs that talk, without end: a few hundred servers, and whoever asks them."""
    dice = random.Random(7)
    names = sorted(snapshot.workloads)
    servers = [snapshot.workloads[each] for each in dice.sample(names, min(300, len(names) // 4))]
    while True:
        yield snapshot.workloads[dice.choice(names)], dice.choice(servers), dice.choice((80, 443, 5432, 6379, 8080))


def _batch(talks: Iterator[Talk], number: int, rows: int, span: float) -> FlowBatch:
    now = SystemClock().now()
    dice = random.Random(number)
    flows = [flow for _ in range(rows // 3) for flow in _rows(next(talks), now - dice.uniform(1, span), dice)]
    return FlowBatch(HostId("host-00000"), "bench", number, now - span, now, now, told(flows))


def _rows(talk: Talk, first: float, dice: random.Random) -> Iterator[Flow]:
    one, other, port = talk
    ends = (one.seen.endpoints[0].addresses[0], other.seen.endpoints[0].addresses[0], 6, port)
    denied = dice.random() < 0.03
    verdict = Verdict.DENIED if denied else Verdict.ALLOWED
    tally = Tally(first, first + 1, dice.randrange(1, 9), 9)
    own = (one.id, other.id)
    yield Flow(FlowKey(*ends, Direction.EGRESS, verdict, RuleId("default"), *own), tally)
    if not denied:
        yield Flow(FlowKey(*ends, Direction.INGRESS, verdict, RuleId("default"), *own), tally)
        carried = Tally(first, first + 1, 0, 20, 3_000, 90_000, 3)
        yield Flow(FlowKey(*ends, Direction.EGRESS, Verdict.CARRIED, RuleId(""), *own), carried)


def _resident() -> int:
    """Return the resident set of this process, in bytes."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _say(text: str) -> None:
    print(f"> {text}", flush=True)
