"""Whom else a change of one allow opens to whom: exact, by the same judgement of both ends as a plan's.

Looks at the workloads that the changed rule names and at the rules that speak of its ports, and at no others: nothing
else can come out differently.
"""

from collections.abc import Iterable, Iterator
from itertools import chain, product
from typing import NamedTuple

from msgspec.structs import replace

from stockade.core import select
from stockade.core.compile.population import program_for
from stockade.core.compile.rulebook import Rulebook, rulebook
from stockade.core.model.inventory import Workload
from stockade.core.model.labels import NAME, Labels
from stockade.core.model.policy import Policy, PolicySet, Rule, Selected
from stockade.core.model.selector import ALL, Selector
from stockade.core.model.snapshot import Snapshot
from stockade.core.plan.changes import NEW, Change
from stockade.core.plan.parties import Party, judged, sets_at
from stockade.core.plan.permitted import Run, permitted, runs
from stockade.core.plan.portset import PortSet, Speaking, joined, written_out


class Group(NamedTuple):
    """Workloads that no rule in question tells apart; or else an address outside the inventory."""

    workloads: tuple[Workload, ...] = ()
    address: str = ""

    @property
    def ids(self) -> tuple[str, ...]:
        """What its ends are called here: ids, or the address."""
        return tuple(each.id for each in self.workloads) or (self.address,)


class Opened(NamedTuple):
    """Groups of ends of which every one of the first may talk to every one of the second on more ports."""

    sources: Group
    destinations: Group

    @property
    def number(self) -> int:
        """How many pairs of two different ends that is."""
        ones, others = self.sources.ids, self.destinations.ids
        return len(ones) * len(others) - len(set(ones).intersection(others))

    def pairs(self) -> Iterator[tuple[str, str]]:
        """Yield them by what each end is called here."""
        return (pair for pair in product(self.sources.ids, self.destinations.ids) if pair[0] != pair[1])


def opened(snapshot: Snapshot, change: Change, address: str) -> list[Opened]:
    """Return all that may talk on more ports after a change than before, each pair in one place.

    ``address`` stands for the end of the changed rule that lies outside the inventory, where there is one.
    """
    ports = joined(part for rule in _concerned(change) for part in written_out(change.policy, rule.on).ranges)
    was, now = (_book(policy, ports, snapshot) for policy in (snapshot.policy, change.policy))
    sorting = _Sorting(snapshot, (was, now))
    return [
        Opened(one, other)
        for one, other in _pairs(change, sorting, Group(address=address))
        if permitted(sorting.runs(now, one, other)) - permitted(sorting.runs(was, one, other))
    ]


def _concerned(change: Change) -> Iterator[Rule]:
    """Yield the rules that mean more after a change."""
    if not change.network:
        yield change.rule
        return
    for policy in change.policy.policies:
        for rule in policy.rules:
            if any(change.network in getattr(end, "names", ()) for end in (rule.source, rule.destination)):
                yield rule


def _pairs(change: Change, sorting: "_Sorting", outside: Group) -> Iterable[tuple[Group, Group]]:
    if change.network:
        everyone = sorting.groups(NEW, Selected(ALL))
        return chain(product(everyone, (outside,)), product((outside,), everyone))
    one, other = (
        sorting.groups(change.within, end) if isinstance(end, Selected) else [outside]
        for end in (change.rule.source, change.rule.destination)
    )
    return product(one, other)


def _book(policy: PolicySet, ports: PortSet, snapshot: Snapshot) -> Rulebook:
    """Write the rulebook of what speaks of some ports."""
    speaking = Speaking(policy, ports)
    kept = (replace(each, rules=tuple(rule for rule in each.rules if speaking.of(rule.on))) for each in policy.policies)
    return rulebook(replace(policy, policies=tuple(kept)), snapshot.lapsed)


class _Sorting:
    """Sorts workloads by all that two rulebooks can see of them."""

    def __init__(self, snapshot: Snapshot, books: tuple[Rulebook, Rulebook]) -> None:
        self.snapshot = snapshot
        found = [selector for book in books for selector in _selectors(book)]
        self._plain = tuple(dict.fromkeys(each for each in found if NAME not in select.keys(each)))
        self._naming = tuple(dict.fromkeys(each for each in found if NAME in select.keys(each)))
        self._alike: dict[tuple[Labels, bool], list[Workload]] = {}
        for _, each in sorted(snapshot.workloads.items()):
            if each.known and each.seen.owner is None:
                self._alike.setdefault((each.labels, judged(snapshot.hosts, each)), []).append(each)
        self._parties: dict[tuple[int, str], Party] = {}

    def groups(self, within: Policy, end: Selected) -> list[Group]:
        """Return the workloads that an end of a rule means, those that are alike together."""
        scope = [] if end.anywhere else [within.scope]
        named = [each for each in (end.selector, *scope) if NAME in select.keys(each)]
        plain = [each for each in (end.selector, *scope) if NAME not in select.keys(each)]
        found: dict[tuple[bool, ...], list[Workload]] = {}
        for (labels, here), members in self._alike.items():
            if all(select.matches(each, labels, "") for each in plain):
                sight = (here, *(select.matches(each, labels, "") for each in self._plain))
                for names, some in self._by_name(labels, members, named):
                    found.setdefault((*sight, *names), []).extend(some)
        return [Group(tuple(each)) for each in found.values()]

    def _by_name(
        self, labels: Labels, members: list[Workload], named: list[Selector]
    ) -> Iterable[tuple[tuple[bool, ...], list[Workload]]]:
        """Sort workloads of the same labels by what is said of their names; mostly nothing is."""
        if not named and not self._naming:
            return (((), members),)
        found: dict[tuple[bool, ...], list[Workload]] = {}
        for each in members:
            if all(select.matches(of, labels, each.name) for of in named):
                sight = tuple(select.matches(of, labels, each.name) for of in self._naming)
                found.setdefault(sight, []).append(each)
        return found.items()

    def runs(self, book: Rulebook, one: Group, other: Group) -> tuple[Run, ...]:
        """Judge what a group may say to another."""
        return runs(book, self._party(book, one), self._party(book, other))

    def _party(self, book: Rulebook, group: Group) -> Party:
        key = (id(book), group.ids[0])
        if key not in self._parties:
            self._parties[key] = self._made(book, group)
        return self._parties[key]

    def _made(self, book: Rulebook, group: Group) -> Party:
        if not group.workloads:
            return Party(group.address, networks=sets_at(book, self.snapshot.hosts, group.address))
        sample = group.workloads[0]
        program = program_for(book, sample) if judged(self.snapshot.hosts, sample) else None
        return Party(sample.name, (sample,), program)


def _selectors(book: Rulebook) -> Iterator[Selector]:
    yield from (clause.subject for clause in book.clauses)
    yield from (term.selector for term in book.terms.values())
    yield from (mode.select for mode in book.modes)
    if book.quarantined is not None:
        yield book.quarantined
