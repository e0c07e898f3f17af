"""How a source that is reached over a connection keeps what ``Runtime`` promises, whatever is at the other end.

Sessions follow one another: each lists, then tells changes, until it breaks; the loss is said once, and the next one is
tried after a pause that grows. What has been found and not been taken yet never grows beyond one event a workload,
however slow the taker. It stands with the seam because adapters share it, and adapters know nothing of each other.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import NoReturn, Protocol

import msgspec

from stockade.seams.runtime import Gone, Listed, Lost, RuntimeEvent, Seen

_WHOLE = ""


class Broken(Exception):  # noqa: N818 - reads as what happened
    """A session has ended. The message is for a user, and says the same whenever the reason is the same."""


def cause(problems: BaseExceptionGroup[BaseException], *expected: type[BaseException]) -> BaseException:
    """Return what ended a session's tasks: a mistake of ours before anything that the other side did."""
    leaves = list(_leaves(problems))
    return next((each for each in leaves if not isinstance(each, expected)), leaves[0])


def _leaves(problem: BaseException) -> Iterator[BaseException]:
    if isinstance(problem, BaseExceptionGroup):
        for each in problem.exceptions:
            yield from _leaves(each)
    else:
        yield problem


class Session(Protocol):
    """One connection, from the first listing until it breaks. ``listed``: whether it came that far."""

    listed: bool

    async def run(self) -> NoReturn:
        """List, then follow. Raises ``Broken``; what else it raises is a mistake of ours."""
        ...


class Backoff(msgspec.Struct, frozen=True):
    """Seconds between attempts: they double from ``first`` up to ``last``, and ``jitter`` (in [0, 1)) scatters them."""

    first: float
    last: float
    jitter: Callable[[], float]

    def after(self, failures: int) -> float:
        """Return how long to wait, so that many hosts do not come back as one."""
        whole: float = min(self.last, self.first * 2.0 ** min(failures, 16))
        return whole * (0.5 + self.jitter() / 2)


class Outbox:
    """An ordered queue in which a workload's newer event replaces its older one, and a listing everything."""

    def __init__(self) -> None:
        self._waiting: dict[str, RuntimeEvent] = {}
        self._filled = asyncio.Event()

    def put(self, event: RuntimeEvent) -> None:
        """Add an event behind all others; what it makes obsolete goes."""
        match event:
            case Listed():
                self._waiting.clear()
                key = _WHOLE
            case Lost():
                key = "lost"
            case Seen():
                key = event.sighting.id
            case Gone():
                key = event.id
        self._waiting.pop(key, None)
        self._waiting[key] = event
        self._filled.set()

    async def take(self) -> RuntimeEvent:
        """Return the oldest event, waiting until there is one."""
        await self._filled.wait()
        key = next(iter(self._waiting))
        event = self._waiting.pop(key)
        if not self._waiting:
            self._filled.clear()
        return event


async def follow_aside(
    session: Callable[[Outbox, Executor], Session], backoff: Backoff, *, threads: int, name: str
) -> AsyncGenerator[RuntimeEvent, None]:
    """Do as ``follow`` does, with threads for what blocks, which end with it."""
    executor = ThreadPoolExecutor(threads, thread_name_prefix=name)
    try:
        async with contextlib.aclosing(follow(lambda outbox: session(outbox, executor), backoff)) as events:
            async for event in events:
                yield event
    finally:
        executor.shutdown(wait=False, cancel_futures=True)


async def follow(session: Callable[[Outbox], Session], backoff: Backoff) -> AsyncGenerator[RuntimeEvent, None]:
    """Yield ``Listed`` first (or ``Lost``, until a session lists), then changes, for ever.

    Closing the iterator ends everything it started.
    """
    outbox = Outbox()
    follower = asyncio.create_task(_follow(session, outbox, backoff))
    try:
        while True:
            yield await _next(outbox, follower)
    finally:
        follower.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await follower


async def _follow(session: Callable[[Outbox], Session], outbox: Outbox, backoff: Backoff) -> None:
    failures, said = 0, ""
    while True:
        one = session(outbox)
        try:
            await one.run()
        except Broken as problem:
            failures, said = (0, "") if one.listed else (failures, said)
            if str(problem) != said:
                outbox.put(Lost(said := str(problem)))
        await asyncio.sleep(backoff.after(failures))
        failures += 1


async def _next(outbox: Outbox, follower: "asyncio.Task[None]") -> RuntimeEvent:
    """Return the next event; what ends the follower (a mistake of ours) ends this too, instead of silence."""
    taking = asyncio.ensure_future(outbox.take())
    try:
        await asyncio.wait({taking, follower}, return_when=asyncio.FIRST_COMPLETED)
        if follower.done() and not taking.done():
            follower.result()
        return await taking
    finally:
        taking.cancel()
