"""Known packets as a capture file, and what an exporter sees of them."""

import socket
import struct
from collections.abc import Iterable
from pathlib import Path

BEGAN = 1_600_000_000.5


def checksum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data + bytes(len(data) % 2))[: len(data) // 2])
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def packet_4(source: str, destination: str, protocol: int, payload: bytes) -> bytes:
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), 1, 0, 64, protocol, 0,
                       socket.inet_aton(source), socket.inet_aton(destination))  # fmt: skip
    return (
        struct.pack("!6s6sH", bytes(6), bytes(6), 0x0800)
        + head[:10]
        + struct.pack("!H", checksum(head))
        + head[12:]
        + payload
    )


def packet_6(source: str, destination: str, protocol: int, payload: bytes) -> bytes:
    ends = (socket.inet_pton(socket.AF_INET6, each) for each in (source, destination))
    head = struct.pack("!IHBB16s16s", 6 << 28, len(payload), protocol, 64, *ends)
    return struct.pack("!6s6sH", bytes(6), bytes(6), 0x86DD) + head + payload


def udp(sport: int, port: int, size: int) -> bytes:
    return struct.pack("!HHHH", sport, port, 8 + size, 0) + bytes(size)


def echo(kind: int) -> bytes:
    return struct.pack("!BBHHH", kind, 0, 0, 7, 1) + bytes(8)


TRAFFIC = (
    *[packet_4("10.1.0.1", "10.1.0.2", 17, udp(40000, 53, 32))] * 3,
    *[packet_4("10.1.0.2", "10.1.0.1", 17, udp(53, 40000, 100))] * 2,
    *[packet_4("10.1.0.3", "10.1.0.2", 17, udp(5000, 514, 10))] * 5,
    *[packet_6("fd00::1", "fd00::2", 17, udp(41000, 53, 60))] * 4,
    packet_4("10.1.0.1", "10.1.0.9", 1, echo(8)),
)
SEEN = {
    ("10.1.0.1", "10.1.0.2", 17, 40000, 53): (3, 3 * 60),
    ("10.1.0.2", "10.1.0.1", 17, 53, 40000): (2, 2 * 128),
    ("10.1.0.3", "10.1.0.2", 17, 5000, 514): (5, 5 * 38),
    ("fd00::1", "fd00::2", 17, 41000, 53): (4, 4 * 108),
    ("10.1.0.1", "10.1.0.9", 1, 0, 0x0800): (1, 36),
}
"""Packets and their bytes, as IP counts them."""


def captured(path: Path, packets: Iterable[bytes]) -> None:
    """Write a capture file (pcap, Ethernet), a millisecond between packets."""
    with path.open("wb") as file:
        file.write(struct.pack("=IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
        for number, data in enumerate(packets):
            moment = BEGAN + number / 1000
            file.write(struct.pack("=IIII", int(moment), round(moment % 1 * 1e6), len(data), len(data)) + data)
