"""Tells of a lab's workloads over a Unix socket, as a container engine tells of its containers."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from stockade.core.model.ids import WorkloadId
from stockade.core.model.inventory import Sighting
from stockade.seams.runtime import Gone, Listed, RuntimeEvent, Seen


class Teller:
    """What has been told so far, and who listens. A new listener hears everything first, as ``Listed``."""

    def __init__(self) -> None:
        self._known: dict[WorkloadId, Seen] = {}
        self._listeners: set[asyncio.StreamWriter] = set()
        self._held: list[bytes] | None = None

    def tell(self, *sightings: Sighting, at: float | None = None) -> None:
        """Say that these workloads are as they are now (``at``: seconds since the epoch)."""
        for each in sightings:
            seen = Seen(each, time.time() if at is None else at)
            self._known[each.id] = seen
            self._say(seen)

    def gone(self, *workloads: WorkloadId) -> None:
        """Say that these workloads are no more."""
        for each in workloads:
            self._known.pop(each, None)
            self._say(Gone(each, time.time()))

    async def listen(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take on a listener."""
        writer.write(_line(Listed(tuple(self._known.values()))))
        self._listeners.add(writer)

    def hang_up(self) -> None:
        """Let every listener go; they may call again."""
        for writer in self._listeners:
            writer.close()
        self._listeners.clear()

    # What a source that fails does

    def hold(self) -> None:
        """Say nothing from now on."""
        self._held = [] if self._held is None else self._held

    def lose(self) -> None:
        """Forget what was not said: whoever listens hears of it when it is listed again."""
        self._held = [] if self._held is not None else None

    def go_on(self) -> None:
        """Say what was not said meanwhile, in its order, and go on."""
        held, self._held = self._held or [], None
        for line in held:
            self.say(line)

    def say(self, line: bytes) -> None:
        """Say a line as it is, be it nonsense."""
        if self._held is not None:
            self._held.append(line)
            return
        for writer in tuple(self._listeners):
            if writer.is_closing():
                self._listeners.discard(writer)
            else:
                writer.write(line)

    def _say(self, event: RuntimeEvent) -> None:
        self.say(_line(event))


@asynccontextmanager
async def telling(path: Path) -> AsyncIterator[Teller]:
    """Tell on this socket while the block runs."""
    teller = Teller()
    server = await asyncio.start_unix_server(teller.listen, str(path))
    try:
        yield teller
    finally:
        server.close()
        teller.hang_up()
        path.unlink(missing_ok=True)


def _line(event: RuntimeEvent) -> bytes:
    return msgspec.json.encode(event) + b"\n"
