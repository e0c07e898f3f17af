"""Protocols, ports and address text."""

import enum
import ipaddress

import msgspec

from stockade.core.model.ids import Address, Prefix


class Protocol(enum.IntEnum):
    """IP protocol numbers (IANA) that policy can name; ``ANY`` stands for all of them."""

    ANY = 0
    ICMP = 1
    TCP = 6
    UDP = 17
    ICMPV6 = 58
    SCTP = 132


PORTED = (Protocol.TCP, Protocol.UDP, Protocol.SCTP)
LAST_PORT = 65535


class Ports(msgspec.Struct, frozen=True, gc=False, order=True):
    """A protocol and an inclusive range of what distinguishes services within it.

    TCP, UDP, SCTP: destination ports. ICMP, ICMPv6: ``type * 256 + code``. ``ANY``: 0 to 65535, everything.
    """

    protocol: Protocol
    first: int = 0
    last: int = LAST_PORT


ANYTHING = Ports(Protocol.ANY)


def is_v6(address: str) -> bool:
    """Tell the family of an address or prefix in canonical text."""
    return ":" in address


def canonical_address(text: str) -> Address:
    """Return the canonical text of one address; ``ValueError`` where it is none."""
    return Address(str(ipaddress.ip_address(text)))


def canonical_prefix(text: str) -> Prefix:
    """Return the canonical text of a prefix, host bits cleared; ``ValueError`` where it is none."""
    return Prefix(str(ipaddress.ip_network(text, strict=False)))
