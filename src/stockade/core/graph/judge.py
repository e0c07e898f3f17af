"""What a snapshot's policy says of traffic that was seen: asked of ``plan``, for ends as flows know them.

An end is who it is in the snapshot, with the labels that it has there. A workload that is gone is judged by the labels
that it had, at the ends at which a point told of it. An address outside the inventory is in the network sets of the
snapshot. Not judged here, as in a plan: what is essential, save that somebody talks to itself.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import msgspec

from stockade.core.compile.births import births
from stockade.core.compile.population import program_for
from stockade.core.compile.rulebook import Rulebook
from stockade.core.graph.alike import Alike
from stockade.core.graph.services import protocol_of
from stockade.core.graph.values import Node, Permitted, Traffic
from stockade.core.graph.zoom import Zoom, workload_nodes
from stockade.core.model.flow import FlowEnd
from stockade.core.model.ids import Address, HostId, RuleId, WorkloadId
from stockade.core.model.inventory import Attachment, Sighting, Workload, WorkloadKind
from stockade.core.model.labels import NAME, Label, Labels
from stockade.core.model.packet import Direction
from stockade.core.model.policy import Births, Where
from stockade.core.model.snapshot import Snapshot
from stockade.core.plan.cells import holds
from stockade.core.plan.parties import UNKNOWN, Party, World, judged
from stockade.core.plan.permitted import Run, runs


class Decision(msgspec.Struct, frozen=True, gc=False):
    """What policy says of a connection: at which end it is denied (the source's before the destination's), and by what.

    ``rule`` is what denied it or opened it; None where a mode did, or nobody judges.
    """

    allowed: bool
    denied: Direction | None = None
    rule: RuleId | None = None
    where: Where | None = None


class Asked(NamedTuple):
    """What is permitted between two nodes, and how many steps it took to find: of the work alone, as it is bounded."""

    permitted: Permitted
    steps: int


ESSENTIAL = Decision(allowed=True)
HELD = RuleId("held")
"""What holds an end that nobody has labelled, where its host holds births."""
RUNS, ZOOMS = 100_000, 3
"""Pairs of parties (and of nodes) of which what they may say is remembered, and zooms of which the members are."""
Kind = tuple[int, bool] | None
"""An identity by its number, and whether a point judges it; None: whom nobody has labelled."""


class Judge:
    """Asks one snapshot again and again. ``keys`` are dimensions to tell apart beyond the policy's own.

    What it remembers is bounded. ``book``: the rulebook of that snapshot, where it was made already.
    """

    def __init__(self, snapshot: Snapshot, keys: frozenset[str] = frozenset(), book: Rulebook | None = None) -> None:
        self.snapshot = snapshot
        self.world = World(snapshot, keys, book)
        self.alike = Alike(self.world)
        self._used = self.world.used_prefixes()
        self._parties: dict[object, Party] = {}
        self._holding: dict[HostId, bool] = {}
        self._runs: dict[tuple[int, int], tuple[Run, ...]] = {}
        self._asked: dict[object, Asked] = {}
        self._members: dict[Zoom, Mapping[Node, Mapping[Kind, int]]] = {}
        self._samples: dict[Kind, Workload] = {}
        self._declared = {
            address: each
            for _, each in sorted(snapshot.workloads.items())
            for endpoint in each.seen.endpoints
            if endpoint.attachment is Attachment.REMOTE
            for address in endpoint.addresses
        }

    def of(self, traffic: Traffic) -> Decision:
        """Judge the connections of some traffic."""
        if traffic.source.workload is not None and traffic.source.workload == traffic.destination.workload:
            return ESSENTIAL
        for direction, end in ((Direction.EGRESS, traffic.source), (Direction.INGRESS, traffic.destination)):
            if self._held(end):
                return Decision(allowed=False, denied=direction, rule=HELD)
        ends = {each.end for each in traffic.said}
        one = self.party(traffic.source, told=Direction.EGRESS in ends)
        other = self.party(traffic.destination, told=Direction.INGRESS in ends)
        return self.between(one, other, traffic.protocol, traffic.port)

    def between(self, one: Party, other: Party, protocol: int, port: int) -> Decision:
        """Judge a connection between two parties."""
        named = protocol_of(protocol)
        run = next(
            each
            for each in self.runs(one, other)
            if each.ports.protocol is named and each.ports.first <= port <= each.ports.last
        )
        if run.allowed:
            return Decision(True, None, run.rule, self._where(run.rule))
        denied, said = (Direction.EGRESS, run.leaves) if not run.leaves.allowed else (Direction.INGRESS, run.enters)
        rule = said.line.rule if said.line else None
        return Decision(False, denied, rule, self._where(rule))

    def runs(self, one: Party, other: Party) -> tuple[Run, ...]:
        """Return what two parties may say to each other, asked once."""
        key = (id(one), id(other))
        if (found := self._runs.get(key)) is None:
            if len(self._runs) >= RUNS:
                self._runs.clear()
            found = self._runs[key] = runs(self.world.book, one, other)
        return found

    def members(self, by: Zoom) -> Mapping[Node, Mapping[Kind, int]]:
        """Return how many workloads of which kind each node of a zoom has; no party is made for that."""
        if by not in self._members:
            while len(self._members) >= ZOOMS:
                del self._members[next(iter(self._members))]
            self._members[by] = self._counted(by)
        return self._members[by]

    def party_of_kind(self, kind: Kind) -> Party:
        """Return the party of a kind that ``members`` told of."""
        return self.party_of(self._samples[kind])

    def known(self, key: object) -> Asked | None:
        """Return what was found before under a key."""
        return self._asked.get(key)

    def keep(self, key: object, found: Asked) -> None:
        """Remember what was found; for what follows from the snapshot alone."""
        if len(self._asked) >= RUNS:
            self._asked.clear()
        self._asked[key] = found

    def _counted(self, by: Zoom) -> Mapping[Node, Mapping[Kind, int]]:
        apart = (each for each in self.snapshot.workloads.values() if each.seen.owner is None)
        found: dict[Node, dict[Kind, int]] = {}
        for node, each in workload_nodes(apart, by):
            kind = self._kind(each)
            self._samples.setdefault(kind, each)
            kinds = found.setdefault(node, {})
            kinds[kind] = kinds.get(kind, 0) + 1
        return found

    def _kind(self, holder: Workload) -> Kind:
        if not holder.known:
            return None
        return self.world.population.of[holder.id], judged(self.snapshot.hosts, holder)

    def party(self, end: FlowEnd, *, told: bool = False) -> Party:
        """Return the party that an end is. ``told``: a point told of it, which says whether one judges who is gone."""
        if end.workload is None:
            return self.party_at(end.address)
        present = self.snapshot.workloads.get(end.workload)
        return self._gone(end, told=told) if present is None else self.party_of(present)

    def party_of(self, workload: Workload) -> Party:
        """Return the party of a workload, the same one for all that policy cannot tell apart."""
        owner = workload.seen.owner
        holder = self.snapshot.workloads.get(owner, workload) if owner else workload
        kind, population = self._kind(holder), self.world.population
        if kind is None:
            return self._kept(UNKNOWN, lambda: Party(UNKNOWN, (holder,)))
        program = population.program if kind[1] else lambda _: None
        return self._kept(kind, lambda: Party(self.world.identity(holder), (holder,), program(holder.id)))

    def party_at(self, address: Address) -> Party:
        """Return the party of an address that was nobody's: whom a document declares there, or its networks."""
        if address in self._declared:
            return self.party_of(self._declared[address])
        sets = frozenset(name for name, prefixes in self._used.items() if holds(prefixes, address))
        return self._kept(("networks", sets), lambda: Party(address, networks=sets))

    def _held(self, end: FlowEnd) -> bool:
        """Tell whether an end is one that nobody has labelled, on a host that holds such; never the host itself."""
        who = self.snapshot.workloads.get(end.workload) if end.workload else None
        host = self.snapshot.hosts.get(who.seen.host) if who is not None and who.seen.host else None
        if who is None or who.known or host is None or host.workload == who.id:
            return False
        if host.id not in self._holding:
            itself = self.snapshot.workloads.get(host.workload)
            self._holding[host.id] = births(self.world.book, itself).births is Births.HOLD
        return self._holding[host.id]

    def _gone(self, end: FlowEnd, *, told: bool) -> Party:
        who = remembered(end)
        if not who.known:
            return self._kept(UNKNOWN, lambda: Party(UNKNOWN, (who,)))
        return self._kept(
            ("gone", end.labels, told),
            lambda: Party(who.name, (who,), program_for(self.world.book, who) if told else None),
        )

    def _kept(self, key: object, made: Callable[[], Party]) -> Party:
        if key not in self._parties:
            self._parties[key] = made()
        return self._parties[key]

    def _where(self, rule: RuleId | None) -> Where | None:
        return self.world.book.wheres.get(rule) if rule else None


def remembered(end: FlowEnd) -> Workload:
    """Return the workload that an end was, with the labels that it had."""
    values = dict(end.labels)
    name = values.pop(NAME, "")
    labels = Labels(tuple(Label(key, value) for key, value in sorted(values.items())))
    return Workload(Sighting(end.workload or WorkloadId(""), name, WorkloadKind.UNMANAGED), labels)
