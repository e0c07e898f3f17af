"""Faults of the wall clock: it jumps, and it jumps back."""

import asyncio
from collections.abc import AsyncIterator
from random import Random

from stockade.testing.chaos.clock import Clock
from stockade.testing.chaos.fault import fault
from stockade.testing.chaos.ground import Ground

HOUR, YEAR = 3600, 365 * 86_400
SEEN = "times in records are the clock's; nothing waits longer or shorter"


def no_clock(on: Ground) -> str:
    """Say that the clock of `up` cannot be set."""
    return "" if on.clock else "no C compiler to build the clock with"


def _clock(on: Ground) -> Clock:
    assert on.clock is not None
    assert on.clock.rules(on.up.pid), "`up` does not go by the clock"
    return on.clock


@fault(SEEN, missing=no_clock)
async def clock_forwards(on: Ground, dice: Random) -> AsyncIterator[None]:
    """The clock jumps forwards."""
    _clock(on).shift(dice.choice((HOUR, YEAR)))
    yield
    _clock(on).shift(0)


@fault(SEEN, missing=no_clock)
async def clock_backwards(on: Ground, dice: Random) -> AsyncIterator[None]:
    """The clock jumps backwards."""
    _clock(on).shift(-dice.choice((HOUR, YEAR)))
    yield
    _clock(on).shift(0)


@fault(SEEN, missing=no_clock)
async def clock_to_and_fro(on: Ground, dice: Random) -> AsyncIterator[None]:
    """The clock jumps to and fro."""
    for _ in range(20):
        _clock(on).shift(dice.randrange(-HOUR, HOUR))
        await asyncio.sleep(0.02)
    yield
    _clock(on).shift(0)
