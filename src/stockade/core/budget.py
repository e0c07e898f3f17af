"""How much of something may be done: so many a second, and so long a second, by each of several kinds of time.

No more is saved up than a second's; what took too long is paid for before the next. Moments are given, in seconds.
"""

from collections.abc import Sequence


class Budget:
    """``number`` of things a second, and ``seconds`` of each kind of time that they may take a second."""

    def __init__(self, number: float, seconds: Sequence[float] = ()) -> None:
        self._most = (number, *seconds)
        self._left = [*self._most]
        self._at: float | None = None

    def allows(self, now: float) -> int:
        """Return how many may be done now."""
        passed = 0.0 if self._at is None else max(now - self._at, 0.0)
        self._at = now
        self._left = [min(left + most * passed, most) for left, most in zip(self._left, self._most, strict=True)]
        number, *times = self._left
        return max(int(number), 0) if min(times, default=1.0) > 0 else 0

    def spend(self, number: int, *seconds: float) -> None:
        """So many were done, in so much of each kind of time."""
        self._left = [left - spent for left, spent in zip(self._left, (number, *seconds), strict=True)]
