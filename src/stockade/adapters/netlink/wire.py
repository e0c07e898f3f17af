"""Route netlink as bytes (rtnetlink(7)): requests to send, messages to read. Pure."""

import socket
import struct
from collections.abc import Iterator

import msgspec

from stockade.adapters.netlink.values import NO_NAMESPACE, LinkSeen

NEWLINK, DELLINK, GETLINK, NEWADDR, DELADDR, GETADDR, NEWNSID, GETNSID = 16, 17, 18, 20, 21, 22, 88, 90
GETROUTE, GETNEIGH = 26, 30
ERROR, DONE = 2, 3
REQUEST, DUMP, INTERRUPTED = 0x1, 0x300, 0x10
GROUPS = 0x1 | 0x10 | 0x100
"""Multicast groups: links, IPv4 addresses, IPv6 addresses."""

_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_LINK, _IFLA_MASTER, _IFLA_LINKINFO, _IFLA_NETNSID = 1, 3, 5, 10, 18, 37
_INFO_KIND = 1
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_NETNSA_NSID, _NETNSA_FD = 1, 3
_NDA_DST, _NDA_LLADDR, _NDA_MASTER = 1, 2, 9
_NUD_MEANT = 0x02 | 0x04 | 0x08 | 0x10 | 0x80
"""States of a neighbour that answered once, or was set by hand: reachable, stale, delay, probe, permanent."""
_NUD_PERMANENT, _NTF_SELF = 0x80, 0x02
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PRIORITY, _RTA_MULTIPATH, _RTA_TABLE, _RTA_VIA = 1, 4, 5, 6, 9, 15, 18
_UNICAST = 1
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


def request(kind: int, sequence: int, body: bytes) -> bytes:
    """Return the request for all of a kind; ``body`` says which."""
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


def neighbour(body: bytes) -> tuple[int, str, str] | None:
    """Read a neighbour message: (link index, MAC, address); None where nobody answers there."""
    family, index, state = struct.unpack_from("=BxxxiH", body)
    found = dict(attributes(body, 12))
    mac, packed = found.get(_NDA_LLADDR, b""), found.get(_NDA_DST)
    if family not in (socket.AF_INET, socket.AF_INET6) or not packed or len(mac) != 6 or not state & _NUD_MEANT:
        return None
    return index, mac.hex(":"), socket.inet_ntop(family, packed)


def heard_behind(body: bytes) -> tuple[int, int, str] | None:
    """Read what a bridge has learned: (index of the port, of the bridge, MAC); None of what it has by itself."""
    _, index, state, flags = struct.unpack_from("=BxxxiHB", body)
    found = dict(attributes(body, 12))
    mac, master = found.get(_NDA_LLADDR, b""), _number(found.get(_NDA_MASTER), 0)
    if state & _NUD_PERMANENT or flags & _NTF_SELF or not master or len(mac) != 6:
        return None
    return index, master, mac.hex(":")


def routes(body: bytes, table: int) -> Iterator[tuple[str, str, int, int]]:
    """Read a route message: (prefix or ``default``, next hop, link index, metric), one each way, of one table."""
    family, length, _, _, short, _, _, kind = struct.unpack_from("=8B", body)
    found = dict(attributes(body, 12))
    if kind != _UNICAST or _number(found.get(_RTA_TABLE), short) != table:
        return
    to = f"{socket.inet_ntop(family, found[_RTA_DST])}/{length}" if _RTA_DST in found else "default"
    metric = _number(found.get(_RTA_PRIORITY), 0)
    for ways, index in _ways(found):
        yield to, _hop(family, ways), index, metric


def _ways(found: dict[int, bytes]) -> Iterator[tuple[dict[int, bytes], int]]:
    if _RTA_MULTIPATH not in found:
        yield found, _number(found.get(_RTA_OIF), 0)
        return
    at, data = 0, found[_RTA_MULTIPATH]
    while at + 8 <= len(data):
        length, index = struct.unpack_from("=Hxxi", data, at)
        if length < 8:
            return
        yield dict(attributes(data[: at + length], at + 8)), index
        at += (length + 3) & ~3


def _hop(family: int, found: dict[int, bytes]) -> str:
    if _RTA_GATEWAY in found:
        return socket.inet_ntop(family, found[_RTA_GATEWAY])
    if _RTA_VIA in found:
        (other,) = struct.unpack_from("=H", found[_RTA_VIA])
        return socket.inet_ntop(other, found[_RTA_VIA][2:])
    return ""


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
