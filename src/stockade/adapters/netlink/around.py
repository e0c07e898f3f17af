"""This network namespace as its kernel has it: links, ways out, and whom it meets on its links."""

import contextlib
import errno
import os
import socket
import struct
from collections.abc import Iterator

from stockade.adapters.netlink import wire
from stockade.adapters.netlink.values import LinksListed
from stockade.adapters.netlink.watch import LARGEST, list_links
from stockade.adapters.netlink.wire import Message
from stockade.core.model.census import Around, Interface, Neighbour, Route
from stockade.core.model.ids import Address
from stockade.errors import StockadeError

MAIN = 254
"""The routing table that counts where no rule says otherwise (rt_tables(5))."""


def around(links: LinksListed | None = None) -> Around:
    """Look once. Blocks for some milliseconds; ``StockadeError`` where the kernel cannot be asked.

    ``links`` are those of this namespace where somebody follows them: hundreds take as long as all else together.
    """
    links = links or list_links()
    names = {each.index: each.name for each in links.links}
    return Around(tuple(_interfaces(links, names)), tuple(sorted(_routes(names))), tuple(sorted(_neighbours(names))))


def _interfaces(links: LinksListed, names: dict[int, str]) -> Iterator[Interface]:
    addresses = {each.index: each.addresses for each in links.addresses}
    for each in sorted(links.links, key=lambda link: link.name):
        master, own = names.get(each.master, ""), addresses.get(each.index, ())
        yield Interface(each.name, each.kind, each.mac, each.running or each.loopback, own, master)


def _routes(names: dict[int, str]) -> Iterator[Route]:
    for family in (socket.AF_INET, socket.AF_INET6):
        for message in _dump(wire.GETROUTE, struct.pack("=BxxxxxxxI", family, 0)):
            for to, via, index, metric in wire.routes(message.body, MAIN):
                yield Route(to, via, names.get(index, ""), metric)


def _neighbours(names: dict[int, str]) -> Iterator[Neighbour]:
    """Join what ARP and neighbour discovery found, by link address, with the ports behind which bridges heard it."""
    ports: dict[tuple[int, str], int] = {}
    for message in _dump(wire.GETNEIGH, struct.pack("=BxxxiHBB", socket.AF_BRIDGE, 0, 0, 0, 0)):
        if found := wire.heard_behind(message.body):
            port, master, mac = found
            ports[master, mac] = port
    addresses: dict[tuple[int, str], set[str]] = {key: set() for key in ports}
    for message in _dump(wire.GETNEIGH, struct.pack("=BxxxiHBB", 0, 0, 0, 0, 0)):
        if met := wire.neighbour(message.body):
            index, mac, address = met
            addresses.setdefault((index, mac), set()).add(address)
    for (index, mac), met_there in addresses.items():
        behind = names.get(ports.get((index, mac), 0), "")
        yield Neighbour(names.get(index, ""), mac, behind, tuple(sorted(map(Address, met_there))))


def _dump(kind: int, body: bytes) -> list[Message]:
    """Ask for all of a kind; again where it changed meanwhile."""
    with contextlib.closing(socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)) as asked:
        for sequence in range(1, 100):
            asked.send(wire.request(kind, sequence, body))
            if (found := _answer(asked, sequence)) is not None:
                return found
    raise StockadeError("neighbours and routes change faster than they can be listed", remedy="try again")


def _answer(asked: socket.socket, sequence: int) -> list[Message] | None:
    found: list[Message] = []
    whole = True
    while True:
        for message in wire.messages(asked.recv(LARGEST)):
            if message.sequence != sequence:
                continue
            whole = whole and not message.flags & wire.INTERRUPTED
            if message.type == wire.DONE:
                return found if whole else None
            if message.type == wire.ERROR:
                code = wire.error(message.body)
                if code == errno.EOPNOTSUPP:  # no bridge, or no such family, in this kernel
                    return []
                raise StockadeError(f"the kernel does not list neighbours and routes: {os.strerror(code)}")
            found.append(message)
