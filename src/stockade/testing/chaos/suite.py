"""Strike with every kind of fault, one after the other, in an order that a seed decides, and judge after each.

The same seed gives the same faults in the same order with the same dice; each step has dice of its own, so that it can
be repeated alone. What the machine does meanwhile is its own affair: what is done is repeated, not what comes of it.
"""

import asyncio
import random
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import msgspec

from stockade.testing.chaos.fault import Fault
from stockade.testing.chaos.ground import Ground, until
from stockade.testing.chaos.invariants import Judge, Violations, Worker, healed
from stockade.testing.steady import Steady

LASTS = (0.2, 0.8)
"""Seconds for which a fault lasts once it has struck."""


TAKEN_WITHIN = 60.0
"""Seconds after a fault in which changes must be taken again."""


class Step(NamedTuple):
    """One fault to be struck with: its number, by which it is repeated, and its dice."""

    number: int
    fault: Fault
    dice: random.Random


class Row(msgspec.Struct, frozen=True):
    """A line of the table: how often a fault struck. ``why``: it cannot be done here."""

    name: str
    times: int
    why: str
    violations: tuple[str, ...]


class Plan(msgspec.Struct, frozen=True):
    """What is wanted: for ``seconds``, or (0) each fault once; ``only`` one step of a seed; ``among`` some faults.

    ``go_on``: a violation does not end it. What comes after one may be its consequence.
    """

    seed: int
    seconds: float = 0.0
    only: int = 0
    among: tuple[str, ...] = ()
    go_on: bool = False


def ways(seed: int, faults: Sequence[Fault]) -> Iterator[Step]:
    """Yield steps without end: every fault once in each round, in an order of the round's own."""
    number = 0
    turn = 0
    while True:
        turn += 1
        for each in random.Random(f"{seed}/round {turn}").sample(list(faults), len(faults)):
            number += 1
            yield Step(number, each, random.Random(f"{seed}/step {number}"))


async def endure(
    plan: Plan, on: Ground, steady: Steady, worker: Worker, faults: Sequence[Fault], say: Callable[[str], None]
) -> tuple[Row, ...]:
    """Strike until the time is over or something does not hold; return the table."""
    why = {each.name: each.missing(on) for each in faults}
    able = [each for each in faults if not why[each.name] and (not plan.among or each.name in plan.among)]
    judge, rows = Judge(on, steady, worker), {each.name: Row(each.name, 0, why[each.name], ()) for each in faults}
    working = asyncio.create_task(worker.work())
    ends = time.monotonic() + plan.seconds
    try:
        for step in ways(plan.seed, able):
            if plan.only and step.number < plan.only:
                continue
            found = await _one(step, on, judge, worker, say)
            if working.done():
                found.append(f"I4 whoever works was refused: {working.exception()!r}")
                working = asyncio.create_task(worker.work())
            row = rows[step.fault.name]
            rows[row.name] = Row(row.name, row.times + 1, row.why, (*row.violations, *found))
            _tell(found, plan, step, say)
            over = time.monotonic() > ends and (plan.seconds or step.number >= len(able))
            if over or plan.only or (found and not plan.go_on):
                return tuple(rows.values())
    finally:
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
    return tuple(rows.values())


def _tell(found: Violations, plan: Plan, step: Step, say: Callable[[str], None]) -> None:
    """Say what does not hold, and how it is seen again."""
    for each in found:
        say(f"  violated: {each}")
    if found:
        among = f" ONLY={','.join(plan.among)}" if plan.among else ""
        say(f"  again, with all before it: make chaos SEED={plan.seed}{among} TIME={plan.seconds or 0:g}")
        say(f"  again, alone:              make chaos SEED={plan.seed}{among} STEP={step.number}")


async def _one(step: Step, on: Ground, judge: Judge, worker: Worker, say: Callable[[str], None]) -> Violations:
    """Strike, wait, heal, judge. While it is judged nobody works."""
    began, log_before = time.monotonic(), len(on.log())
    worker.patient = step.fault.refuses
    problems: Violations = []
    try:
        async with step.fault.strike(on, step.dice):
            await asyncio.sleep(step.dice.uniform(*LASTS))
    except Exception as problem:  # noqa: BLE001 - it is told as what it is, with the step that repeats it
        problems.append(f"the fault itself failed: {problem!r}")
    if step.fault.refuses and not problems:
        problems += await healed(on) or await _taken_again(worker)
    async with worker.turn:
        problems += await healed(on)
        if not problems:
            problems += await judge.judge(step.fault, began, log_before)
    worker.patient = False
    say(f"{step.number:4}  {step.fault.name:24} {time.monotonic() - began:6.1f} s  {'holds' if not problems else 'NO'}")
    return problems


async def _taken_again(worker: Worker) -> Violations:
    """Wait until a version is acknowledged: what is healed refuses nothing."""
    before = len(worker.versions)

    async def taken() -> bool:
        return len(worker.versions) > before

    try:
        await until(taken, "I4 changes are refused still", TAKEN_WITHIN)
    except AssertionError as problem:
        return [str(problem)]
    return []


def table(rows: Sequence[Row]) -> Iterator[str]:
    """Yield the lines of the table: fault, how often, whether everything held."""
    yield f"{'FAULT':24} {'TIMES':>5}  HELD"
    for row in rows:
        held = f"not assessed here: {row.why}" if row.why else "not struck" if not row.times else "I1 I2 I3 I4 I5 I6"
        yield f"{row.name:24} {row.times:5}  {'; '.join(row.violations) or held}"
