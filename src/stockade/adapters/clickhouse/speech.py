"""What is said between a flow store's client and its process: one request, one answer, each after its length."""

import socket
import struct
from typing import Any

import msgspec

from stockade.seams.flow_store import (
    FlowFilter,
    FlowGroups,
    FlowMark,
    FlowPage,
    FlowQuery,
    FlowStats,
    HostLoss,
    Put,
    Retention,
    StoredBatch,
)

CALLS: dict[str, tuple[Any, Any]] = {
    "put": (tuple[tuple[StoredBatch, ...]], Put),
    "groups": (tuple[FlowQuery], FlowGroups),
    "mark": (tuple[FlowFilter], FlowMark),
    "flows": (tuple[FlowFilter, int, str | None], FlowPage),
    "losses": (tuple[float, float], tuple[HostLoss, ...]),
    "trim": (tuple[float], tuple[HostLoss, ...]),
    "stats": (tuple[()], FlowStats),
}
"""The types of each call's arguments and of its answer."""
_LENGTH = struct.Struct(">Q")


class Opening(msgspec.Struct, frozen=True):
    """What a process is started for: a folder or a server's URL, and the folder for puts in progress, if another."""

    where: str
    retention: Retention
    journal: str | None = None


class Request(msgspec.Struct, frozen=True, array_like=True):
    """One call, its arguments encoded."""

    call: str
    arguments: msgspec.Raw


class Answer(msgspec.Struct, frozen=True, array_like=True):
    """What came of it: the answer, encoded, or a failure's message, what was kept, and a remedy."""

    answer: msgspec.Raw
    failure: tuple[str, str, str] | None = None
    refused: bool = False
    """The failure lies in what was asked."""


def send(line: socket.socket, data: bytes) -> None:
    """Send one message whole."""
    line.sendall(_LENGTH.pack(len(data)) + data)


def receive(line: socket.socket) -> bytes:
    """Return one message; empty where the other side has hung up."""
    head = _exactly(line, _LENGTH.size)
    return _exactly(line, _LENGTH.unpack(head)[0]) if head else b""


def _exactly(line: socket.socket, size: int) -> bytes:
    parts: list[bytes] = []
    while size:
        part = line.recv(min(size, 1 << 20))
        if not part:
            return b""
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
