"""Keeps an open page up to date: a stream that says when to look again, and never what changed.

``changed``: the snapshot, or what hosts say of it. ``flows``: more of them were stored, which only some pages show.

Server-sent events over the controller's own bell, as ``controller.watch`` uses it. A reader that is slow misses
changes in between, never the last one.
"""

import asyncio
from collections.abc import AsyncIterator, Callable

from stockade.controller.loop import Controller

AT_MOST_EVERY = 1.0
"""Seconds between two events: a page is for eyes."""
PER_WORKLOAD = 0.0005
"""Seconds more for each workload: to show many takes longer, and whoever is born comes first."""
ALIVE = 20.0
"""Seconds after which silence is broken, so that who has gone is noticed."""
FLOWS_EVERY = 2.0
"""Seconds between two looks at whether flows have come."""
MOST_STREAMS = 8
"""Of one session."""


async def changes(controller: Controller, living: Callable[[], bool]) -> AsyncIterator[bytes]:
    """Yield an event now and after every change, until the controller or the session ends."""
    yield b"retry: 2000\n\n"
    rung, taken, silent = -1, _taken(controller), 0.0
    while living() and not controller.closing.is_set():
        if taken != (taken := _taken(controller)):
            yield f"event: flows\ndata: {taken}\n\n".encode()
            silent = 0.0
        if controller.changed.rung != rung:
            rung = controller.changed.rung
            yield f"event: changed\nid: {rung}\ndata: {controller.snapshot.revision}\n\n".encode()
            await asyncio.sleep(AT_MOST_EVERY + PER_WORKLOAD * len(controller.snapshot.workloads))
            silent = 0.0
        elif not await controller.changed.wait(rung, FLOWS_EVERY):
            silent += FLOWS_EVERY
            if silent >= ALIVE:
                yield b": alive\n\n"
                silent = 0.0


def _taken(controller: Controller) -> int:
    return controller.flows.taken if controller.flows is not None else 0
