"""Links and addresses as rtnetlink lists them, here or in another network namespace."""

import ctypes
import ipaddress
import os
import socket
import struct
import threading
from collections.abc import Iterator

import msgspec

RTM_GETLINK, RTM_NEWLINK = 18, 16
RTM_GETADDR, RTM_NEWADDR = 22, 20
NLM_F_REQUEST, NLM_F_DUMP = 0x1, 0x300
NLM_F_DUMP_INTR = 0x10
NLMSG_ERROR, NLMSG_DONE = 2, 3
IFLA_ADDRESS, IFLA_IFNAME, IFLA_LINK, IFLA_MASTER, IFLA_LINKINFO, IFLA_LINK_NETNSID = 1, 3, 5, 10, 18, 37
IFLA_INFO_KIND = 1
IFA_ADDRESS, IFA_LOCAL = 1, 2
NESTED = 0x3FFF
CLONE_NEWNET = 0x40000000
TRIES = 5
HEADER = struct.Struct("=IHHII")
IFINFO = struct.Struct("=BxHiII")
IFADDR = struct.Struct("=BBBBI")


class Link(msgspec.Struct, frozen=True):
    """One interface. ``peer``: the index of a veth's other end, which is in another namespace where ``away``."""

    index: int
    name: str
    mac: str = ""
    kind: str = ""
    master: int = 0
    peer: int = 0
    away: bool = False


class InterfaceAddress(msgspec.Struct, frozen=True):
    """One address of an interface, in canonical text, with its prefix length. ``scope`` 0 is global, 253 the link."""

    index: int
    address: str
    length: int
    scope: int


def open_socket(netns: str | None = None, groups: int = 0) -> socket.socket:
    """Return an rtnetlink socket, of another network namespace by its path. ``OSError`` where that is gone."""
    if netns is None:
        return _bound(groups)
    found: list[socket.socket | OSError] = []

    def within() -> None:
        """A thread may live in another namespace for a moment; the socket stays there."""
        try:
            _enter(netns)
            found.append(_bound(groups))
        except OSError as problem:
            found.append(problem)

    thread = threading.Thread(target=within)
    thread.start()
    thread.join()
    (opened,) = found
    if isinstance(opened, OSError):
        raise opened
    return opened


def links(of: socket.socket) -> tuple[Link, ...]:
    """List the links of a socket's namespace, by index."""
    found = (_link(body) for body in _dump(of, RTM_GETLINK, IFINFO.pack(0, 0, 0, 0, 0)))
    return tuple(sorted(found, key=lambda link: link.index))


def addresses(of: socket.socket) -> tuple[InterfaceAddress, ...]:
    """List the addresses of a socket's namespace."""
    found = (_address(body) for body in _dump(of, RTM_GETADDR, IFADDR.pack(0, 0, 0, 0, 0)))
    return tuple(sorted(found, key=lambda each: (each.index, each.address)))


def ports_of(netns: str) -> dict[str, str]:
    """Return, for a network namespace by its path, the MAC of each link in it → the name of its peer on this host.

    A link whose peer is elsewhere, or that has none, is not in it. ``OSError`` where the namespace is gone.
    """
    with open_socket(netns) as there, open_socket() as here:
        inner = {link.index: link for link in links(there) if link.peer and link.mac}
        outer = {link.index: link for link in links(here)}
    found = {}
    for link in inner.values():
        other = outer.get(link.peer)
        if other is not None and other.peer == link.index and other.away:
            found[link.mac] = other.name
    return found


def _bound(groups: int) -> socket.socket:
    opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    opened.bind((0, groups))
    return opened


def _enter(netns: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = os.open(netns, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if libc.setns(descriptor, CLONE_NEWNET):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), netns)
    finally:
        os.close(descriptor)


def _dump(of: socket.socket, kind: int, body: bytes) -> list[bytes]:
    """Ask for a whole listing; once more where something changed meanwhile."""
    for number in range(1, TRIES + 1):
        of.send(HEADER.pack(HEADER.size + len(body), kind, NLM_F_REQUEST | NLM_F_DUMP, number, 0) + body)
        listed, whole = _answers(of, number)
        if whole:
            return listed
    return listed


def _answers(of: socket.socket, number: int) -> tuple[list[bytes], bool]:
    found: list[bytes] = []
    whole = True
    while True:
        data = of.recv(1 << 18)
        while len(data) >= HEADER.size:
            length, kind, flags, sequence, _ = HEADER.unpack_from(data)
            body, data = data[HEADER.size : length], data[(length + 3) & ~3 :]
            if sequence != number:
                continue
            whole = whole and not flags & NLM_F_DUMP_INTR
            if kind == NLMSG_DONE:
                return found, whole
            if kind == NLMSG_ERROR:
                code = -struct.unpack_from("=i", body)[0]
                raise OSError(code, os.strerror(code))
            found.append(body)


def _link(body: bytes) -> Link:
    index = IFINFO.unpack_from(body)[2]
    told = dict(_attributes(body[IFINFO.size :]))
    info = dict(_attributes(told.get(IFLA_LINKINFO, b"")))
    return Link(
        index=index,
        name=_text(told.get(IFLA_IFNAME, b"")),
        mac=told.get(IFLA_ADDRESS, b"").hex(":"),
        kind=_text(info.get(IFLA_INFO_KIND, b"")),
        master=_number(told.get(IFLA_MASTER)),
        peer=_number(told.get(IFLA_LINK)),
        away=IFLA_LINK_NETNSID in told,
    )


def _address(body: bytes) -> InterfaceAddress:
    _, length, _, scope, index = IFADDR.unpack_from(body)
    told = dict(_attributes(body[IFADDR.size :]))
    packed = told.get(IFA_LOCAL) or told.get(IFA_ADDRESS, b"")
    return InterfaceAddress(index, str(ipaddress.ip_address(packed)), length, scope)


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= 4:
        length, kind = struct.unpack_from("=HH", data)
        if length < 4:
            return
        yield kind & NESTED, data[4:length]
        data = data[(length + 3) & ~3 :]


def _text(packed: bytes) -> str:
    return packed.rstrip(b"\0").decode(errors="replace")


def _number(packed: bytes | None) -> int:
    return int(struct.unpack("=I", packed)[0]) if packed else 0
