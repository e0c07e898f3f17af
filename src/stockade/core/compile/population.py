"""Workloads → identities: the sets of labels that a rulebook can tell apart."""

from collections.abc import Iterable, Mapping

import msgspec

from stockade.core import select
from stockade.core.compile.rulebook import Clause, Rulebook, Term
from stockade.core.compile.text import digest
from stockade.core.model.ids import HostId, ProgramId, WorkloadId
from stockade.core.model.intent import Line, Program
from stockade.core.model.inventory import Host, Workload
from stockade.core.model.labels import NAME, Labels
from stockade.core.model.packet import Direction
from stockade.core.model.policy import Mode
from stockade.core.model.selector import Selector
from stockade.core.select.index import LabelIndex

Identity = tuple[tuple[tuple[str, str], ...], str]
"""What policy sees of a workload: the labels it mentions and, where it mentions names, the name."""


class Population:
    """The known workloads under one rulebook, by identity. Identities are numbered in the order of first sight."""

    def __init__(
        self,
        book: Rulebook,
        workloads: Iterable[Workload],
        hosts: Mapping[HostId, Host],
        keys: frozenset[str] = frozenset(),
    ) -> None:
        """``keys`` are dimensions to tell apart beyond those that the rulebook mentions."""
        self.book = book
        self.hosts = hosts
        self.keys = book.keys() | keys
        self.index = LabelIndex()
        self.numbers: dict[Identity, int] = {}
        self.members: list[list[Workload]] = []
        self.of: dict[WorkloadId, int] = {}
        self._projected: dict[Labels, tuple[tuple[str, str], ...]] = {}
        for workload in workloads:
            if workload.known:
                self._admit(workload)
        self.programs: dict[int, Program] = {}
        self._clauses = self._by_identity()

    def program(self, workload: WorkloadId) -> Program | None:
        """Return what a workload may send and receive; None where nobody knows it."""
        number = self.of.get(workload)
        if number is None:
            return None
        if number not in self.programs:
            self.programs[number] = self._program(number)
        return self.programs[number]

    def identity(self, workload: WorkloadId) -> int | None:
        """Return the number of a workload's identity; None where nobody knows it."""
        return self.of.get(workload)

    def meant(self, term: Term) -> list[Workload]:
        """Return the workloads that a term means, in the order of their identities."""
        found = [workload for number in self.index.select(term.selector) for workload in self.members[number]]
        return [each for each in found if each.seen.host not in self.hosts] if term.adrift else found

    def means(self, term: Term, workload: Workload) -> bool:
        """Tell whether a term means one workload."""
        if not workload.known or (term.adrift and workload.seen.host in self.hosts):
            return False
        return select.matches(term.selector, workload.labels, workload.name)

    def _admit(self, workload: Workload) -> None:
        labels = self._projected.get(workload.labels)
        if labels is None:
            labels = tuple((each.key, each.value) for each in workload.labels.items if each.key in self.keys)
            self._projected[workload.labels] = labels
        identity = (labels, workload.name if NAME in self.keys else "")
        number = self.numbers.setdefault(identity, len(self.numbers))
        if number == len(self.members):
            self.members.append([])
            self.index.add(number, workload.labels, workload.name)
        self.members[number].append(workload)
        self.of[workload.id] = number

    def _by_identity(self) -> list[list[int]]:
        """Return, for each identity, the numbers of the clauses whose subject it is."""
        found: list[list[int]] = [[] for _ in self.members]
        subjects: dict[Selector, list[int]] = {}
        for number, clause in enumerate(self.book.clauses):
            subjects.setdefault(clause.subject, []).append(number)
        for subject, clauses in subjects.items():
            for identity in self.index.select(subject):
                found[identity] += clauses
        return found

    def _program(self, number: int) -> Program:
        """The clauses of an identity are known; its members differ in nothing that counts."""
        clauses = (self.book.clauses[each] for each in self._clauses[number])
        return _program(self.book, self.members[number][0], clauses)


def program_for(book: Rulebook, workload: Workload) -> Program:
    """Return the program of one workload, in the inventory or imagined, from the rulebook alone."""
    own = (each for each in book.clauses if select.matches(each.subject, workload.labels, workload.name))
    return _program(book, workload, own)


def mode_of(book: Rulebook, workload: Workload) -> Mode:
    """Return the mode of the first document, in the order in which they count, that selects a workload."""
    for mode in book.modes:
        if select.matches(mode.select, workload.labels, workload.name):
            return mode.mode
    return Mode.VISIBILITY


def _program(book: Rulebook, workload: Workload, clauses: Iterable[Clause]) -> Program:
    mode = mode_of(book, workload)
    quarantined = book.quarantined is not None and select.matches(book.quarantined, workload.labels, workload.name)
    ways: dict[Direction, set[Line]] = {way: set() for way in Direction}
    for clause in clauses:
        if _counts(clause, mode, quarantined=quarantined):
            ways[clause.direction].add(clause.line)
    egress, ingress = (tuple(sorted(ways[way])) for way in (Direction.EGRESS, Direction.INGRESS))
    content = msgspec.json.encode((mode, quarantined, egress, ingress))
    return Program(ProgramId(digest(content)), mode, quarantined, egress, ingress)


def _counts(clause: Clause, mode: Mode, *, quarantined: bool) -> bool:
    """A quarantined workload has nothing but quarantine; an idle one no rules either."""
    if clause.quarantine:
        return not (quarantined and clause.peers_only)
    return not quarantined and mode is not Mode.IDLE
