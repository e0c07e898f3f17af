"""Datagrams by the batch, and connections one after the other, between two namespaces, timed from one thread.

A virtual link hands a packet over within the sender's own system call: the way through the host, filter and all, ends
in the receiver's socket before the call returns. So what the call took is what its packets took, without anybody's
scheduler in between; what the sender itself costs is the same with and without policy, and goes away in a difference.
Time is the sending thread's own on a processor, so that others on the machine do not count.
"""

import ctypes
import socket
import struct
import time

from bench.hosts import socket_at, widened
from stockade.errors import StockadeError
from stockade.testing.lab import Lab

BATCH = 64
"""Datagrams in one system call: few enough for the kernel to carry them without a break."""
PAYLOAD = b"stockade bench"
TAKEN = 256
_libc = ctypes.CDLL(None, use_errno=True)


class _Vector(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class _Header(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint32),
        ("vectors", ctypes.POINTER(_Vector)),
        ("vector_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class _Message(ctypes.Structure):
    _fields_ = (("header", _Header), ("length", ctypes.c_uint))


class Datagrams:
    """One flow of datagrams from a node of a lab to a port of another."""

    def __init__(self, lab: Lab, source: str, destination: str, port: int, family: int) -> None:
        self._to = widened(socket_at(lab.netns(destination), family, socket.SOCK_DGRAM))
        self._to.bind((lab.address(destination, family), port))
        self._to.setblocking(False)
        self._from = socket_at(lab.netns(source), family, socket.SOCK_DGRAM)
        self._from.connect((lab.address(destination, family), port))
        self._what = f"{source} -> {destination}, IPv{family}"
        self._text = ctypes.create_string_buffer(PAYLOAD, len(PAYLOAD))
        self._vector = _Vector(ctypes.addressof(self._text), len(PAYLOAD))
        self._messages = (_Message * BATCH)()
        for each in self._messages:
            each.header.vectors = ctypes.pointer(self._vector)
            each.header.vector_count = 1

    def close(self) -> None:
        """Close both ends."""
        self._from.close()
        self._to.close()

    def nanoseconds(self) -> float:
        """Send a batch; return what one datagram took. Raises ``StockadeError`` where not every one arrived."""
        descriptor = self._from.fileno()
        began = time.thread_time_ns()
        sent = _libc.sendmmsg(descriptor, self._messages, BATCH, 0)
        took = time.thread_time_ns() - began
        arrived = self._drain()
        if sent != BATCH or arrived != BATCH:
            raise StockadeError(f"{self._what}: {arrived} of {BATCH} datagrams arrived", remedy="is policy in its way?")
        return took / BATCH

    def _drain(self) -> int:
        found = 0
        # Now and then the kernel leaves the last of a batch to another thread of its own.
        deadline = time.monotonic() + 1
        while found < BATCH and time.monotonic() < deadline:
            try:
                self._to.recv(TAKEN)
            except BlockingIOError:
                time.sleep(0.0001)
            else:
                found += 1
        return found


class Connections:
    """TCP connections from a node of a lab to a port of another, each opened, accepted and reset."""

    def __init__(self, lab: Lab, source: str, destination: str, port: int, family: int) -> None:
        self._lab, self._source, self._family = lab, source, family
        self._netns = lab.netns(source)
        self._target = (lab.address(destination, family), port)
        self._listening = socket_at(lab.netns(destination), family, socket.SOCK_STREAM)
        self._listening.bind(self._target)
        self._listening.listen(16)
        self._next: list[socket.socket] = []

    def close(self) -> None:
        """Close the listener, and what was never connected."""
        for each in (*self._next, self._listening):
            each.close()

    def nanoseconds(self) -> float:
        """Open one connection; return what its three packets took."""
        if not self._next:
            self._next = [socket_at(self._netns, self._family, socket.SOCK_STREAM) for _ in range(16)]
        ours = self._next.pop()
        try:
            began = time.thread_time_ns()
            ours.connect(self._target)
            took = time.thread_time_ns() - began
            theirs, _ = self._listening.accept()
            for each in (ours, theirs):  # a reset leaves no port waiting
                each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            theirs.close()
        finally:
            ours.close()
        return took
