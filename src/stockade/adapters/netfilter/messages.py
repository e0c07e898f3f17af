"""Netfilter's netlink messages as bytes: heads, attributes, sockets in a network namespace (``linux/netlink.h``)."""

import os
import socket
import struct
from collections.abc import Iterator

from stockade.within import netlink_socket

NETLINK_NETFILTER = 12
REQUEST, ACK, DUMP = 0x1, 0x4, 0x300
ERROR, DONE = 2, 3
NESTED = 0x8000
KIND = 0x3FFF
"""The bits of an attribute's type that are its kind."""
SO_RCVBUFFORCE = 33
SOL_NETLINK, ADD_MEMBERSHIP, NO_ENOBUFS = 270, 1, 5

MESSAGE = struct.Struct("=IHHII")
ATTRIBUTE = struct.Struct("=HH")


def request(subsystem: int, kind: int, flags: int, sequence: int, family: int, body: bytes,
            resource: int = 0) -> bytes:  # fmt: skip
    """Return one message. ``resource`` is what the subsystem makes of it, such as the number of a log's group."""
    head = MESSAGE.pack(20 + len(body), subsystem << 8 | kind, flags, sequence, 0)
    return head + struct.pack(">BBH", family, 0, resource) + body


def attribute(kind: int, content: bytes) -> bytes:
    """Return one netlink attribute, padded."""
    return ATTRIBUTE.pack(4 + len(content), kind) + content + bytes(-len(content) % 4)


def attributes(data: bytes) -> dict[int, bytes]:
    """Return attributes by kind."""
    found = {}
    at = 0
    while at + 4 <= len(data):
        length, kind = ATTRIBUTE.unpack_from(data, at)
        found[kind & KIND] = data[at + 4 : at + length]
        at += max(4, length + 3 & ~3)
    return found


def number(content: bytes | None) -> int:
    """Return a number as netfilter sends it; 0 where there is none."""
    return int.from_bytes(content or b"", "big")


def entries(data: bytes) -> Iterator[bytes]:
    """Yield the whole messages of one datagram, less what ends a walk. ``OSError`` where the kernel refused it."""
    at, end = 0, len(data)
    while at + 16 <= end:
        length, kind, _, _, _ = MESSAGE.unpack_from(data, at)
        if kind == ERROR:
            (answer,) = struct.unpack_from("=i", data, at + 16)
            if answer:
                raise OSError(-answer, os.strerror(-answer))
        elif kind != DONE:
            yield data[at : at + length]
        at += max(16, length + 3 & ~3)


def open_socket(netns: str | None = None) -> socket.socket:
    """Return a netfilter netlink socket of a network namespace (its file), or of the calling thread's own."""
    return netlink_socket(NETLINK_NETFILTER, netns)


def widen(link: socket.socket, room: int) -> None:
    """Give a socket so many bytes for what waits; without the right to go beyond the machine's limit, up to that."""
    try:
        link.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, room)
    except PermissionError:
        link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
