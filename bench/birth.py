"""Births under a policy in force, by the packets of the newborn itself: in a lab, and on the host of every runtime
(``python -m bench.birth``; ``--only docker`` for one kind).
"""

import asyncio
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bench.engine_births import engine_births, gate_cost, stockade_cost
from bench.figures import Figure, program
from bench.hosts import in_a_lab
from bench.lab_births import lab_births
from bench.newborns import compiled
from bench.nurseries import KINDS, nurseries
from stockade.testing.lab.entry import entered

BIRTHS, BIRTHS_QUICK = 1_000, 50
AT_ONCE = 50
STARVED, STARVED_QUICK = 50, 5
PAIRS, PAIRS_QUICK = 100, 5
WITHOUT_GATE = ("docker", "namespaces")
LAB, COST = "lab", "cost"
"""Births in a lab, and what Stockade adds to a start."""
NEEDED = ("dockerd", "containerd", "docker", "podman", "busybox", "iptables", "ip", "taskset")


def main() -> None:
    """Print every figure as it is measured."""
    program(__doc__, figures, in_a_lab, parts=(LAB, *KINDS, COST))


async def figures(*, quick: bool, parts: frozenset[str]) -> AsyncIterator[Figure]:
    """Yield the figures of these kinds of births."""
    count, starved, pairs = (BIRTHS_QUICK, STARVED_QUICK, PAIRS_QUICK) if quick else (BIRTHS, STARVED, PAIRS)
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(2 * AT_ONCE))
    with tempfile.TemporaryDirectory(prefix="stockade-bench-") as folder:
        program = compiled(Path(folder))
        if LAB in parts:
            for each in await lab_births(program, count):
                yield each
        if parts - {LAB} and (why := why_no_engine()):
            print(f"births on runtimes' hosts are not assessed: {why}", file=sys.stderr)
            return
        for name, make in nurseries(program).items():
            if name not in parts:
                continue
            async for each in engine_births(make(), count, AT_ONCE, starved):
                yield each
            if name not in WITHOUT_GATE:
                async for each in gate_cost(make, pairs):
                    yield each
        if COST in parts:
            async for each in stockade_cost(nurseries(program)["docker"], pairs):
                yield each


def why_no_engine() -> str:
    """Say why no runtime can be started here; empty where every one can."""
    if os.geteuid() != 0 or entered():
        return "they need root"
    missing = [each for each in NEEDED if shutil.which(each) is None]
    return f"{', '.join(missing)} not installed" if missing else ""


if __name__ == "__main__":
    main()
