"""Permitted edges between the parties of a snapshot, found when they are asked for: exposure and blast radius.

Parties are identities (workloads that policy cannot tell apart), named networks and the unknown, as for a plan; what
two of them may say to each other is what a plan says. Bitmaps of whom a party's lines name at all leave out most
pairs; a pair that is left is asked about. Never makes a matrix of all pairs: a search asks, of each party not reached
yet, for one edge that leads there.
"""

from collections.abc import Iterator, Mapping
from functools import cached_property

import msgspec
from pyroaring import BitMap

from stockade.core.compile.decide import PASSING, closed, enforces
from stockade.core.graph.judge import Judge
from stockade.core.model.ids import WorkloadId
from stockade.core.model.intent import Line, Tier
from stockade.core.model.snapshot import Snapshot
from stockade.core.plan.cells import cells, network_text
from stockade.core.plan.parties import UNKNOWN, Party, apart, judged
from stockade.core.plan.permitted import permitted
from stockade.core.plan.portset import EVERYTHING, PortSet


class Hop(msgspec.Struct, frozen=True, order=True):
    """One step of a path: two parties by their texts, and what may pass between them."""

    source: str
    destination: str
    on: str


class Reached(msgspec.Struct, frozen=True, order=True):
    """A party that can be reached, or that can reach: in how many steps, and one shortest path of permitted edges."""

    hops: int
    party: str
    workloads: int
    path: tuple[Hop, ...]


class Ways:
    """The permitted edges of one snapshot. ``on`` limits them to some services."""

    def __init__(self, snapshot: Snapshot, on: PortSet = EVERYTHING) -> None:
        self._judge = Judge(snapshot)
        self._on = on
        self.parties = tuple(_parties(self._judge, snapshot))
        self.number: Mapping[WorkloadId, int] = {
            each.id: number for number, party in enumerate(self.parties) for each in party.workloads
        }
        self._everyone = BitMap(range(len(self.parties)))
        self._met: dict[str, BitMap] = {}
        self._may: tuple[dict[int, BitMap], dict[int, BitMap]] = ({}, {})

    # What is asked

    def on(self, source: int, destination: int) -> PortSet:
        """Return the services that are permitted between two parties, of those asked about."""
        one, other = self.parties[source], self.parties[destination]
        if not apart(one, other):
            return PortSet()
        if source in self._free and destination in self._free:
            return self._on
        return permitted(self._judge.runs(one, other)) & self._on

    def exposure(self, of: WorkloadId, hops: int = 1) -> tuple[Reached, ...]:
        """Return who can reach a workload's party over at most so many permitted edges, nearest first."""
        return self._searched(self.number[of], hops, back=True)

    def blast_radius(self, of: WorkloadId, hops: int = 1) -> tuple[Reached, ...]:
        """Return whom a workload's party can reach over at most so many permitted edges, nearest first."""
        return self._searched(self.number[of], hops, back=False)

    def steps(self, start: int, hops: int, *, back: bool = False) -> Mapping[int, tuple[int, int]]:
        """Return every party in reach with the number of steps and the party before it (after it, going ``back``)."""
        found = {start: (0, start)}
        visited, frontier = BitMap([start]), BitMap([start])
        for step in range(1, hops + 1):
            met = dict(self._next(frontier, self._everyone - visited, back=back))
            if not met:
                break
            found.update({each: (step, by) for each, by in met.items()})
            frontier = BitMap(met)
            visited |= frontier
        del found[start]
        return found

    # How it is found

    def _next(self, frontier: BitMap, rest: BitMap, *, back: bool) -> Iterator[tuple[int, int]]:
        """Yield each of ``rest`` that one step leads to (or from), with one of the frontier that it is a step from."""
        free_ones = frontier & self._free
        for each in rest:
            if each in self._free and free_ones:
                yield each, free_ones.min()
                continue
            near = frontier & self._candidates(each, after=back)
            by = next((one for one in near if self._leads(each, one, back=back)), None)
            if by is not None:
                yield each, by

    def _leads(self, each: int, one: int, *, back: bool) -> bool:
        return bool(self.on(each, one) if back else self.on(one, each))

    def _candidates(self, number: int, *, after: bool) -> BitMap:
        """Return the parties that some line of this one names, in one direction; everybody where it refuses nobody."""
        known = self._may[after]
        if number not in known:
            party = self.parties[number]
            found = self._everyone
            if party.program is not None and closed(party.program):
                lines = party.program.egress if after else party.program.ingress
                parts = [self._named(line) for line in lines if line.tier in PASSING]
                found = BitMap.union(*parts) if parts else BitMap()
            known[number] = found
        return known[number]

    def _named(self, line: Line) -> BitMap:
        peers = line.peers
        if not peers.name:
            return self._everyone
        key = f"networks {peers.name}" if peers.networks else peers.name
        if key not in self._met:
            self._met[key] = self._in_networks(peers.name) if peers.networks else self._of_term(peers.name)
        return self._met[key]

    def _in_networks(self, names: str) -> BitMap:
        wanted = set(names.split(","))
        return BitMap(number for number, party in enumerate(self.parties) if party.networks & wanted)

    def _of_term(self, name: str) -> BitMap:
        population, term = self._judge.world.population, self._judge.world.book.terms[name]
        meant = (
            self._by_identity.get(each)
            for each in population.matching.members(population.matching.number[term.selector])
        )
        return BitMap.union(*[each for each in meant if each is not None], BitMap())

    @cached_property
    def _by_identity(self) -> Mapping[int, BitMap]:
        found: dict[int, BitMap] = {}
        for number, party in enumerate(self.parties):
            identity = self._judge.world.population.of.get(party.workloads[0].id) if party.workloads else None
            if identity is not None:
                found.setdefault(identity, BitMap()).add(number)
        return found

    @cached_property
    def _free(self) -> BitMap:
        """Those that refuse nothing at all, whoever it is."""
        return BitMap(number for number, party in enumerate(self.parties) if _is_free(party))

    def _searched(self, start: int, hops: int, *, back: bool) -> tuple[Reached, ...]:
        found = self.steps(start, hops, back=back)
        return tuple(
            sorted(
                Reached(step, party.text, len(party.workloads), self._path(number, found, back=back))
                for number, (step, _) in found.items()
                for party in (self.parties[number],)
            )
        )

    def _path(self, number: int, found: Mapping[int, tuple[int, int]], *, back: bool) -> tuple[Hop, ...]:
        hops = []
        while number in found:
            _, by = found[number]
            one, other = (number, by) if back else (by, number)
            hops.append(Hop(self.parties[one].text, self.parties[other].text, self.on(one, other).text()))
            number = by
        return tuple(hops if back else reversed(hops))


def _is_free(party: Party) -> bool:
    program = party.program
    if program is None:
        return True
    lines = (*program.egress, *program.ingress)
    return not enforces(program) and not closed(program) and all(line.tier > Tier.CUT_REST for line in lines)


def _parties(judge: Judge, snapshot: Snapshot) -> Iterator[Party]:
    """Yield every party, each with all its workloads, in the order of their texts; the unknown last."""
    world = judge.world
    groups: dict[tuple[int | None, bool], list[WorkloadId]] = {}
    for id_, each in sorted(snapshot.workloads.items()):
        if each.known and each.seen.owner is None:
            groups.setdefault((world.population.of.get(id_), judged(snapshot.hosts, each)), []).append(id_)
    found = []
    for (_, here), ids in groups.items():
        members = tuple(snapshot.workloads[each] for each in ids)
        program = world.population.program(ids[0]) if here else None
        found.append(Party(world.identity(members[0]), members, program))
    yield from sorted(found, key=lambda party: (party.text, party.workloads[0].id))
    cut = [sets for (sets,) in cells([world.used_prefixes()])]
    yield from (Party(network_text(sets, cut), networks=sets) for sets in sorted(cut, key=sorted))
    yield Party(UNKNOWN)
