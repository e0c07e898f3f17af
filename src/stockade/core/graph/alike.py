"""What the identities of two nodes may say to each other, asked of groups instead of pairs. Pure.

Between two nodes only so much of an identity matters: what its lines say of anybody over there, and which of the lines
over there speak of it. Those of whom both are the same are one group, and one of them answers for all: nodes of
hundreds of identities have a handful of groups.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import NamedTuple

import msgspec

from stockade.core.graph.values import Permitted
from stockade.core.model.ids import RuleId
from stockade.core.model.intent import ANYBODY, Peers
from stockade.core.model.packet import Direction
from stockade.core.plan.parties import Party, World, includes
from stockade.core.plan.permitted import counting, permitted, silence
from stockade.core.plan.portset import PortSet, joined
from stockade.core.plan.talk import Exchange, Lines

Parties = Sequence[tuple[Party, int]]
"""Each with how many ends of its own."""
Numbers = frozenset[int]
"""Peers that lines speak of, by their numbers here."""
_Own = tuple[tuple[int, int], ...]
"""A party's lines in the order in which they are tried: the number of each, and of its peers."""
SAID = 100_000
"""Exchanges of which what they permit is remembered."""


class _Said(NamedTuple):
    """The services on which two ends say yes, and the rules that open them."""

    on: PortSet
    rules: tuple[RuleId, ...]


class Side(msgspec.Struct, frozen=True, eq=False):
    """The parties of one node, which peers include any of them, and which their lines speak of, by direction."""

    parties: Parties
    included: Numbers
    named: Mapping[Direction, Numbers]


class Alike:
    """One world's parties, each known by its object: the same one must come again, and live as long as this."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._lines = Lines()
        self._peers: dict[Peers, int] = {}
        self._own: dict[tuple[int, Direction], _Own] = {}
        self._included: dict[int, Numbers] = {}
        self._said: dict[Exchange, _Said] = {}

    def side(self, parties: Parties) -> Side:
        """Return the side that some parties are of every exchange."""
        return Side(
            parties,
            frozenset(number for each, _ in parties for number in self._including(each)),
            {
                way: frozenset(named for each, _ in parties for _, named in self._lines_of(each, way))
                for way in Direction
            },
        )

    def groups(self, side: Side, others: Side, way: Direction) -> list[Parties]:
        """Return the parties of a side, together those between whom nothing here makes a difference.

        ``way``: the one in which they speak to the others.
        """
        back = Direction.INGRESS if way is Direction.EGRESS else Direction.EGRESS
        found: dict[object, list[tuple[Party, int]]] = {}
        for party, count in side.parties:
            about = tuple(line for line, named in self._lines_of(party, way) if named in others.included)
            trait = (silence(party.program), about, self._including(party) & others.named[back])
            found.setdefault(trait, []).append((party, count))
        return list(found.values())

    def permitted(self, sources: Sequence[Parties], destinations: Sequence[Parties], *, same: bool) -> Permitted:
        """Return what is permitted from groups to groups; ``same``: both of one node, and nobody meets itself."""
        pairs, of, met = 0, 0, dict[int, _Said]()
        sizes = [sum(count for _, count in group) for group in destinations]
        places = {id(each): place for place, group in enumerate(destinations) for each, _ in group} if same else {}
        for group in sources:
            count = sum(number for _, number in group)
            itself = [0] * len(destinations)
            for each, number in group if same else ():
                itself[places[id(each)]] += number
            for place, others in enumerate(destinations):
                number = count * sizes[place] - itself[place]
                if number:
                    said = self._between(group[0][0], others[0][0])
                    of += number
                    pairs += number if said.on else 0
                    met[id(said)] = said
        on = joined(each for said in met.values() for each in said.on.ranges)
        return Permitted(on, pairs, of, tuple(sorted({rule for said in met.values() for rule in said.rules})))

    def _between(self, one: Party, other: Party) -> _Said:
        here, there = self._including(one), self._including(other)
        said = (
            silence(one.program),
            tuple(line for line, named in self._lines_of(one, Direction.EGRESS) if named in there),
            silence(other.program),
            tuple(line for line, named in self._lines_of(other, Direction.INGRESS) if named in here),
        )
        if (found := self._said.get(said)) is None:
            if len(self._said) >= SAID:
                self._said.clear()
            found = self._said[said] = self._judged(said)
        return found

    def _judged(self, said: Exchange) -> _Said:
        runs = self._lines.judged(said)
        return _Said(permitted(runs), tuple(sorted({run.rule for run in runs if run.allowed and run.rule})))

    def _lines_of(self, party: Party, way: Direction) -> _Own:
        key = (id(party), way)
        if (found := self._own.get(key)) is None:
            lines = counting(party.program, way)
            found = self._own[key] = tuple((self._lines.number(each), self._number(each.peers)) for each in lines)
        return found

    def _including(self, party: Party) -> Numbers:
        if (found := self._included.get(id(party))) is None:
            found = self._included[id(party)] = frozenset(map(self._number, self._peers_of(party)))
        return found

    def _peers_of(self, party: Party) -> Iterator[Peers]:
        """Yield the peers of any lines that include a party: ``plan.parties.includes``, asked of all at once."""
        yield ANYBODY
        yield from (each for each in self._networks if includes(self._world.book, each, party))
        population = self._world.population
        number = population.identity(party.workloads[0].id) if party.workloads else None
        selectors = self._terms if number is None else population.speaking(number)
        for name in (name for each in selectors for name in self._terms.get(each, ())):
            if includes(self._world.book, Peers(name), party):
                yield Peers(name)

    @cached_property
    def _networks(self) -> list[Peers]:
        return sorted({each.line.peers for each in self._world.book.clauses if each.line.peers.networks})

    @cached_property
    def _terms(self) -> Mapping[int, list[str]]:
        """The names of peers by the number of their selector."""
        found: dict[int, list[str]] = {}
        for name, term in self._world.book.terms.items():
            found.setdefault(self._world.population.matching.number[term.selector], []).append(name)
        return found

    def _number(self, peers: Peers) -> int:
        return self._peers.setdefault(peers, len(self._peers))
