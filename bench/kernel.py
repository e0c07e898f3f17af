"""Policy in a real kernel: replaced under traffic, its cost a packet, a change's way into force
(``python -m bench.kernel``).
"""

import asyncio
import logging
from collections.abc import AsyncIterator

from bench.crossing import crossing
from bench.figures import Figure, options, show_as_they_come
from bench.relabelling import relabelling
from bench.replacing import replacing
from stockade.controller.logs import log_to
from stockade.testing.lab import enter

REPLACEMENTS, REPLACEMENTS_QUICK = 10_000, 200
LABELS, LABELS_QUICK = 500, 30


def main() -> None:
    """Print every figure as it is measured."""
    asked = options(__doc__)
    enter()
    log_to(level=logging.WARNING)
    asyncio.run(show_as_they_come(figures(quick=asked.quick), as_json=asked.json))


async def figures(*, quick: bool) -> AsyncIterator[Figure]:
    """Yield the figures, part by part."""
    async for each in crossing(quick=quick):
        yield each
    for each in await relabelling(LABELS_QUICK if quick else LABELS):
        yield each
    for each in await replacing(REPLACEMENTS_QUICK if quick else REPLACEMENTS):
        yield each


if __name__ == "__main__":
    main()
