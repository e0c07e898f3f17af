"""A whole controller: store, loop, clockwork, API. What ``up`` starts, and what a lone controller would."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from stockade.adapters.sql import open_store
from stockade.controller.clock import SystemClock
from stockade.controller.http.peers import Access
from stockade.controller.http.server import serving
from stockade.controller.installation import Installation
from stockade.controller.lifecycle import Lifecycle
from stockade.controller.links import LinkBook
from stockade.controller.loop import following, open_controller
from stockade.controller.wiring import standard_parts
from stockade.seams.clock import Clock
from stockade.seams.store import Store
from stockade.wire.api import Check, Setting


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
) -> AsyncIterator[Installation]:
    """Run a controller while the block runs. ``StockadeError`` where it cannot start; nothing is left then.

    ``database`` is an SQLAlchemy URL (``sqlite:///PATH``). The agent in the same process reports to
    ``installation.controller`` and takes its assignments there; others do so over the API.
    """
    store = await asyncio.to_thread(open_store, database)
    try:
        working = _working(store, clock or SystemClock(), doctor, tuple(settings), links)
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
) -> AsyncIterator[Installation]:
    parts = standard_parts(await asyncio.to_thread(store.secret), doctor)
    controller = await open_controller(store, clock, parts)
    lifecycle = Lifecycle(controller)
    async with following(controller):
        time = asyncio.create_task(lifecycle.watch_time())
        try:
            yield Installation(controller, lifecycle, settings, links)
        finally:
            controller.closing.set()
            controller.changed.ring()
            await time
