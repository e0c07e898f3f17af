"""Policy in a real kernel: replaced under traffic, its cost a packet, a change's way into force
(``python -m bench.kernel``).
"""

import asyncio
import logging
from collections.abc import Iterator

from bench.figures import Figure, options, show
from bench.replacing import replacing
from stockade.controller.logs import log_to
from stockade.testing.lab import enter

REPLACEMENTS, REPLACEMENTS_QUICK = 10_000, 200


def main() -> None:
    """Print every figure as it is measured."""
    asked = options(__doc__)
    enter()
    log_to(level=logging.WARNING)
    show(figures(quick=asked.quick), as_json=asked.json)


def figures(*, quick: bool) -> Iterator[Figure]:
    """Yield the figures, the longest part first."""
    yield from asyncio.run(replacing(REPLACEMENTS_QUICK if quick else REPLACEMENTS))


if __name__ == "__main__":
    main()
