"""Births under a policy in force, by the packets of the newborn itself: in a lab, and on a real Docker engine
(``python -m bench.birth``).
"""

import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from bench.docker_births import docker_births, start_cost
from bench.figures import Figure, program
from bench.hosts import in_a_lab
from bench.lab_births import lab_births
from bench.newborns import compiled
from stockade.testing.lab.entry import entered

BIRTHS, BIRTHS_QUICK = 1_000, 50
PAIRS, PAIRS_QUICK = 100, 5


def main() -> None:
    """Print every figure as it is measured."""
    program(__doc__, figures, in_a_lab)


async def figures(*, quick: bool) -> AsyncIterator[Figure]:
    """Yield the figures of both kinds of births."""
    count = BIRTHS_QUICK if quick else BIRTHS
    with tempfile.TemporaryDirectory(prefix="stockade-bench-") as folder:
        program = compiled(Path(folder))
        for each in await lab_births(program, count):
            yield each
        if why := why_no_engine():
            print(f"births on a Docker engine are not assessed: {why}", file=sys.stderr)
            return
        for each in await docker_births(program, count):
            yield each
    for each in await start_cost(PAIRS_QUICK if quick else PAIRS):
        yield each


def why_no_engine() -> str:
    """Say why no Docker engine can be started here; empty where one can."""
    if os.geteuid() != 0 or entered():
        return "an engine needs root"
    missing = [
        each for each in ("dockerd", "containerd", "docker", "busybox", "iptables") if shutil.which(each) is None
    ]
    return f"{', '.join(missing)} not installed" if missing else ""


if __name__ == "__main__":
    main()
