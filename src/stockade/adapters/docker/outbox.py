"""What has been found and not been taken yet. It never grows beyond one event a workload, however slow the taker."""

import asyncio

from stockade.seams.runtime import Gone, Listed, Lost, RuntimeEvent, Seen

_WHOLE = ""


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
