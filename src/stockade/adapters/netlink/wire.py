"""Route netlink as bytes (rtnetlink(7)): requests to send, messages to read. Pure."""

import socket
import struct
from collections.abc import Iterator

import msgspec

from stockade.adapters.netlink.values import NO_NAMESPACE, LinkSeen

NEWLINK, DELLINK, GETLINK, NEWADDR, DELADDR, GETADDR, NEWNSID, GETNSID = 16, 17, 18, 20, 21, 22, 88, 90
ERROR, DONE = 2, 3
REQUEST, DUMP, INTERRUPTED = 0x1, 0x300, 0x10
GROUPS = 0x1 | 0x10 | 0x100
"""Multicast groups: links, IPv4 addresses, IPv6 addresses."""

_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_LINK, _IFLA_MASTER, _IFLA_LINKINFO, _IFLA_NETNSID = 1, 3, 5, 10, 18, 37
_INFO_KIND = 1
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_NETNSA_NSID, _NETNSA_FD = 1, 3
_LOOPBACK, _RUNNING = 0x8, 0x40
_ETHERNET = 1


class Message(msgspec.Struct, frozen=True):
    """One message: its type, flags, sequence number (0: nobody asked for it) and what follows its header."""

    type: int
    flags: int
    sequence: int
    body: bytes


def messages(data: bytes) -> Iterator[Message]:
    """Yield the messages of a datagram."""
    at = 0
    while at + 16 <= len(data):
        length, kind, flags, sequence, _ = struct.unpack_from("=IHHII", data, at)
        if length < 16:
            return
        yield Message(kind, flags, sequence, data[at + 16 : at + length])
        at += (length + 3) & ~3


def dump(kind: int, sequence: int) -> bytes:
    """Return the request for all links, or all addresses."""
    body = bytes(16) if kind == GETLINK else bytes(8)
    return struct.pack("=IHHII", 16 + len(body), kind, REQUEST | DUMP, sequence, 0) + body


def ask_link(index: int) -> bytes:
    """Return the question for one link. Its answer looks like a change that nobody asked for."""
    body = struct.pack("=BxHiII", 0, 0, index, 0, 0)
    return struct.pack("=IHHII", 16 + len(body), GETLINK, REQUEST, 0, 0) + body


def ask_namespace(fd: int, sequence: int) -> bytes:
    """Return the question by which number this namespace knows the one that ``fd`` is open on."""
    body = bytes(4) + struct.pack("=HHI", 8, _NETNSA_FD, fd)
    return struct.pack("=IHHII", 16 + len(body), GETNSID, REQUEST, sequence, 0) + body


def namespace_number(body: bytes) -> int:
    """Read the answer to ``ask_namespace``."""
    value = dict(attributes(body, 4)).get(_NETNSA_NSID)
    return int(struct.unpack("=i", value)[0]) if value else NO_NAMESPACE


def error(body: bytes) -> int:
    """Return the errno of an error message; 0 is an acknowledgement."""
    return -int(struct.unpack_from("=i", body)[0])


def link(body: bytes) -> LinkSeen | None:
    """Read a link message; None where it is a bridge's word about its port, which is no link of its own."""
    family, kind, index, flags = struct.unpack_from("=BxHiI", body)
    if family == socket.AF_BRIDGE:
        return None
    found = dict(attributes(body, 16))
    return LinkSeen(
        index=index,
        name=_text(found.get(_IFLA_IFNAME)),
        kind=_text(dict(attributes(found.get(_IFLA_LINKINFO, b""), 0)).get(_INFO_KIND)),
        mac=found.get(_IFLA_ADDRESS, b"").hex(":") if kind == _ETHERNET else "",
        master=_number(found.get(_IFLA_MASTER), 0),
        peer_index=_number(found.get(_IFLA_LINK), 0),
        netnsid=_number(found.get(_IFLA_NETNSID), NO_NAMESPACE),
        running=bool(flags & _RUNNING),
        loopback=bool(flags & _LOOPBACK),
    )


def address(body: bytes) -> tuple[int, str] | None:
    """Read an address message: (link index, address with prefix length); None for a family that is not IP's."""
    family, length, _, _, index = struct.unpack_from("=BBBBI", body)
    if family not in (socket.AF_INET, socket.AF_INET6):
        return None
    found = dict(attributes(body, 8))
    # On a point-to-point link IFA_ADDRESS is the other end's; IFA_LOCAL, where there is one, is always our own.
    packed = found.get(_IFA_LOCAL) or found.get(_IFA_ADDRESS)
    return (index, f"{socket.inet_ntop(family, packed)}/{length}") if packed else None


def attributes(data: bytes, at: int) -> Iterator[tuple[int, bytes]]:
    """Yield (kind, content) of the attributes that begin at ``at``."""
    while at + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, at)
        if length < 4:
            return
        yield kind & 0x3FFF, data[at + 4 : at + length]
        at += (length + 3) & ~3


def _text(value: bytes | None) -> str:
    return value.rstrip(b"\0").decode(errors="replace") if value else ""


def _number(value: bytes | None, absent: int) -> int:
    return int(struct.unpack("=i", value)[0]) if value else absent
