"""Births under a policy in force, by the packets of the newborn itself: in a lab, and on the host of every runtime
(``python -m bench.birth``).
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
from bench.nurseries import nurseries
from stockade.testing.lab.entry import entered

BIRTHS, BIRTHS_QUICK = 1_000, 50
AT_ONCE = 50
STARVED, STARVED_QUICK = 50, 5
PAIRS, PAIRS_QUICK = 100, 5
WITHOUT_GATE = ("docker", "namespaces")
NEEDED = ("dockerd", "containerd", "docker", "podman", "busybox", "iptables", "ip", "taskset")


def main() -> None:
    """Print every figure as it is measured."""
    program(__doc__, figures, in_a_lab)


async def figures(*, quick: bool) -> AsyncIterator[Figure]:
    """Yield the figures of every kind of births."""
    count, starved, pairs = (BIRTHS_QUICK, STARVED_QUICK, PAIRS_QUICK) if quick else (BIRTHS, STARVED, PAIRS)
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(2 * AT_ONCE))
    with tempfile.TemporaryDirectory(prefix="stockade-bench-") as folder:
        program = compiled(Path(folder))
        for each in await lab_births(program, count):
            yield each
        if why := why_no_engine():
            print(f"births on runtimes' hosts are not assessed: {why}", file=sys.stderr)
            return
        for name, make in nurseries(program).items():
            async for each in engine_births(make(), count, AT_ONCE, starved):
                yield each
            if name not in WITHOUT_GATE:
                async for each in gate_cost(make, pairs):
                    yield each
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
