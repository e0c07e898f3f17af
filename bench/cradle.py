"""Births, one after the other, whatever gives birth; and the figures of what came of them."""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from bench.figures import Figure, at_least, at_most, percentile
from bench.newborns import Born, Watch
from stockade.errors import StockadeError
from stockade.wire.api import BirthView

ALIVE = 8
"""Newborns that are there at the same time, at most."""
ADDRESSES = 64
PATIENCE = 30.0
STANDING = 8.0
"""Seconds in which a connection whose first packets were dropped still comes about: its kernel asks at 1, 3 and 7."""
REST = 0.1
LOOK = 0.005


class Cradle(Protocol):
    """Where workloads are born."""

    async def bear(self, number: int, argv: list[str]) -> None:
        """Start a newborn with this command; whoever tells of workloads tells of it."""
        ...

    async def bury(self, number: int) -> None:
        """End a newborn and take it away."""
        ...

    def address(self, number: int) -> str:
        """Return the IPv4 address that a newborn has, or will have."""
        ...


async def births(
    cradle: Cradle,
    watch: Watch,
    program: str,
    count: int,
    *,
    first: int = 1,
    pause: float = 0.25,
    patience: float = PATIENCE,
    alive: int = ALIVE,
) -> list[Born]:
    """Bear so many, at most ``alive`` at a time and ``pause`` seconds apart; return what came of each."""
    room = asyncio.Semaphore(alive)
    lives: list[asyncio.Task[Born]] = []
    try:
        for number in range(first, first + count):
            await room.acquire()
            await asyncio.sleep(pause)
            watch.expect(number, cradle.address(number))
            await cradle.bear(number, watch.argv(program, number))
            lives.append(asyncio.create_task(_life(cradle, watch, number, room, patience)))
            _fail_early(lives)
        return list(await asyncio.gather(*lives))
    finally:
        for life in lives:
            life.cancel()
        await asyncio.gather(*lives, return_exceptions=True)


async def births_at_once(
    cradle: Cradle, watch: Watch, program: str, count: int, *, first: int, patience: float = PATIENCE
) -> list[Born]:
    """Bear so many at the same time; return what came of each, in order."""
    numbers = range(first, first + count)
    for number in numbers:
        watch.expect(number, cradle.address(number))

    async def whole(number: int) -> Born:
        await cradle.bear(number, watch.argv(program, number))
        return await _life(cradle, watch, number, None, patience)

    return list(await asyncio.gather(*map(whole, numbers)))


async def _life(cradle: Cradle, watch: Watch, number: int, room: asyncio.Semaphore | None, patience: float) -> Born:
    """Wait until a newborn may talk, and for its first connection; then take it away."""
    try:
        if not await _within(patience, lambda: watch.arrived(number)):
            raise StockadeError(f"newborn {number} was not let talk within {patience:.0f} s")
        await asyncio.sleep(REST)
        watch.leave(number)
        await _within(STANDING, lambda: watch.connected(number))
        await asyncio.sleep(REST)
        await cradle.bury(number)
        return watch.born(number)
    finally:
        if room is not None:
            room.release()


async def _within(seconds: float, happens: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + seconds
    while not happens():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(LOOK)
    return True


def _fail_early(lives: Sequence["asyncio.Task[Born]"]) -> None:
    for life in lives:
        if life.done():
            life.result()


def calm_of(count: int) -> int:
    """Return how many of so many births come one after the other: by them it is told how long one takes."""
    return max(min((count + 1) // 2, 20), count // 10)


def figures_of(kind: str, found: Sequence[Born], scans: int) -> Iterator[Figure]:
    """Yield what packets said."""
    dead = [each.dead for each in found]
    stood = [each.connected for each in found if each.connected is not None]
    tried = f"{sum(each.last.denied for each in found):,} datagrams, {sum(each.last.frames for each in found):,} frames"
    name = f"{len(found):,} births, {kind}"
    yield at_most(f"{name}: denied packets passed", sum(each.passed for each in found), "packets", 0, f"{tried} tried")
    reached = sum(each.last.scanned for each in found)
    yield at_most(f"{name}: denied packets that reached them", reached, "packets", 0, f"{scans:,} tried")
    told = f"{name}: start to first allowed packet"
    yield at_most(f"{told}, p50", percentile(dead, 0.5), "ms", 20, "Illumio: 15,000; Calico: up to 120,000")
    yield at_most(f"{told}, p99", percentile(dead, 0.99), "ms", 100)
    if stood:
        told = f"{name}: a TCP connection begun at once stands"
        yield Figure(f"{told}, p50", percentile(stood, 0.5), "ms", compared_with="a dropped SYN comes again after 1 s")
    yield at_most(f"{name}: whose first connection never stood", len(found) - len(stood), "births", 0)


def figures_of_records(kind: str, records: Sequence[BirthView]) -> Iterator[Figure]:
    """Yield what the birth records said."""
    took = [(each.allowed - each.noticed) * 1000 for each in records if each.allowed and each.noticed]
    name = f"births, {kind}, by their records"
    yield Figure(f"{name}: noticed to allowed, p50", percentile(took, 0.5), "ms")
    yield Figure(f"{name}: noticed to allowed, p99", percentile(took, 0.99), "ms")
    leaks = [each.leak for each in records if each.leak is not None]
    yield at_most(f"{name}: longest leak of {len(leaks):,}", max(leaks, default=0.0) * 1000, "ms", 0)


def control(kind: str, found: Sequence[Born]) -> Iterator[Figure]:
    """Yield what newborns did without policy: that it could have been seen."""
    passed, reached = sum(each.passed for each in found), sum(each.last.scanned for each in found)
    name = f"{len(found):,} births, {kind}, without policy" if len(found) > 1 else f"a birth, {kind}, without policy"
    yield at_least(f"{name}: packets passed", passed, "packets", 1, "the control")
    yield at_least(f"{name}: packets that reached it", reached, "packets", 1, "the control")


def without_targets(figures: Iterator[Figure]) -> Iterator[Figure]:
    """Where many come together, or everything starves, slow is allowed and open is not: packets alone have a target."""
    for each in figures:
        yield Figure(each.name, each.value, each.unit) if each.unit in ("ms", "births") else each
