"""Netfilter's netlink socket, of this network namespace or of another."""

import ctypes
import os
import socket
import threading
from pathlib import Path

NETLINK_NETFILTER = 12
CLONE_NEWNET = 0x40000000


def open_socket(netns: str | None = None) -> socket.socket:
    """Return a netfilter netlink socket of a network namespace (its file), or of the calling thread's own."""
    if netns is None:
        return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER)
    found: list[socket.socket] = []
    failed: list[OSError] = []

    def within() -> None:
        try:
            _enter(netns)
            found.append(open_socket())
        except OSError as problem:
            failed.append(problem)

    # A thread of its own, since its namespace does not come back.
    thread = threading.Thread(target=within)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return found[0]


def _enter(netns: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    with Path(netns).open("rb") as file:
        if libc.setns(file.fileno(), CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), netns)
