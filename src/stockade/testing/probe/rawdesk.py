"""ICMP queries and SCTP associations, made by hand over raw sockets: kernels may lack SCTP, and policy must not.

One raw socket a family serves all questions of a namespace. An SCTP association is set up with all four packets
(RFC 9260, 5.1) and then asked with HEARTBEATs, which its other end must answer. Where the kernel speaks SCTP itself
it refuses what nobody listens for, and knows its own sockets, which nobody here does: nothing is refused by hand.
"""

import errno
import functools
import socket
import struct
from pathlib import Path
from typing import NamedTuple

from stockade.testing.probe import packets
from stockade.testing.probe.loop import Loop
from stockade.testing.probe.packets import Frame
from stockade.testing.probe.talk import ICMP_ERROR, NOT_SENT, REACHED, REFUSED, RESET, Ask, Waiting

IP_PKTINFO = 8
IPV6_UNICAST_HOPS = 16
REPLIES = {packets.ICMP: (0, 14, 18), packets.ICMP6: (129,)}
ERRORS = {packets.ICMP: (3, 11, 12), packets.ICMP6: (1, 2, 3, 4)}
STATE_COOKIE = 7
KERNELS_OWN = Path("/proc/self/net/sctp")
"""There as soon as the kernel speaks SCTP in this namespace."""


class Arrived(NamedTuple):
    """What a raw socket read: between whom, and what followed the IP header."""

    source: str
    destination: str
    data: bytes


class RawSocket:
    """One protocol of one family, sending from any of the namespace's addresses."""

    def __init__(self, loop: Loop, family: int, protocol: int) -> None:
        self.six = family == socket.AF_INET6
        self.sock = socket.socket(family, socket.SOCK_RAW | socket.SOCK_NONBLOCK, protocol)
        if self.six:
            self.sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        self.loop = loop

    def send(self, data: bytes, source: str, destination: str, ttl: int = 0) -> None:
        """Send one message. May raise OSError."""
        extra: list[tuple[int, int, bytes]] = []
        if source and self.six:
            extra.append((socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, packets.packed(source) + bytes(4)))
        elif source:
            extra.append((socket.IPPROTO_IP, IP_PKTINFO, bytes(4) + packets.packed(source) + bytes(4)))
        if ttl:
            kind = (socket.IPPROTO_IPV6, socket.IPV6_HOPLIMIT) if self.six else (socket.IPPROTO_IP, socket.IP_TTL)
            extra.append((*kind, struct.pack("=i", ttl)))
        self.sock.sendmsg([data], extra, 0, (destination, 0))

    def read(self) -> list[Arrived]:
        """Return everything that has arrived."""
        found: list[Arrived] = []
        while True:
            try:
                data, extra, _, address = self.sock.recvmsg(2048, 128)
            except BlockingIOError:
                return found
            except OSError:
                continue
            found.append(self._arrived(data, extra, address[0].partition("%")[0]))

    def _arrived(self, data: bytes, extra: list[tuple[int, int, bytes]], source: str) -> Arrived:
        if self.six:
            target = next((value[:16] for _, kind, value in extra if kind == socket.IPV6_PKTINFO), bytes(16))
            return Arrived(source, socket.inet_ntop(socket.AF_INET6, target), data)
        head = (data[0] & 15) * 4
        return Arrived(source, socket.inet_ntop(socket.AF_INET, data[16:20]), data[head:])


class Desk:
    """ICMP queries and SCTP of one namespace."""

    def __init__(self, loop: Loop, waiting: Waiting) -> None:
        self._icmp = {
            False: RawSocket(loop, socket.AF_INET, packets.ICMP),
            True: RawSocket(loop, socket.AF_INET6, packets.ICMP6),
        }
        self._sctp = {six: RawSocket(loop, family, packets.SCTP) for six, family in _FAMILIES.items()}
        self._queries: dict[int, Ask] = {}
        self._associations: dict[tuple[int, str, int], Association] = {}
        self._by_ports: dict[tuple[int, int], Association] = {}
        self._listening: set[tuple[int, str]] = set()
        self._waiting = waiting
        for raw in self._icmp.values():
            loop.watch(raw.sock.fileno(), functools.partial(self._icmp_ready, raw))
        for raw in self._sctp.values():
            loop.watch(raw.sock.fileno(), functools.partial(self._sctp_ready, raw))

    # ICMP

    def query(self, wanted: dict[str, object], ask: Ask) -> None:
        """Send an ICMP query (``port`` is its type and code) and settle with the reply or the error about it."""
        address, ident = str(wanted["address"]), int(str(wanted["source_port"]))
        raw = self._icmp[":" in address]
        source = str(wanted.get("source_address") or "")
        ask.source_port = ident
        self._queries[ident] = ask
        # The kernel fills in ICMPv6's checksum, and so nobody here needs to know the source.
        message = packets.echo(source or address, address, ident, _payload(wanted), code=int(str(wanted["port"])))
        _send(raw, message, source, address, wanted, ask)

    def forget_query(self, ident: int) -> None:
        """Nobody waits for this reply any more."""
        self._queries.pop(ident, None)

    def _icmp_ready(self, raw: RawSocket, _events: int) -> None:
        protocol = packets.ICMP6 if raw.six else packets.ICMP
        for arrived in raw.read():
            if len(arrived.data) < 8:
                continue
            kind = arrived.data[0]
            if kind in REPLIES[protocol]:
                self._settle_query(int.from_bytes(arrived.data[4:6], "big"), REACHED, "")
            elif kind in ERRORS[protocol]:
                self._error(arrived, packets.parse_ip(arrived.data[8:]), "icmpv6" if raw.six else "icmp")

    def _error(self, arrived: Arrived, about: Frame, family: str) -> None:
        detail = f"{family} {arrived.data[0]}/{arrived.data[1]}"
        if about.protocol in (packets.ICMP, packets.ICMP6):
            self._settle_query(about.source_port, ICMP_ERROR, detail)
        elif about.protocol == packets.SCTP and (found := self._by_ports.get((about.source_port, about.port))):
            found.fail(ICMP_ERROR, detail)

    def _settle_query(self, ident: int, outcome: str, detail: str) -> None:
        if ask := self._queries.pop(ident, None):
            ask.settle(outcome, detail)

    # SCTP

    def listen(self, port: int, address: str = "") -> None:
        """Take associations on a port."""
        self._listening.add((port, address))

    def unlisten(self, port: int, address: str = "") -> None:
        """Refuse associations on a port. Those that are there live on."""
        self._listening.discard((port, address))

    def associate(self, wanted: dict[str, object], ask: Ask) -> "Association":
        """Begin an association; settled when its COOKIE-ACK has come."""
        address, port = str(wanted["address"]), int(str(wanted["port"]))
        sport = int(str(wanted["source_port"]))
        source, nonce = str(wanted.get("source_address") or ""), str(wanted["nonce"])
        raw = self._sctp[":" in address]
        found = Association(raw, source, address, sport, port, tag=_tag(nonce), opening=ask)
        ask.source_port = sport
        self._associations[sport, address, port] = self._by_ports[sport, port] = found
        init = packets.chunk(packets.INIT, packets.sctp_init(found.tag))
        _send(raw, packets.sctp(sport, port, 0, init), source, address, wanted, ask)
        return found

    def ask(self, association: "Association", nonce: str, ask: Ask) -> None:
        """Send a HEARTBEAT along an association; its acknowledgement settles."""
        ask.source_port = association.sport
        if association.broken:
            ask.settle(*association.broken)
            return
        self._waiting[nonce] = association.asked[nonce] = ask
        value = packets.parameter(1, nonce.encode())
        try:
            association.send(packets.chunk(packets.HEARTBEAT, value))
        except OSError as problem:
            ask.settle(NOT_SENT, errno.errorcode.get(problem.errno or 0, ""))

    def ask_back(self, peer_port: int, nonce: str, ask: Ask) -> None:
        """Ask along the association whose other end has this port."""
        for association in reversed(self._associations.values()):
            if association.port == peer_port and association.peer_tag:
                self.ask(association, nonce, ask)
                return
        ask.settle(NOT_SENT, "no such association here")

    def drop(self, association: "Association") -> None:
        """End an association with an ABORT."""
        if association.peer_tag and association.broken is None:
            try:
                association.send(packets.chunk(packets.ABORT))
            except OSError:
                association.broken = (RESET, "")
        self._associations.pop((association.sport, association.address, association.port), None)
        self._by_ports.pop((association.sport, association.port), None)

    def _sctp_ready(self, raw: RawSocket, _events: int) -> None:
        for arrived in raw.read():
            if len(arrived.data) >= 16:
                self._sctp_packet(raw, arrived)

    def _sctp_packet(self, raw: RawSocket, arrived: Arrived) -> None:
        sport, port, tag = struct.unpack("!HHI", arrived.data[:8])
        kind, _, length = struct.unpack("!BBH", arrived.data[12:16])
        value = arrived.data[16 : 12 + length]
        if kind == packets.INIT:
            self._answer_init(raw, arrived, sport, port, value)
            return
        found = self._associations.get((port, arrived.source, sport))
        if found is None or tag != found.tag:
            return
        try:
            self._chunk(found, kind, value)
        except OSError as problem:  # the packet filter took our answer
            found.fail(NOT_SENT, errno.errorcode.get(problem.errno or 0, ""))

    def _answer_init(self, raw: RawSocket, arrived: Arrived, sport: int, port: int, value: bytes) -> None:
        peer_tag = int.from_bytes(value[:4], "big")
        if {(port, ""), (port, arrived.destination)}.isdisjoint(self._listening):
            if KERNELS_OWN.exists():
                return
            answer = packets.sctp(port, sport, peer_tag, packets.chunk(packets.ABORT))
        else:
            tag = packets.crc32c(f"{arrived.source} {sport} {port} {peer_tag}".encode()) or 1
            found = Association(raw, arrived.destination, arrived.source, port, sport, tag=tag, peer_tag=peer_tag)
            self._associations.pop((port, arrived.source, sport), None)
            self._associations[port, arrived.source, sport] = found
            cookie = packets.parameter(STATE_COOKIE, struct.pack("!II", tag, peer_tag))
            init_ack = packets.chunk(packets.INIT_ACK, packets.sctp_init(tag, cookie))
            answer = packets.sctp(port, sport, peer_tag, init_ack)
        try:
            raw.send(answer, arrived.destination, arrived.source)
        except OSError:
            return

    def _chunk(self, found: "Association", kind: int, value: bytes) -> None:
        if kind == packets.INIT_ACK and len(value) >= 20:
            found.peer_tag = int.from_bytes(value[:4], "big")
            length = int.from_bytes(value[18:20], "big")
            found.send(packets.chunk(packets.COOKIE_ECHO, value[20 : 16 + length]))
        elif kind == packets.COOKIE_ECHO:
            found.send(packets.chunk(packets.COOKIE_ACK))
        elif kind == packets.COOKIE_ACK and found.opening is not None:
            found.opening.settle(REACHED)
        elif kind == packets.HEARTBEAT:
            found.send(packets.chunk(packets.HEARTBEAT_ACK, value))
        elif kind == packets.HEARTBEAT_ACK:
            self._heartbeat(found, packets.nonce_in(value))
        elif kind == packets.ABORT:
            opening = found.opening is not None and found.opening.outcome is None
            found.fail(REFUSED if opening else RESET, "abort")

    def _heartbeat(self, found: "Association", nonce: str) -> None:
        self._waiting.pop(nonce, None)
        if ask := found.asked.pop(nonce, None):
            ask.settle(REACHED)


_FAMILIES = {False: socket.AF_INET, True: socket.AF_INET6}


class Association:
    """One end of an SCTP association. ``tag`` is ours, which the peer's packets carry; ``peer_tag`` the peer's."""

    def __init__(self, raw: RawSocket, source: str, address: str, sport: int, port: int, *, tag: int,
                 peer_tag: int = 0, opening: Ask | None = None) -> None:  # fmt: skip
        self.raw, self.source, self.address, self.sport, self.port = raw, source, address, sport, port
        self.tag, self.peer_tag, self.opening = tag, peer_tag, opening
        self.asked: dict[str, Ask] = {}
        self.broken: tuple[str, str] | None = None

    def send(self, chunk: bytes) -> None:
        """Send one chunk to the other end. May raise OSError."""
        self.raw.send(packets.sctp(self.sport, self.port, self.peer_tag, chunk), self.source, self.address)

    def fail(self, outcome: str, detail: str) -> None:
        """It is over, or one of its packets met an error: whoever waits hears of it."""
        if outcome == RESET:
            self.broken = (outcome, detail)
        for ask in (*([self.opening] if self.opening else ()), *self.asked.values()):
            ask.settle(outcome, detail)
        self.asked.clear()


def _tag(nonce: str) -> int:
    return int(nonce[-8:], 16) or 1


def _payload(wanted: dict[str, object]) -> bytes:
    return f"?{wanted['nonce']}\n".encode().ljust(int(str(wanted.get("size") or 0)), b".")


def _send(raw: RawSocket, data: bytes, source: str, address: str, wanted: dict[str, object], ask: Ask) -> None:
    try:
        raw.send(data, source, address, int(str(wanted.get("ttl") or 0)))
    except OSError as problem:
        ask.settle(NOT_SENT, errno.errorcode.get(problem.errno or 0, str(problem)))
