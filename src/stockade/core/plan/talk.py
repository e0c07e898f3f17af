"""What all parties of a world may say to each other. Pure.

Most pairs have no line about each other, and many have the same lines. So whom a line speaks of is found once for its
peers, what the same lines say of each other is judged once, and of two versions only those pairs are looked at of which
either has another line, or speaks of another party by the same one.
"""

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property

from stockade.core.compile.decide import enforces
from stockade.core.model.intent import Line, Peers, Program, Tier
from stockade.core.model.packet import Direction
from stockade.core.plan.parties import Party, World
from stockade.core.plan.permitted import Run, Silence, counting, permitted, silence, talk
from stockade.core.plan.portset import PortSet

Texts = frozenset[str]
"""Parties, by their texts."""
Pair = tuple[str, str]
"""Source and destination, by their texts."""
_Spoken = tuple[int, Line, Texts]
"""A line that counts: its number, and whom it speaks of."""
Exchange = tuple[Silence, tuple[int, ...], Silence, tuple[int, ...]]
"""What decides between two parties of a world: each one's silence, and its lines about the other, by number."""
NOBODY: Texts = frozenset()


class Lines:
    """The lines of a world, each by a number: an exchange of few small numbers is soon looked up."""

    def __init__(self) -> None:
        self._lines: list[Line] = []
        self._numbers: dict[Line, int] = {}

    def number(self, line: Line) -> int:
        """Return a line's number, a new one where it has none."""
        found = self._numbers.setdefault(line, len(self._lines))
        if found == len(self._lines):
            self._lines.append(line)
        return found

    def judged(self, said: Exchange) -> tuple[Run, ...]:
        """Return every service between two ends that say this, judged."""
        one, leaving, other, entering = said
        lines = self._lines
        return talk(one, tuple(lines[each] for each in leaving), other, tuple(lines[each] for each in entering))


class Talk:
    """One world's parties, asked about again and again."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._lines = Lines()
        self._members: dict[Peers, Texts] = {}
        self._own: dict[tuple[str, Direction], tuple[_Spoken, ...]] = {}
        self._runs: dict[Exchange, tuple[Run, ...]] = {}
        self._permitted: dict[Exchange, PortSet] = {}

    def runs(self, ends: Pair) -> tuple[Run, ...]:
        """Return every service between two parties, judged."""
        return self.judged(self.exchange(ends))

    def permitted(self, ends: Pair) -> PortSet:
        """Return the services on which both ends say yes."""
        return self.permitted_by(self.exchange(ends))

    def permitted_by(self, said: Exchange) -> PortSet:
        """Return the services on which both ends say yes where they say this."""
        if (found := self._permitted.get(said)) is None:
            found = self._permitted[said] = permitted(self.judged(said))
        return found

    def own(self, text: str, way: Direction) -> tuple[_Spoken, ...]:
        """Return a party's lines that count, each with whom it speaks of, in the order in which they are tried."""
        key = (text, way)
        if (found := self._own.get(key)) is None:
            found = self._own[key] = tuple(
                (self._lines.number(line), line, self.members(line.peers)) for line in counting(self.program(text), way)
            )
        return found

    def program(self, text: str) -> Program | None:
        """Return what a party may send and receive; None where nobody judges it."""
        return self.world.parties[text].program

    def members(self, peers: Peers) -> Texts:
        """Return the parties that a line with these peers speaks of."""
        if (found := self._members.get(peers)) is None:
            found = self._members[peers] = self._found(peers)
        return found

    def spoken_of(self, *tiers: Tier) -> Iterator[Pair]:
        """Yield the pairs, each once, of which one end has a line of such a tier about the other."""
        seen: set[Pair] = set()
        for text in self.world.parties:
            for way in Direction:
                for _, line, members in self.own(text, way):
                    if line.tier in tiers:
                        seen.update(ends(text, way, members))
        yield from seen

    def judgements(self, pairs: Iterable[Pair]) -> Iterator[tuple[Run, ...]]:
        """Yield what is said between any of these, each once however many say it."""
        return (self.judged(said) for said in {self.exchange(pair) for pair in pairs})

    def exchange(self, ends: Pair) -> Exchange:
        """Return what decides between two parties."""
        source, destination = ends
        return (
            silence(self.program(source)),
            tuple(number for number, _, members in self.own(source, Direction.EGRESS) if destination in members),
            silence(self.program(destination)),
            tuple(number for number, _, members in self.own(destination, Direction.INGRESS) if source in members),
        )

    def judged(self, said: Exchange) -> tuple[Run, ...]:
        """Return every service between two ends that say this, judged."""
        if (found := self._runs.get(said)) is None:
            found = self._runs[said] = self._lines.judged(said)
        return found

    def _found(self, peers: Peers) -> Texts:
        """As ``parties.includes``, for all parties at once."""
        if not peers.name:
            return frozenset(self.world.parties)
        if peers.networks:
            return NOBODY.union(*(self._in_network.get(name, ()) for name in peers.name.split(",")))
        term, population = self.world.book.terms[peers.name], self.world.population
        numbers = population.matching.members(population.matching.number[term.selector])
        found = (each for number in numbers for each in self._of_identity.get(int(number), ()))
        return frozenset(each.text for each in found if not (term.adrift and each.program is not None))

    @cached_property
    def _in_network(self) -> Mapping[str, list[str]]:
        found: dict[str, list[str]] = {}
        for party in self.world.parties.values():
            for name in party.networks:
                found.setdefault(name, []).append(party.text)
        return found

    @cached_property
    def _of_identity(self) -> Mapping[int, list[Party]]:
        found: dict[int, list[Party]] = {}
        for party in self.world.parties.values():
            number = self.world.population.identity(party.workloads[0].id) if party.workloads else None
            if number is not None:
                found.setdefault(number, []).append(party)
        return found


def differing(before: Talk, after: Talk) -> set[Pair]:
    """Return the pairs that two versions of the same parties may say different things of; of no other do they."""
    versions = (before, after)
    known = before.world.book.terms.keys() & after.world.book.terms.keys()
    moved = _moved(versions, known)
    found: set[Pair] = set()
    for text in after.world.parties:
        for way in Direction:
            found.update(ends(text, way, _touched(versions, text, way, moved)))
    return found


def ends(text: str, way: Direction, others: Iterable[str]) -> Iterator[Pair]:
    """Yield a party with each of others, as source where it sends."""
    return ((text, other) if way is Direction.EGRESS else (other, text) for other in others)


def _moved(versions: tuple[Talk, Talk], known: Iterable[str]) -> dict[Peers, Texts]:
    """Return, of peers that both versions may name, the parties that one of them includes and the other does not."""
    spoken = {clause.line.peers for talk in versions for clause in talk.world.book.clauses}
    both = {Peers(name) for name in known} | {each for each in spoken if each.networks}
    found = {each: versions[0].members(each) ^ versions[1].members(each) for each in both}
    return {peers: members for peers, members in found.items() if members}


def _touched(versions: tuple[Talk, Talk], text: str, way: Direction, moved: Mapping[Peers, Texts]) -> Iterable[str]:
    before, after = versions
    was, now = before.program(text), after.program(text)
    if (silence(was), enforces(was)) != (silence(now), enforces(now)):
        return after.world.parties
    if was is None or now is None or (was.id == now.id and not moved):
        return NOBODY
    old, new = ({line: members for _, line, members in talk.own(text, way)} for talk in versions)
    found = {line: members for line, members in (*old.items(), *new.items()) if (line in old) != (line in new)}
    return NOBODY.union(*found.values(), *(moved.get(line.peers, NOBODY) for line in old if line in new))
