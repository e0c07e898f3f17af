"""The host's own table of neighbours (rtnetlink(7)): who is known at another link address is found at the new one."""

import contextlib
import os
import socket
import struct
from typing import NamedTuple

from stockade.within import netlink_socket

NEWNEIGH, GETNEIGH, ERROR = 28, 30, 2
REQUEST, ACKNOWLEDGE, REPLACE = 0x1, 0x4, 0x100
STALE, NOARP, PERMANENT = 0x04, 0x40, 0x80
"""States: to be confirmed when it is used next; never asked for; set by hand."""
DST, LLADDR = 1, 2
PATIENCE = 1.0
"""Seconds for an answer of the kernel, which gives it at once."""


class _Known(NamedTuple):
    mac: bytes
    state: int


def move(index: int, addresses: list[bytes], mac: bytes) -> int:
    """Have those of the packed addresses that are known on a link be at ``mac``; return how many were elsewhere.

    What nobody asked for yet is not entered, and what somebody set by hand stays. Raises ``OSError``.
    """
    moved = 0
    with contextlib.closing(netlink_socket(socket.NETLINK_ROUTE)) as asked:
        asked.settimeout(PATIENCE)
        for address in addresses:
            known = _known(asked, index, address)
            if known is None or known.mac == mac or known.state & (PERMANENT | NOARP):
                continue
            body = _neighbour(index, address, STALE) + _attribute(LLADDR, mac)
            _ask(asked, NEWNEIGH, REQUEST | ACKNOWLEDGE | REPLACE, body)
            moved += 1
    return moved


def _known(asked: socket.socket, index: int, address: bytes) -> _Known | None:
    try:
        body = _ask(asked, GETNEIGH, REQUEST, _neighbour(index, address, 0))
    except FileNotFoundError:
        return None
    (state,) = struct.unpack_from("=H", body, 8)
    at, mac = 12, b""
    while at + 4 <= len(body):
        length, kind = struct.unpack_from("=HH", body, at)
        if kind == LLADDR:
            mac = body[at + 4 : at + length]
        at += max(length + 3 & ~3, 4)
    return _Known(mac, state)


def _neighbour(index: int, address: bytes, state: int) -> bytes:
    family = socket.AF_INET if len(address) == 4 else socket.AF_INET6
    return struct.pack("=BxxxiHBB", family, index, state, 0, 0) + _attribute(DST, address)


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def _ask(asked: socket.socket, kind: int, flags: int, body: bytes) -> bytes:
    """Return the body of the answer; an error of the kernel's is raised as it is."""
    asked.send(struct.pack("=IHHII", 16 + len(body), kind, flags, 1, 0) + body)
    said = asked.recv(4096)
    if struct.unpack_from("=H", said, 4)[0] == ERROR and (code := -struct.unpack_from("=i", said, 16)[0]):
        raise OSError(code, os.strerror(code))
    return said[16:]
