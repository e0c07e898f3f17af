"""What the kernel says of links and addresses, as values."""

import ipaddress
from functools import cached_property

import msgspec

from stockade.core.model.ids import Address, Prefix

NO_NAMESPACE = -1


class LinkSeen(msgspec.Struct, frozen=True):
    """A link as it is now.

    ``kind`` is the kernel's word (``veth``, ``bridge``, ``macvlan``; empty for hardware and ``lo``). ``master`` is the
    index of its bridge, 0 where it has none. ``peer_index`` is the index of its other end, in the namespace ``netnsid``
    (``NO_NAMESPACE``: this very namespace, or no other end). ``running``: it carries packets.
    """

    index: int
    name: str
    kind: str = ""
    mac: str = ""
    master: int = 0
    peer_index: int = 0
    netnsid: int = NO_NAMESPACE
    running: bool = False
    loopback: bool = False

    @property
    def leads_elsewhere(self) -> bool:
        """Whether its other end is in another namespace: what a container's port on its host looks like."""
        return self.kind == "veth" and self.netnsid != NO_NAMESPACE

    @property
    def half_laid(self) -> bool:
        """Whether both ends are here and it carries nothing: what a container's port looks like before it is one.

        An engine puts its end on the bridge first, and then sends the other end away.
        """
        return self.kind == "veth" and self.netnsid == NO_NAMESPACE and not self.running


class LinkGone(msgspec.Struct, frozen=True):
    """A link was deleted, or went to another namespace."""

    index: int
    name: str


class AddressesSeen(msgspec.Struct, frozen=True):
    """All addresses of a link as they are now, with prefix lengths (``10.0.0.1/24``), sorted; it may have none left."""

    index: int
    addresses: tuple[str, ...]

    @property
    def bare(self) -> tuple[Address, ...]:
        """The addresses without their prefix lengths."""
        return tuple(Address(each.partition("/")[0]) for each in self.addresses)

    @property
    def subnets(self) -> tuple[Prefix, ...]:
        """The subnets that they lie in, link-local ones left out, sorted."""
        networks = (ipaddress.ip_interface(each).network for each in self.addresses)
        return tuple(sorted({Prefix(str(each)) for each in networks if not each.is_link_local}))


class LinksListed(msgspec.Struct, frozen=True, dict=True):
    """Everything there is, by index: what is not in it is gone. Asked by index, it answers at once, however many."""

    links: tuple[LinkSeen, ...] = ()
    addresses: tuple[AddressesSeen, ...] = ()

    @cached_property
    def _links(self) -> dict[int, LinkSeen]:
        return {each.index: each for each in self.links}

    @cached_property
    def _addresses(self) -> dict[int, AddressesSeen]:
        return {each.index: each for each in self.addresses}

    def link(self, index: int) -> LinkSeen | None:
        """Return a link by its index."""
        return self._links.get(index)

    def of(self, index: int) -> AddressesSeen:
        """Return the addresses of a link."""
        return self._addresses.get(index) or AddressesSeen(index, ())


LinkEvent = LinksListed | LinkSeen | LinkGone | AddressesSeen
