"""When looks are taken: at once, whenever something stirs, and in any case; and nothing is left open."""

import asyncio
import os
import time

import pytest

from stockade.agent import inspecting as module
from stockade.agent.inspecting import inspecting
from stockade.core.posture.host import Facts, Unread

NOTHING = Unread("not looked at")
FACTS = Facts(**{**dict.fromkeys(Facts.__struct_fields__, NOTHING), "unlisted": ()})  # type: ignore[arg-type]


class Pipe:
    """A watch that becomes readable when it is written to."""

    def __init__(self) -> None:
        self.reading, self.writing = os.pipe()
        os.set_blocking(self.reading, False)
        self.closed = False

    def stir(self) -> None:
        os.write(self.writing, b"!")

    def fileno(self) -> int:
        return self.reading

    def drain(self) -> None:
        os.read(self.reading, 100)

    def close(self) -> None:
        self.closed = True
        os.close(self.reading)
        os.close(self.writing)


class Room:
    """An inspection that counts its looks, one of which may fail."""

    def __init__(self) -> None:
        self.pipe = Pipe()
        self.looks = 0
        self.stirred: list[bool] = []
        self.fails = False

    def watches(self) -> tuple[Pipe, ...]:
        return (self.pipe,)

    def look(self, *, stirred: bool = True) -> Facts:
        self.looks += 1
        self.stirred.append(stirred)
        if self.fails:
            raise OSError("the kernel cannot be asked")
        return FACTS


class SystemClock:
    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()


def test_a_stir_is_looked_at_and_a_quiet_host_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(room: Room) -> None:
        looks = inspecting(room, SystemClock())
        assert await anext(looks) is FACTS
        monkeypatch.setattr(module, "EVERY", 3600.0)
        room.pipe.stir()
        assert await asyncio.wait_for(anext(looks), 30) is FACTS
        monkeypatch.setattr(module, "EVERY", 0.1)
        assert await asyncio.wait_for(anext(looks), 30) is FACTS
        assert room.stirred == [True, True, False]
        monkeypatch.setattr(module, "ANYWAY", 0.0)
        await asyncio.wait_for(anext(looks), 30)
        assert room.stirred[-1], "what watches tell of is looked at anyway, now and then"
        await looks.aclose()  # type: ignore[attr-defined]
        assert room.pipe.closed

    asyncio.run(scenario(Room()))


def test_what_stirs_a_hundred_times_is_not_looked_at_a_hundred_times(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(room: Room) -> None:
        monkeypatch.setattr(module, "EVERY", 3600.0)
        looks = inspecting(room, SystemClock())
        await anext(looks)
        for _ in range(100):
            room.pipe.stir()
            await asyncio.sleep(0)
        await asyncio.wait_for(anext(looks), 30)
        assert room.looks == 2
        await looks.aclose()  # type: ignore[attr-defined]

    asyncio.run(scenario(Room()))


def test_a_look_that_fails_ends_it_and_leaves_nothing_open() -> None:
    async def scenario(room: Room) -> None:
        room.fails = True
        with pytest.raises(OSError, match="cannot be asked"):
            await anext(inspecting(room, SystemClock()))
        assert room.pipe.closed

    asyncio.run(scenario(Room()))


@pytest.mark.parametrize("turns", range(6))
def test_whoever_ends_it_just_as_something_stirs_is_obeyed(turns: int) -> None:
    """What a waiting task was told and its end may come within the same turns of the loop, in any order."""

    async def run() -> bool:
        moved = asyncio.Event()
        waiting = asyncio.create_task(module._moved(moved, 60))
        await asyncio.sleep(0.01)
        moved.set()
        for _ in range(turns):
            await asyncio.sleep(0)
        if waiting.done():
            return True
        waiting.cancel()
        await asyncio.wait([waiting])
        return waiting.cancelled()

    assert asyncio.run(run())
