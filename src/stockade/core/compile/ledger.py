"""What every identity's program says, as one number each, kept as identities and their peers change.

A clause weighs what it says, times who its peers are now; a program is the sum of its clauses' weights.
"""

import numpy as np
from pyroaring import BitMap

from stockade.core.compile.hashing import MASK, Hashing
from stockade.core.compile.population import Population
from stockade.core.compile.rows import Sums, rows, sums
from stockade.core.compile.rulebook import Rulebook
from stockade.core.model.policy import Mode


class Ledger:
    """Sums under one rulebook. Address sets are numbered: terms first, then network sets."""

    def __init__(self, book: Rulebook, population: Population, hashing: Hashing, networks: dict[str, int]) -> None:
        """``networks`` holds, by name, what stands for the inventory's addresses inside each used network set."""
        self._book = book
        self._population = population
        self._matching = population.matching
        self._hash = hashing
        self._sets = {name: number for number, name in enumerate((*book.terms, *networks))}
        self._peers = np.zeros(len(self._sets), dtype=np.uint64)
        for name, total in networks.items():
            self._peers[self._sets[name]] = total & MASK
        self._terms_of: dict[int, list[int]] = {}
        for name, term in book.terms.items():
            if not term.adrift:
                selector = self._matching.number[term.selector]
                self._terms_of.setdefault(selector, []).append(self._sets[name])
        self._weigh_clauses()

    def load(self, brought: Sums, adrift: dict[str, int]) -> None:
        """Sum up from nothing: ``brought`` is what each identity's members bring to the address sets they are in."""
        selected = self._matching.rows()
        known = [(number, selector) for selector, numbers in self._terms_of.items() for number in numbers]
        numbers, selectors = np.array(known, dtype=np.intp).reshape(-1, 2).T
        self._peers[numbers] = selected.sums(brought)[selectors]
        for name, total in adrift.items():
            self._peers[self._sets[name]] = total & MASK
        self._said = self._bare.copy()
        np.add.at(self._said, self._subjects, self._weights * self._peers[self._peer_of])
        size = len(self._population.identities)
        self._rules = selected.spread(self._said[0::2], size)
        self._cuts = selected.spread(self._said[1::2], size)
        self._describe_all()

    def totals(self) -> Sums:
        """Return, for each identity, a number that stands for who it is, its mode and its program with its peers."""
        return self._rules * self._ruled + self._cuts * np.uint64(3) + self._who

    def total_of(self, name: str) -> int:
        """Return what stands for the content of an address set."""
        return int(self._peers[self._sets[name]])

    def grow(self, number: int) -> None:
        """Take in an identity that was never seen before."""
        for name in ("_rules", "_cuts", "_ruled", "_who"):
            held = getattr(self, name)
            if number >= len(held):
                setattr(self, name, np.concatenate((held, np.zeros(number + 1 - len(held), dtype=np.uint64))))
        speaking = [each * 2 for each in self._population.speaking(number)]
        self._rules[number] = self._said[speaking].sum(dtype=np.uint64)
        self._cuts[number] = self._said[[each + 1 for each in speaking]].sum(dtype=np.uint64)
        self._describe(number)

    def bring(self, number: int, step: int) -> None:
        """The members of an identity bring more (or less) to the address sets that they are in."""
        for selector in self._population.speaking(number):
            for peers in self._terms_of.get(selector, ()):
                self._move(peers, step)

    def put(self, name: str, total: int) -> None:
        """An address set that is counted as a whole now holds this."""
        number = self._sets[name]
        self._move(number, total - int(self._peers[number]))

    def _move(self, peers: int, step: int) -> None:
        if not step & MASK:
            return
        by = np.array([step & MASK], dtype=np.uint64)  # arrays wrap silently, single numbers warn
        self._peers[peers : peers + 1] += by
        for clause in self._naming.get(peers, ()):
            subject = int(self._subjects[clause])
            said = self._weights[clause] * by
            self._said[subject : subject + 1] += said
            self._of(subject)[self._matching.members(subject // 2)] += said

    def _of(self, subject: int) -> Sums:
        return self._cuts if subject % 2 else self._rules

    def _weigh_clauses(self) -> None:
        """Subjects are numbered twice their selector's number, plus one for clauses of quarantine."""
        clauses, number, wheres = self._book.clauses, self._matching.number, self._book.wheres
        told = [(each.direction, each.line, each.peers_only, wheres[each.line.rule]) for each in clauses]
        weights = sums([self._hash.value(each) | 1 for each in told])
        subjects = np.array([number[each.subject] * 2 + each.quarantine for each in clauses], dtype=np.intp)
        self._bare = np.zeros(len(self._matching.selectors) * 2, dtype=np.uint64)
        np.add.at(self._bare, subjects, weights)
        naming = [each for each, clause in enumerate(clauses) if clause.line.peers.name]
        peers = [self._sets[clauses[each].line.peers.name] for each in naming]
        self._subjects, self._weights = subjects[naming], weights[naming]
        self._peer_of = np.array(peers, dtype=np.intp)
        self._naming: dict[int, list[int]] = {}
        for clause, peer in enumerate(peers):
            self._naming.setdefault(peer, []).append(clause)

    def _describe_all(self) -> None:
        """Set down who the identities are and which of their clauses count."""
        carried = [self._hash.text(f"{key}={value}") for key, value in self._population.pairs.order]
        self._who = rows(self._population.identities).sums(sums(carried))
        size = len(self._population.identities)
        self._ruled = np.zeros(size, dtype=np.uint64)
        left = BitMap(range(size))
        for mode in self._book.modes:
            chosen = left & self._matching.found[self._matching.number[mode.select]]
            left -= chosen
            self._put_in(mode.mode, chosen)
        self._put_in(Mode.VISIBILITY, left)

    def _put_in(self, mode: Mode, identities: BitMap) -> None:
        cut = self._book.quarantined
        cut_off = BitMap() if cut is None else self._matching.found[self._matching.number[cut]]
        for some, quarantined in ((identities - cut_off, False), (identities & cut_off, True)):
            numbers = np.array(some.to_array(), dtype=np.intp)
            stands_for, self._ruled[numbers] = self._counting(mode, quarantined=quarantined)
            self._who[numbers] += np.uint64(stands_for)

    def _describe(self, number: int) -> None:
        """Set down who an identity is and which of its clauses count."""
        pairs = self._population.pairs.order
        told = [self._hash.text("=".join(pairs[each])) for each in self._population.identities[number]]
        mode, quarantined = self._mode(number)
        stands_for, self._ruled[number] = self._counting(mode, quarantined=quarantined)
        self._who[number] = (sum(told) + stands_for) & MASK

    def _counting(self, mode: Mode, *, quarantined: bool) -> tuple[int, int]:
        """Return what stands for a mode, and whether rules count in it."""
        return self._hash.text(f"{mode.value} {quarantined}"), not quarantined and mode is not Mode.IDLE

    def _mode(self, number: int) -> tuple[Mode, bool]:
        found, numbers = self._matching.found, self._matching.number
        cut = self._book.quarantined
        quarantined = cut is not None and number in found[numbers[cut]]
        for mode in self._book.modes:
            if number in found[numbers[mode.select]]:
                return mode.mode, quarantined
        return Mode.VISIBILITY, quarantined
