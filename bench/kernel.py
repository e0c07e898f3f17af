"""Policy in a real kernel: replaced under traffic, its cost a packet, a change's way into force
(``python -m bench.kernel``).
"""

from collections.abc import AsyncIterator

from bench.clearing import clearing
from bench.crossing import crossing
from bench.figures import Figure, program
from bench.hosts import in_a_lab
from bench.relabelling import relabelling
from bench.replacing import replacing

REPLACEMENTS, REPLACEMENTS_QUICK = 10_000, 200
LABELS, LABELS_QUICK = 500, 30


def main() -> None:
    """Print every figure as it is measured."""
    program(__doc__, figures, in_a_lab)


async def figures(*, quick: bool) -> AsyncIterator[Figure]:
    """Yield the figures, part by part."""
    async for each in crossing(quick=quick):
        yield each
    for each in await relabelling(LABELS_QUICK if quick else LABELS):
        yield each
    for each in await clearing(LABELS_QUICK if quick else LABELS):
        yield each
    for each in await replacing(REPLACEMENTS_QUICK if quick else REPLACEMENTS):
        yield each


if __name__ == "__main__":
    main()
