"""Who else changes our tables, and that nobody holds them any more, said as soon as the kernel says it."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Protocol


class Change(Protocol):
    """Somebody else's transaction. ``lost``: some were not heard."""

    @property
    def process(self) -> str:
        """The name of who did it; empty where nobody knows."""
        ...

    @property
    def pid(self) -> int:
        """Its process id."""
        ...


class Changes(Protocol):
    """A subscription to changes, with a descriptor that becomes readable when there is one."""

    def fileno(self) -> int:
        """Return the descriptor to wait for."""
        ...

    def read(self) -> Sequence[Change]:
        """Return what happened since, without waiting."""
        ...

    def close(self) -> None:
        """Unsubscribe."""
        ...


async def tampering(subscribe: Callable[[], Changes]) -> AsyncIterator[str]:
    """Yield who changed our tables, each time that somebody did. ``OSError`` where the kernel cannot be asked."""
    changes = await asyncio.to_thread(subscribe)
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(changes.fileno(), told.set)
    try:
        while True:
            await told.wait()
            told.clear()
            if found := changes.read():
                yield ", ".join(sorted({_called(each) for each in found}))
    finally:
        loop.remove_reader(changes.fileno())
        changes.close()


async def deserted(holder: Callable[[], int]) -> AsyncIterator[None]:
    """Yield each time that whoever holds our tables has ended and another one has been put there.

    ``holder`` returns a descriptor that becomes readable at their end, having put somebody there if nobody was.
    """
    loop = asyncio.get_running_loop()
    while True:
        descriptor = await asyncio.to_thread(holder)
        yield None
        ended = asyncio.Event()
        loop.add_reader(descriptor, ended.set)
        try:
            await ended.wait()
        finally:
            loop.remove_reader(descriptor)
            os.close(descriptor)


def _called(change: Change) -> str:
    return f"{change.process} (process {change.pid})" if change.process else "somebody"
