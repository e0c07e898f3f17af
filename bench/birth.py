"""Births under a policy in force, by the packets of the newborn itself: in a lab, and on a real Docker engine
(``python -m bench.birth``).
"""

import asyncio
import logging
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from bench.figures import Figure, options, show_as_they_come
from bench.lab_births import lab_births
from bench.newborns import compiled
from stockade.controller.logs import log_to
from stockade.testing.lab import enter

BIRTHS, BIRTHS_QUICK = 1_000, 50


def main() -> None:
    """Print every figure as it is measured."""
    asked = options(__doc__)
    enter()
    log_to(level=logging.WARNING)
    asyncio.run(show_as_they_come(figures(quick=asked.quick), as_json=asked.json))


async def figures(*, quick: bool) -> AsyncIterator[Figure]:
    """Yield the figures of both kinds of births."""
    count = BIRTHS_QUICK if quick else BIRTHS
    with tempfile.TemporaryDirectory(prefix="stockade-bench-") as folder:
        program = compiled(Path(folder))
        for each in await lab_births(program, count):
            yield each


if __name__ == "__main__":
    main()
