"""What neighbours say on a link, as bytes: ARP (RFC 826, RFC 5227), neighbour discovery (RFC 4861, 4.4). Pure."""

import ipaddress
import struct

ETHERTYPE_ARP, ETHERTYPE_IP6 = 0x0806, 0x86DD
ARP_REQUEST, ARP_ANSWER = 1, 2
ICMP6, ADVERTISEMENT, TARGET_LINK_ADDRESS = 58, 136, 2
ROUTER, SOLICITED, OVERRIDING = 0x8000_0000, 0x4000_0000, 0x2000_0000
EVERYBODY, NOBODY = b"\xff" * 6, bytes(6)
ALL_NODES, ALL_NODES_MAC = ipaddress.ip_address("ff02::1").packed, bytes.fromhex("333300000001")

Said = ipaddress.IPv4Address | ipaddress.IPv6Address


def answer(to_mac: bytes, to: bytes, mac: bytes, said: Said, *, router: bool) -> bytes:
    """Return the frame that says "``said`` is at ``mac``" to whoever asked. ``router``: who has it is one (IPv6)."""
    if said.version == 4:
        return to_mac + mac + _arp(ARP_ANSWER, mac, said.packed, to_mac, to)
    flags = SOLICITED | OVERRIDING | (ROUTER if router else 0)
    return to_mac + mac + _advertisement(flags, mac, said.packed, to)


def announcement(mac: bytes, said: Said) -> bytes:
    """Return the frame that says so to everybody on the link. Who does not know the address takes no note of it."""
    if said.version == 4:
        return EVERYBODY + mac + _arp(ARP_REQUEST, mac, said.packed, NOBODY, said.packed)
    return ALL_NODES_MAC + mac + _advertisement(OVERRIDING, mac, said.packed, ALL_NODES)


def packed(mac: str) -> bytes:
    """Return a link address as it is sent."""
    return bytes.fromhex(mac.replace(":", ""))


def _arp(kind: int, mac: bytes, address: bytes, to_mac: bytes, to: bytes) -> bytes:
    return struct.pack("!HHHBBH", ETHERTYPE_ARP, 1, 0x0800, 6, 4, kind) + mac + address + to_mac + to


def _advertisement(flags: int, mac: bytes, address: bytes, to: bytes) -> bytes:
    rest = struct.pack("!I", flags) + address + bytes((TARGET_LINK_ADDRESS, 1)) + mac
    pseudo = address + to + struct.pack("!II", 4 + len(rest), ICMP6)
    message = struct.pack("!BBH", ADVERTISEMENT, 0, _checksum(pseudo + bytes((ADVERTISEMENT, 0, 0, 0)) + rest)) + rest
    return struct.pack("!HIHBB", ETHERTYPE_IP6, 6 << 28, len(message), ICMP6, 255) + address + to + message


def _checksum(data: bytes) -> int:
    """Return the Internet checksum (RFC 1071) of an even number of bytes."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
