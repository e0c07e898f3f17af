"""Something done in another network namespace, and netlink sockets that stay there.

The process never changes its namespace: what runs elsewhere runs in a thread of its own, which ends with it. What is
meant for the namespace in which the caller is runs where it is called, and takes no privilege.
"""

import contextlib
import ctypes
import errno
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

CLONE_NEWNET = 0x40000000
OURS = "/proc/thread-self/ns/net"
_libc = ctypes.CDLL(None, use_errno=True)
T = TypeVar("T")


def within(netns: str | None, job: Callable[[], T], inode: int = 0) -> T:
    """Do something in a network namespace (its file), or in the calling thread's own; ``OSError`` where it fails.

    ``inode``: what the namespace must have, where the file may lead to another one by now.
    """
    if netns is None or _is_ours(netns, inode):
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


class NetlinkSockets:
    """Netlink sockets of a network namespace (its file) or of the calling thread's, each lent to one user at a time.

    They are kept: to close one of netfilter's takes as long as the kernel needs to clear away what was last deleted
    from a ruleset, some 14 ms in which nobody commits (ADR 0039). Safe from several threads.
    """

    def __init__(self, protocol: int, netns: str | None = None) -> None:
        self._protocol, self._netns = protocol, netns
        self._idle: list[socket.socket] = []

    @contextlib.contextmanager
    def lent(self, patience: float) -> Iterator[socket.socket]:
        """Lend a socket that waits so many seconds for an answer. Whoever leaves normally has read every answer."""
        try:
            link = self._idle.pop()
        except IndexError:
            link = netlink_socket(self._protocol, self._netns)
        try:
            link.settimeout(patience)
            yield link
        except BaseException:
            link.close()
            raise
        self._idle.append(link)

    def close(self) -> None:
        """Let go of those that nobody has."""
        while self._idle:
            self._idle.pop().close()


def _is_ours(netns: str, inode: int) -> bool:
    """Tell whether a file leads to the calling thread's own namespace. Where that is not to be seen, it is entered."""
    try:
        there, here = Path(netns).stat(), Path(OURS).stat()
    except OSError:
        return False
    return (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino) and inode in (0, there.st_ino)


def _enter(netns: str, inode: int) -> None:
    fd = os.open(netns, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if inode and os.fstat(fd).st_ino != inode:
            raise FileNotFoundError(errno.ENOENT, "another network namespace is there by now", netns)
        if _libc.setns(fd, CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), netns)
    finally:
        os.close(fd)
