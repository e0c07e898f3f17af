"""From a container's namespace to its places on the host: which ports are its own, with which MACs and addresses."""

from collections.abc import Iterable, Iterator, Mapping

from stockade.adapters.netlink.namespace import Namespace
from stockade.adapters.netlink.values import NO_NAMESPACE, LinkSeen, LinksListed
from stockade.adapters.netlink.watch import list_links, look_up, namespace_number
from stockade.core.model.ids import Address, Realm
from stockade.core.model.inventory import Attachment, Endpoint

PASSING_BY = ("macvlan", "ipvlan", "macvtap", "ipvtap")
"""Kinds of links whose traffic never crosses the host's stack."""


def ports_of(namespace: Namespace, links: LinksListed, host: Namespace | None = None) -> tuple[LinkSeen, ...]:
    """Return those of the host's links whose other end is in a namespace."""
    number = namespace_number(namespace, host)
    if number == NO_NAMESPACE:
        return ()
    return tuple(each for each in links.links if each.netnsid == number and each.kind == "veth")


def endpoints_of(
    namespace: Namespace,
    links: LinksListed,
    *,
    host: Namespace | None = None,
    realms: Mapping[str, Realm] | None = None,
) -> tuple[Endpoint, ...]:
    """Return the endpoints of a container on this host, by port, with the MACs and addresses that it has inside.

    ``links`` are the host's; ``realms`` says which bridge is which realm. A link that no port of the host belongs to
    is opaque: its traffic cannot be judged here.
    """
    ports = {each.index: each for each in ports_of(namespace, links, host)}
    return _sorted(_endpoints(list_links(namespace), ports, links, realms or {}))


def endpoints_and_beyond(namespace: Namespace, within: LinksListed) -> tuple[tuple[Endpoint, ...], int]:
    """Return the endpoints of a namespace on this host, and how many links it has that do not end here.

    ``within`` are its links. Asks for the links that it takes alone: as quick on a host of many as on one of few.
    """
    others = {each.peer_index for each in within.links if each.kind == "veth" and each.peer_index}
    links = look_up(others) if others else LinksListed()
    ports = {each.index: each for each in (ports_of(namespace, links) if others else ())}
    links = LinksListed((*links.links, *look_up({each.master for each in ports.values() if each.master}).links))
    found = _sorted(_endpoints(within, ports, links, {}))
    here = sum(each.attachment is not Attachment.OPAQUE for each in found)
    return found, sum(map(_may_carry, within.links)) - here


def _may_carry(link: LinkSeen) -> bool:
    """Tell whether a link may carry packets elsewhere. Others lie in every namespace, down, for tunnels to come."""
    return not link.loopback and (link.running or link.kind == "veth")


def _sorted(endpoints: Iterable[Endpoint]) -> tuple[Endpoint, ...]:
    return tuple(sorted(endpoints, key=lambda each: (each.port, each.mac)))


def _endpoints(
    within: LinksListed, ports: Mapping[int, LinkSeen], links: LinksListed, realms: Mapping[str, Realm]
) -> Iterator[Endpoint]:
    for link in within.links:
        port = ports.get(link.peer_index)
        addresses = tuple(sorted(Address(each) for each in within.of(link.index).bare))
        if link.kind == "veth" and port is not None and port.peer_index == link.index:
            bridge = links.link(port.master)
            name = bridge.name if bridge and bridge.kind == "bridge" else ""
            attachment = Attachment.BRIDGED if name else Attachment.ROUTED
            yield Endpoint(attachment, addresses, port.name, name, link.mac, realms.get(name, Realm("")))
        elif not link.loopback and (link.kind in PASSING_BY or not link.kind):
            yield Endpoint(Attachment.OPAQUE, addresses, mac=link.mac)
