"""Who may stand at the ends of a connection: identities of the inventory, named networks, and the unknown."""

import ipaddress
from collections.abc import Mapping
from functools import cached_property

import msgspec

from stockade.core.compile.addresses import disjoint
from stockade.core.compile.population import Population
from stockade.core.compile.ranges import Ranges
from stockade.core.compile.rulebook import Rulebook, rulebook
from stockade.core.model.ids import HostId, Prefix
from stockade.core.model.intent import Line, Program
from stockade.core.model.inventory import Attachment, Host, Workload
from stockade.core.model.labels import NAME
from stockade.core.model.policy import METADATA_SET, PER_HOST_SET
from stockade.core.model.snapshot import Snapshot

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


class World:
    """A snapshot as parties. ``keys`` are dimensions to tell apart beyond the policy's own."""

    def __init__(
        self, snapshot: Snapshot, keys: frozenset[str] = frozenset(), samples: Mapping[str, str] | None = None
    ) -> None:
        """``samples`` are more networks to tell apart: a name, and an address that stands for it."""
        self.snapshot = snapshot
        self.book = rulebook(snapshot.policy, snapshot.lapsed)
        self.population = Population(self.book, snapshot.workloads.values(), snapshot.hosts, keys)
        self.samples = {**(samples or {}), **self._samples()}
        self.parties = {party.text: party for party in (*self._identities(), *self._networks(), Party(UNKNOWN))}

    def speaks(self, line: Line, party: Party) -> bool:
        """Tell whether a line's peers include a party."""
        if not line.peers.name:
            return True
        if line.peers.networks:
            return bool(party.networks.intersection(line.peers.name.split(",")))
        if not party.workloads:
            return False
        return self.population.means(self.book.terms[line.peers.name], party.workloads[0])

    def party_of(self, workload: Workload) -> Party:
        """Return the party that a workload belongs to."""
        if not workload.known:
            return Party(UNKNOWN, (workload,))
        return self.parties[self._text(workload)]

    def party_at(self, address: str, text: str = "") -> Party:
        """Return a party for one address outside the inventory."""
        found = frozenset(name for name, ranges in self._ranges.items() if address in ranges)
        return Party(text or address, networks=found)

    @cached_property
    def prefixes(self) -> Mapping[str, tuple[Prefix, ...]]:
        """The prefixes of every network set, metadata's only in its own."""
        return {name: _prefixes(self.book, name, self.snapshot.hosts) for name in self.book.networks}

    @cached_property
    def _ranges(self) -> Mapping[str, Ranges]:
        return {name: Ranges(prefixes) for name, prefixes in self.prefixes.items()}

    def judged(self, workload: Workload) -> bool:
        """Tell whether an enforcement point of ours carries a workload."""
        if workload.seen.host not in self.snapshot.hosts:
            return False
        return all(e.attachment not in (Attachment.OPAQUE, Attachment.REMOTE) for e in workload.seen.endpoints)

    def _identities(self) -> list[Party]:
        groups: dict[str, list[Workload]] = {}
        for members in self.population.members:
            for workload in members.values():
                groups.setdefault(self._text(workload), []).append(workload)
        return [
            Party(
                text,
                tuple(sorted(members, key=lambda each: each.id)),
                self.population.program(members[0].id) if self.judged(members[0]) else None,
            )
            for text, members in sorted(groups.items())
        ]

    def _networks(self) -> list[Party]:
        return [self.party_at(address, f"networks({name})") for name, address in sorted(self.samples.items())]

    def _samples(self) -> dict[str, str]:
        """The network sets that rules name, and the world; each stands for its first address."""
        used = {
            name
            for clause in self.book.clauses
            if clause.line.peers.networks
            for name in clause.line.peers.name.split(",")
        }
        named = {name: self.prefixes.get(name, ()) for name in (*used, "world")}
        return {name: str(ipaddress.ip_network(found[0])[0]) for name, found in named.items() if found}

    def _text(self, workload: Workload) -> str:
        """An identity in words: the labels that policy can tell apart; whether we judge it is part of who it is."""
        told = [f"{each.key}={each.value}" for each in workload.labels.items if each.key in self.population.keys]
        if NAME in self.population.keys:
            told.append(f"name={workload.name}")
        text = " ".join(told) or "any other"
        return text if self.judged(workload) else f"{text} (not enforced here)"


def _prefixes(book: Rulebook, name: str, hosts: Mapping[HostId, Host]) -> tuple[Prefix, ...]:
    network = book.networks[name]
    metadata = book.networks.get(METADATA_SET)
    holes = (*network.excepted, *(metadata.cidrs if metadata and name != METADATA_SET else ()))
    cidrs = network.cidrs
    if name == PER_HOST_SET and not cidrs:
        resolvers = {address for host in hosts.values() for address in host.resolvers}
        cidrs = tuple(Prefix(f"{each}/{128 if ':' in each else 32}") for each in sorted(resolvers))
    return disjoint(cidrs, holes)
