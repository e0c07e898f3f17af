"""What a look needs is there before it: at the start, and after a change where somebody looks."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from bench.world import world
from controlled import opened, run

from stockade.controller.ahead import work_ahead
from stockade.controller.graphs import Asked, graph
from stockade.controller.installation import Installation
from stockade.core.model.ids import Revision

WORLD = world(60, 20)


def test_what_a_look_needs_is_worked_out_at_the_start_and_where_somebody_looks(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with opened(tmp_path) as made:
            made.controller.snapshot = WORLD
            working = asyncio.create_task(work_ahead(made))
            await until(lambda: worked(made) == 1)
            change(made)
            await asyncio.sleep(0.3)
            assert worked(made) == 1, "nobody looked"
            look = asyncio.to_thread(graph, made.graphs, made.controller, Asked(by="d03", strands=False))
            assert (await look).nodes
            change(made)
            await until(lambda: worked(made) == 3)
            assert made.graphs._kept[0].snapshot is made.controller.snapshot
            assert made.graphs._kept[0].zooms == (("d03",),), "as it was looked at last"
            working.cancel()

    run(scenario())


def worked(made: Installation) -> int:
    """Of how many snapshots something was worked out."""
    return len(made.graphs._kept)


def change(made: Installation) -> None:
    """The same facts, newer."""
    now = made.controller.snapshot
    made.controller.snapshot = now._replace(revision=Revision(now.revision + 1))
    made.controller.changed.ring()


async def until(held: Callable[[], bool]) -> None:
    """Wait until something holds; the scenario's bound is the only one."""
    while not held():
        await asyncio.sleep(0.01)
