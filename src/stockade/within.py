"""Something done in another network namespace, and netlink sockets that stay there.

The process never changes its namespace: what runs elsewhere runs in a thread of its own, which ends with it.
"""

import ctypes
import errno
import os
import socket
import threading
from collections.abc import Callable
from typing import TypeVar

CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)
T = TypeVar("T")


def within(netns: str | None, job: Callable[[], T], inode: int = 0) -> T:
    """Do something in a network namespace (its file), or in the calling thread's own; ``OSError`` where it fails.

    ``inode``: what the namespace must have, where the file may lead to another one by now.
    """
    if netns is None:
        return job()
    found: list[T] = []
    failed: list[OSError] = []

    def there() -> None:
        try:
            _enter(netns, inode)
            found.append(job())
        except OSError as problem:
            failed.append(problem)

    # A thread of its own, since its namespace does not come back.
    thread = threading.Thread(target=there, name="within")
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return found[0]


def netlink_socket(protocol: int, netns: str | None = None, inode: int = 0) -> socket.socket:
    """Return a netlink socket of a network namespace (its file), which lives as long as the socket does, or of ours."""
    return within(
        netns, lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol), inode
    )


def _enter(netns: str, inode: int) -> None:
    fd = os.open(netns, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if inode and os.fstat(fd).st_ino != inode:
            raise FileNotFoundError(errno.ENOENT, "another network namespace is there by now", netns)
        if _libc.setns(fd, CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), netns)
    finally:
        os.close(fd)
