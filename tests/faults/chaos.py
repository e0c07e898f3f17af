"""Every kind of fault, seeded: ``make chaos SEED=4100 TIME=60`` (or ``STEP=17``, that one alone). Exit 1: a violation.

python tests/faults/chaos.py [--seed N] [--time SECONDS] [--step N] [--only FAULT[,FAULT]]
"""

import argparse
import asyncio
import os
import random
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from faults import DENIED, GROUND, HELD, Operator, apply, told
from stockade.cli.demo_stage import stage
from stockade.testing.chaos.clock import clock
from stockade.testing.chaos.disk import disk
from stockade.testing.chaos.fault import Fault
from stockade.testing.chaos.ground import Ground
from stockade.testing.chaos.registry import FAULTS
from stockade.testing.chaos.suite import Plan, Row, endure, table
from stockade.testing.lab import enter
from stockade.testing.steady import Steady


async def chaos(plan: Plan, tell: Callable[[str], None], faults: Sequence[Fault] = FAULTS) -> tuple[Row, ...]:
    """Build the lab on a disk of its own, have traffic and an operator, and endure."""
    with tempfile.TemporaryDirectory(prefix="chaos-") as name, disk(Path(name)) as ours:
        under = ours.path if ours else Path(name)
        run = under / "run"
        run.mkdir()
        os.environ["STOCKADE_RUN"] = str(run)
        ticking = clock(Path(name))
        python = str(ticking.python) if ticking else sys.executable
        async with stage(GROUND, str(under), python) as on:
            await told(on)
            await apply(on)
            async with Steady(on.lab, (*HELD, *DENIED)) as steady:
                await asyncio.sleep(0.3)
                operator = Operator(on, random.Random(plan.seed))
                rows = await endure(plan, Ground(on, run, ours, ticking, operator.turn), steady, operator, faults, tell)
            cells = await on.matrix(judge=True)
            wrong = [f"I3 {cell.probe}: expected {cell.expected}" for cell in cells if not cell.right]
        return (*rows, *([Row("in the end", 1, "", tuple(wrong))] if wrong else []))


def say(line: str) -> None:
    """Say a line, at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> int:
    """Run it and print the table."""
    parser = argparse.ArgumentParser(prog="make chaos", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=4100)
    parser.add_argument("--time", type=float, default=60.0, help="seconds")
    parser.add_argument("--step", type=int, default=0)
    parser.add_argument("--only", default="", help="faults by name, with commas")
    parser.add_argument("--go-on", action="store_true", help="a violation does not end it")
    given = parser.parse_args()
    enter()
    say(f"seed {given.seed}")
    plan = Plan(given.seed, given.time, given.step, tuple(filter(None, given.only.split(","))), given.go_on)
    rows = asyncio.run(chaos(plan, say))
    for line in ("", *table(rows)):
        say(line)
    return int(any(row.violations for row in rows))


if __name__ == "__main__":
    sys.exit(main())
