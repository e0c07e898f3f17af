"""A snapshot, compiled and kept compiled: every host's fingerprint, and its intent on demand.

A fingerprint is a sum over what an intent is made of, so that a change adds and takes away instead of starting over.
Everything here is a function of the present snapshot: the path that led to it leaves no trace in any output. A
fingerprint may move where the intent did not (the safe side); it never stays where the intent moved.
"""

from collections.abc import Iterable

import numpy as np

from stockade.core.compile.addresses import Owners, home, met_everywhere, own_addresses
from stockade.core.compile.births import Ruling, births
from stockade.core.compile.claims import Claims, Shift
from stockade.core.compile.directory import Directory, Numbered
from stockade.core.compile.gathering import Gathering
from stockade.core.compile.hashing import Hashing
from stockade.core.compile.ledger import Ledger
from stockade.core.compile.population import Population
from stockade.core.compile.ranges import Ranges
from stockade.core.compile.rows import Sums
from stockade.core.compile.rulebook import rulebook
from stockade.core.compile.seats import Seats
from stockade.core.compile.site import Site, prefixes
from stockade.core.fold.declared import contested, declared_id
from stockade.core.model.event import (
    Event,
    HostGone,
    HostSeen,
    LabelsSet,
    PolicyActivated,
    QuarantineLapsed,
    WorkloadGone,
    WorkloadSeen,
)
from stockade.core.model.ids import HostId, WorkloadId
from stockade.core.model.intent import Intent
from stockade.core.model.inventory import Endpoint, Host, Sighting, Workload
from stockade.core.model.policy import PER_HOST_SET
from stockade.core.model.snapshot import Snapshot


def compile_snapshot(snapshot: Snapshot, key: bytes = b"") -> dict[HostId, Intent]:
    """Return what every host shall do, by host. Equal snapshots give equal intents, save revision and version."""
    return Compiler(snapshot, key).intents()


class Compiler:
    """One snapshot compiled. ``update`` moves it to another; ``fingerprint`` and ``intent`` speak of the latest.

    ``key`` keys the fingerprints: give it a secret that stays the same for as long as fingerprints are compared.
    """

    snapshot: Snapshot
    _ledger: Ledger
    _seats: Seats
    _prints: Sums

    def __init__(self, snapshot: Snapshot, key: bytes = b"") -> None:
        self._hash = Hashing(key)
        self._start(snapshot)

    def intents(self) -> dict[HostId, Intent]:
        """Return every host's intent, by host, in order."""
        return {host: self.intent(host) for host in self._seats.order}

    def intent(self, host: HostId) -> Intent:
        """Put one host's intent together."""
        return Site(
            snapshot=self.snapshot,
            book=self._book,
            population=self._population,
            host=self.snapshot.hosts[host],
            local=self._local(host),
            shared=self._claims.owners,
            gathering=self._gathering,
            inside=self._inside,
            fingerprint=self.fingerprint(host),
        ).intent()

    def fingerprint(self, host: HostId) -> str:
        """Return what moves when the host has to hear of it."""
        return f"{int(self._prints[self._seats.rows[host]]):016x}"

    def update(
        self, snapshot: Snapshot, workloads: Iterable[WorkloadId] = (), hosts: Iterable[HostId] = ()
    ) -> frozenset[HostId]:
        """Move to a snapshot that differs in these workloads and hosts; return the hosts whose fingerprint moved.

        A change of policy, of lapsed quarantines, of which hosts there are or of resolvers compiles from nothing.
        """
        changed = frozenset(hosts)
        if self._needs_a_start(snapshot, changed):
            return self._restart(snapshot)
        before, self.snapshot = self.snapshot, snapshot
        touched = set(changed)
        for each in workloads:
            touched |= self._exchange(before.workloads.get(each), snapshot.workloads.get(each))
        for host in touched & self._seats.rows.keys():
            self._seat(host)
        was, self._prints = self._prints, self._seats.prints(self._ledger.totals())
        return frozenset(map(self._seats.order.__getitem__, np.flatnonzero(self._prints != was).tolist()))

    # From nothing

    def _needs_a_start(self, snapshot: Snapshot, hosts: frozenset[HostId]) -> bool:
        before = self.snapshot
        if snapshot.policy is not before.policy or snapshot.lapsed != before.lapsed:
            return True
        return any(
            each not in snapshot.hosts
            or each not in before.hosts
            or snapshot.hosts[each].resolvers != before.hosts[each].resolvers
            for each in hosts
        )

    def _restart(self, snapshot: Snapshot) -> frozenset[HostId]:
        was = {host: self.fingerprint(host) for host in self._seats.order}
        self._start(snapshot)
        return frozenset(host for host in {*was, *self._seats.order} if was.get(host) != self._printed(host))

    def _printed(self, host: HostId) -> str | None:
        return self.fingerprint(host) if host in self._seats.rows else None

    def _start(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        workloads = list(snapshot.workloads.values())
        directory = Directory(workloads)
        self._book = rulebook(snapshot.policy, snapshot.lapsed)
        self._population = Population(self._book, workloads, snapshot.hosts)
        self._claims = Claims(directory)
        self._births = births(self._book, None)
        self._births_apart = any(mode.births is not None for mode in self._book.modes)
        used = self._used_networks()
        self._inside = {name: directory.inside(ranges, self._hash) for name, ranges in used.items()}
        self._adrift = sorted(name for name, term in self._book.terms.items() if term.adrift)
        self._ledger = Ledger(
            self._book, self._population, self._hash, {name: inside.total for name, inside in self._inside.items()}
        )
        self._ledger.load(self._bring_all(directory), self._count_adrift())
        self._gathering = Gathering(self._book, self._population, self._claims, self._ledger)
        self._homes = home(workloads)
        self._seats = Seats(snapshot.hosts, self._hash.odd)
        for host in self._seats.order:
            self._seat(host)
        self._prints = self._seats.prints(self._ledger.totals())

    def _used_networks(self) -> dict[str, Ranges]:
        names = {clause.line.peers.name for clause in self._book.clauses if clause.line.peers.networks}
        return {name: Ranges(prefixes(self._book, self._anyone(name), name)) for name in sorted(names)}

    def _anyone(self, names: str) -> Host:
        """A host that sees what any host sees in a network set: everybody's resolvers."""
        hosts = self.snapshot.hosts.values() if PER_HOST_SET in names.split(",") else ()
        resolvers = {address for host in hosts for address in host.resolvers}
        return Host(HostId(""), WorkloadId(""), resolvers=tuple(sorted(resolvers)))

    def _bring_all(self, directory: Directory) -> Sums:
        """Sum up what each identity's members bring to the address sets that they are in."""
        brought = directory.brought(self._hash, self._claims.disputed)
        self._brought: dict[WorkloadId, int] = dict(zip(directory.ids, brought.tolist(), strict=True))
        of = self._population.of
        identities = np.array([of.get(each, -1) for each in directory.ids], dtype=np.intp)
        found = np.zeros(len(self._population.identities), dtype=np.uint64)
        np.add.at(found, identities[identities >= 0], brought[identities >= 0])
        return found

    def _brings(self, workload: Workload) -> int:
        own = [each for each in met_everywhere(workload) if self._claims.undisputed(each)]
        return int(Numbered(own).hashed(self._hash).sum(dtype=np.uint64)) if own else 0

    def _count_adrift(self) -> dict[str, int]:
        """Count the address sets of workloads that no host carries; few, and only under quarantine."""
        return {
            name: sum(self._brought[each.id] for each in self._population.meant(self._book.terms[name]))
            for name in self._adrift
        }

    # Hosts

    def _local(self, host: HostId) -> list[Workload]:
        homes = self._homes.get(host, {})
        return [homes[each] for each in sorted(homes)]

    def _seat(self, host_id: HostId) -> None:
        """Take stock of one host: what it is by itself, and which identities its workloads have.

        All of them count, judged here or not: at home a workload is met by addresses that no other host knows.
        """
        host = self.snapshot.hosts[host_id]
        local = self._local(host_id)
        seen = [each.seen for each in local]
        ids = [each.id for each in seen]
        of = self._population.of
        identities = [of.get(each, -1) for each in ids]
        told = (
            ids,
            [each.name for each in seen],
            [each.endpoints for each in seen],
            [each >= 0 for each in identities],
        )
        static = self._hash.value((host, self._disputed(host_id, local), self._births_of(host), told))
        self._seats.seat(host_id, static, [each for each in identities if each >= 0])

    def _disputed(self, host: HostId, local: list[Workload]) -> list[str]:
        """Return the local addresses that more than one workload claims; nearly always none."""
        endpoints = [endpoint for workload in local for endpoint in workload.seen.endpoints]
        if self._surely_undisputed(host, endpoints):
            return []
        found = Owners(self._claims.owners, local)
        return sorted({address for each in endpoints for address in own_addresses(each) if found.of(address) is None})

    def _surely_undisputed(self, host: HostId, endpoints: list[Endpoint]) -> bool:
        """A look that is quick and never wrongly says yes; link-local addresses are as different as their MACs."""
        macs = [each.mac for each in endpoints if each.mac]
        if len(set(macs)) < len(macs):
            return False
        shared = [address for each in endpoints if not each.realm for address in each.addresses]
        if not self._claims.disputed.keys().isdisjoint(shared):
            return False
        return host not in self._claims.apart or self._apart(endpoints)

    def _apart(self, endpoints: list[Endpoint]) -> bool:
        """Tell whether all addresses differ, and those of the host's own realms from everybody else's."""
        every = [address for each in endpoints for address in each.addresses]
        private = [address for each in endpoints if each.realm for address in each.addresses]
        return (
            len(set(every)) == len(every)
            and not any(address.startswith("fe80:") for address in every)
            and self._claims.owners.keys().isdisjoint(private)
        )

    def _births_of(self, host: Host) -> Ruling:
        if not self._births_apart:
            return self._births
        return births(self._book, self.snapshot.workloads.get(host.workload))

    # One change

    def _exchange(self, old: Workload | None, new: Workload | None) -> set[HostId]:
        """Put one workload in another's place (both of one id); return the hosts that must take stock again."""
        if old is new:
            return set()
        shift = self._claims.exchange(old, new)
        brought = self._leave(old) if old is not None else 0
        if new is not None:
            same_addresses = old is not None and old.seen is new.seen
            self._enter(new, brought if same_addresses else self._brings(new))
        own = {each.id for each in (old, new) if each is not None}
        carriers = [self._count_again(rival) for rival in sorted(shift.rivals - own)]
        self._count_networks(shift)
        for name, total in self._count_adrift().items():
            self._ledger.put(name, total)
        hosts = {each.seen.host for each in (old, new) if each is not None} | set(carriers) | shift.hosts
        return {host for host in hosts if host is not None}

    def _leave(self, workload: Workload) -> int:
        """Take a workload away; return what it brought."""
        if workload.seen.host is not None:
            self._homes[workload.seen.host].pop(workload.id, None)
        number = self._population.dismiss(workload.id)
        brought = self._brought.pop(workload.id)
        if number is not None:
            self._ledger.bring(number, -brought)
        return brought

    def _enter(self, workload: Workload, brought: int) -> None:
        if workload.seen.host is not None:
            self._homes.setdefault(workload.seen.host, {})[workload.id] = workload
        self._brought[workload.id] = brought
        if not workload.known:
            return
        number, fresh = self._population.admit(workload)
        if fresh:
            self._ledger.grow(number)
        self._ledger.bring(number, brought)

    def _count_again(self, rival: WorkloadId) -> HostId | None:
        """An address of this workload came into dispute, or out of it; return its host."""
        workload = self.snapshot.workloads.get(rival)
        if workload is None:
            return None
        before, self._brought[rival] = self._brought[rival], self._brings(workload)
        number = self._population.identity(rival)
        if number is not None:
            self._ledger.bring(number, self._brought[rival] - before)
        return workload.seen.host

    def _count_networks(self, shift: Shift) -> None:
        if shift.came or shift.went:
            for name, inside in self._inside.items():
                inside.shift(shift.came, shift.went)
                self._ledger.put(name, inside.total)


def affected(event: Event, before: Snapshot) -> tuple[frozenset[WorkloadId], frozenset[HostId]]:
    """Return the workloads and hosts that may differ once an event is folded into a snapshot."""
    match event:
        case WorkloadSeen(sighting):
            return _with_declared(before, (sighting.id,), (sighting,)), frozenset()
        case WorkloadGone(workload):
            return _with_declared(before, (workload,)), frozenset()
        case LabelsSet(workload):
            return frozenset((workload,)), frozenset()
        case HostSeen(host):
            return frozenset(), frozenset((host.id,))
        case HostGone(gone):
            carried = tuple(each.id for each in before.workloads.values() if each.seen.host == gone)
            return _with_declared(before, carried), frozenset((gone,))
        case PolicyActivated() | QuarantineLapsed():
            return frozenset(), frozenset()


def _with_declared(
    before: Snapshot, moved: tuple[WorkloadId, ...], now: tuple[Sighting, ...] = ()
) -> frozenset[WorkloadId]:
    """Add the workloads that documents declare at an address that any of these has, or had."""
    was = (before.workloads[each].seen for each in moved if each in before.workloads)
    declared = contested(before.policy.workloads, (*was, *now))
    return frozenset((*moved, *map(declared_id, declared)))
