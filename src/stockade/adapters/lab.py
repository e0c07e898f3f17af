"""A lab's workloads, as the lab tells of them over a Unix socket: one JSON object a line."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec

from stockade.decoding import ready
from stockade.seams.runtime import Lost, RuntimeEvent

PAUSE = 0.2
LINE = 64 * 1024 * 1024


class LabRuntime:
    """Implements ``seams.runtime.Runtime``."""

    name = "lab"

    def __init__(self, path: Path) -> None:
        """``path``: the socket on which the lab tells."""
        self._path = path
        self._decode = msgspec.json.Decoder(ready(RuntimeEvent)).decode

    async def events(self) -> AsyncIterator[RuntimeEvent]:
        """Yield what the lab tells; when it hangs up, ``Lost``, and again from the start."""
        while True:
            try:
                reader, writer = await asyncio.open_unix_connection(str(self._path), limit=LINE)
            except OSError as problem:
                yield Lost(f"{self._path}: {problem.strerror}")
            else:
                try:
                    while line := await reader.readline():
                        yield self._decode(line)
                finally:
                    writer.close()
                yield Lost(f"{self._path}: the lab hung up")
            await asyncio.sleep(PAUSE)
