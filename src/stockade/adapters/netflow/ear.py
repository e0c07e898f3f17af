"""A UDP socket that devices export to. What the kernel has no room for is counted, where it says so."""

import ipaddress
import select
import socket
import struct
from typing import Self

from stockade.errors import StockadeError

RXQ_OVFL = 40
"""SO_RXQ_OVFL: each datagram says how many were dropped before it."""
RCVBUFFORCE = 33
ROOM = 8 << 20
LARGEST = 1 << 16
LONGEST = 512
"""Datagrams read in one go, at most."""


class Ear:
    """Hears datagrams at an address and a port. For one thread."""

    def __init__(self, heard: socket.socket) -> None:
        self._socket = heard
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.SOL_SOCKET, RXQ_OVFL, 1)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, RCVBUFFORCE, ROOM)
        except PermissionError:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, ROOM)
        self.dropped = 0
        """Datagrams that the kernel had no room for, so far."""

    @classmethod
    def at(cls, address: str, port: int) -> Self:
        """Listen. ``StockadeError`` where the machine refuses."""
        made = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
        try:
            made.bind((address, port))
            return cls(made)
        except OSError as problem:
            made.close()
            raise StockadeError(
                f"cannot listen for NetFlow at {address}, port {port}: {problem.strerror or problem}",
                kept="nothing was started",
                remedy="set netflow to an address of this machine and a port that is free, or to off",
            ) from None

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._socket.getsockname()[1])

    def read(self, patience: float) -> list[tuple[bytes, str]]:
        """Return the datagrams that have come and from which address, or what comes within ``patience`` seconds."""
        if not select.select([self._socket], [], [], patience)[0]:
            return []
        found: list[tuple[bytes, str]] = []
        for _ in range(LONGEST):
            try:
                data, beside, _, sender = self._socket.recvmsg(LARGEST, socket.CMSG_SPACE(4))
            except BlockingIOError:
                break
            for level, kind, content in beside:
                if (level, kind) == (socket.SOL_SOCKET, RXQ_OVFL):
                    (self.dropped,) = struct.unpack("=I", content)
            found.append((data, _plain(sender[0])))
        return found

    def close(self) -> None:
        """Hear no more."""
        self._socket.close()


def _plain(sender: str) -> str:
    """Return an address in canonical text: an IPv4 one that came to a socket for both families is that."""
    found = ipaddress.ip_address(sender.partition("%")[0])
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return str(mapped or found)
