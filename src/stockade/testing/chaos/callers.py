"""Faults of those who ask: too many of them, or some that never say what they want."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

from stockade.testing.chaos.fault import fault
from stockade.testing.chaos.ground import Ground

MANY = 300
WAITS = "who asks waits longer"
ASKED = b"GET /v1/status HTTP/1.1\r\nhost: x\r\n\r\n"
WORDS = (b"", b"GET ", ASKED, b"\x00\xff" * 500, b"POST /v1/policy HTTP/1.1\r\n")
KNOCKS = (b"chaos\tc0ffee\t\n", b"chaos\tc0ffee\t/nowhere\n", b"\n", b"\xff\xfe\t\t\n", b"a" * 10_000 + b"\n")


@fault(WAITS)
async def api_flooded(on: Ground, dice: Random) -> AsyncIterator[None]:
    """The API is flooded."""
    async with asyncio.TaskGroup() as group:
        for _ in range(MANY):
            group.create_task(_say(on.state / "api.sock", dice.choice(WORDS)))
    yield


@fault(WAITS)
async def gate_flooded(on: Ground, dice: Random) -> AsyncIterator[None]:
    """The gate is flooded."""
    async with asyncio.TaskGroup() as group:
        for _ in range(MANY):
            group.create_task(_say(on.run / "gate.sock", dice.choice(KNOCKS)))
    yield


@fault("they are let go after two seconds")
async def gate_clients_hang(on: Ground, dice: Random) -> AsyncIterator[None]:
    """The gate's callers hang."""
    hanging = [await asyncio.open_unix_connection(str(on.run / "gate.sock")) for _ in range(50)]
    for _, writer in hanging:
        writer.write(dice.choice((b"", b"chaos\tc0")))
    yield
    for reader, writer in hanging:
        with contextlib.suppress(OSError):
            if await asyncio.wait_for(reader.read(), 30):
                on.found.append("a caller that never asked was answered")
        writer.close()


async def _say(path: Path, word: bytes) -> None:
    """Say a word to whoever listens, and hang up after a moment, answered or not."""
    with contextlib.suppress(OSError, TimeoutError):
        reader, writer = await asyncio.open_unix_connection(str(path))
        writer.write(word)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.5)
        writer.close()
