"""Links, addresses and network namespaces, as the kernel tells them; and what a host is, as far as it can be seen.

Reads only: it never changes a link, an address or a setting. Decodes route netlink itself: a burst of some hundred
links is decoded in milliseconds, and an agent need not load a library for it.
"""

from stockade.adapters.netlink.around import around
from stockade.adapters.netlink.facts import HostFacts, host_facts
from stockade.adapters.netlink.host import HostWatch, describe
from stockade.adapters.netlink.inside import endpoints_of, ports_of
from stockade.adapters.netlink.namespace import Namespace, NamespaceGone
from stockade.adapters.netlink.places import LinkPlaces, LinkTaps, stirs
from stockade.adapters.netlink.values import AddressesSeen, LinkEvent, LinkGone, LinkSeen, LinksListed
from stockade.adapters.netlink.watch import LinkWatch, list_links

__all__ = [
    "AddressesSeen",
    "HostFacts",
    "HostWatch",
    "LinkEvent",
    "LinkGone",
    "LinkPlaces",
    "LinkSeen",
    "LinkTaps",
    "LinkWatch",
    "LinksListed",
    "Namespace",
    "NamespaceGone",
    "around",
    "describe",
    "endpoints_of",
    "host_facts",
    "list_links",
    "ports_of",
    "stirs",
]
