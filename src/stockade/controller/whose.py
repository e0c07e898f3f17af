"""Whose an address was: the ends of flows, with the labels in force, as one snapshot has them. Pure."""

import ipaddress
import re
from collections.abc import Mapping
from functools import cached_property

import msgspec

from stockade.core.model.flow import FlowEnd
from stockade.core.model.flow_table import EndText, KeptEnd, ToldEnd, end_text
from stockade.core.model.ids import Address, WorkloadId
from stockade.core.model.inventory import Workload
from stockade.core.model.labels import NAME
from stockade.core.model.policy import METADATA_SET, PER_HOST_SET, NetworkSet
from stockade.core.model.snapshot import Snapshot

HOST_NAME = re.compile(r"[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63}){0,126}")
"""What a host may tell to be a name: nothing that steers or means more."""
ENDS = 300_000
"""Ends that are remembered: strangers have more addresses than there is room for."""
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_Networks = list[tuple[_Network, tuple[_Network, ...], str]]
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Whose:
    """What one snapshot knows of addresses. An address that two workloads claim is nobody's.

    ``before``: what an earlier snapshot knew. Who has which address is then taken from there, and not looked up anew;
    labels and networks are always this snapshot's.
    """

    def __init__(self, snapshot: Snapshot, before: "Whose | None" = None) -> None:
        self.snapshot = snapshot
        self._before = before.met if before else None
        same = before is not None and before.snapshot.policy is snapshot.policy
        self._networks: _Networks = before._networks if before and same else _networks(snapshot.policy.network_sets)
        self._kept: dict[ToldEnd, EndText] = {}
        self._ends: dict[tuple[Address, WorkloadId | None], FlowEnd] = {}

    def kept(self, told: ToldEnd) -> EndText:
        """Return an end as it is kept. What its point says of its own workloads counts before the address."""
        if (found := self._kept.get(told)) is None:
            if len(self._kept) >= ENDS:
                self._kept.clear()
            end = self._end(told.address, told.workload)
            if told.name and end.workload is None and HOST_NAME.fullmatch(told.name):
                end = msgspec.structs.replace(end, told=told.name)
            found = self._kept[told] = end_text(KeptEnd(end, told.address, told.workload))
        return found

    def end(self, address: Address, told: WorkloadId | None = None) -> FlowEnd:
        """Return who is at an address; ``told``: who it is by the word of the host that it is on."""
        if (found := self._ends.get((address, told))) is None:
            if len(self._ends) >= ENDS:
                self._ends.clear()
            found = self._ends[address, told] = self._end(address, told)
        return found

    @cached_property
    def met(self) -> Mapping[Address, WorkloadId]:
        """Whose the addresses are that mean the same on every host."""
        return _met_everywhere(self.snapshot.workloads) if self._before is None else self._before

    def _end(self, address: Address, told: WorkloadId | None) -> FlowEnd:
        id_ = told or self.met.get(address)
        workload = self.snapshot.workloads.get(id_) if id_ is not None else None
        if workload is None:
            return FlowEnd(address, id_, (), "" if id_ else self._network(address))
        labels = {label.key: label.value for label in workload.labels.items} | {NAME: workload.seen.name}
        return FlowEnd(address, id_, tuple(sorted(labels.items())))

    def _network(self, address: Address) -> str:
        at = ipaddress.ip_address(address)
        return next((name for inside, excepted, name in self._networks if _within(at, inside, excepted)), "")


def _within(
    at: ipaddress.IPv4Address | ipaddress.IPv6Address, inside: _Network, excepted: tuple[_Network, ...]
) -> bool:
    return at in inside and not any(at in each for each in excepted)


def _met_everywhere(workloads: Mapping[WorkloadId, Workload]) -> dict[Address, WorkloadId]:
    """Return whose the addresses are that mean the same on every host: those outside any host's own realms."""
    found: dict[Address, WorkloadId] = {}
    contested: set[Address] = set()
    for id_, workload in workloads.items():
        for endpoint in workload.seen.endpoints:
            for address in () if endpoint.realm else endpoint.addresses:
                if found.setdefault(address, id_) != id_:
                    contested.add(address)
    return {address: id_ for address, id_ in found.items() if address not in contested}


def _networks(sets: tuple[NetworkSet, ...]) -> _Networks:
    """Return each prefix of each set, the narrowest first, less what the set excepts."""
    found = []
    for each in sets:
        if each.name in (PER_HOST_SET, METADATA_SET):
            continue
        excepted = tuple(ipaddress.ip_network(cidr) for cidr in each.excepted)
        found += [(ipaddress.ip_network(cidr), excepted, each.name) for cidr in each.cidrs]
    return sorted(found, key=lambda one: (-one[0].prefixlen, one[2], str(one[0])))
