"""What really arrived in a namespace: the ground truth for "delivered".

In a node a packet socket sees every frame that comes in by its links. In a host, where frames still have the packet
filter before them, raw sockets see what came through it to the host itself. What was lost is counted, never guessed.
"""

import contextlib
import functools
import socket
import struct

from stockade.testing.probe import packets
from stockade.testing.probe.loop import Loop
from stockade.testing.probe.packets import Frame

SOL_PACKET, PACKET_AUXDATA, PACKET_IGNORE_OUTGOING = 263, 8, 23
SO_MEMINFO, MEMINFO_DROPS = 55, 8
SO_RCVBUFFORCE = 33
ETH_P_ALL = 3
VLAN_VALID = 1 << 4
BUFFER = 16 << 20
GENERATION = 20_000
"""Frames that are remembered at least; at most twice as many are."""

Raw = tuple[int, int, bytes, str, str]
"""(protocol or 0, VLAN or -1, bytes, source, destination): protocol and addresses only where there is no IP header."""


class Observer:
    """Everything that arrived lately, found by nonce or by (protocol, source port)."""

    def __init__(self, loop: Loop, *, host: bool) -> None:
        self._raw: list[Raw] = []
        self._new: dict[str, list[Frame]] = {}
        self._old: dict[str, list[Frame]] = {}
        self._held = 0
        self._forgiven = 0
        self._sockets = _local_sockets() if host else [_packet_socket()]
        for each in self._sockets:
            loop.watch(each.fileno(), functools.partial(self._read, each))

    def find(self, key: str) -> list[Frame]:
        """Return the frames of a nonce, or of ``protocol/source port`` (for ICMP its identifier), oldest first."""
        self._index()
        return [*self._old.get(key, ()), *self._new.get(key, ())]

    def clear(self) -> None:
        """Forget what has arrived so far."""
        self._raw, self._new, self._old, self._held = [], {}, {}, 0
        self._forgiven = self._drops()

    @property
    def lost(self) -> int:
        """How many frames the kernel could not hand over since the last ``clear``."""
        return self._drops() - self._forgiven

    def _drops(self) -> int:
        return sum(_drops(each) for each in self._sockets)

    def _read(self, source: socket.socket, _events: int) -> None:
        while True:
            try:
                data, extra, _, address = source.recvmsg(2048, 64)
            except BlockingIOError:
                return
            except OSError:  # a link went down: nothing to read, nothing lost
                continue
            self._raw.append(_raw(source, data, extra, address))

    def _index(self) -> None:
        for raw in self._raw:
            frame = _frame(raw)
            for key in (frame.nonce, f"{frame.protocol}/{frame.source_port}"):
                if key:
                    self._new.setdefault(key, []).append(frame)
            self._held += 1
            if self._held >= GENERATION:
                self._old, self._new, self._held = self._new, {}, 0
        self._raw.clear()


def _packet_socket() -> socket.socket:
    found = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.htons(ETH_P_ALL))
    found.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
    with contextlib.suppress(OSError):
        found.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
    _widen(found)
    return found


def _local_sockets() -> list[socket.socket]:
    kinds = (
        (socket.AF_INET, (packets.TCP, packets.UDP, packets.ICMP, packets.SCTP)),
        (socket.AF_INET6, (packets.TCP, packets.UDP, packets.ICMP6, packets.SCTP)),
    )
    found = [
        socket.socket(family, socket.SOCK_RAW | socket.SOCK_NONBLOCK, protocol)
        for family, protocols in kinds
        for protocol in protocols
    ]
    for each in found:
        if each.family == socket.AF_INET6:
            each.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        _widen(each)
    return found


def _widen(found: socket.socket) -> None:
    try:
        found.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER)
    except OSError:  # only root of the machine may pass net.core.rmem_max by
        found.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)


def _drops(each: socket.socket) -> int:
    info = each.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, 36)
    return int(struct.unpack_from("=I", info, 4 * MEMINFO_DROPS)[0])


def _raw(source: socket.socket, data: bytes, extra: list[tuple[int, int, bytes]], address: tuple[str, int]) -> Raw:
    if source.family == socket.AF_INET6:
        target = next((value[:16] for _, kind, value in extra if kind == socket.IPV6_PKTINFO), bytes(16))
        return source.proto, -1, data, address[0].partition("%")[0], socket.inet_ntop(socket.AF_INET6, target)
    if source.family == socket.AF_INET:
        return 0, -1, data, "ip", ""
    return 0, _vlan(extra), data, "", ""


def _vlan(extra: list[tuple[int, int, bytes]]) -> int:
    """The kernel takes the outermost tag off a frame before it shows it, and tells it beside."""
    for level, kind, value in extra:
        if (level, kind) == (SOL_PACKET, PACKET_AUXDATA):
            status, _, _, _, _, tag, _ = struct.unpack_from("=IIIHHHH", value)
            return tag & 0xFFF if status & VLAN_VALID else -1
    return -1


def _frame(raw: Raw) -> Frame:
    protocol, vlan, data, source, destination = raw
    if protocol:
        kind = Frame(ethertype=packets.IP6, protocol=protocol, source=source, destination=destination)
        read = packets.transport(kind, data) if len(data) >= 4 else kind
        return read._replace(nonce=packets.nonce_in(data), length=len(data) + 40)
    if source == "ip":
        return packets.parse_ip(data)._replace(ethertype=packets.IP4)
    frame = packets.parse(data)
    return frame._replace(vlan=vlan) if vlan >= 0 else frame
