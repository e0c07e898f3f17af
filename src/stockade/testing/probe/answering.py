"""The answering end: TCP and UDP listeners that answer questions, and can ask back along what was opened to them."""

import functools
import socket
import struct

from stockade.testing.probe.loop import Loop
from stockade.testing.probe.talk import NOT_SENT, REACHED, TIMED_OUT, Ask, Talk, Waiting, tell_errors

IP_PKTINFO = 8
BACKLOG = 4096
REMEMBERED = 20_000
"""UDP peers that a namespace remembers, so that it can send to them unasked."""


class Answers:
    """All TCP and UDP listeners of one namespace, by (protocol, port, address)."""

    def __init__(self, loop: Loop, waiting: Waiting) -> None:
        self.loop, self.waiting = loop, waiting
        self._listeners: dict[tuple[int, int, str], list[socket.socket]] = {}
        self._streams: dict[int, Talk] = {}
        self._peers: dict[int, _Peer] = {}

    def open(self, protocol: int, port: int, address: str = "") -> None:
        """Listen on a port, of one address or of all; nothing happens where that is so already. May raise OSError."""
        key = (protocol, port, address)
        if key in self._listeners:
            return
        families = (socket.AF_INET6 if ":" in address else socket.AF_INET,) if address else _BOTH
        opened: list[socket.socket] = []
        try:
            opened += (_listener(family, protocol, port, address) for family in families)
        except OSError:
            _close(opened)
            raise
        self._listeners[key] = opened
        for each in opened:
            ready = self._accept if protocol == socket.IPPROTO_TCP else self._datagrams
            self.loop.watch(each.fileno(), functools.partial(ready, each))

    def close(self, protocol: int, port: int, address: str = "") -> None:
        """Listen there no longer. Connections that were accepted live on."""
        for each in self._listeners.pop((protocol, port, address), ()):
            self.loop.forget(each.fileno())
            each.close()

    def ask(self, protocol: int, peer_port: int, nonce: str, ask: Ask) -> None:
        """Ask back along the connection whose other end has this port."""
        ask.source_port = peer_port
        stream, peer = self._streams.get(peer_port), self._peers.get(peer_port)
        if protocol == socket.IPPROTO_TCP and stream is not None:
            stream.ask(nonce, ask)
        elif protocol == socket.IPPROTO_UDP and peer is not None:
            self.waiting[nonce] = ask
            if problem := peer.send(f"?{nonce}\n".encode()):
                ask.settle(NOT_SENT, problem)
        else:
            ask.settle(NOT_SENT, "no such connection here")

    def _accept(self, listener: socket.socket, _events: int) -> None:
        while True:
            try:
                sock, address = listener.accept()
            except OSError:  # nobody left, or one that has reset its connection already
                return
            sock.setblocking(False)
            tell_errors(sock)
            port = address[1]
            self._streams[port] = Talk(self.loop, sock, self.waiting, functools.partial(self._gone, port))

    def _gone(self, port: int, talk: Talk) -> None:
        """An accepted connection ended: remember how as long as nobody else comes from the same port."""
        talk.sock.close()
        if self._streams.get(port) is talk and len(self._streams) > REMEMBERED:
            del self._streams[port]

    def _datagrams(self, listener: socket.socket, _events: int) -> None:
        while True:
            try:
                data, extra, _, address = listener.recvmsg(65536, 128)
            except BlockingIOError:
                return
            except OSError:  # an ICMP error about an earlier answer
                continue
            self._answer(_Peer(listener, address, _reply_from(listener, extra)), data.strip())

    def _answer(self, peer: "_Peer", data: bytes) -> None:
        self._peers.pop(peer.address[1], None)
        self._peers[peer.address[1]] = peer
        if len(self._peers) > REMEMBERED:
            del self._peers[next(iter(self._peers))]
        if data[:1] == b"?":
            peer.send(b"!" + data[1:] + b"\n")
        elif ask := self.waiting.pop(data[1:].decode(errors="replace"), None):
            ask.settle(REACHED)


_BOTH = (socket.AF_INET, socket.AF_INET6)


class _Peer:
    """Who sent a datagram, and from which of our addresses to answer."""

    __slots__ = ("address", "extra", "listener")

    def __init__(self, listener: socket.socket, address: tuple[str, int], extra: list[tuple[int, int, bytes]]) -> None:
        self.listener, self.address, self.extra = listener, address, extra

    def send(self, data: bytes) -> str:
        try:
            self.listener.sendmsg([data], self.extra, 0, self.address)
        except BlockingIOError:
            return TIMED_OUT
        except OSError as problem:
            return str(problem)
        return ""


def _listener(family: int, protocol: int, port: int, address: str) -> socket.socket:
    stream = protocol == socket.IPPROTO_TCP
    kind = socket.SOCK_STREAM if stream else socket.SOCK_DGRAM
    found = socket.socket(family, kind | socket.SOCK_NONBLOCK)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            found.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            found.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        else:
            found.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
        found.bind((address, port))
        if stream:
            found.listen(BACKLOG)
    except OSError:
        found.close()
        raise
    return found


def _close(opened: list[socket.socket]) -> None:
    for each in opened:
        each.close()


def _reply_from(listener: socket.socket, extra: list[tuple[int, int, bytes]]) -> list[tuple[int, int, bytes]]:
    """Return what makes an answer come from the very address that was asked."""
    for level, kind, value in extra:
        if (level, kind) == (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO):
            return [(level, kind, value[:16] + struct.pack("=I", _scope(value)))]
        if (level, kind) == (socket.IPPROTO_IP, IP_PKTINFO) and listener.family == socket.AF_INET:
            return [(level, kind, struct.pack("=I", 0) + value[8:12] + bytes(4))]
    return []


def _scope(value: bytes) -> int:
    """A link-local address needs its interface; for any other, routing decides."""
    return int(struct.unpack_from("=I", value, 16)[0]) if value[:2] == b"\xfe\x80" else 0
