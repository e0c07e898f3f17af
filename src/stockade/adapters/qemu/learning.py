"""Whose an address is that a machine says it has. Pure.

A claim counts for the MAC of the port that it came by, in the subnets of its bridge, and while no other machine has the
address: who had it first keeps it for as long as it lives. On a bridge without an address of the host's own only
private addresses are believed, unless a DHCP server gave them. A port has sixteen addresses at most.
"""

import ipaddress
from collections.abc import Mapping, Sequence

from stockade.adapters.qemu.hearing import Claim
from stockade.core.compile.addresses import link_local
from stockade.core.model.ids import Address, Prefix

MOST = 16


class Learning:
    """What was learnt, by port."""

    def __init__(self) -> None:
        self._held: dict[str, dict[Address, bool]] = {}
        """Port → address → whether it was leased."""
        self.refused = 0
        """Claims that did not count."""

    def of(self, port: str) -> tuple[Address, ...]:
        """Return the addresses behind a port, sorted."""
        return tuple(sorted(self._held.get(port, {})))

    def keep(self, ports: Mapping[str, str]) -> None:
        """Forget all but what was learnt of these ports, with these MACs."""
        for gone in self._held.keys() - ports.keys():
            del self._held[gone]

    def hear(self, port: str, mac: str, subnets: Sequence[Prefix], claim: Claim) -> bool:
        """Take in what a port said; tell whether anything is new."""
        if not mac or claim.address == link_local(mac):
            return False  # without a MAC nothing can be vouched for; and every endpoint is known to have that address
        held = self._held.setdefault(port, {})
        if claim.mac != mac or (held.get(claim.address, False) >= claim.leased and claim.address in held):
            self.refused += claim.mac != mac
            return False
        if not self._free(port, claim.address) or not (claim.leased or believable(claim.address, subnets)):
            self.refused += 1
            return False
        if claim.leased:
            _forget_lease(held)
        if len(held) >= MOST and claim.address not in held:
            self.refused += 1
            return False
        held[claim.address] = claim.leased
        return True

    def _free(self, port: str, address: Address) -> bool:
        return not any(address in held for other, held in self._held.items() if other != port)


def believable(address: Address, subnets: Sequence[Prefix]) -> bool:
    """Tell whether an address can be a neighbour's on a link with these subnets."""
    asked = ipaddress.ip_address(address)
    if asked.is_link_local:
        return True
    networks = [each for each in map(ipaddress.ip_network, subnets) if each.version == asked.version]
    if not networks:
        return asked.is_private
    return any(asked in each and asked not in (each.network_address, each.broadcast_address) for each in networks)


def _forget_lease(held: dict[Address, bool]) -> None:
    for address in [each for each, leased in held.items() if leased]:
        del held[address]
