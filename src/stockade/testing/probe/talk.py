"""How two ends of a connection talk: ``?nonce`` asks, ``!nonce`` answers. Each end does both, at any time.

So that either end can find out whether the connection still carries packets, there and back.
"""

import errno
import socket
import struct
import time
from collections.abc import Callable

from stockade.testing.probe.loop import ERROR, READ, WRITE, Loop

REACHED, REFUSED, RESET, TIMED_OUT = "reached", "refused", "reset", "timed out"
ICMP_ERROR, NOT_SENT = "icmp error", "not sent"
FATAL = {REFUSED, RESET, TIMED_OUT}

IP_RECVERR, IPV6_RECVERR = 11, 25
BY_ICMP, BY_ICMP6 = 2, 3
PORT_CLOSED = {(BY_ICMP, 3, 3), (BY_ICMP6, 1, 4)}
LINGER_RESET = struct.pack("ii", 1, 0)


class Ask:
    """One question that waits for its outcome, which comes once: (outcome, detail, source port, milliseconds)."""

    __slots__ = ("_done", "_started", "outcome", "source_port")

    def __init__(self, done: Callable[[], None]) -> None:
        self.outcome: tuple[str, str] | None = None
        self.source_port = 0
        self._done = done
        self._started = time.monotonic()

    def settle(self, outcome: str, detail: str = "") -> None:
        """Say what became of it; only the first word counts."""
        if self.outcome is None:
            self.outcome = (outcome, detail)
            self._started = time.monotonic() - self._started
            self._done()

    def report(self) -> list[object]:
        """Return what goes to whoever asked."""
        outcome, detail = self.outcome or (TIMED_OUT, "")
        elapsed = self._started if self.outcome else 0.0
        return [outcome, detail, self.source_port, round(elapsed * 1000, 3)]


Waiting = dict[str, Ask]
"""Nonce → who waits for its answer."""


class Talk:
    """One end of a TCP connection or of a connected UDP socket."""

    def __init__(self, loop: Loop, sock: socket.socket, waiting: Waiting, gone: Callable[["Talk"], None]) -> None:
        self.loop, self.sock, self.waiting, self.gone = loop, sock, waiting, gone
        self.stream = sock.type == socket.SOCK_STREAM
        self.asked: dict[str, Ask] = {}
        self.broken: tuple[str, str] | None = None
        self._in, self._out = b"", b""
        loop.watch(sock.fileno(), self._ready)

    def ask(self, nonce: str, ask: Ask) -> None:
        """Send a question. Its answer, or what broke the connection, settles it."""
        if self.broken:
            ask.settle(*self.broken)
            return
        self.asked[nonce] = self.waiting[nonce] = ask
        self._send(f"?{nonce}\n".encode())

    def forget(self, nonce: str) -> None:
        """Nobody waits for this answer any more."""
        self.asked.pop(nonce, None)
        self.waiting.pop(nonce, None)

    def close(self) -> None:
        """End it at once: a TCP connection with a reset, so that no state lingers on the way."""
        for nonce in list(self.asked):
            self.forget(nonce)
        self.loop.forget(self.sock.fileno())
        if self.stream and self.broken is None:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
        self.sock.close()

    def _ready(self, events: int) -> None:
        if events & WRITE:
            self._flush()
        if self.broken is None:
            self._read()
        if events & ERROR and self.broken is None and (said := _icmp_error(self.sock)):
            self._fail(*said)

    def _read(self) -> None:
        while True:
            try:
                data = self.sock.recv(65536)
            except BlockingIOError:
                return
            except OSError as problem:
                self._fail(*what_broke(self.sock, problem))
                return
            if not data and self.stream:
                self._fail(RESET, "closed")
                return
            self._heard(data)

    def _heard(self, data: bytes) -> None:
        *lines, self._in = (self._in + data).split(b"\n")
        for line in lines:
            if line[:1] == b"?":
                self._send(b"!" + line[1:] + b"\n")
            elif ask := self.waiting.get(nonce := line[1:].decode(errors="replace")):
                self.forget(nonce)
                ask.settle(REACHED)

    def _send(self, data: bytes) -> None:
        if not self.stream:
            self._datagram(data)
            return
        self._out += data
        self._flush()

    def _datagram(self, data: bytes) -> None:
        try:
            self.sock.send(data)
        except BlockingIOError:
            pass
        except OSError as problem:
            self._fail(*what_broke(self.sock, problem))

    def _flush(self) -> None:
        try:
            self._out = self._out[self.sock.send(self._out) :] if self._out else b""
        except BlockingIOError:
            pass
        except OSError as problem:
            self._fail(*what_broke(self.sock, problem))
            return
        self.loop.watch(self.sock.fileno(), self._ready, READ | WRITE if self._out else READ)

    def _fail(self, outcome: str, detail: str) -> None:
        """A stream that broke is over; anything else only says what one packet met."""
        asked = list(self.asked.items())
        for nonce, ask in asked:
            self.forget(nonce)
            ask.settle(outcome, detail)
        if self.stream and self.broken is None and outcome in FATAL:
            self.broken = (outcome, detail)
            self.loop.forget(self.sock.fileno())
            self.gone(self)


def tell_errors(sock: socket.socket) -> None:
    """Have the kernel keep each ICMP error about this socket, with its type and code."""
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVERR, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)


def what_broke(sock: socket.socket, problem: OSError) -> tuple[str, str]:
    """Return the outcome that an error on a socket means, and its detail."""
    if said := _icmp_error(sock):
        return said
    if problem.errno == errno.ECONNREFUSED:
        return REFUSED, "rst"
    if problem.errno in (errno.ECONNRESET, errno.EPIPE):
        return RESET, "rst"
    if problem.errno in (errno.ETIMEDOUT, errno.EHOSTUNREACH):
        return TIMED_OUT, "no neighbour answers" if problem.errno == errno.EHOSTUNREACH else ""
    return NOT_SENT, errno.errorcode.get(problem.errno or 0, str(problem))


def _icmp_error(sock: socket.socket) -> tuple[str, str] | None:
    """Empty a socket's queue of errors, or it would stay ready for ever; return the first ICMP error of them."""
    first: tuple[str, str] | None = None
    while True:
        try:
            _, extra, _, _ = sock.recvmsg(512, 512, socket.MSG_ERRQUEUE)
        except OSError:
            return first
        for _, kind, value in extra:
            if kind in (IP_RECVERR, IPV6_RECVERR):
                first = first or _meaning(value)


def _meaning(value: bytes) -> tuple[str, str] | None:
    """Read a ``sock_extended_err``."""
    _, origin, type_, code = struct.unpack_from("=IBBB", value)
    if origin not in (BY_ICMP, BY_ICMP6):
        return None
    family = "icmp" if origin == BY_ICMP else "icmpv6"
    return (REFUSED if (origin, type_, code) in PORT_CLOSED else ICMP_ERROR), f"{family} {type_}/{code}"
