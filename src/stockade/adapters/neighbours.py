"""Answers about neighbours, sent by a packet socket out of the host's end of an endpoint's link.

ARP answers (RFC 826) and solicited neighbour advertisements (RFC 4861, 4.4). Sends what it is told, decides nothing.
"""

import fcntl
import ipaddress
import socket
import struct
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

from stockade.core.model.ids import Address
from stockade.seams.neighbours import Introduction

SIOCGIFHWADDR = 0x8927
ETHERTYPE_ARP, ETHERTYPE_IP6 = 0x0806, 0x86DD
ARP_ANSWER = 2
ICMP6, ADVERTISEMENT, TARGET_LINK_ADDRESS = 58, 136, 2
ROUTER, SOLICITED, OVERRIDING = 0x8000_0000, 0x4000_0000, 0x2000_0000

Said = ipaddress.IPv4Address | ipaddress.IPv6Address


class LinkNeighbours:
    """Implements ``seams.neighbours.Neighbours`` in the network namespace in which it is first used: its packet socket
    stays open, as the kernel takes some 20 ms to close one. Needs ``CAP_NET_RAW``.
    """

    @cached_property
    def _link(self) -> socket.socket:
        return socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)

    def introduce(self, introduction: Introduction) -> int:
        """Tell an endpoint of its neighbours, each in a frame; return how many frames were sent."""
        told = 0
        to_mac, askers = _packed(introduction.mac), _askers(introduction.addresses)
        own = _link_address(self._link, introduction.bridge)
        routes = _forwards(introduction.bridge)
        for address, mac in introduction.neighbours:
            said = ipaddress.ip_address(address)
            if asker := askers.get(said.version):
                at = _packed(mac) if mac else own
                self._link.sendto(_answer(to_mac, asker, at, said, router=routes and not mac), (introduction.port, 0))
                told += 1
        return told


def _askers(addresses: Iterable[Address]) -> dict[int, bytes]:
    """Return the address of each family that an endpoint asks from: its first that is not link-local, if it has one."""
    by_use = sorted(map(ipaddress.ip_address, addresses), key=lambda each: each.is_link_local)
    return {each.version: each.packed for each in reversed(by_use)}


def _answer(to_mac: bytes, to: bytes, mac: bytes, said: Said, *, router: bool) -> bytes:
    """Return the frame that says "``said`` is at ``mac``"."""
    if said.version == 4:
        return to_mac + mac + struct.pack("!H", ETHERTYPE_ARP) + _arp(mac, said.packed, to_mac, to)
    return to_mac + mac + struct.pack("!H", ETHERTYPE_IP6) + _advertisement(mac, said.packed, to, router=router)


def _arp(mac: bytes, address: bytes, to_mac: bytes, to: bytes) -> bytes:
    return struct.pack("!HHBBH", 1, 0x0800, 6, 4, ARP_ANSWER) + mac + address + to_mac + to


def _advertisement(mac: bytes, address: bytes, to: bytes, *, router: bool) -> bytes:
    flags = SOLICITED | OVERRIDING | (ROUTER if router else 0)
    rest = struct.pack("!I", flags) + address + bytes((TARGET_LINK_ADDRESS, 1)) + mac
    pseudo = address + to + struct.pack("!II", 4 + len(rest), ICMP6)
    message = struct.pack("!BBH", ADVERTISEMENT, 0, _checksum(pseudo + bytes((ADVERTISEMENT, 0, 0, 0)) + rest)) + rest
    return struct.pack("!IHBB", 6 << 28, len(message), ICMP6, 255) + address + to + message


def _checksum(data: bytes) -> int:
    """Return the Internet checksum (RFC 1071) of an even number of bytes."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _link_address(link: socket.socket, name: str) -> bytes:
    told = fcntl.ioctl(link.fileno(), SIOCGIFHWADDR, struct.pack("16s16x", name.encode()))
    return told[18:24]


def _forwards(bridge: str) -> bool:
    """Tell whether the host is a router on a bridge: its own answers say so, and a kernel heeds that it changes."""
    try:
        return Path(f"/proc/sys/net/ipv6/conf/{bridge}/forwarding").read_text(encoding="ascii").strip() == "1"
    except OSError:
        return False


def _packed(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))
