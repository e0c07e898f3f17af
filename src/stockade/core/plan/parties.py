"""Who may stand at the ends of a connection: identities of the inventory, named networks, and the unknown.

Promises that whatever policy can tell apart is at no time one party: workloads of one party run one program and are
the same peers, and every address outside the inventory lies in the sets of exactly one party (as far as hosts agree
about what lies in a set: ``resolvers`` are each host's own).
"""

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import NamedTuple

import msgspec

from stockade.core import select
from stockade.core.compile.addresses import disjoint
from stockade.core.compile.population import CARRIED, Population
from stockade.core.compile.rulebook import Rulebook, rulebook
from stockade.core.fold.declared import is_declared
from stockade.core.model.ids import HostId, Prefix, WorkloadId
from stockade.core.model.intent import Peers, Program
from stockade.core.model.inventory import Host, Workload
from stockade.core.model.labels import NAME
from stockade.core.model.policy import METADATA_SET, PER_HOST_SET
from stockade.core.model.snapshot import Snapshot
from stockade.core.plan.cells import ELSEWHERE, Cell, Names, cells, holds, network_text

UNKNOWN = "unknown"


class Party(msgspec.Struct, frozen=True):
    """One party to connections. ``program`` is None where no enforcement point of ours judges it."""

    text: str
    workloads: tuple[Workload, ...] = ()
    program: Program | None = None
    networks: frozenset[str] = frozenset()
    """The network sets that it lies in."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of its workloads, or its own where it has none."""
        return tuple(sorted(each.name for each in self.workloads)) or (self.text,)


class Place(NamedTuple):
    """Who an address is in one version: a workload, or a network outside the inventory by the sets it lies in."""

    text: str
    workload: WorkloadId | None = None
    networks: Names = frozenset()


class Division(msgspec.Struct, frozen=True):
    """How parties are told apart: the text of each workload's party, and the sets that each network's lies in.

    ``moved`` are parties of addresses that another version means somebody else by: a workload that a document declares
    there, or the network in which the address lies when none does. A workload may be in several of those.
    """

    workloads: Mapping[WorkloadId, str]
    networks: Mapping[str, Names]
    moved: Mapping[str, tuple[Place, ...]] = {}


class World:
    """A snapshot as parties. ``keys``: dimensions to tell apart beyond the policy's own; ``book``: its rulebook."""

    def __init__(self, snapshot: Snapshot, keys: frozenset[str] = frozenset(), book: Rulebook | None = None) -> None:
        self.snapshot = snapshot
        self.book = book or rulebook(snapshot.policy, snapshot.lapsed)
        self.population = Population(self.book, snapshot.workloads.values(), snapshot.hosts, keys)
        self._division: Division | None = None

    @cached_property
    def parties(self) -> Mapping[str, Party]:
        """Every party by its text, in order."""
        division = self.division
        groups: dict[str, list[Workload]] = {}
        for id_, text in sorted(division.workloads.items()):
            groups.setdefault(text, []).append(self.snapshot.workloads[id_])
        inside = [self._party(text, members) for text, members in sorted(groups.items())]
        moved = [self._moved_party(text, places) for text, places in sorted(division.moved.items())]
        outside = [Party(text, networks=sets) for text, sets in sorted(division.networks.items())]
        return {party.text: party for party in (*inside, *moved, *outside, Party(UNKNOWN))}

    @cached_property
    def division(self) -> Division:
        """How its parties are told apart: by this snapshot alone, unless it was divided along with another."""
        if self._division is not None:
            return self._division
        workloads = {each.id: self.identity(each) for each in self.apart() if each.known}
        found = [sets for (sets,) in cells([self.used_prefixes()])]
        return Division(workloads, {network_text(sets, found): sets for sets in found})

    def divided(self, division: Division) -> "World":
        """Return the same snapshot, its parties told apart in another way."""
        world = World.__new__(World)
        world.snapshot, world.book, world.population = self.snapshot, self.book, self.population
        world._division = division
        return world

    def party_of(self, workload: Workload) -> Party:
        """Return the party that a workload belongs to; one that shares a network namespace has its owner's."""
        holder = self.snapshot.workloads.get(workload.seen.owner, workload) if workload.seen.owner else workload
        text = self.division.workloads.get(holder.id)
        return Party(UNKNOWN, (holder,)) if text is None else self.parties[text]

    def party_at(self, address: str) -> Party:
        """Return a party for one address outside the inventory."""
        return Party(address, networks=sets_at(self.book, self.snapshot.hosts, address))

    def apart(self) -> Iterable[Workload]:
        """Yield the workloads that have ends of their own, known or not; the others are judged as their owners."""
        return (each for each in self.snapshot.workloads.values() if each.seen.owner is None)

    def identity(self, workload: Workload) -> str:
        """An identity in words: the labels that policy can tell apart; whether we judge it is part of who it is."""
        if not workload.known:
            return UNKNOWN
        told = [f"{each.key}={each.value}" for each in workload.labels.items if each.key in self.population.keys]
        if NAME in self.population.keys:
            told.append(f"name={workload.name}")
        text = " ".join(told) or "any other"
        return text if judged(self.snapshot.hosts, workload) else f"{text} (not enforced here)"

    @cached_property
    def prefixes(self) -> Mapping[str, tuple[Prefix, ...]]:
        """The prefixes of every network set, metadata's only in its own."""
        return {name: _prefixes(self.book, name, self.snapshot.hosts) for name in self.book.networks}

    def used_prefixes(self) -> Mapping[str, tuple[Prefix, ...]]:
        """The prefixes of the network sets that rules name, and of the world."""
        return {name: self.prefixes[name] for name in sorted({*_used(self.book), "world"}) if name in self.prefixes}

    def _moved_party(self, text: str, places: tuple[Place, ...]) -> Party:
        ids = sorted({each.workload for each in places if each.workload is not None})
        if not ids:
            return Party(text, networks=places[0].networks)
        return Party(text, tuple(self.snapshot.workloads[each] for each in ids))

    def _party(self, text: str, members: list[Workload]) -> Party:
        sample = members[0]
        return Party(
            text, tuple(members), self.population.program(sample.id) if judged(self.snapshot.hosts, sample) else None
        )


def includes(book: Rulebook, peers: Peers, party: Party) -> bool:
    """Tell whether a line's peers include a party."""
    if not peers.name:
        return True
    if peers.networks:
        return bool(party.networks.intersection(peers.name.split(",")))
    if not party.workloads or not party.workloads[0].known:
        return False
    term, sample = book.terms[peers.name], party.workloads[0]
    if term.adrift and party.program is not None:
        return False
    return select.matches(term.selector, sample.labels, sample.name)


def sets_at(book: Rulebook, hosts: Mapping[HostId, Host], address: str) -> Names:
    """Return the network sets that rules name and that an address outside the inventory lies in."""
    return frozenset(name for name in _used(book) if holds(_prefixes(book, name, hosts), address))


def judged(hosts: Mapping[HostId, Host], workload: Workload) -> bool:
    """Tell whether an enforcement point of ours carries a workload, or will once it has an endpoint."""
    if workload.seen.host not in hosts:
        return False
    endpoints = workload.seen.endpoints
    return not endpoints or any(each.attachment in CARRIED for each in endpoints)


def apart(source: Party, destination: Party) -> bool:
    """Tell whether two different ends can stand for these parties: what somebody says to itself always passes."""
    return source is not destination or len(source.workloads) > 1


def worlds(active: Snapshot, draft: Snapshot) -> tuple[World, World]:
    """Return both versions as the same parties: what either tells apart, and whatever moves from one to another."""
    keys = rulebook(active.policy, active.lapsed).keys() | rulebook(draft.policy, draft.lapsed).keys()
    before, after = World(active, keys), World(draft, keys)
    workloads, networks, moved = _workloads(before, after), _networks(before, after), _moves(before, after)
    first, second = (
        Division(
            workloads,
            {text: cell[at] for text, cell in networks.items()},
            {text: tuple(each[at] for each in places) for text, places in moved.items()},
        )
        for at in (0, 1)
    )
    return before.divided(first), after.divided(second)


def _workloads(before: World, after: World) -> dict[WorkloadId, str]:
    """Label rules are policy too, so that a draft may give a workload another identity.

    Both versions have these; which others are declared differs, and ``_moves`` tells of them.
    """
    told = {}
    for now in after.apart():
        was = before.snapshot.workloads.get(now.id)
        if was is not None and (now.known or was.known):
            told[now.id] = _moved(after.identity(now), before.identity(was))
    return told


def _networks(before: World, after: World) -> dict[str, Cell]:
    """A draft may give a network set other addresses; the sets of both are those that either version names."""
    names = before.used_prefixes().keys() | after.used_prefixes().keys()
    versions = [{name: world.prefixes[name] for name in names if name in world.prefixes} for world in (before, after)]
    found = cells(versions)
    was, now = ([cell[at] for cell in found] for at in (0, 1))
    return {
        _moved(network_text(new, now) or ELSEWHERE, network_text(old, was) or ELSEWHERE): (old, new)
        for old, new in found
    }


def _moves(before: World, after: World) -> dict[str, list[tuple[Place, Place]]]:
    """Documents declare workloads, so that a draft may make an address somebody's, somebody else's or nobody's."""
    versions = (before, after)
    prefixes = [world.used_prefixes() for world in versions]
    among = [[sets for (sets,) in cells([each])] for each in prefixes]
    owners = [_declared(world) for world in versions]
    found: dict[str, list[tuple[Place, Place]]] = {}
    for address in sorted({*owners[0], *owners[1]}):
        if owners[0].get(address) == owners[1].get(address):
            continue
        was, now = (
            _place(world, owned.get(address), address, each, every)
            for world, owned, each, every in zip(versions, owners, prefixes, among, strict=True)
        )
        found.setdefault(_moved(now.text, was.text), []).append((was, now))
    return found


def _declared(world: World) -> dict[str, WorkloadId]:
    """Return whose an address is, of those that documents declare."""
    return {
        address: id_
        for id_, workload in world.snapshot.workloads.items()
        if is_declared(id_)
        for endpoint in workload.seen.endpoints
        for address in endpoint.addresses
    }


def _place(
    world: World,
    owner: WorkloadId | None,
    address: str,
    prefixes: Mapping[str, tuple[Prefix, ...]],
    among: list[Names],
) -> Place:
    if owner is not None:
        return Place(world.identity(world.snapshot.workloads[owner]), owner)
    sets = frozenset(name for name, each in prefixes.items() if holds(each, address))
    return Place(network_text(sets, among) or ELSEWHERE, networks=sets)


def _moved(now: str, was: str) -> str:
    return now if now == was else f"{now} (was {was})"


def _used(book: Rulebook) -> set[str]:
    peers = (clause.line.peers for clause in book.clauses)
    return {name for each in peers if each.networks for name in each.name.split(",") if name in book.networks}


def _prefixes(book: Rulebook, name: str, hosts: Mapping[HostId, Host]) -> tuple[Prefix, ...]:
    network = book.networks[name]
    metadata = book.networks.get(METADATA_SET)
    holes = (*network.excepted, *(metadata.cidrs if metadata and name != METADATA_SET else ()))
    cidrs = network.cidrs
    if name == PER_HOST_SET and not cidrs:
        resolvers = {address for host in hosts.values() for address in host.resolvers}
        cidrs = tuple(Prefix(f"{each}/{128 if ':' in each else 32}") for each in sorted(resolvers))
    return disjoint(cidrs, holes)
