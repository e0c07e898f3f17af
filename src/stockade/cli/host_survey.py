"""Where ``up`` learns what this host's kernel shows of who is there: asked again when something changed, and anyway."""

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Callable

from stockade.adapters.namespaces import NamespacesRuntime, Sockets, Whereabouts
from stockade.adapters.netlink import LinksListed, around
from stockade.core.model.census import Around, Listening, NotAssessed
from stockade.errors import StockadeError
from stockade.seams.survey import NamespaceSeen, Survey

ANYWAY = 30.0
"""Seconds between surveys, at most."""
AT_LEAST = 2.0
SHARE = 0.002
"""Of one processor, that surveys may take."""


HIDDEN = "the kernel does not say in which network namespace it lives: it may do more than stockade up may"


class Surveyor:
    """Surveys this host again and again, at a bounded cost."""

    def __init__(self, namespaces: NamespacesRuntime, links: Callable[[], LinksListed | None]) -> None:
        """``links`` returns the host's where they are followed, on the running loop."""
        self._namespaces = namespaces
        self._links = links
        self._sockets = Sockets()

    async def surveys(self) -> AsyncIterator[Survey]:
        """Yield a survey at once, then whenever a namespace came, changed or went, and every half minute."""
        while True:
            self._namespaces.changed.clear()
            survey, cost = await asyncio.to_thread(self._timed, self._links())
            yield survey
            rest = min(max(AT_LEAST, cost / SHARE), ANYWAY)
            await asyncio.sleep(rest)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ANYWAY - rest):
                    await self._namespaces.changed.wait()

    def _timed(self, links: LinksListed | None) -> tuple[Survey, float]:
        began = time.thread_time()
        return self.survey(links), time.thread_time() - began

    def survey(self, links: LinksListed | None = None) -> Survey:
        """Look once. What cannot be looked at is said, and nothing is left out for it."""
        refused: list[NotAssessed] = []
        places = self._namespaces.whereabouts()
        own = self._listening("the host", os.getpid(), self._namespaces.own_processes(), refused)
        seen = tuple(NamespaceSeen(each.mark, each.process, self._within(each, refused)) for each in places)
        refused += [NotAssessed(each, HIDDEN) for each in self._namespaces.refused()]
        self._sockets.forget({os.getpid(), *(each.process.pid for each in places if each.process)})
        return Survey(_around(links, refused), own, seen, tuple(sorted(refused)))

    def _within(self, place: Whereabouts, refused: list[NotAssessed]) -> tuple[Listening, ...]:
        """Return what is listened on in a namespace: where no process lives nobody does."""
        if place.process is None:
            return ()
        return self._listening(place.name, place.process.pid, place.within, refused)

    def _listening(
        self, name: str, through: int, within: tuple[int, ...], refused: list[NotAssessed]
    ) -> tuple[Listening, ...]:
        try:
            return self._sockets.listening(through, within)
        except (FileNotFoundError, ProcessLookupError):
            return ()  # it has just ended; the next survey shows what is there instead
        except OSError as problem:
            refused.append(NotAssessed(f"what {name} listens on", problem.strerror or str(problem)))
            return ()


def _around(links: LinksListed | None, refused: list[NotAssessed]) -> Around:
    try:
        return around(links)
    except (OSError, StockadeError) as problem:
        refused.append(NotAssessed("links, routes and neighbours", str(problem)))
        return Around()
