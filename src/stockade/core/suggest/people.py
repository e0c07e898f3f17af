"""Who stands at the ends of observed traffic, and the classes by which rules are to name them.

A class is a workload's values of a few dimensions: the usual ones, those that the selection itself speaks of, and for
workloads that have none of these whatever labels they have. Workloads of one class are taken to be alike: a rule that
means one of them means all, and says so.
"""

from collections.abc import Iterable
from itertools import combinations
from typing import NamedTuple

from stockade.core import select
from stockade.core.graph.judge import remembered
from stockade.core.model.flow import FlowEnd
from stockade.core.model.ids import WorkloadId
from stockade.core.model.inventory import Workload
from stockade.core.model.labels import NAME
from stockade.core.model.selector import ALL, And, Equal, Has, In, Not, Selector
from stockade.core.model.snapshot import Snapshot

USUAL = ("role", "app", "env", "loc")
"""The dimensions that policy is mostly written in, the most telling within an app first."""
APP = "app"
TERMS = 4
"""Dimensions that a rule names at most before each class is named in full."""

Class = tuple[tuple[str, str], ...]
"""(dimension, value), of the dimensions that the workload has."""


class Who(NamedTuple):
    """One end as rules name it: a class of workloads inside the scope or outside it, or a network set.

    ``name`` narrows a class to one workload, ``address`` a network to one address.
    """

    inside: bool = False
    of: Class = ()
    name: str = ""
    network: str = ""
    address: str = ""

    @property
    def app(self) -> str:
        """Its app, empty where it has none."""
        return dict(self.of).get(APP, "")


class People:
    """The known workloads of a snapshot, and those that flows remember, in classes."""

    def __init__(
        self,
        snapshot: Snapshot,
        scope: Selector,
        ends: Iterable[FlowEnd] = (),
        keys: frozenset[str] = frozenset(),
    ) -> None:
        """``keys`` are dimensions to tell classes apart by beyond the usual ones and the scope's."""
        self.snapshot = snapshot
        self._asked = select.keys(scope) | keys
        self.scope = scope
        present = [each for _, each in sorted(snapshot.workloads.items()) if each.known and each.seen.owner is None]
        gone = {end.workload: remembered(end) for end in sorted(ends, key=_by_id) if self._is_gone(end)}
        self.everyone = [*present, *(each for each in gone.values() if each.known)]
        self.keys = self._dimensions()
        self.classes: dict[Class, list[Workload]] = {}
        for each in self.everyone:
            self.classes.setdefault(self.class_of(each), []).append(each)
        self.inside = {of for of, members in self.classes.items() if self.is_inside(members[0])}
        self._named: dict[str, int] = {}
        for each in self.everyone:
            self._named[each.name] = self._named.get(each.name, 0) + 1

    def workload(self, end: FlowEnd) -> Workload | None:
        """Return who an end is: as the snapshot knows it (its owner, if it shares a namespace), else as it was."""
        if end.workload is None:
            return None
        found = self.snapshot.workloads.get(end.workload) or remembered(end)
        return self.snapshot.workloads.get(found.seen.owner, found) if found.seen.owner else found

    def is_inside(self, workload: Workload) -> bool:
        """Tell whether a workload lies in the scope."""
        return workload.known and select.matches(self.scope, workload.labels, workload.name)

    def class_of(self, workload: Workload) -> Class:
        """Return the class of a known workload."""
        values = ((key, workload.name if key == NAME else workload.labels.get(key)) for key in self.keys)
        return tuple((key, value) for key, value in values if value is not None)

    def who(self, workload: Workload) -> Who:
        """Return how rules name a known workload."""
        return Who(inside=self.is_inside(workload), of=self.class_of(workload))

    def members(self, who: Who) -> list[Workload]:
        """Return the workloads that an end means."""
        return [each for each in self.classes.get(who.of, ()) if who.name in ("", each.name)]

    def selectors(self, found: frozenset[Who]) -> list[tuple[Selector, frozenset[Who]]]:
        """Return the fewest and smallest selectors that mean just some ends, all inside or all outside the scope."""
        names = sorted(each for each in found if each.name)
        whole = frozenset(each.of for each in found if not each.name)
        inside = next(iter(found)).inside
        made = [(self._exactly(each), frozenset({each})) for each in names]
        split = self._split(whole, inside=inside) if whole else []
        return [(selector, frozenset(Who(inside, of) for of in part)) for selector, part in split] + made

    def _exactly(self, who: Who) -> Selector:
        name = Equal(NAME, who.name)
        if self._named.get(who.name) == 1:
            return name
        return select.normal(And((self._full(who.of), name))) if who.of else name

    def _split(self, classes: frozenset[Class], *, inside: bool) -> list[tuple[Selector, frozenset[Class]]]:
        found = self._smallest(classes, inside=inside)
        if found is not None:
            return [(found, classes)]
        if len(classes) == 1:
            return [(self._full(next(iter(classes))), classes)]
        parts: dict[str, set[Class]] = {}
        key = next(key for key in (APP, *self.keys) if len({dict(each).get(key) for each in classes}) > 1)
        for each in classes:
            parts.setdefault(dict(each).get(key, ""), set()).add(each)
        return [one for _, part in sorted(parts.items()) for one in self._split(frozenset(part), inside=inside)]

    def _smallest(self, classes: frozenset[Class], *, inside: bool) -> Selector | None:
        """Try few dimensions before many. Outside the scope an app is always named: its roles are its own affair."""
        among = self.inside if inside else self.classes.keys()
        usable = [key for key in self.keys if all(key in dict(each) for each in classes)]
        needed = {APP} & set(usable) if not inside else set()
        for count in range(1, TERMS + 1):
            for keys in combinations(usable, count):
                if needed <= set(keys):
                    wanted = {key: {dict(each)[key] for each in classes} for key in keys}
                    if all(each in classes or not _fits(each, wanted) for each in among):
                        return _all_of([_one_of(key, wanted[key]) for key in keys])
        return None

    def _full(self, of: Class) -> Selector:
        """Name a class by all that it has and all that it lacks."""
        has = dict(of)
        return _all_of([Equal(key, has[key]) if key in has else Not(Has(key)) for key in self.keys])

    def _dimensions(self) -> tuple[str, ...]:
        asked = self._asked
        carried = {label.key for each in self.everyone for label in each.labels.items} | {NAME}
        keys = [key for key in USUAL if key in carried]
        bare = (each for each in self.everyone if not any(each.labels.get(key) for key in keys))
        more = {label.key for each in bare for label in each.labels.items} | asked
        inside_first = [*keys, *sorted((more & carried) - set(keys))]
        fixed = [key for key in inside_first if key in asked]
        return tuple([key for key in inside_first if key not in asked] + fixed)

    def _is_gone(self, end: FlowEnd) -> bool:
        return end.workload is not None and end.workload not in self.snapshot.workloads


def _by_id(end: FlowEnd) -> tuple[WorkloadId, tuple[tuple[str, str], ...]]:
    return (end.workload or WorkloadId(""), end.labels)


def _fits(of: Class, wanted: dict[str, set[str]]) -> bool:
    has = dict(of)
    return all(has.get(key) in values for key, values in wanted.items())


def _one_of(key: str, values: set[str]) -> Selector:
    return Equal(key, next(iter(values))) if len(values) == 1 else In(key, tuple(sorted(values)))


def _all_of(terms: list[Selector]) -> Selector:
    """Join terms in the order in which people say them."""
    if not terms:
        return ALL
    terms = sorted(terms, key=_as_said)
    return terms[0] if len(terms) == 1 else And(tuple(terms))


SAID = (APP, "role", "env", "loc")


def _as_said(term: Selector) -> tuple[int, bool]:
    (key,) = select.keys(term)
    return (SAID.index(key) if key in SAID else len(SAID), isinstance(term, Not))
