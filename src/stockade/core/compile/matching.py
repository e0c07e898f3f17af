"""Many selectors at once: which members does each select, and which selectors select one member.

A selector that is a conjunction can only select a member that carries its rarest wanted label. Anchored there, the
few selectors that may speak of a member are found without trying them all.
"""

from array import array
from collections.abc import Iterator, Sequence

import numpy as np
from pyroaring import BitMap

from stockade.core import select
from stockade.core.compile.rows import Numbers, Rows
from stockade.core.model.labels import NAME, Labels
from stockade.core.model.selector import And, Equal, Selector
from stockade.core.select.index import Carried, LabelIndex, Pair, Pairs


class Matching:
    """Distinct selectors, numbered in the order given, over members that come and go."""

    def __init__(self, selectors: Sequence[Selector], pairs: Pairs, members: Sequence[Carried]) -> None:
        """``members`` says what each member carries, in the numbers of ``pairs``: at least what selectors ask for."""
        self.selectors = tuple(selectors)
        self.number = {selector: each for each, selector in enumerate(self.selectors)}
        self.index = LabelIndex(pairs)
        self.index.load(members)
        self.found: list[BitMap] = [self.index.select(selector) for selector in self.selectors]
        self._arrays: dict[int, Numbers] = {}
        self._speaking: dict[int, list[int]] = {}
        self._anchored: dict[Pair, list[int]] = {}
        self._adrift: list[int] = []
        for each, selector in enumerate(self.selectors):
            anchor = self._anchor(selector)
            (self._adrift if anchor is None else self._anchored.setdefault(anchor, [])).append(each)

    def members(self, number: int) -> Numbers:
        """Return the members that a selector selects, ascending."""
        if number not in self._arrays:
            self._arrays[number] = np.array(self.found[number].to_array(), dtype=np.intp)
        return self._arrays[number]

    def rows(self) -> Rows:
        """Return the members of every selector, a row each."""
        every = array("I")
        for found in self.found:
            every.extend(found.to_array())
        sizes = np.fromiter(map(len, self.found), dtype=np.intp, count=len(self.found))
        return Rows(np.array(every, dtype=np.intp), sizes)

    def speaking(self, member: int, labels: Labels, name: str) -> list[int]:
        """Return the selectors that select a member, which has these labels."""
        known = self._speaking.get(member)
        if known is None:
            found = self.found
            known = [each for each in self._candidates(labels, name) if member in found[each]]
            self._speaking[member] = known
        return known

    def add(self, member: int, labels: Labels, name: str) -> None:
        """Add a member that was never there."""
        self.index.add(member, labels, name)
        for each in self._candidates(labels, name):
            if select.matches(self.selectors[each], labels, name):
                self.found[each].add(member)
                self._arrays.pop(each, None)

    def _candidates(self, labels: Labels, name: str) -> Iterator[int]:
        yield from self._adrift
        yield from self._anchored.get((NAME, name), ())
        for label in labels.items:
            yield from self._anchored.get((label.key, label.value), ())

    def _anchor(self, selector: Selector) -> Pair | None:
        """Return the label without which a selector selects nobody: of several, the one that fewest carry."""
        parts = selector.of if isinstance(selector, And) else (selector,)
        wanted = [part for part in parts if isinstance(part, Equal)]
        if not wanted:
            return None
        _, key, value = min([(self.index.count(part.key, part.value), part.key, part.value) for part in wanted])
        return (key, value)
