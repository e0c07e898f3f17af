"""The streams of workloads and of births: what is there, then every change, one JSON object a line.

A reader that is slow misses states in between and never the last one.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping

import msgspec

from stockade.controller.flow_queries import flow_view, passes
from stockade.controller.flows import FlowIntake
from stockade.controller.loop import Controller
from stockade.controller.views import birth_view, differences, workload_views
from stockade.core.model.ids import Revision, WorkloadId
from stockade.seams.flow_store import FlowFilter, StoredBatch, stored
from stockade.wire.api import BirthView, Gone, InSync, Seen, WatchLine, WorkloadView
from stockade.wire.flows import FlowView

NEWEST = 200
"""Births that are looked at after each change; of more at once, the oldest are missed."""
WAITING, LOOK = 64, 1.0
"""Batches that wait for a reader, and seconds between looks at whether the controller closes."""
Views = Mapping[WorkloadId, WorkloadView]


async def watched(controller: Controller) -> AsyncIterator[bytes]:
    """Yield lines until the controller closes."""
    known: Views = {}
    in_sync = False
    while not controller.closing.is_set():
        rung, revision = controller.changed.rung, controller.snapshot.revision
        views = {each.id: each for each in workload_views(controller.snapshot, controller.roster)}
        for line in _lines(revision, known, views):
            yield _encoded(line)
        if not in_sync:
            yield _encoded(InSync(revision))
        known, in_sync = views, True
        await controller.changed.wait(rung)


async def watched_births(controller: Controller) -> AsyncIterator[bytes]:
    """Yield each birth as it comes, and again when its record is completed, until the controller closes."""
    known = {birth.record.workload: birth for birth in await asyncio.to_thread(controller.store.births, NEWEST)}
    while not controller.closing.is_set():
        rung = controller.changed.rung
        newest = await asyncio.to_thread(controller.store.births, NEWEST)
        for birth in reversed(newest):
            if known.get(birth.record.workload) != birth:
                yield _encoded(birth_view(controller.snapshot, controller.roster, birth))
        known = {birth.record.workload: birth for birth in newest}
        await controller.changed.wait(rung)


async def watched_flows(controller: Controller, flows: FlowIntake, where: FlowFilter) -> AsyncIterator[bytes]:
    """Yield flows that are asked for as they are stored, until the controller closes.

    A reader that is slow misses whole batches.
    """
    loop, batches = asyncio.get_running_loop(), asyncio.Queue[StoredBatch](WAITING)

    def add(batch: StoredBatch) -> None:
        if not batches.full():
            batches.put_nowait(batch)

    def tell(batch: StoredBatch) -> None:
        loop.call_soon_threadsafe(add, batch)

    end = flows.listen(tell)
    try:
        while not controller.closing.is_set():
            try:
                async with asyncio.timeout(LOOK):
                    batch = await batches.get()
            except TimeoutError:
                continue
            for flow in stored(batch.host, batch.flows):
                if passes(flow, where):
                    yield _encoded(flow_view(flow))
    finally:
        end()


def _lines(revision: Revision, known: Views, views: Views) -> list[WatchLine]:
    return [
        Gone(revision, id_, known[id_].name) if view is None else Seen(revision, view)
        for id_, view in differences(known, views)
    ]


def _encoded(line: WatchLine | BirthView | FlowView) -> bytes:
    return msgspec.json.encode(line) + b"\n"
