"""Wakes whoever waits for something to have changed. Says nothing of what: the woken look for themselves."""

import asyncio


class Bell:
    """Every ring wakes all who wait now. Whoever reads ``rung`` before it looks, misses none."""

    def __init__(self) -> None:
        self.rung = 0
        self._event = asyncio.Event()

    def ring(self) -> None:
        """Wake everybody."""
        self.rung += 1
        self._event.set()
        self._event = asyncio.Event()

    async def wait(self, rung: int, seconds: float | None = None) -> bool:
        """Wait until it has rung more than ``rung`` times; False where ``seconds`` passed before."""
        if self.rung != rung:
            return True
        try:
            async with asyncio.timeout(seconds):
                await self._event.wait()
        except TimeoutError:
            return False
        return True
