"""What is said about neighbours, sent by packet sockets. Sends what it is told, decides nothing."""

import contextlib
import fcntl
import ipaddress
import socket
import struct
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

from stockade.adapters.neighbours.frames import Said, announcement, answer, packed
from stockade.adapters.neighbours.table import move
from stockade.core.model.ids import Address
from stockade.seams.neighbours import Introduction

SIOCGIFHWADDR = 0x8927


class LinkNeighbours:
    """Implements ``seams.neighbours.Neighbours`` in the network namespace in which it is first used: its packet socket
    stays open, as the kernel takes some 20 ms to close one. Needs ``CAP_NET_RAW`` and ``CAP_NET_ADMIN``.
    """

    @cached_property
    def _link(self) -> socket.socket:
        return socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)

    def introduce(self, introduction: Introduction) -> int:
        """Tell an endpoint of its neighbours, each in a frame; return how many frames were sent to it."""
        told = 0
        if introduction.new:
            self._announce(introduction)
        to_mac, askers = packed(introduction.mac), _askers(introduction.addresses)
        own = _link_address(self._link, introduction.bridge)
        routes = _forwards(introduction.bridge)
        for address, mac in introduction.neighbours:
            said = ipaddress.ip_address(address)
            if asker := askers.get(said.version):
                at = packed(mac) if mac else own
                self._link.sendto(answer(to_mac, asker, at, said, router=routes and not mac), (introduction.port, 0))
                told += 1
        return told

    def _announce(self, introduction: Introduction) -> None:
        """Tell everybody on the bridge where the endpoint is, and the host, which never gets what it sends itself."""
        mac = packed(introduction.mac)
        addresses: list[Said] = [ipaddress.ip_address(each) for each in introduction.addresses]
        for each in addresses:
            self._link.sendto(announcement(mac, each), (introduction.bridge, 0))
        with contextlib.suppress(OSError):  # a kernel that does not tell of one neighbour (before 5.0) finds out itself
            move(socket.if_nametoindex(introduction.bridge), [each.packed for each in addresses], mac)


def _askers(addresses: Iterable[Address]) -> dict[int, bytes]:
    """Return the address of each family that an endpoint asks from: its first that is not link-local, if it has one."""
    by_use = sorted(map(ipaddress.ip_address, addresses), key=lambda each: each.is_link_local)
    return {each.version: each.packed for each in reversed(by_use)}


def _link_address(link: socket.socket, name: str) -> bytes:
    told = fcntl.ioctl(link.fileno(), SIOCGIFHWADDR, struct.pack("16s16x", name.encode()))
    return told[18:24]


def _forwards(bridge: str) -> bool:
    """Tell whether the host is a router on a bridge: its own answers say so, and a kernel heeds that it changes."""
    try:
        return Path(f"/proc/sys/net/ipv6/conf/{bridge}/forwarding").read_text(encoding="ascii").strip() == "1"
    except OSError:
        return False
