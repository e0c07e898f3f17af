"""A port's local proxy, as container engines run one: it listens on the host and opens a second connection inwards.

Started as a program with one argument, JSON: ``[[protocol, port, address, to port], …]``. Standard library alone.
"""

import json
import selectors
import socket
import sys
from collections.abc import Callable
from typing import Any

TCP, UDP = 6, 17
IP_PKTINFO = 8
Extra = list[tuple[int, int, bytes]]
WIDEST = 65536
MOST = 2000
"""Connections that are kept at most; the oldest goes."""


class Proxy:
    """Every port of one host. Ends when it is killed."""

    def __init__(self) -> None:
        self.ready = selectors.DefaultSelector()
        self.inward: dict[tuple[int, tuple[Any, ...]], socket.socket] = {}

    def serve(self, protocol: int, port: int, address: str, to_port: int) -> None:
        """Take what comes to a port of the host, in the address's family."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        kind = socket.SOCK_STREAM if protocol == TCP else socket.SOCK_DGRAM
        listener = socket.socket(family, kind | socket.SOCK_NONBLOCK)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        else:
            listener.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
        listener.bind(("", port))
        if protocol == TCP:
            listener.listen(4096)
        take = self.accept if protocol == TCP else self.datagrams
        self.watch(listener, lambda: take(listener, (address, to_port)))

    def run(self) -> None:
        """Serve for as long as the process lives."""
        while True:
            for key, _ in self.ready.select():
                if self.ready.get_map().get(key.fd) is key:  # else somebody called just before has closed it
                    key.data()

    def watch(self, sock: socket.socket, call: Callable[[], None]) -> None:
        """Have a socket's reader called whenever there is something to read."""
        self.ready.register(sock, selectors.EVENT_READ, call)

    def accept(self, listener: socket.socket, to: tuple[str, int]) -> None:
        """Open the second connection; what each end says goes to the other."""
        try:
            outer, _ = listener.accept()
        except OSError:
            return
        inner = socket.socket(listener.family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        inner.connect_ex(to)
        outer.setblocking(False)
        # Nothing is read before the second connection stands: whoever is kept waiting here would keep all others so.
        self.ready.register(inner, selectors.EVENT_WRITE, lambda: self.connected(outer, inner))

    def connected(self, outer: socket.socket, inner: socket.socket) -> None:
        """The second connection stands, or was refused."""
        self.ready.unregister(inner)
        if inner.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            outer.close()
            inner.close()
            return
        self.watch(outer, lambda: self.relay(outer, inner))
        self.watch(inner, lambda: self.relay(inner, outer))

    def relay(self, source: socket.socket, target: socket.socket) -> None:
        """Pass on what was said; when one end is over so is the other."""
        try:
            data = source.recv(WIDEST)
            if data and target.send(data) == len(data):
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        for each in (source, target):
            self.drop(each)

    def datagrams(self, listener: socket.socket, to: tuple[str, int]) -> None:
        """Pass a datagram on from a socket that is its sender's alone."""
        while True:
            try:
                data, extra, _, sender = listener.recvmsg(WIDEST, 128)
            except OSError:
                return
            key = (listener.fileno(), sender)
            if key not in self.inward:
                self.inward[key] = self.towards(listener, sender, to, _asked(extra))
            try:
                self.inward[key].send(data)
            except OSError:  # refused by the other end, or by a packet filter: the sender hears nothing
                continue

    def towards(
        self, listener: socket.socket, sender: tuple[Any, ...], to: tuple[str, int], asked: Extra
    ) -> socket.socket:
        """Return a new socket that leads inwards for one sender; ``asked`` is the address that it spoke to."""
        if len(self.inward) >= MOST:
            self.drop(self.inward.pop(next(iter(self.inward))))
        inner = socket.socket(listener.family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        inner.connect(to)
        self.watch(inner, lambda: self.back(inner, listener, sender, asked))
        return inner

    def back(self, inner: socket.socket, listener: socket.socket, sender: tuple[Any, ...], asked: Extra) -> None:
        """Pass answers back, from the address that was asked."""
        try:
            listener.sendmsg([inner.recv(WIDEST)], asked, 0, sender)
        except OSError:
            return

    def drop(self, sock: socket.socket) -> None:
        """Let go of a socket."""
        if sock.fileno() < 0:
            return
        if sock.fileno() in self.ready.get_map():
            self.ready.unregister(sock)
        sock.close()


def _asked(extra: Extra) -> Extra:
    """Return what makes an answer come from the very address that was asked."""
    for level, kind, value in extra:
        if (level, kind) == (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO):
            return [(level, kind, value[:16] + bytes(4))]
        if (level, kind) == (socket.IPPROTO_IP, IP_PKTINFO):
            return [(level, kind, bytes(4) + value[8:12] + bytes(4))]
    return []


def main(ports: list[tuple[int, int, str, int]]) -> None:
    """Serve these ports."""
    proxy = Proxy()
    for each in ports:
        proxy.serve(*each)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    proxy.run()


if __name__ == "__main__":
    main([tuple(each) for each in json.loads(sys.argv[1])])
