"""Try random worlds on the real kernel: ``python -m stockade.testing.kernel_worlds SEED [COUNT] [OPTIONS]``.

``--realms``: each bridge is a realm of its own. ``--bridge``: what stays on a bridge is judged in the bridge family.
``--pairs``: any three lines of a program stand in blocks of two.
Prints what differed, each with its seed. A world is tried after the one before it: to see a difference again that
needs both, begin one seed earlier.
"""

import asyncio
import sys

from stockade.testing.kernel_worlds.run import Tally, stand_in_pairs, try_worlds
from stockade.testing.lab import enter


def main() -> int:
    """Run; the exit code is 1 where anything differed."""
    words = [each for each in sys.argv[1:] if not each.startswith("-")]
    if not words or not all(each.isdigit() for each in words):
        sys.stderr.write(f"{__doc__}\n")
        return 1
    enter()
    if "--pairs" in sys.argv:
        stand_in_pairs()
    first, count = int(words[0]), int(words[1]) if len(words) > 1 else 1
    tally = asyncio.run(
        try_worlds(range(first, first + count), realms="--realms" in sys.argv, inet="--bridge" not in sys.argv)
    )
    sys.stdout.write("\n".join([*tally.wrong, summary(tally), ""]))
    return 1 if tally.wrong else 0


def summary(tally: Tally) -> str:
    """Return what was tried, in one line."""
    share = 100 * tally.denied / max(1, tally.packets)
    odd = ", ".join(f"{kind}: {count}" for kind, count in sorted(tally.kinds.items()))
    return f"{tally.worlds} worlds, {tally.packets} packets, {share:.0f} % denied, {len(tally.wrong)} differ ({odd})"


if __name__ == "__main__":
    sys.exit(main())
