"""Folders in which something is made, and files that are written: waited for, at no cost (``inotify(7)``)."""

import asyncio
import contextlib
import ctypes
import os
import struct
from pathlib import Path

IN_MODIFY, IN_ATTRIB, IN_MOVED_TO, IN_CREATE, IN_MOVE_SELF, IN_ONLYDIR = 0x2, 0x4, 0x80, 0x100, 0x800, 0x0100_0000
_HEAD = struct.Struct("iIII")
_libc = ctypes.CDLL(None, use_errno=True)


class Stirring:
    """What may stir. Where the kernel gives nobody word of it, nothing ever does."""

    def __init__(self) -> None:
        self._fd = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        self._stirred = asyncio.Event()

    def __enter__(self) -> "Stirring":
        if self._fd >= 0:
            asyncio.get_running_loop().add_reader(self._fd, self._read)
        return self

    def __exit__(self, *_: object) -> None:
        if self._fd >= 0:
            asyncio.get_running_loop().remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    def watch(self, folder: Path) -> None:
        """Watch a folder; one that is not there, or watched already, does no harm."""
        if self._fd >= 0:
            _libc.inotify_add_watch(self._fd, os.fsencode(folder), IN_CREATE | IN_MOVED_TO | IN_ONLYDIR)

    def watch_file(self, file: Path) -> None:
        """Watch what is written to a file, and whether it goes away; likewise."""
        if self._fd >= 0:
            _libc.inotify_add_watch(self._fd, os.fsencode(file), IN_MODIFY | IN_ATTRIB | IN_MOVE_SELF)

    def settle(self) -> None:
        """Whatever has stirred so far is known of."""
        self._stirred.clear()

    async def within(self, seconds: float) -> bool:
        """Wait until something stirs that is not known of, or for so long; tell which."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stirred.wait()
        return self._stirred.is_set()

    def _read(self) -> None:
        """What was made does not matter."""
        with contextlib.suppress(BlockingIOError):
            while len(os.read(self._fd, 65536)) >= _HEAD.size:
                self._stirred.set()
