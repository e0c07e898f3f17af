"""The smallest event loop that a probe server needs: descriptors and timers. It starts in no time.

Handlers must read until nothing is left, or let go of their descriptor. Nothing here ever blocks but ``turn``.
"""

import heapq
import itertools
import select
import time
from collections.abc import Callable

READ, WRITE, ERROR = select.EPOLLIN, select.EPOLLOUT, select.EPOLLERR


class Timer:
    """Something that will be called, unless it is cancelled first."""

    __slots__ = ("call",)

    def __init__(self, call: Callable[[], None]) -> None:
        self.call: Callable[[], None] | None = call

    def cancel(self) -> None:
        """Forget it."""
        self.call = None


class Loop:
    """One thread's events."""

    def __init__(self) -> None:
        self._poll = select.epoll()
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()

    def watch(self, fd: int, handler: Callable[[int], None], events: int = READ) -> None:
        """Call ``handler(events)`` whenever ``fd`` is ready; replaces the handler that it had."""
        if fd in self._handlers:
            self._poll.modify(fd, events)
        else:
            self._poll.register(fd, events)
        self._handlers[fd] = handler

    def forget(self, fd: int) -> None:
        """Watch ``fd`` no longer. To be called before it is closed."""
        if self._handlers.pop(fd, None) is not None:
            self._poll.unregister(fd)

    def after(self, seconds: float, call: Callable[[], None]) -> Timer:
        """Call ``call`` once, ``seconds`` from now."""
        timer = Timer(call)
        heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._order), timer))
        return timer

    def turn(self, patience: float | None = None) -> bool:
        """Handle what is ready, waiting at most ``patience`` seconds (None: as long as it takes); was there any?"""
        ready = self._poll.poll(self._wait(patience), 256)
        for fd, events in ready:
            if handler := self._handlers.get(fd):
                handler(events)
        return self._ring() or bool(ready)

    def _wait(self, patience: float | None) -> float | None:
        if not self._timers:
            return patience
        left = max(0.0, self._timers[0][0] - time.monotonic())
        return left if patience is None else min(left, patience)

    def _ring(self) -> bool:
        rang = False
        while self._timers and self._timers[0][0] <= time.monotonic():
            timer = heapq.heappop(self._timers)[2]
            if timer.call is not None:
                timer.call()
                rang = True
        return rang
