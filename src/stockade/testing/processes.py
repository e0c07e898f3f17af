"""Processes that outlive what started them, found by what they were told; and the network namespaces they are in."""

import contextlib
import os
import signal
from collections.abc import Iterable
from pathlib import Path

from stockade.adapters.netlink.namespace import Namespace, NamespaceGone
from stockade.adapters.netlink.places import cookie


def nft_helpers(state: Path) -> list[int]:
    """Return the nft helper of the installation in a state folder, and who stands by for it, by pid."""
    socket = str(state / "nft.sock").encode()
    found = []
    for each in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if each.name.isdigit() and socket in (each / "cmdline").read_bytes().split(b"\0"):
                found.append(int(each.name))
    return sorted(found)


def end_nft_helpers(state: Path) -> None:
    """Have the nft helper of an installation end, and who stands by for it: whom it ends itself where it is first."""
    for pid in nft_helpers(state):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)


def network_namespaces(pids: Iterable[int] | None = None) -> set[int]:
    """Return the network namespaces that these processes are in, or any, by a number that is never given twice.

    The inode by which a process names its namespace is soon another one's.
    """
    paths = [Path(f"/proc/{pid}/ns/net") for pid in pids] if pids is not None else Path("/proc").glob("[0-9]*/ns/net")
    by_inode: dict[str, Path] = {}
    for path in paths:
        with contextlib.suppress(OSError):  # it ended meanwhile
            by_inode[str(path.readlink())] = path
    return {number for path in by_inode.values() if (number := _number(path)) is not None}


def _number(path: Path) -> int | None:
    try:
        with Namespace.at(path) as namespace:
            return namespace.call(cookie)
    except NamespaceGone:
        return None
