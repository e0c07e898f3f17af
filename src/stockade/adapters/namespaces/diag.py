"""Sockets of one network namespace as the kernel tells of them to whoever asks within it (sock_diag(7)).

Where somebody listens is asked for alone: ``/proc/net/tcp`` walks every connection of the machine for each namespace,
which takes seconds for some hundred.
"""

import contextlib
import socket
import struct
import time
from collections.abc import Iterator, Sequence

from stockade.seams.flows import LocalSocket
from stockade.within import netlink_socket, within

SOCK_DIAG, BY_FAMILY, REQUEST, DUMP = 4, 20, 0x1, 0x301
ERROR, DONE = 2, 3
LISTEN, CLOSE = 10, 7
"""States: of TCP sockets that listen, and of UDP sockets without a peer (``include/net/tcp_states.h``)."""
ASKED = ((socket.IPPROTO_TCP, LISTEN), (socket.IPPROTO_UDP, CLOSE))

PATIENCE = 1.0
_ANY_COOKIE = b"\xff" * 8
_INODE_AT = 16 + 68

Found = tuple[int, int, str, int]
"""Protocol number, port, address (empty: any), inode."""


class Unavailable(Exception):  # noqa: N818 - reads as what happened
    """This kernel lists no sockets this way."""


def listed(path: str) -> list[Found]:
    """Return the sockets that take what strangers send, in the namespace at a path.

    Blocks. ``OSError`` where it is gone or may not be entered, ``Unavailable`` where the kernel cannot be asked so.
    """

    def look() -> list[Found]:
        with contextlib.closing(netlink_socket(SOCK_DIAG)) as asked:
            return [
                found
                for family in (socket.AF_INET, socket.AF_INET6)
                for protocol, state in ASKED
                for found in _ask(asked, family, protocol, state)
            ]

    return within(path, look)


def held(path: str | None, inode: int, sockets: Sequence[LocalSocket]) -> tuple[list[int], float]:
    """Return the inode of each of these sockets, 0 where there is none, in the namespace at a path or in our own.

    With them the seconds of a processor that it took elsewhere than in the caller's thread. A socket that takes
    whatever comes to its port answers for each connection to it. ``OSError`` where the namespace is gone, is another
    one by now (``inode``), or may not be entered.
    """

    def look() -> tuple[list[int], float]:
        with contextlib.closing(netlink_socket(SOCK_DIAG)) as asked:
            asked.settimeout(PATIENCE)
            found = [_holder(asked, each) for each in sockets]
        return found, time.thread_time() if path else 0.0

    return within(path, look, inode)


def _holder(asked: socket.socket, one: LocalSocket) -> int:
    family = socket.AF_INET if len(one.address) == 4 else socket.AF_INET6
    ours, theirs = (one.address, one.port), (one.peer, one.peer_port)
    if one.serves:
        theirs = bytes(len(one.address)), 0
    # Of UDP the kernel takes the ends the other way about, for historical reasons (net/ipv4/udp_diag.c).
    (here, port), (there, peer_port) = (theirs, ours) if one.protocol == socket.IPPROTO_UDP else (ours, theirs)
    body = struct.pack("=BBBBI", family, one.protocol, 0, 0, 0xFFFF_FFFF) + struct.pack("!HH", port, peer_port)
    body += here.ljust(16, b"\0") + there.ljust(16, b"\0") + bytes(4) + _ANY_COOKIE
    asked.send(struct.pack("=IHHII", 16 + len(body), BY_FAMILY, REQUEST, 1, 0) + body)
    answer = asked.recv(1 << 12)
    (_, kind) = struct.unpack_from("=IH", answer)
    if kind != BY_FAMILY or len(answer) < _INODE_AT + 4:
        return 0
    (inode,) = struct.unpack_from("=I", answer, _INODE_AT)
    return int(inode)


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
