"""The machine's clock."""

import time


class SystemClock:
    """``seams.clock.Clock`` over the operating system's clocks."""

    def now(self) -> float:
        """Seconds since the epoch (UTC)."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds since some fixed point."""
        return time.monotonic()
