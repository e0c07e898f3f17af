"""All that a source of workloads tells, kept as it comes, and what is true by it now."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable

from stockade.core.model.inventory import Sighting
from stockade.seams.runtime import Gone, Listed, Lost, Runtime, RuntimeEvent, Seen


class NotSoError(AssertionError):
    """What was waited for did not come about; the message says what was told last."""


class Follower:
    """All that a runtime has told, and what is true by it now, by workload."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.told: list[RuntimeEvent] = []
        self.taken: list[float] = []
        """When each was told: seconds since the epoch."""
        self.now: dict[str, Seen] = {}
        self.lost = ""
        self.keeping: list[asyncio.Future[None]] = []
        self._changed = asyncio.Condition()

    def __getitem__(self, name: str) -> Sighting:
        """Return the workload of that name. ``KeyError`` where there is none."""
        return self.named()[name].sighting

    def named(self) -> dict[str, Seen]:
        """Return what is true now, by name."""
        return {seen.sighting.name: seen for seen in self.now.values()}

    def about(self, name: str) -> list[RuntimeEvent]:
        """Return every change that was told of a workload by that name."""
        ids = {event.sighting.id for event in self.told if isinstance(event, Seen) and event.sighting.name == name}
        return [
            event
            for event in self.told
            if (isinstance(event, Seen) and event.sighting.id in ids) or (isinstance(event, Gone) and event.id in ids)
        ]

    async def until(self, wanted: Callable[["Follower"], object], within: float = 60.0) -> None:
        """Wait until something is so; a ``KeyError`` means that it is not so yet."""

        async def met() -> None:
            async with self._changed:
                await self._changed.wait_for(lambda: _holds(wanted, self))

        waiting = {asyncio.ensure_future(met()), *self.keeping}
        done, _ = await asyncio.wait(waiting, timeout=within, return_when=asyncio.FIRST_COMPLETED)
        for each in done:
            each.result()
        if not done:
            shown = "\n".join(map(repr, self.named().values()))
            raise NotSoError(f"not within {within} s; lost: {self.lost!r}; last told: {self.told[-3:]}\n{shown}")

    async def quiet(self, seconds: float = 0.5) -> None:
        """Return when nothing was told for a while."""
        while True:
            count = len(self.told)
            await asyncio.sleep(seconds)
            if len(self.told) == count:
                return

    async def keep(self) -> None:
        """Take all that is told, for ever."""
        async for event in self.runtime.events():
            async with self._changed:
                self._take(event)
                self._changed.notify_all()

    def _take(self, event: RuntimeEvent) -> None:
        self.told.append(event)
        self.taken.append(time.time())
        match event:
            case Listed():
                self.now = {seen.sighting.id: seen for seen in event.seen}
                self.lost = ""
            case Lost():
                self.lost = event.reason
            case Seen():
                self.now[event.sighting.id] = event
            case Gone():
                self.now.pop(event.id, None)


def _holds(wanted: Callable[[Follower], object], follower: Follower) -> bool:
    try:
        return bool(wanted(follower))
    except KeyError:  # not there yet
        return False


@contextlib.asynccontextmanager
async def following(runtime: Runtime, within: float = 60.0) -> AsyncIterator[Follower]:
    """Follow a source from when it first said something to the end of the block."""
    follower = Follower(runtime)
    keeping = asyncio.create_task(follower.keep())
    follower.keeping.append(keeping)
    try:
        await follower.until(lambda told: told.told, within)
        yield follower
        assert not keeping.done(), keeping
    finally:
        keeping.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await keeping
