"""Who claims which address in the realm that hosts share, kept as workloads come and go."""

import msgspec

from stockade.core.compile.addresses import met_at_home, met_everywhere
from stockade.core.compile.directory import Directory
from stockade.core.model.ids import Address, HostId, WorkloadId
from stockade.core.model.inventory import Workload


class Shift(msgspec.Struct, frozen=True):
    """What an exchange of workloads did to addresses.

    ``came`` and ``went``: claimed by somebody now and by nobody before, and the reverse. ``rivals``: other workloads
    whose addresses came into dispute or out of it. ``hosts``: those with such an address in a realm of their own.
    """

    came: tuple[Address, ...] = ()
    went: tuple[Address, ...] = ()
    rivals: frozenset[WorkloadId] = frozenset()
    hosts: frozenset[HostId] = frozenset()


class Claims:
    """``owners`` maps each claimed address to its one owner, or to None where two workloads claim it.

    ``apart`` are the hosts of workloads with addresses that nobody beyond the host meets: of its own realms, or
    link-local. A host stays among them when such a workload leaves: one too many is safe.
    """

    def __init__(self, directory: Directory) -> None:
        claiming = [directory.ids[place] for place in directory.places]
        self.owners: dict[Address, WorkloadId | None] = dict(zip(directory.addresses, claiming, strict=True))
        self.disputed: dict[Address, set[WorkloadId]] = {}
        self.apart: set[HostId] = set()
        self._private: dict[Address, set[HostId]] = {}
        if len(self.owners) < len(claiming):
            self.owners.clear()
            for address, workload in zip(directory.addresses, claiming, strict=True):
                self._claim(address, workload)
        for each in directory.apart:
            self._keep_private(each)

    def undisputed(self, address: Address) -> bool:
        """Tell whether an address that somebody claims is theirs alone."""
        return address not in self.disputed

    def exchange(self, old: Workload | None, new: Workload | None) -> Shift:
        """Take one workload's claims away and put another's in; both are of one id."""
        if old and new and old.seen is new.seen:
            return Shift()
        before = set(met_everywhere(old)) if old else set()
        after = set(met_everywhere(new)) if new else set()
        rivals: set[WorkloadId] = set()
        was = {address for address in before | after if address in self.owners}
        for address in before - after:
            rivals |= self._release(address, old.id if old else WorkloadId(""))
        for address in after - before:
            rivals |= self._claim(address, new.id if new else WorkloadId(""))
        if new:
            self._keep_private(new)
        now = {address for address in before | after if address in self.owners}
        hosts = {host for address in before ^ after for host in self._private.get(address, ())}
        return Shift(tuple(sorted(now - was)), tuple(sorted(was - now)), frozenset(rivals), frozenset(hosts))

    def _claim(self, address: Address, workload: WorkloadId) -> set[WorkloadId]:
        owner = self.owners.setdefault(address, workload)
        if owner == workload:
            return set()
        rivals = self.disputed.setdefault(address, {owner} if owner else set())
        others = set(rivals)
        rivals.add(workload)
        self.owners[address] = None
        return others

    def _release(self, address: Address, workload: WorkloadId) -> set[WorkloadId]:
        rivals = self.disputed.get(address)
        if rivals is None:
            self.owners.pop(address, None)
            return set()
        rivals.discard(workload)
        if len(rivals) == 1:
            (self.owners[address],) = self.disputed.pop(address)
        return set(rivals)

    def _keep_private(self, workload: Workload) -> None:
        """Note addresses of realms of a host's own. A note outlives its workload: one too many is safe."""
        host = workload.seen.host
        beyond = set(met_everywhere(workload))
        private = {each for endpoint in workload.seen.endpoints for each in endpoint.addresses} - beyond
        if host is None or not private:
            return
        self.apart.add(host)
        for address in set(met_at_home(workload)) - beyond:
            self._private.setdefault(address, set()).add(host)
