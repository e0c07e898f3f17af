"""Nobody who waits misses a change, and nobody waits for one that has been."""

import asyncio

from stockade.controller.bell import Bell


def test_every_waiter_is_woken() -> None:
    async def scenario() -> list[bool]:
        bell = Bell()
        waiters = [asyncio.create_task(bell.wait(bell.rung, 5)) for _ in range(3)]
        await asyncio.sleep(0)
        bell.ring()
        return await asyncio.gather(*waiters)

    assert asyncio.run(scenario()) == [True, True, True]


def test_a_ring_between_looking_and_waiting_is_not_missed() -> None:
    async def scenario() -> bool:
        bell = Bell()
        rung = bell.rung
        bell.ring()
        return await bell.wait(rung)

    assert asyncio.run(asyncio.wait_for(scenario(), 5))


def test_waiting_ends() -> None:
    async def scenario() -> bool:
        bell = Bell()
        return await bell.wait(bell.rung, 0.01)

    assert asyncio.run(scenario()) is False
