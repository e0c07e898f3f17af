"""Sockets of one network namespace as the kernel lists them to whoever asks within it (sock_diag(7)).

Where somebody listens is asked for alone: ``/proc/net/tcp`` walks every connection of the machine for each namespace,
which takes seconds for some hundred.
"""

import contextlib
import ctypes
import os
import socket
import struct
import threading
from collections.abc import Iterator

SOCK_DIAG, BY_FAMILY, DUMP = 4, 20, 0x301
ERROR, DONE = 2, 3
CLONE_NEWNET = 0x40000000
LISTEN, CLOSE = 10, 7
"""States: of TCP sockets that listen, and of UDP sockets without a peer (``include/net/tcp_states.h``)."""
ASKED = ((socket.IPPROTO_TCP, LISTEN), (socket.IPPROTO_UDP, CLOSE))
_libc = ctypes.CDLL(None, use_errno=True)

Found = tuple[int, int, str, int]
"""Protocol number, port, address (empty: any), inode."""


class Unavailable(Exception):  # noqa: N818 - reads as what happened
    """This kernel lists no sockets this way."""


def listed(path: str) -> list[Found]:
    """Return the sockets that take what strangers send, in the namespace at a path.

    Blocks. ``OSError`` where it is gone or may not be entered, ``Unavailable`` where the kernel cannot be asked so.
    """
    found: list[Found] = []
    problems: list[Exception] = []

    def enter() -> None:
        try:
            with _within(path) as asked:
                for family in (socket.AF_INET, socket.AF_INET6):
                    for protocol, state in ASKED:
                        found.extend(_ask(asked, family, protocol, state))
        except (OSError, Unavailable) as problem:
            problems.append(problem)

    # A thread of its own, which ends with the look: the process stays in its namespace.
    thread = threading.Thread(target=enter, name="sockets")
    thread.start()
    thread.join()
    if problems:
        raise problems[0]
    return found


@contextlib.contextmanager
def _within(path: str) -> Iterator[socket.socket]:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _libc.setns(fd, CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), path)
    finally:
        os.close(fd)
    with contextlib.closing(socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, SOCK_DIAG)) as asked:
        yield asked


def _ask(asked: socket.socket, family: int, protocol: int, state: int) -> Iterator[Found]:
    body = struct.pack("=BBBBI48x", family, protocol, 0, 0, 1 << state)
    asked.send(struct.pack("=IHHII", 16 + len(body), BY_FAMILY, DUMP, 1, 0) + body)
    while True:
        data, at = asked.recv(1 << 16), 0
        while at + 16 <= len(data):
            length, kind = struct.unpack_from("=IH", data, at)
            if kind == DONE:
                return
            if kind == ERROR:
                raise Unavailable
            if found := _read(data[at + 16 : at + length], protocol):
                yield found
            at += (length + 3) & ~3


def _read(message: bytes, protocol: int) -> Found | None:
    """Read one socket; None where it is bound to no port."""
    family = message[0]
    (port,) = struct.unpack_from("!H", message, 4)
    packed = message[8 : 8 + (4 if family == socket.AF_INET else 16)]
    (inode,) = struct.unpack_from("=I", message, 68)
    if not port:
        return None
    address = socket.inet_ntop(family, packed) if any(packed) else ""
    return protocol, port, address.removeprefix("::ffff:") if "." in address else address, inode
