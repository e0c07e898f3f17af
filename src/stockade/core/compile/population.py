"""Workloads → identities: the sets of labels that a rulebook can tell apart, and the programs they run."""

from collections import defaultdict
from collections.abc import Iterable, Mapping

import msgspec

from stockade.core import select
from stockade.core.compile.matching import Matching
from stockade.core.compile.rulebook import Clause, Rulebook, Term
from stockade.core.compile.text import digest
from stockade.core.model.ids import HostId, ProgramId, WorkloadId
from stockade.core.model.intent import Line, Program
from stockade.core.model.inventory import Attachment, Host, Workload
from stockade.core.model.labels import NAME, Labels
from stockade.core.model.packet import Direction
from stockade.core.model.policy import Mode
from stockade.core.select.index import Carried, Pairs

CARRIED = (Attachment.BRIDGED, Attachment.ROUTED, Attachment.HOST)

Identity = Carried
"""What policy sees of a workload: the labels that it mentions and, where it mentions names, the name."""


class Population:
    """The known workloads under one rulebook, by identity. Identities are numbered in the order of first sight.

    An identity whose last member left keeps its number: it may come back, and nothing follows from a number.
    """

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
        self.named = NAME in self.keys
        self.pairs = Pairs()
        self._values = {key: self.pairs[key] for key in self.keys}
        self.identities: list[Identity] = []
        self.samples: list[tuple[Labels, str]] = []
        """One member's labels for each identity: of what policy mentions, they have just what the identity has."""
        self.members: list[dict[WorkloadId, Workload]] = []
        self.of: dict[WorkloadId, int] = {}
        self._numbers: dict[Identity, int] = {}
        self._programs: dict[int, Program] = {}
        self._place_all(workloads)
        self.matching = Matching(book.selectors(), self.pairs, self.identities)
        self._subjects = _by_subject(book, self.matching)

    def admit(self, workload: Workload) -> tuple[int, bool]:
        """Add a workload; return the number of its identity and whether that is new."""
        before = len(self.identities)
        number = self._place(workload, {workload.id: workload})
        if number == before:
            self.matching.add(number, *self.samples[number])
        return number, number == before

    def dismiss(self, workload: WorkloadId) -> int | None:
        """Remove a workload; return the number of the identity it had."""
        number = self.of.pop(workload, None)
        if number is not None:
            del self.members[number][workload]
        return number

    def identity(self, workload: WorkloadId) -> int | None:
        """Return the number of a workload's identity; None where nobody knows it."""
        return self.of.get(workload)

    def program(self, workload: WorkloadId) -> Program | None:
        """Return what a workload may send and receive; None where nobody knows it."""
        number = self.of.get(workload)
        return None if number is None else self.program_of(number)

    def speaking(self, number: int) -> list[int]:
        """Return the selectors, by number, that select an identity."""
        return self.matching.speaking(number, *self.samples[number])

    def program_of(self, number: int) -> Program:
        """Return the program of an identity."""
        if number not in self._programs:
            labels, name = self.samples[number]
            clauses = [
                self.book.clauses[each] for subject in self.speaking(number) for each in self._subjects.get(subject, ())
            ]
            self._programs[number] = _program(self.book, labels, name, clauses)
        return self._programs[number]

    def meant(self, term: Term) -> list[Workload]:
        """Return the workloads that a term means."""
        numbers = self.matching.members(self.matching.number[term.selector])
        found = [workload for number in numbers for workload in self.members[number].values()]
        return [each for each in found if self.adrift(each)] if term.adrift else found

    def means(self, term: Term, workload: Workload) -> bool:
        """Tell whether a term means one workload."""
        if not workload.known or (term.adrift and not self.adrift(workload)):
            return False
        return select.matches(term.selector, workload.labels, workload.name)

    def adrift(self, workload: Workload) -> bool:
        """Tell whether no host of ours judges at any of a workload's own ends."""
        carried = any(endpoint.attachment in CARRIED for endpoint in workload.seen.endpoints)
        return workload.seen.host not in self.hosts or not carried

    def _place_all(self, workloads: Iterable[Workload]) -> None:
        """Place the known ones; where names do not matter, those of one labels object together."""
        alike: defaultdict[int, dict[WorkloadId, Workload]] = defaultdict(dict)
        named = self.named
        for workload in workloads:
            seen = workload.seen
            alike[id(seen if named else workload.labels)][seen.id] = workload
        for group in alike.values():
            one = next(iter(group.values()))
            if one.labels.items:
                self._place(one, group)

    def _place(self, one: Workload, alike: dict[WorkloadId, Workload]) -> int:
        """Place workloads that policy cannot tell apart from ``one``; return the number of their identity."""
        identity = self._seen_by_policy(one)
        number = self._numbers.setdefault(identity, len(self._numbers))
        if number == len(self.members):
            self.identities.append(identity)
            self.samples.append((one.labels, one.name if self.named else ""))
            self.members.append(alike)
        else:
            self.members[number].update(alike)
        for id_ in alike:
            self.of[id_] = number
        return number

    def _seen_by_policy(self, workload: Workload) -> Identity:
        values = self._values
        carried = [values[each.key][each.value] for each in workload.labels.items if each.key in values]
        if self.named:
            carried.append(self.pairs[NAME][workload.name])
        return tuple(carried)


def program_for(book: Rulebook, workload: Workload) -> Program:
    """Return the program of one workload, in the inventory or imagined, from the rulebook alone."""
    own = (each for each in book.clauses if select.matches(each.subject, workload.labels, workload.name))
    return _program(book, workload.labels, workload.name, own)


def mode_of(book: Rulebook, labels: Labels, name: str) -> Mode:
    """Return the mode of the first document, in the order in which they count, that selects a workload."""
    for mode in book.modes:
        if select.matches(mode.select, labels, name):
            return mode.mode
    return Mode.VISIBILITY


def counts(clause: Clause, mode: Mode, *, quarantined: bool) -> bool:
    """A quarantined workload has nothing but quarantine; an idle one no rules either."""
    if clause.quarantine:
        return not (quarantined and clause.peers_only)
    return not quarantined and mode is not Mode.IDLE


def _program(book: Rulebook, labels: Labels, name: str, clauses: Iterable[Clause]) -> Program:
    mode = mode_of(book, labels, name)
    quarantined = book.quarantined is not None and select.matches(book.quarantined, labels, name)
    ways: dict[Direction, set[Line]] = {way: set() for way in Direction}
    for clause in clauses:
        if counts(clause, mode, quarantined=quarantined):
            ways[clause.direction].add(clause.line)
    egress, ingress = (tuple(sorted(ways[way])) for way in (Direction.EGRESS, Direction.INGRESS))
    content = msgspec.json.encode((mode, quarantined, egress, ingress))
    return Program(ProgramId(digest(content)), mode, quarantined, egress, ingress)


def _by_subject(book: Rulebook, matching: Matching) -> dict[int, list[int]]:
    subjects: dict[int, list[int]] = {}
    for number, clause in enumerate(book.clauses):
        subjects.setdefault(matching.number[clause.subject], []).append(number)
    return subjects
