"""Network namespaces that are mounted somewhere (``ip netns``, engines), and word of any change to the mounts.

The kernel tells whoever polls ``mountinfo`` of every mount and unmount in this mount namespace (proc(5)): one
descriptor for ``/run/netns``, ``/run/docker/netns`` and any other place, where watching folders would have to know
them, and would see the file that is made first and not the mount that follows.
"""

import asyncio
import re
import select
from collections.abc import Callable, Iterator
from pathlib import Path

MOUNTS = Path("/proc/self/mountinfo")
_ESCAPED = re.compile(r"\\([0-7]{3})")


def mounted(mounts: Path = MOUNTS) -> dict[int, tuple[str, ...]]:
    """Return where each mounted network namespace is mounted, by inode; places sorted."""
    found: dict[int, set[str]] = {}
    for inode, place in _namespaces(mounts.read_text(encoding="utf-8", errors="surrogateescape")):
        found.setdefault(inode, set()).add(place)
    return {inode: tuple(sorted(places)) for inode, places in found.items()}


def _namespaces(text: str) -> Iterator[tuple[int, str]]:
    """Yield (inode, place) of each line of ``mountinfo`` that is a network namespace."""
    for line in text.splitlines():
        words = line.split(" ")
        if len(words) > 4 and words[3].startswith("net:["):
            yield int(words[3][5:-1]), _ESCAPED.sub(lambda octal: chr(int(octal[1], 8)), words[4])


class MountWatch:
    """Calls ``changed``, on the running loop, whenever something is mounted or unmounted."""

    def __init__(self, changed: Callable[[], None], mounts: Path = MOUNTS) -> None:
        self._changed = changed
        self._file = mounts.open("rb")
        # mountinfo can be read at any time, and would wake a loop that waits for that: this waits for changes alone.
        self._waits = select.epoll()
        self._waits.register(self._file.fileno(), select.EPOLLPRI)
        asyncio.get_running_loop().add_reader(self._waits.fileno(), self._woken)

    def _woken(self) -> None:
        self._waits.poll(
            0
        )  # mostly nothing: to be told of a change is to have taken it (mounts_poll in fs/namespace.c)
        self._changed()

    def close(self) -> None:
        """Stop."""
        asyncio.get_running_loop().remove_reader(self._waits.fileno())
        self._waits.close()
        self._file.close()
