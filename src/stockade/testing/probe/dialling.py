"""The asking end: opens TCP and UDP connections, and says precisely what became of each."""

import errno
import socket

from stockade.testing.probe.loop import READ, WRITE, Loop
from stockade.testing.probe.talk import NOT_SENT, Ask, Talk, Waiting, tell_errors, what_broke

IPV6_UNICAST_HOPS = 16


class Dial:
    """One connection being opened, and then kept for as long as its owner wants. ``wanted`` is the request's item."""

    def __init__(self, loop: Loop, waiting: Waiting, wanted: dict[str, object], ask: Ask) -> None:
        self.loop, self.waiting, self.ask = loop, waiting, ask
        self.nonce = str(wanted["nonce"])
        self.talk: Talk | None = None
        self.sock: socket.socket | None = None
        try:
            self._open(wanted)
        except OSError as problem:
            self._refused_here(problem)

    def close(self) -> None:
        """Let go of it."""
        if self.talk is not None:
            self.talk.close()
        elif self.sock is not None and self.sock.fileno() >= 0:
            self.loop.forget(self.sock.fileno())
            self.sock.close()

    def _open(self, wanted: dict[str, object]) -> None:
        address, port = str(wanted["address"]), int(str(wanted["port"]))
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        kind = socket.SOCK_STREAM if wanted["protocol"] == socket.IPPROTO_TCP else socket.SOCK_DGRAM
        self.sock = sock = socket.socket(family, kind | socket.SOCK_NONBLOCK)
        prepare(sock, wanted)
        self.ask.source_port = sock.getsockname()[1]
        try:
            sock.connect((address, port))
        except BlockingIOError:
            self.ask.source_port = sock.getsockname()[1]
            self.loop.watch(sock.fileno(), self._connected, READ | WRITE)
            return
        self.ask.source_port = sock.getsockname()[1]
        self._begin(sock)

    def _connected(self, _events: int) -> None:
        sock = self.sock
        assert sock is not None
        self.loop.forget(sock.fileno())
        if code := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self.ask.settle(*what_broke(sock, OSError(code, "")))
            sock.close()
        else:
            self._begin(sock)

    def _begin(self, sock: socket.socket) -> None:
        self.talk = Talk(self.loop, sock, self.waiting, _ignore)
        self.talk.ask(self.nonce, self.ask)

    def _refused_here(self, problem: OSError) -> None:
        if self.sock is not None:
            outcome, detail = what_broke(self.sock, problem)
            self.sock.close()
        else:
            outcome, detail = NOT_SENT, errno.errorcode.get(problem.errno or 0, "")
        self.ask.settle(outcome, detail)


def prepare(sock: socket.socket, wanted: dict[str, object]) -> None:
    """Give a socket the source, source port and TTL that the request's item names."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    tell_errors(sock)
    six = sock.family == socket.AF_INET6
    if ttl := int(str(wanted.get("ttl") or 0)):
        level, option = (socket.IPPROTO_IPV6, IPV6_UNICAST_HOPS) if six else (socket.IPPROTO_IP, socket.IP_TTL)
        sock.setsockopt(level, option, ttl)
    source, port = str(wanted.get("source_address") or ""), int(str(wanted.get("source_port") or 0))
    if source or port:
        sock.bind((source or ("::" if six else "0.0.0.0"), port))


def _ignore(_talk: Talk) -> None:
    """A connection that broke stays listed, so that asking it again says what broke it."""
