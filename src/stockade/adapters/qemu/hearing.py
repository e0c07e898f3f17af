"""What a tap says of who is behind it: ARP, neighbour discovery and DHCP answers, picked out by the kernel.

A packet socket hears a frame before any table has judged it, so that a held machine's first question is heard too.
"""

import ctypes
import ipaddress
import socket
import struct

import msgspec

from stockade.core.model.ids import Address

EVERYTHING = 0x0003
ATTACH_FILTER = 26
OUTGOING = 4
LARGEST = 2048
ROOM = 1 << 18
"""Bytes of frames that may wait for us; what does not fit is lost, and said again by whoever needs an answer."""

ARP, IP4, IP6 = 0x0806, 0x0800, 0x86DD
SOLICIT, ADVERT = 135, 136
HALF, BYTE, HALF_AT_X, HEADER_TO_X, EQUAL, GIVE = 0x28, 0x30, 0x48, 0xB1, 0x15, 0x06
FILTER = (
    (HALF, 0, 0, 12),
    (EQUAL, 12, 0, ARP),
    (EQUAL, 0, 5, IP6),
    (BYTE, 0, 0, 20),
    (EQUAL, 0, 10, 58),
    (BYTE, 0, 0, 54),
    (EQUAL, 7, 0, SOLICIT),
    (EQUAL, 6, 7, ADVERT),
    (EQUAL, 0, 6, IP4),
    (BYTE, 0, 0, 23),
    (EQUAL, 0, 4, 17),
    (HEADER_TO_X, 0, 0, 14),
    (HALF_AT_X, 0, 0, 14),
    (EQUAL, 0, 1, 67),
    (GIVE, 0, 0, LARGEST),
    (GIVE, 0, 0, 0),
)
"""Classic BPF (``struct sock_filter``): ARP, neighbour solicitations and advertisements, what a DHCP server says."""

DHCP_COOKIE, DHCP_KIND, DHCP_ACK = bytes((99, 130, 83, 99)), 53, 5


class Claim(msgspec.Struct, frozen=True):
    """A frame's word that an address is a MAC's. ``leased``: a DHCP server says so, not the machine itself."""

    mac: str
    address: Address
    leased: bool = False


def listen(port: str) -> socket.socket:
    """Open a socket that hears a tap. ``OSError`` where it is gone."""
    found = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
    try:
        program = b"".join(struct.pack("=HBBI", *each) for each in FILTER)
        held = ctypes.create_string_buffer(program, len(program))
        found.setsockopt(socket.SOL_SOCKET, ATTACH_FILTER, struct.pack("@HP", len(FILTER), ctypes.addressof(held)))
        found.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, ROOM)
        found.bind((port, EVERYTHING))
    except OSError:
        found.close()
        raise
    return found


def hear(ear: socket.socket) -> Claim | None:
    """Return what the next frame claims, if anything. ``BlockingIOError`` where there is none."""
    frame, sender = ear.recvfrom(LARGEST)
    return claim(frame, outgoing=sender[2] == OUTGOING)


def claim(frame: bytes, *, outgoing: bool) -> Claim | None:
    """Read a frame: from the machine, or (``outgoing``) to it. Only a DHCP server's answer to it tells anything."""
    if len(frame) < 14:
        return None
    kind = struct.unpack_from("!H", frame, 12)[0]
    if outgoing:
        return _leased(frame[14:]) if kind == IP4 else None
    source = frame[6:12]
    if kind == ARP:
        return _arp(source, frame[14:])
    return _neighbour(source, frame[14:]) if kind == IP6 else None


def _arp(source: bytes, body: bytes) -> Claim | None:
    """RFC 826; a probe (RFC 5227) asks from 0.0.0.0 and claims nothing yet."""
    if len(body) < 28 or body[:6] != b"\x00\x01\x08\x00\x06\x04" or body[8:14] != source:
        return None
    return _claimed(source, body[14:18])


def _neighbour(source: bytes, body: bytes) -> Claim | None:
    """RFC 4861, 4.3 and 4.4: who asks from an address, asks whether it is free (RFC 4862, 5.4), or says it has it."""
    if len(body) < 64 or body[6] != 58 or body[7] != 255:
        return None
    sender, target = body[8:24], body[48:64]
    if body[40] == ADVERT or not any(sender):
        return _claimed(source, target)
    return _claimed(source, sender)


def _leased(body: bytes) -> Claim | None:
    """RFC 2131: the address that a server's ACK gives to a MAC."""
    if len(body) < 28 or body[9] != 17:
        return None
    message = body[4 * (body[0] & 0xF) + 8 :]
    if len(message) < 240 or message[0] != 2 or message[1:3] != b"\x01\x06" or message[236:240] != DHCP_COOKIE:
        return None
    if _kind(message[240:]) != DHCP_ACK:
        return None
    found = _claimed(message[28:34], message[16:20])
    return msgspec.structs.replace(found, leased=True) if found else None


def _kind(options: bytes) -> int:
    """Return the message's type (option 53); 0 where it has none."""
    at = 0
    while at + 2 < len(options) and options[at] != 255:
        if options[at] == 0:
            at += 1
        elif options[at] == DHCP_KIND:
            return options[at + 2]
        else:
            at += 2 + options[at + 1]
    return 0


def _claimed(mac: bytes, packed: bytes) -> Claim | None:
    address = ipaddress.ip_address(packed)
    if address.is_unspecified or address.is_multicast or address.is_loopback or address in BROADCAST:
        return None
    return Claim(mac.hex(":"), Address(str(address)))


BROADCAST = (ipaddress.ip_address("255.255.255.255"),)
