"""Word from within the network namespaces of newborns: where nobody is met yet, the first address is waited for.

The host's kernel tells of a link's other end only that it is up or down. Whoever gives it an address within tells the
namespace alone, and there it is listened for, for as long as somebody asks.
"""

import asyncio
import contextlib
import os
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from functools import partial

from stockade.seams.places import Stirs

AT_ONCE = 64
"""Namespaces that are listened to, at most; the others are looked into now and then, as ever."""
LARGEST = 1 << 16


class Stirring:
    """Calls ``heard``, on the running loop, with the inode of a namespace in which a link or an address has changed."""

    def __init__(self, stirs: Stirs, heard: Callable[[int], None]) -> None:
        self._stirs = stirs
        self._heard = heard
        self._open: dict[int, int] = {}
        """By inode: the descriptor."""

    async def follow(self, wanted: Mapping[int, str], threads: Executor) -> None:
        """Listen to these namespaces (inode → path) and to no others. What just began to be heard is told of once."""
        for inode in sorted(self._open.keys() - wanted.keys()):
            self._leave(inode)
        for inode in sorted(wanted.keys() - self._open.keys())[: AT_ONCE - len(self._open)]:
            with contextlib.suppress(OSError):
                await self._listen(inode, wanted[inode], threads)

    def close(self) -> None:
        """Listen to nobody."""
        for inode in tuple(self._open):
            self._leave(inode)

    async def _listen(self, inode: int, path: str, threads: Executor) -> None:
        loop = asyncio.get_running_loop()
        descriptor = await loop.run_in_executor(threads, self._stirs, path)
        self._open[inode] = descriptor
        loop.add_reader(descriptor, partial(self._stirred, inode))
        self._heard(inode)  # it may have changed since it was looked into

    def _stirred(self, inode: int) -> None:
        with contextlib.suppress(OSError):  # nothing is left, or there was more than it has room for
            while os.read(self._open[inode], LARGEST):
                pass
        self._heard(inode)

    def _leave(self, inode: int) -> None:
        descriptor = self._open.pop(inode)
        asyncio.get_running_loop().remove_reader(descriptor)
        os.close(descriptor)
