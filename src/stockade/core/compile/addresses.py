"""Whose address is whose, as one host meets them (``docs/policy.md``, 8 and 9)."""

import ipaddress
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache

from stockade.core.model.ids import DECLARED, Address, HostId, Prefix, WorkloadId
from stockade.core.model.inventory import Attachment, Endpoint, Workload

LOOPBACK = (Prefix("127.0.0.0/8"), Prefix("::1/128"))
LINKED = (Attachment.BRIDGED, Attachment.ROUTED)
LINK_LOCAL = ("169.254.", "fe8", "fe9", "fea", "feb")
"""How the addresses of 169.254.0.0/16 and fe80::/10 begin, and no others: ``text.startswith(LINK_LOCAL)``."""


@lru_cache(maxsize=16_384)
def link_local(mac: str) -> Address:
    """Return the EUI-64 link-local address of a MAC (RFC 4291, appendix A), in canonical text (RFC 5952)."""
    octets = bytes.fromhex(mac.replace(":", ""))
    first = (octets[0] ^ 0x02) << 8 | octets[1]
    rest = f"{octets[2] << 8 | 0xFF:x}:{0xFE00 | octets[3]:x}:{octets[4] << 8 | octets[5]:x}"
    return Address(f"fe80::{first:x}:{rest}" if first else f"fe80::{rest}")


def own_addresses(endpoint: Endpoint) -> tuple[Address, ...]:
    """Return an endpoint's addresses, its EUI-64 link-local one included: last, where it is not listed already."""
    if endpoint.mac and endpoint.attachment in LINKED:
        own = link_local(endpoint.mac)
        if own not in endpoint.addresses:
            return (*endpoint.addresses, own)
    return endpoint.addresses


def met_everywhere(workload: Workload) -> Iterator[Address]:
    """Yield the addresses by which every host meets a workload: those in the realm that hosts share.

    Link-local addresses mean nothing beyond their link, and so are met at home alone.
    """
    for endpoint in workload.seen.endpoints:
        if not endpoint.realm:
            yield from (each for each in endpoint.addresses if not each.startswith(LINK_LOCAL))


def met_at_home(workload: Workload) -> Iterator[Address]:
    """Yield the addresses by which its own host meets a workload: all of them."""
    for endpoint in workload.seen.endpoints:
        yield from own_addresses(endpoint)


def met_only_at_home(workload: Workload) -> Iterator[Address]:
    """Yield the addresses by which its own host alone meets a workload: those of the host's realms, and link-local."""
    for endpoint in workload.seen.endpoints:
        yield from (each for each in own_addresses(endpoint) if endpoint.realm or each.startswith(LINK_LOCAL))


class Owners:
    """Address → workload at one host. An address that two workloads claim is nobody's.

    ``local`` are the claims of the host's own workloads. A workload that a document declares yields to them: what is
    met here under its address is not it. In the realm that hosts share it never claims what anybody else does.
    """

    def __init__(self, shared: Mapping[Address, WorkloadId | None], local: Iterable[Workload]) -> None:
        self.shared = shared
        self.local = claims((workload.id, met_at_home(workload)) for workload in local)
        self.yielded: set[Address] = set()
        for address, owner in self.local.items():
            rival = shared.get(address, owner)
            if rival is not None and rival != owner and rival.startswith(DECLARED):
                self.yielded.add(address)
            elif rival != owner:
                self.local[address] = None

    def of(self, address: Address) -> WorkloadId | None:
        """Return the one workload whose address this is, or None."""
        return self.local[address] if address in self.local else self.shared.get(address)

    def claimed(self, address: Address) -> bool:
        """Tell whether any workload, known or not, says that the address is its own."""
        return address in self.local or address in self.shared


def claims(workloads: Iterable[tuple[WorkloadId, Iterable[Address]]]) -> dict[Address, WorkloadId | None]:
    """Collect who claims each address; None where two workloads do."""
    owners: dict[Address, WorkloadId | None] = {}
    for workload, addresses in workloads:
        for address in addresses:
            owners[address] = workload if owners.get(address, workload) == workload else None
    return owners


def disjoint(cidrs: Iterable[Prefix], excepted: Iterable[Prefix]) -> tuple[Prefix, ...]:
    """Return the fewest prefixes that cover ``cidrs`` less ``excepted``, IPv4 first, ascending."""
    return _disjoint(tuple(cidrs), tuple(excepted))


@lru_cache(maxsize=1024)
def _disjoint(cidrs: tuple[Prefix, ...], excepted: tuple[Prefix, ...]) -> tuple[Prefix, ...]:
    """Remembered: the same network sets are asked for again with every plan, explanation and host."""
    remaining = list(_collapsed(cidrs))
    for hole in _collapsed(excepted):
        kept: list[ipaddress.IPv4Network | ipaddress.IPv6Network] = []
        for network in remaining:
            kept += _without(network, hole)
        remaining = kept
    return tuple(Prefix(str(each)) for each in _sorted(remaining))


Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _without(network: Network, hole: Network) -> list[Network]:
    if network.version != hole.version or not network.overlaps(hole):
        return [network]
    if hole.supernet_of(network):  # type: ignore[arg-type]  # same version, checked above
        return []
    return list(network.address_exclude(hole))  # type: ignore[arg-type]  # likewise


def _collapsed(prefixes: Iterable[Prefix]) -> list[Network]:
    networks = [ipaddress.ip_network(prefix) for prefix in prefixes]
    four = ipaddress.collapse_addresses(n for n in networks if isinstance(n, ipaddress.IPv4Network))
    six = ipaddress.collapse_addresses(n for n in networks if isinstance(n, ipaddress.IPv6Network))
    return [*four, *six]


def _sorted(networks: Iterable[Network]) -> list[Network]:
    return sorted(networks, key=lambda n: (n.version, int(n.network_address), n.prefixlen))


def inside(address: str, networks: Iterable[Network]) -> bool:
    """Tell whether an address lies in one of the networks."""
    parsed = ipaddress.ip_address(address)
    return any(parsed in network for network in networks if network.version == parsed.version)


def home(workloads: Iterable[Workload]) -> dict[HostId, dict[WorkloadId, Workload]]:
    """Group workloads by the host that carries them."""
    homes: defaultdict[HostId, dict[WorkloadId, Workload]] = defaultdict(dict)
    for workload in workloads:
        seen = workload.seen
        if seen.host is not None:
            homes[seen.host][seen.id] = workload
    return dict(homes)
