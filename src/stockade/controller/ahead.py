"""What pages show of all workloads, worked out before somebody looks: in the background, a small part of the time.

At the start, and after a change of the snapshot where somebody looked at a map since the last time. Nothing waits for
it: who looks before it is done works it out as well.
"""

import asyncio

from stockade.controller.installation import Installation

REST = 10
"""So many times as long as it took, nothing is worked out."""


async def work_ahead(installation: Installation) -> None:
    """Work ahead until this is cancelled."""
    controller, graphs = installation.controller, installation.graphs
    done, looks = None, -1
    while True:
        rung, snapshot = controller.changed.rung, controller.snapshot
        if snapshot is not done and graphs.looks != looks:
            looks, began = graphs.looks, controller.clock.monotonic()
            await asyncio.to_thread(installation.censuses.of, snapshot)
            await asyncio.to_thread(graphs.work_ahead, snapshot)
            done = snapshot
            await asyncio.sleep(REST * (controller.clock.monotonic() - began))
        else:
            await controller.changed.wait(rung)
