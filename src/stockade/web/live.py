"""Keeps an open page up to date: a stream that says when to look again, and never what changed.

Server-sent events over the controller's own bell, as ``controller.watch`` uses it, and where a page wants it, over what
is stored of flows. A reader that is slow misses changes in between, never the last one.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager

from stockade.controller.bell import Bell
from stockade.controller.installation import Installation
from stockade.web.asking import seen

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


async def changes(
    installation: Installation, living: Callable[[], bool], *, flows: bool = False
) -> AsyncIterator[bytes]:
    """Yield an event now and after every change, until the controller or the session ends."""
    controller = installation.controller
    yield b"retry: 2000\n\n"
    told = ""
    with _flows_ring(installation) if flows else _silence() as stored:
        while living() and not controller.closing.is_set():
            rung, flowed = controller.changed.rung, stored.rung
            if (now := seen(installation, flows=flows)) != told:
                told = now
                yield f"event: changed\nid: {now}\ndata: {controller.snapshot.revision}\n\n".encode()
                await asyncio.sleep(AT_MOST_EVERY + PER_WORKLOAD * len(controller.snapshot.workloads))
            elif not await _either(controller.changed.wait(rung, ALIVE), stored.wait(flowed, ALIVE)):
                yield b": alive\n\n"


async def _either(*waits: Awaitable[bool]) -> bool:
    """Wait for one of several bells; False where none rang in its time."""
    tasks = [asyncio.ensure_future(each) for each in waits]
    done, others = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for each in others:
        each.cancel()
    return any(each.result() for each in done)


@contextmanager
def _flows_ring(installation: Installation) -> Iterator[Bell]:
    """A bell that rings when flows are stored, from whichever thread."""
    bell, loop, flows = Bell(), asyncio.get_running_loop(), installation.controller.flows

    def tell(_batch: object) -> None:
        loop.call_soon_threadsafe(bell.ring)

    end = flows.listen(tell) if flows is not None else None
    try:
        yield bell
    finally:
        if end is not None:
            end()


@contextmanager
def _silence() -> Iterator[Bell]:
    yield Bell()
