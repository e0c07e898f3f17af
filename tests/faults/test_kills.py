"""Kill -9 at random points under load, with and without a flushed ruleset: policy holds, nothing told is forgotten.

The one thing that cannot hold: while no process owns the tables (the helper was killed and nothing has adopted them
yet), root can flush them like any other, and until they are restored everything passes. Those moments are counted
apart; every other packet that policy denies must not arrive.
"""

import asyncio
import math
import random
import time

import pytest

from faults import (
    DENIED,
    GROUND,
    HELD,
    Leak,
    Operator,
    apply,
    end,
    judging,
    lost,
    owned,
    passed,
    seed_of,
    there,
    told,
)
from stockade.cli.demo_stage import Stage, stage
from stockade.testing.lab import enter
from stockade.testing.processes import nft_helpers
from stockade.testing.steady import Count, Kind, Steady

pytestmark = [pytest.mark.real, pytest.mark.fault, pytest.mark.timeout(600)]
SHARDS = 2
KILLS = 100
"""Of each shard; the whole must stay at 200 or more."""
LOOK_EVERY = 25
STANDSTILL = 1.0
"""Seconds in which every flow must have done something."""
RESTORED_WITHIN = 10.0
"""Seconds in which a server that was not killed, on a machine that is busy, notices a flush and restores the tables."""
READ_LATE = 0.3
"""Seconds by which a server on a busy machine may read late what has arrived: it tells of moments when it reads."""
ADOPTED_WITHIN = 5.0
"""Seconds in which a server that works notices that the helper has died and has its tables held again."""
FAULTS = ("up",) * 8 + ("helper",) * 3 + ("both",) * 3 + ("up, flush",) * 4 + ("helper, flush", "both, flush")


class Chaos:
    """One shop, and what was done to it."""

    def __init__(self, on: Stage, steady: Steady, dice: random.Random) -> None:
        self.on, self.steady, self.dice = on, steady, dice
        self.open: list[tuple[float, float]] = []
        """When nobody owned the tables and root flushed them: from, until they were restored."""
        self.deserted = 0.0
        """When the helper was killed, until the tables are seen to be owned again."""
        self.looked = time.monotonic()
        self.answers = 0.0
        """Since when the server that runs has answered; 0: it has not yet."""
        self.story: list[str] = []

    async def kill(self, kind: str) -> None:
        """Kill at a random moment: of a start, of work, or of a stop."""
        if self.on.server is None or self.on.server.status is not None:
            await self.on.start()
            self.answers = 0.0
        if self.dice.random() < 0.5:
            await self.answering()
        await asyncio.sleep(self.dice.uniform(0, 0.6))
        self.story.append(f"{time.monotonic():.3f} {kind}")
        began = time.monotonic()
        if kind.startswith(("up", "both")):
            assert self.on.server is not None
            self.on.server.kill()
        if kind.startswith(("helper", "both")):
            await end(*nft_helpers(self.on.state))
            self.deserted = began
        opened = kind.endswith("flush") and await self.flush()
        if kind.startswith(("up", "both")):
            assert self.on.server is not None
            await self.on.server.wait(10)
        if opened:
            await self.restored()
            self.open.append((began, time.monotonic() + READ_LATE))
            await self.look()  # not more than so many moments are kept: these must not hide what comes after

    async def flush(self) -> bool:
        """Flush everything, as root does; return whether our tables went. They may only where nobody holds them."""
        if await owned(self.on.lab):
            self.deserted = 0.0
        await self.on.lab.run(self.on.lab.host_name, ["nft", "flush", "ruleset"])
        gone = not await there(self.on.lab)
        if gone:
            assert self.deserted, f"tables that were owned are gone: {self.story}"
            since = max(self.deserted, self.answers or math.inf)
            assert time.monotonic() < since + ADOPTED_WITHIN, f"nobody adopted the tables: {self.story[-5:]}"
        return gone

    async def answering(self) -> None:
        """Wait until the server answers, and remember when it first did."""
        await self.on.answering()
        self.answers = self.answers or time.monotonic()

    async def whole(self, *, there_already: bool = True) -> None:
        """Have a server that answers and whose host has everything in force."""
        if self.on.server is None or self.on.server.status is not None:
            await self.on.start()
            self.answers = 0.0
        await self.answering()
        await self.on.settled(0, 0)
        assert not there_already or await there(self.on.lab), f"in force, it says: {self.story[-5:]}"

    async def restored(self) -> None:
        """Have the tables back. A server that was killed says that all is in force only once they are; one that was
        not goes on saying so until it has noticed.
        """
        was_killed = self.on.server is None or self.on.server.status is not None
        await self.whole(there_already=was_killed)
        deadline = time.monotonic() + RESTORED_WITHIN
        while not await judging(self.on.lab):
            assert time.monotonic() < deadline, f"nobody restored the tables: {self.story[-5:]}"
            await asyncio.sleep(0.01)

    async def look(self) -> None:
        """Nothing denied has arrived outside the open moments, nothing allowed was cut."""
        counts = await self.steady.told()
        assert not passed(tuple(map(self._closed, counts))), (passed(counts), self.story[-LOOK_EVERY:])
        assert not lost(counts), (lost(counts), self.story[-LOOK_EVERY:])
        lasted, self.looked = time.monotonic() - self.looked, time.monotonic()
        assert lasted < STANDSTILL or all(each.done for each in counts), "a flow stands still"

    def unexplained(self, leaks: list[Leak]) -> list[Leak]:
        """Return the leaks of newborns that did not live in an open moment."""
        return [each for each in leaks if not any(a <= each.until and each.since <= b for a, b in self.open)]

    def _closed(self, count: Count) -> Count:
        """Take away what arrived in an open moment."""
        if count.flow.kind is not Kind.TRY:
            return count
        arrived = tuple(at for at in count.arrived if not any(since <= at <= until for since, until in self.open))
        return Count(count.flow, count.done, 0 if not arrived else count.lost, arrived, count.detail)


@pytest.mark.parametrize("shard", range(SHARDS))
def test_kills_at_random_points_under_load(shard: int) -> None:
    enter()
    seed = seed_of(shard)
    try:
        asyncio.run(_killed(seed))
    except BaseException as problem:
        problem.add_note(f"STOCKADE_SEED={seed - shard}")
        raise


async def _killed(seed: int) -> None:
    dice = random.Random(seed)
    async with stage(GROUND) as on:
        await told(on)
        async with Steady(on.lab, (*HELD, *DENIED)) as steady:
            await asyncio.sleep(0.3)
            counts = await steady.told()
            assert len({each.flow for each in counts if each.arrived and each.flow in DENIED}) == len(
                DENIED
            )  # they work
            await apply(on)
            await asyncio.sleep(0.1)
            await steady.told()
            chaos, operator = Chaos(on, steady, dice), Operator(on, dice)
            await _go_on(chaos, operator)
            await operator.check()
            assert not chaos.unexplained(operator.leaked), chaos.story
            assert operator.births > 0
            assert operator.versions
            await chaos.look()
        cells = await on.matrix(judge=True)
        assert not [cell for cell in cells if not cell.right], "state and kernel disagree"


async def _go_on(chaos: Chaos, operator: Operator) -> None:
    """Kill so many times while somebody works."""
    working = asyncio.create_task(operator.work())
    try:
        for number in range(KILLS):
            await chaos.kill(chaos.dice.choice(FAULTS))
            if number % LOOK_EVERY == LOOK_EVERY - 1:
                await chaos.look()
            assert not working.done(), working
    finally:
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
    await chaos.whole()
    await chaos.look()
