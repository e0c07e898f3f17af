"""Addresses, CIDRs and FQDNs within documents."""

import ipaddress
import re

from stockade.core.model.ids import Address, Prefix
from stockade.core.policy.forms import Form, pattern, text
from stockade.core.policy.nodes import Node, Scalar
from stockade.core.policy.report import Report, quoted

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_WRITTEN = re.compile(r"[0-9A-Fa-f:.]+(/[0-9]{1,3})?")
_FQDN = re.compile(r"(?:\*\.)?(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)+[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?")


def _cidr(node: Node, report: Report) -> Prefix | None:
    found = text(node, report, "a CIDR")
    if found is None:
        return None
    try:
        network = ipaddress.ip_network(found.value, strict=False)
    except ValueError:
        report.add(found.spot, f"{quoted(found.value)} is not a CIDR", "an address and prefix length: 203.0.113.0/24")
        return None
    if not _WRITTEN.fullmatch(found.value):
        report.add(found.spot, f"{quoted(found.value)} is not a CIDR", "a prefix length, no mask and no zone")
        return None
    if "/" in found.value and ipaddress.ip_address(found.value.partition("/")[0]) != network.network_address:
        report.add(found.spot, f"{quoted(found.value)} has bits beyond its prefix", "the network itself", str(network))
        return None
    return Prefix(str(network))


def _address(node: Node, report: Report) -> Address | None:
    found = text(node, report, "an address")
    return None if found is None else address(found, report)


def address(found: Scalar, report: Report) -> Address | None:
    """Read a scalar as one address, or write down why it is none."""
    try:
        parsed = ipaddress.ip_address(found.value)
    except ValueError:
        parsed = None
    if parsed is None or "%" in found.value:
        report.add(
            found.spot, f"{quoted(found.value)} is not an address", "an IPv4 or IPv6 address, or labels: {role: web}"
        )
        return None
    return Address(str(parsed))


CIDR: Form[Prefix] = Form(_cidr, {"type": "string", "pattern": r"^[0-9A-Fa-f:.]+(/[0-9]{1,3})?$"})
ADDRESS: Form[Address] = Form(_address, {"type": "string", "pattern": r"^[0-9A-Fa-f:.]+$"})
FQDN: Form[str] = pattern("a domain name in lower case, without a final dot", _FQDN, 253)


def networks_outside(parts: tuple[Prefix, ...], wholes: tuple[Prefix, ...]) -> list[Prefix]:
    """Return the prefixes of ``parts`` that lie inside none of ``wholes``."""
    networks = [ipaddress.ip_network(each) for each in wholes]
    lengths: set[tuple[int, int]] = {(each.version, each.prefixlen) for each in networks}
    known = set(networks)
    return [part for part in parts if not _inside(ipaddress.ip_network(part), lengths, known)]


def _inside(network: Network, lengths: set[tuple[int, int]], known: set[Network]) -> bool:
    return any(
        version == network.version and length <= network.prefixlen and network.supernet(new_prefix=length) in known
        for version, length in lengths
    )
