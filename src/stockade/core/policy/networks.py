"""Addresses, CIDRs and FQDNs within documents."""

import ipaddress
import re
from collections.abc import Callable

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


def _own_address(node: Node, report: Report) -> Address | None:
    """Read an address that a workload may call its own, beyond its own link; one document's alone."""
    found = text(node, report, "an address")
    if found is None:
        return None
    if wrong := unusable(found.value):
        report.add(found.spot, *wrong)
        return None
    own = Address(str(ipaddress.ip_address(found.value)))
    report.claim(own, found.spot)
    return own


def unusable(written: str) -> tuple[str, str, str] | None:
    """Say why no workload is met at this: (message, expected, nearest); None where it is one's address."""
    try:
        parsed = ipaddress.ip_address(written)
    except ValueError:
        return _no_address(written)
    if "%" in written:
        bare = written.partition("%")[0]
        return f"{quoted(written)} names a zone", _ONE_ADDRESS, "" if unusable(bare) else bare
    if parsed.version == 6 and parsed.ipv4_mapped is not None:
        return f"{quoted(written)} is an IPv4 address in IPv6 clothes", _ONE_ADDRESS, str(parsed.ipv4_mapped)
    for what, holds in _NOBODYS.items():
        if holds(parsed):
            return f"{quoted(written)} is {what}: no other host meets a workload there", _ONE_ADDRESS, ""
    return None


def _no_address(written: str) -> tuple[str, str, str]:
    try:
        network = ipaddress.ip_network(written, strict=False)
    except ValueError:
        return f"{quoted(written)} is not an address", _ONE_ADDRESS, ""
    if network.num_addresses == 1 and _WRITTEN.fullmatch(written):
        return f"{quoted(written)} is a prefix", _ONE_ADDRESS, str(network.network_address)
    return f"{quoted(written)} is a network", f"{_ONE_ADDRESS}; a network is named by a NetworkSet", ""


_ONE_ADDRESS = "one IPv4 or IPv6 address, such as 192.0.2.10"
_THIS_NETWORK = ipaddress.ip_network("0.0.0.0/8")
_NOBODYS: dict[str, Callable[[ipaddress.IPv4Address | ipaddress.IPv6Address], bool]] = {
    "loopback": lambda it: it.is_loopback,
    "multicast": lambda it: it.is_multicast,
    "unspecified": lambda it: it in _THIS_NETWORK or it.is_unspecified,
    "broadcast": lambda it: str(it) == "255.255.255.255",
    "link-local": lambda it: it.is_link_local,
}

CIDR: Form[Prefix] = Form(_cidr, {"type": "string", "pattern": r"^[0-9A-Fa-f:.]+(/[0-9]{1,3})?$"})
ADDRESS: Form[Address] = Form(_address, {"type": "string", "pattern": r"^[0-9A-Fa-f:.]+$"})
OWN_ADDRESS: Form[Address] = Form(_own_address, ADDRESS.schema)
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
