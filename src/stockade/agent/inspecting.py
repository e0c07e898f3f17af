"""When to look at what stands around our tables: at once where the kernel tells of a change, else every few seconds.

Looking costs what there is to look at, so looks are as far apart as a hundredth of a core allows, and never so far
that a finding is raised late.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from functools import partial

from stockade.core.posture.host import Facts
from stockade.seams.clock import Clock
from stockade.seams.inspection import Inspection, Watch

EVERY = 4.0
"""Seconds between looks where nobody tells of a change."""
ANYWAY = 60.0
"""Seconds after which also what watches tell of is looked at again."""
SOONEST = 0.2
SHARE = 0.01
"""Of one core, at most, as far as ``EVERY`` allows."""


async def inspecting(inspection: Inspection, clock: Clock) -> AsyncIterator[Facts]:
    """Yield everything that there is to see, first at once. ``OSError`` where the kernel cannot be listened to."""
    loop = asyncio.get_running_loop()
    moved = asyncio.Event()
    moved.set()
    whole_at = clock.monotonic()
    watches = await asyncio.to_thread(inspection.watches)
    for each in watches:
        loop.add_reader(each.fileno(), _stirred, each, moved)
    try:
        while True:
            began = clock.monotonic()
            stirred = moved.is_set() or began - whole_at >= ANYWAY
            whole_at = began if stirred else whole_at
            moved.clear()
            facts = await asyncio.to_thread(partial(inspection.look, stirred=stirred))
            took = clock.monotonic() - began
            yield facts
            await asyncio.sleep(min(max(SOONEST, took / SHARE), EVERY))
            await _moved(moved, EVERY - (clock.monotonic() - began))
    finally:
        _end(loop, watches)


def _stirred(watch: Watch, moved: asyncio.Event) -> None:
    watch.drain()
    moved.set()


async def _moved(moved: asyncio.Event, patience: float) -> None:
    """Wait for a change, so many seconds at most."""
    if patience > 0:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                await moved.wait()


def _end(loop: asyncio.AbstractEventLoop, watches: Sequence[Watch]) -> None:
    for each in watches:
        loop.remove_reader(each.fileno())
        each.close()
