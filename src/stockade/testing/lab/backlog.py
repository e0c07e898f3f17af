"""Whether packets between namespaces are still under way: they wait in each processor's backlog, and nowhere else.

A packet is usually delivered while it is being sent; on a busy machine the kernel puts that off. And whether the kernel
has had to give up on some, for reasons that are the machine's and no policy's. Reads ``/proc/net``; changes nothing.
"""

import asyncio
import os
from pathlib import Path

STATISTICS = Path("/proc/net/softnet_stat")
NEIGHBOURS = (Path("/proc/net/stat/arp_cache"), Path("/proc/net/stat/ndisc_cache"))
DROPPED, WAITING = 1, 11
ROUNDS, PAUSE = 3, 0.0003
LONGEST = 2000
"""Looks, at most: others on the machine may never let its backlog run empty."""
BLIND = 0.02
"""Seconds to wait on a kernel older than 5.14, which does not tell."""


async def drained() -> None:
    """Return when every packet that was under way has arrived or been dropped."""
    empty = 0
    for _ in range(LONGEST):
        under_way = waiting()
        if under_way is None:
            await asyncio.sleep(BLIND)
            return
        empty = empty + 1 if under_way == 0 else 0
        if empty == ROUNDS:
            _visit_every_processor()
            return
        await asyncio.sleep(PAUSE)


def _visit_every_processor() -> None:
    """Run on each processor for a moment: what it had in hand, in no queue any more, it has dealt with by then.

    A processor handles packets with everything else on it held off, but a virtual one may itself be held up meanwhile.
    """
    allowed = os.sched_getaffinity(0)
    try:
        for processor in allowed:
            os.sched_setaffinity(0, {processor})
    finally:
        os.sched_setaffinity(0, allowed)


def waiting() -> int | None:
    """Return how many packets wait on all processors; None where the kernel does not tell."""
    rows = _rows()
    return sum(row[WAITING] for row in rows) if all(len(row) > WAITING for row in rows) else None


def dropped() -> int:
    """Return how many packets the machine has dropped since it started because a backlog was full."""
    return sum(row[DROPPED] for row in _rows())


def refused_neighbours() -> int:
    """Return how often the machine has had no room for a neighbour; 0 where this namespace is not told."""
    return sum(_refused(path) for path in NEIGHBOURS)


def _refused(path: Path) -> int:
    try:
        head, *rows = (line.split() for line in path.read_text(encoding="ascii").splitlines())
        return sum(int(row[head.index("table_fulls")], 16) for row in rows)
    except (OSError, ValueError):
        return 0


def _rows() -> list[list[int]]:
    return [[int(word, 16) for word in line.split()] for line in STATISTICS.read_text(encoding="ascii").splitlines()]
