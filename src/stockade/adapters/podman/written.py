"""Podman's own file of events, read as it is written.

Where Podman keeps its events in a file, ``podman events`` looks there four times a second, and a birth would wait for
that. So we read the very file that it has open, whenever something is written to it. This is a short cut and no more:
every line comes again by ``podman events``, and what is missed here, while the file is replaced or cut, comes by that
alone.
"""

import asyncio
import contextlib
import os
import stat
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import BinaryIO

from stockade.adapters.podman.stirring import Stirring

SUFFIX = ".log"
"""Of the file's name, which is the user's choice; Podman's locks and databases have others."""
LOOK, LOOKS = 0.05, 200
"""Seconds between looks for the file, and how many: within ten it has been opened, or events are kept elsewhere."""
WHOLE = 1 << 16
SURELY = 60.0
"""Seconds after which it is looked whether the file is still the one, whatever stirred."""


async def written(pid: int) -> AsyncIterator[bytes]:
    """Yield each line that is written from now on to the file that ``podman events`` reads; end where there is none."""
    while (descriptor := await _opened(pid)) is not None:
        with contextlib.suppress(OSError), descriptor.open("rb") as file, Stirring() as stirring:
            stirring.watch_file(descriptor)
            file.seek(0, os.SEEK_END)
            async for line in _lines(file, descriptor, stirring):
                yield line


async def _opened(pid: int) -> Path | None:
    for _ in range(LOOKS):
        with contextlib.suppress(OSError):
            return next(_logs(pid))
        await asyncio.sleep(LOOK)
    return None


def _logs(pid: int) -> Iterator[Path]:
    """Yield the descriptors of files that a process, or one that it waits for, reads, and that are still there."""
    for each in (pid, *_children(pid)):
        for descriptor in sorted(Path(f"/proc/{each}/fd").iterdir()):
            named = descriptor.readlink().name.endswith(SUFFIX)
            if named and stat.S_ISREG((found := descriptor.stat()).st_mode) and found.st_nlink:
                yield descriptor
    raise FileNotFoundError(pid)


def _children(pid: int) -> tuple[int, ...]:
    told = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
    return tuple(int(each) for each in told.split())


async def _lines(file: BinaryIO, descriptor: Path, stirring: Stirring) -> AsyncIterator[bytes]:
    """Yield whole lines until the file is no longer the one that is read there."""
    held = b""
    while _same(file, descriptor):
        await stirring.within(SURELY)
        stirring.settle()
        *whole, held = (held + await asyncio.to_thread(_more, file)).split(b"\n")
        held = held[-WHOLE:]
        for line in whole:
            yield line


def _same(file: BinaryIO, descriptor: Path) -> bool:
    """Tell whether a file is still in its folder, and still what the descriptor leads to."""
    own = os.fstat(file.fileno())
    return own.st_nlink > 0 and own.st_ino == descriptor.stat().st_ino


def _more(file: BinaryIO) -> bytes:
    """Return what was added; of a file that was cut, all."""
    if os.fstat(file.fileno()).st_size < file.tell():
        file.seek(0)
    return file.read()
