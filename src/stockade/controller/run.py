"""A whole controller: store, loop, clockwork, API. What ``up`` starts, and what a lone controller would."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from stockade.adapters.sql import open_store
from stockade.controller.ahead import work_ahead
from stockade.controller.anomalies import AnomalyWatch
from stockade.controller.clock import SystemClock
from stockade.controller.exporters.hearing import Devices, Hearing, hearing
from stockade.controller.flows import FlowIntake
from stockade.controller.http.peers import Access
from stockade.controller.http.server import serving
from stockade.controller.installation import Installation
from stockade.controller.lifecycle import Lifecycle
from stockade.controller.links import LinkBook
from stockade.controller.loop import Controller, following, open_controller
from stockade.controller.wiring import standard_parts
from stockade.errors import StockadeError
from stockade.logs import log_of
from stockade.seams.clock import Clock
from stockade.seams.flow_store import FlowStore
from stockade.seams.store import Store
from stockade.wire.api import Check, Setting

TRIM_EVERY = 300.0
"""Seconds between looks at whether flows are older or more than is kept."""

log = log_of("controller")


@asynccontextmanager
async def running_controller(
    database: str,
    socket: Path,
    access: Access,
    *,
    doctor: Callable[[], Sequence[Check]],
    settings: Sequence[Setting] = (),
    clock: Clock | None = None,
    links: LinkBook | None = None,
    flows: FlowStore | None = None,
    devices: Devices | None = None,
) -> AsyncIterator[Installation]:
    """Run a controller while the block runs. ``StockadeError`` where it cannot start; nothing is left then.

    ``database`` is an SQLAlchemy URL (``sqlite:///PATH``). The agent in the same process reports to
    ``installation.controller`` and takes its assignments there; others do so over the API. ``flows`` is where flows are
    kept; it is closed by whoever opened it. ``devices`` are heard as long; they need somewhere to keep flows.
    """
    store = await asyncio.to_thread(open_store, database)
    try:
        working = _working(store, clock or SystemClock(), doctor, tuple(settings), links, flows, devices)
        async with working as installation, serving(installation, socket, access):
            yield installation
    finally:
        await asyncio.to_thread(store.close)


@asynccontextmanager
async def _working(
    store: Store,
    clock: Clock,
    doctor: Callable[[], Sequence[Check]],
    settings: tuple[Setting, ...],
    links: LinkBook | None,
    flows: FlowStore | None,
    devices: Devices | None,
) -> AsyncIterator[Installation]:
    parts = standard_parts(await asyncio.to_thread(store.secret), doctor)
    controller = await open_controller(store, clock, parts)
    lifecycle = Lifecycle(controller)
    if flows is not None:
        controller.flows = FlowIntake(flows, clock)
    anomalies = AnomalyWatch(controller, flows) if flows is not None else None
    ear = _hearing(controller, devices)
    async with following(controller), hearing(ear):
        time = asyncio.create_task(lifecycle.watch_time())
        trimming = asyncio.create_task(_trim(controller.flows))
        looking = asyncio.create_task(_look(anomalies))
        heard = ear.exporters if ear else None
        made = Installation(controller, lifecycle, settings, links, anomalies=anomalies, exporters=heard)
        ahead = asyncio.create_task(work_ahead(made))
        try:
            yield made
        finally:
            controller.closing.set()
            controller.changed.ring()
            trimming.cancel()
            looking.cancel()
            ahead.cancel()
            await asyncio.gather(time, trimming, looking, ahead, return_exceptions=True)


async def _look(anomalies: AnomalyWatch | None) -> None:
    """Look for anomalies, where flows are kept."""
    if anomalies is not None:
        await anomalies.run()


def _hearing(controller: Controller, devices: Devices | None) -> Hearing | None:
    if devices is None or controller.flows is None:
        return None
    return Hearing(devices, controller.flows, lambda: controller.snapshot, controller.clock)


async def _trim(flows: FlowIntake | None) -> None:
    """Keep flows within their bounds. One that cannot be trimmed now is trimmed the next time."""
    while flows is not None:
        await asyncio.sleep(TRIM_EVERY)
        try:
            await asyncio.to_thread(flows.trim)
        except StockadeError as problem:
            log.warning("flows not trimmed", error=problem.message, kept=problem.kept)
