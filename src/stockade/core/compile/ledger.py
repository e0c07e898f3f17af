"""What every identity's program says, as one number each, kept as identities and their peers change.

A clause weighs what it says, times who its peers are now; a program is the sum of its clauses' weights.
"""

import numpy as np
from numpy.typing import NDArray

from stockade.core.compile.hashing import MASK, Hashing
from stockade.core.compile.population import Population
from stockade.core.compile.rulebook import Rulebook
from stockade.core.model.policy import Mode

Sums = NDArray[np.uint64]


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
        for selector, numbers in self._terms_of.items():
            self._peers[numbers] = brought[self._matching.members(selector)].sum(dtype=np.uint64)
        for name, total in adrift.items():
            self._peers[self._sets[name]] = total & MASK
        self._said = np.zeros(len(self._matching.selectors) * 2, dtype=np.uint64)
        np.add.at(self._said, self._subjects, self._weights * self._peers[self._peer_of])
        bare = np.array([weight & MASK for weight in self._bare.values()], dtype=np.uint64)
        self._said[np.array(list(self._bare), dtype=np.intp)] += bare
        size = len(self._population.identities)
        self._rules, self._cuts = np.zeros(size, dtype=np.uint64), np.zeros(size, dtype=np.uint64)
        for subject in np.nonzero(self._said)[0].tolist():
            self._of(subject)[self._matching.members(subject // 2)] += self._said[subject]
        self._modes, self._ruled = np.zeros(size, dtype=np.uint64), np.ones(size, dtype=np.uint64)
        self._names = np.zeros(size, dtype=np.uint64)
        for number in range(size):
            self._describe(number)

    def totals(self) -> Sums:
        """Return, for each identity, a number that stands for who it is, its mode and its program with its peers."""
        return self._rules * self._ruled + self._cuts * np.uint64(3) + self._modes + self._names

    def grow(self, number: int) -> None:
        """Take in an identity that was never seen before."""
        for name in ("_rules", "_cuts", "_modes", "_ruled", "_names"):
            held = getattr(self, name)
            if number >= len(held):
                setattr(self, name, np.concatenate((held, np.zeros(number + 1 - len(held), dtype=np.uint64))))
        speaking = [each * 2 for each in self._matching.speaking(*self._population.samples[number])]
        self._rules[number] = self._said[speaking].sum(dtype=np.uint64)
        self._cuts[number] = self._said[[each + 1 for each in speaking]].sum(dtype=np.uint64)
        self._describe(number)

    def bring(self, number: int, step: int) -> None:
        """The members of an identity bring more (or less) to the address sets that they are in."""
        for selector in self._matching.speaking(*self._population.samples[number]):
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
        subjects: list[int] = []
        peers: list[int] = []
        weights: list[int] = []
        self._bare: dict[int, int] = {}
        self._naming: dict[int, list[int]] = {}
        for clause in self._book.clauses:
            subject = self._matching.number[clause.subject] * 2 + clause.quarantine
            told = (clause.direction, clause.line, clause.peers_only, self._book.wheres[clause.line.rule])
            weight = self._hash.value(told) | 1
            self._bare[subject] = self._bare.get(subject, 0) + weight
            if clause.line.peers.name:
                peer = self._sets[clause.line.peers.name]
                self._naming.setdefault(peer, []).append(len(subjects))
                subjects.append(subject)
                peers.append(peer)
                weights.append(weight)
        self._subjects = np.array(subjects, dtype=np.intp)
        self._peer_of = np.array(peers, dtype=np.intp)
        self._weights = np.array(weights, dtype=np.uint64)

    def _describe(self, number: int) -> None:
        """Set down who an identity is and which of its clauses count."""
        pairs, name = self._population.identities[number]
        told = "\x1f".join([f"{key}={value}" for key, value in pairs])
        mode, quarantined = self._mode(number)
        self._names[number] = self._hash.text(f"{told}\x1e{name}")
        self._modes[number] = self._hash.text(f"{mode.value} {quarantined}")
        self._ruled[number] = 0 if quarantined or mode is Mode.IDLE else 1

    def _mode(self, number: int) -> tuple[Mode, bool]:
        found, numbers = self._matching.found, self._matching.number
        cut = self._book.quarantined
        quarantined = cut is not None and number in found[numbers[cut]]
        for mode in self._book.modes:
            if number in found[numbers[mode.select]]:
                return mode.mode, quarantined
        return Mode.VISIBILITY, quarantined
