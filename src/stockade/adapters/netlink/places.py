"""From the path of a network namespace to its place on this host, and to word of it: implements ``seams.places``."""

import socket
import struct
from collections.abc import Iterable

from msgspec.structs import replace

from stockade.adapters.netlink.inside import endpoints_and_beyond
from stockade.adapters.netlink.namespace import Namespace
from stockade.adapters.netlink.values import LinkSeen, LinksListed
from stockade.adapters.netlink.watch import list_links, stirring
from stockade.core.compile.addresses import link_local
from stockade.core.model.ids import Address, HostId, Realm
from stockade.core.model.inventory import Attachment, Endpoint
from stockade.errors import StockadeError
from stockade.seams.places import Place, Tap

SO_NETNS_COOKIE = 71
"""Kernel 5.14 and later; Python does not name it."""


class LinkPlaces:
    """Implements ``seams.places.Places`` for one host: realms are named as container engines' bridges are."""

    def __init__(self, host: HostId) -> None:
        self._host = host

    def __call__(self, path: str) -> Place:
        """Look into a namespace. ``OSError`` where it is gone, is the host's own, or cannot be looked into now."""
        try:
            with Namespace.at(path) as namespace:
                if namespace.inode == _own():
                    raise OSError(f"{path} is the host's own network namespace")
                number, within = namespace.call(lambda: (cookie(), list_links()))
                endpoints, beyond = endpoints_and_beyond(namespace, within)
                return Place(f"netns:{number}", tuple(map(self._placed, endpoints)), beyond)
        except StockadeError as problem:
            raise OSError(str(problem)) from problem

    def _placed(self, endpoint: Endpoint) -> Endpoint:
        where = endpoint.bridge if endpoint.attachment is Attachment.BRIDGED else endpoint.attachment.value
        return replace(
            endpoint,
            realm=Realm(f"{self._host}/{where}"),
            addresses=_given(endpoint.mac, endpoint.addresses),
        )


def stirs(path: str) -> int:
    """Implements ``seams.places.Stirs``."""
    try:
        with Namespace.at(path) as namespace:
            return namespace.call(stirring).detach()
    except StockadeError as problem:
        raise OSError(str(problem)) from problem


class LinkTaps:
    """The taps of a host, by name: every link that a process may be behind, be it on a bridge or alone."""

    def __init__(self, host: HostId) -> None:
        self._host = host

    def __call__(self) -> dict[str, Tap]:
        """Look at this namespace's links. ``OSError`` where they cannot be read."""
        links = list_links()
        return {each.name: self._tap(each, links) for each in links.links if each.kind == "tun"}

    def _tap(self, link: LinkSeen, links: LinksListed) -> Tap:
        bridge = links.link(link.master)
        attachment = Attachment.BRIDGED if bridge else Attachment.ROUTED
        realm = Realm(f"{self._host}/{bridge.name if bridge else attachment.value}")
        endpoint = Endpoint(attachment, (), link.name, bridge.name if bridge else "", realm=realm)
        return Tap(endpoint, links.of(link.master or link.index).subnets)


def cookie() -> int:
    """Return what tells the network namespace of this thread from every other since the machine started."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as asked:
        (number,) = struct.unpack("=Q", asked.getsockopt(socket.SOL_SOCKET, SO_NETNS_COOKIE, 8))
    return int(number)


def _own() -> int:
    with Namespace.at("/proc/thread-self/ns/net") as mine:
        return mine.inode


def _given(mac: str, addresses: Iterable[Address]) -> tuple[Address, ...]:
    """Leave out the address that a link makes of its MAC by itself: every endpoint is known to have it."""
    own = link_local(mac) if mac else None
    return tuple(each for each in addresses if each != own)
