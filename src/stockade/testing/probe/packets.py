"""Packets and frames as bytes: made by hand, so that anything can be sent, and read back as values.

Pure, and of the standard library alone. Builders trust their caller: what is wrong on purpose goes out as it is.
Checksums are right unless the caller says otherwise.
"""

import re
import socket
import struct
from typing import NamedTuple

IP4, IP6, ARP, VLAN = 0x0800, 0x86DD, 0x0806, 0x8100
ICMP, TCP, UDP, ICMP6, SCTP, FRAGMENT = 1, 6, 17, 58, 132, 44
FIN, SYN, RST, PSH, ACK = 0x01, 0x02, 0x04, 0x08, 0x10
BROADCAST = "ff:ff:ff:ff:ff:ff"
NONCE = re.compile(rb"STK[0-9a-f]{12}")
"""A mark that a probe carries, so that it is known again wherever it turns up."""

INIT, INIT_ACK, HEARTBEAT, HEARTBEAT_ACK, ABORT, COOKIE_ECHO, COOKIE_ACK = 1, 2, 4, 5, 6, 10, 11


class Frame(NamedTuple):
    """What a frame says, as far as it was read. ``code`` is ICMP's ``type * 256 + code``; ``vlan`` -1 is untagged."""

    ethertype: int = 0
    vlan: int = -1
    source_mac: str = ""
    destination_mac: str = ""
    protocol: int = 0
    source: str = ""
    destination: str = ""
    source_port: int = 0
    port: int = 0
    flags: int = 0
    ttl: int = 0
    fragment: int = 0
    nonce: str = ""
    length: int = 0


# Building, from the inside out


def tcp(source: str, destination: str, sport: int, port: int, *, flags: int = SYN, payload: bytes = b"",
        sequence: int = 1, acknowledge: int = 0) -> bytes:  # fmt: skip
    """Return a TCP segment with its checksum; ``source`` and ``destination`` are the addresses it goes between."""
    header = struct.pack("!HHIIBBHHH", sport, port, sequence, acknowledge, 5 << 4, flags, 65535, 0, 0)
    return _summed(source, destination, TCP, header + payload, 16)


def udp(source: str, destination: str, sport: int, port: int, payload: bytes = b"") -> bytes:
    """Return a UDP datagram with its checksum."""
    header = struct.pack("!HHHH", sport, port, 8 + len(payload), 0)
    return _summed(source, destination, UDP, header + payload, 6)


def icmp(kind: int, code: int, rest: bytes) -> bytes:
    """Return an ICMP message: ``rest`` follows type, code and checksum."""
    message = struct.pack("!BBH", kind, code, 0) + rest
    return message[:2] + struct.pack("!H", checksum(message)) + message[4:]


def icmp6(source: str, destination: str, kind: int, code: int, rest: bytes) -> bytes:
    """Return an ICMPv6 message with its checksum over the addresses."""
    return _summed(source, destination, ICMP6, struct.pack("!BBH", kind, code, 0) + rest, 2)


def echo(source: str, destination: str, ident: int, payload: bytes, *, code: int | None = None) -> bytes:
    """Return an echo request of the addresses' family, or another query of type and code ``code``."""
    six = ":" in destination
    code = (128 if six else 8) * 256 if code is None else code
    rest = struct.pack("!HH", ident & 0xFFFF, 1) + payload
    return icmp6(source, destination, code >> 8, code & 255, rest) if six else icmp(code >> 8, code & 255, rest)


def sctp(sport: int, port: int, tag: int, *chunks: bytes) -> bytes:
    """Return an SCTP packet (RFC 9260) with its CRC32c."""
    packet = struct.pack("!HHII", sport, port, tag, 0) + b"".join(chunks)
    return packet[:8] + struct.pack("<I", crc32c(packet)) + packet[12:]


def chunk(kind: int, value: bytes = b"", flags: int = 0) -> bytes:
    """Return an SCTP chunk, padded to four bytes."""
    return struct.pack("!BBH", kind, flags, 4 + len(value)) + value + bytes(-len(value) % 4)


def sctp_init(tag: int, *parameters: bytes) -> bytes:
    """Return the value of an INIT or INIT-ACK chunk."""
    return struct.pack("!IIHHI", tag, 65535, 1, 1, tag) + b"".join(parameters)


def parameter(kind: int, value: bytes) -> bytes:
    """Return an SCTP parameter, padded to four bytes."""
    return struct.pack("!HH", kind, 4 + len(value)) + value + bytes(-len(value) % 4)


def ip(source: str, destination: str, protocol: int, payload: bytes, *, ttl: int = 64, ident: int = 0,
       offset: int = 0, more: bool = False) -> bytes:  # fmt: skip
    """Return an IP packet of the addresses' family. ``offset`` (bytes) and ``more`` make it a fragment."""
    if ":" in destination:
        return _ip6(source, destination, protocol, payload, ttl, ident, offset, more=more)
    place = offset // 8 | (0x2000 if more else 0)
    ends = packed(source) + packed(destination)
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), ident, place, ttl, protocol, 0) + ends
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + payload


def _ip6(source: str, destination: str, protocol: int, payload: bytes, ttl: int, ident: int, offset: int, *,
         more: bool) -> bytes:  # fmt: skip
    if offset or more:
        payload = struct.pack("!BBHI", protocol, 0, offset | more, ident) + payload
        protocol = FRAGMENT
    head = struct.pack("!IHBB", 6 << 28, len(payload), protocol, ttl)
    return head + packed(source) + packed(destination) + payload


def fragments(packet: bytes, size: int, ident: int = 0x5354) -> list[bytes]:
    """Cut an IP packet without options into fragments of at most ``size`` bytes of payload (a multiple of 8)."""
    frame = parse_ip(packet)
    head = 40 if packet[0] >> 4 == 6 else 20
    payload = packet[head:]
    return [
        ip(
            frame.source, frame.destination, frame.protocol, payload[start : start + size],
            ttl=frame.ttl, ident=ident, offset=start, more=start + size < len(payload),
        )
        for start in range(0, len(payload), size)
    ]  # fmt: skip


def ethernet(source: str, destination: str, payload: bytes, *, ethertype: int = 0, vlan: int | None = None) -> bytes:
    """Return a frame; the ethertype of an IP packet is found out. ``vlan`` adds an 802.1Q tag (0 is a tag too)."""
    kind = ethertype or (IP6 if payload[0] >> 4 == 6 else IP4)
    tag = b"" if vlan is None else struct.pack("!HH", VLAN, vlan)
    return machine(destination) + machine(source) + tag + struct.pack("!H", kind) + payload


def arp(mac: str, address: str, target: str, *, reply_to: str = "") -> bytes:
    """Return an ARP request for ``target``, or an answer to the MAC ``reply_to``: "``address`` is at ``mac``"."""
    operation = 2 if reply_to else 1
    head = struct.pack("!HHBBH", 1, IP4, 6, 4, operation)
    return head + machine(mac) + packed(address) + machine(reply_to or "00:00:00:00:00:00") + packed(target)


def neighbour_advert(mac: str, address: str, destination: str, source: str = "") -> bytes:
    """Return an IPv6 packet that says "``address`` is at ``mac``", solicited and overriding (RFC 4861, 4.4)."""
    rest = struct.pack("!I", 0x60000000) + packed(address) + b"\x02\x01" + machine(mac)
    sender = source or address
    return ip(sender, destination, ICMP6, icmp6(sender, destination, 136, 0, rest), ttl=255)


def unreachable(source: str, destination: str, about: bytes, *, code: int | None = None) -> bytes:
    """Return an IP packet with an ICMP error (port unreachable unless ``code`` says) about the IP packet ``about``."""
    rest = bytes(4) + about[:64]
    if ":" in destination:
        code = 1 * 256 + 4 if code is None else code
        return ip(source, destination, ICMP6, icmp6(source, destination, code >> 8, code & 255, rest))
    code = 3 * 256 + 3 if code is None else code
    return ip(source, destination, ICMP, icmp(code >> 8, code & 255, rest))


# Reading


def parse(frame: bytes) -> Frame:
    """Read a frame; what cannot be read stays empty."""
    kind, at, vlan = int.from_bytes(frame[12:14], "big"), 14, -1
    if kind == VLAN and len(frame) >= 18:
        vlan, kind = (int.from_bytes(frame[at : at + 2], "big") & 0xFFF), int.from_bytes(frame[16:18], "big")
        at = 18
    found = parse_ip(frame[at:]) if kind in (IP4, IP6) else _parse_arp(frame[at:]) if kind == ARP else Frame()
    return found._replace(
        ethertype=kind, vlan=vlan, source_mac=frame[6:12].hex(":"), destination_mac=frame[:6].hex(":"),
        nonce=nonce_in(frame), length=len(frame),
    )  # fmt: skip


def parse_ip(packet: bytes) -> Frame:
    """Read an IP packet."""
    try:
        return _parse_ip6(packet) if packet[0] >> 4 == 6 else _parse_ip4(packet)
    except (struct.error, IndexError, ValueError):
        return Frame(length=len(packet))


def _parse_ip4(packet: bytes) -> Frame:
    head = (packet[0] & 15) * 4
    place = int.from_bytes(packet[6:8], "big")
    return _transport(
        Frame(
            protocol=packet[9], ttl=packet[8], fragment=(place & 0x1FFF) * 8, length=len(packet),
            source=socket.inet_ntop(socket.AF_INET, packet[12:16]),
            destination=socket.inet_ntop(socket.AF_INET, packet[16:20]), nonce=nonce_in(packet),
        ),
        packet[head:],
    )  # fmt: skip


def _parse_ip6(packet: bytes) -> Frame:
    protocol, at, place = packet[6], 40, 0
    while protocol in (0, 43, 60, FRAGMENT):
        if protocol == FRAGMENT:
            place = int.from_bytes(packet[at + 2 : at + 4], "big") & 0xFFF8
        size = 8 if protocol == FRAGMENT else 8 + packet[at + 1] * 8
        protocol, at = packet[at], at + size
    return _transport(
        Frame(
            protocol=protocol, ttl=packet[7], fragment=place, length=len(packet),
            source=socket.inet_ntop(socket.AF_INET6, packet[8:24]),
            destination=socket.inet_ntop(socket.AF_INET6, packet[24:40]), nonce=nonce_in(packet),
        ),
        packet[at:],
    )  # fmt: skip


def _transport(frame: Frame, segment: bytes) -> Frame:
    if frame.fragment or len(segment) < 4:
        return frame
    return transport(frame, segment)


def transport(frame: Frame, segment: bytes) -> Frame:
    """Read what follows an IP header into ``frame``, whose protocol says what it is."""
    first, second = struct.unpack("!HH", segment[:4])
    if frame.protocol in (ICMP, ICMP6):
        ident = int.from_bytes(segment[4:6], "big")
        return frame._replace(port=first, source_port=ident)
    if frame.protocol not in (TCP, UDP, SCTP):
        return frame
    flags = segment[13] if frame.protocol == TCP and len(segment) > 13 else 0
    return frame._replace(source_port=first, port=second, flags=flags)


def _parse_arp(message: bytes) -> Frame:
    if len(message) < 28:
        return Frame()
    return Frame(
        source=socket.inet_ntop(socket.AF_INET, message[14:18]), port=int.from_bytes(message[6:8], "big"),
        destination=socket.inet_ntop(socket.AF_INET, message[24:28]),
    )  # fmt: skip


def nonce_in(data: bytes) -> str:
    """Return the first nonce that these bytes carry, or an empty text."""
    found = NONCE.search(data)
    return found[0].decode() if found else ""


# Small parts


def packed(address: str) -> bytes:
    """Return an address as its 4 or 16 bytes."""
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)


def machine(mac: str) -> bytes:
    """Return a MAC as its six bytes."""
    return bytes.fromhex(mac.replace(":", ""))


def checksum(data: bytes) -> int:
    """Return the Internet checksum (RFC 1071)."""
    data += b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _summed(source: str, destination: str, protocol: int, message: bytes, at: int) -> bytes:
    ends = packed(source) + packed(destination)
    total = checksum(ends + struct.pack("!II", len(message), protocol) + message)
    total = total or (0xFFFF if protocol == UDP else 0)
    return message[:at] + struct.pack("!H", total) + message[at + 2 :]


def _crc_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
        table.append(crc)
    return tuple(table)


_CRC = _crc_table()


def crc32c(data: bytes) -> int:
    """Return the Castagnoli CRC that SCTP uses (RFC 9260, appendix A)."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _CRC[(crc ^ byte) & 255]
    return crc ^ 0xFFFFFFFF
