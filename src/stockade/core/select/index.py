"""An index of labelled members: a selector becomes set algebra over one roaring bitmap per label value.

Promises the same answer as ``matches`` over every member, and costs that grow with what a selector mentions, not with
the members. Members are small numbers that the caller gives out (32 bits). Never keeps an empty bitmap.
"""

from collections import defaultdict
from collections.abc import Iterable
from functools import reduce
from operator import and_
from typing import TypeVar

from pyroaring import BitMap

from stockade.core.model.labels import NAME, Labels
from stockade.core.model.selector import And, Equal, Everything, Has, In, Not, Or, Selector

Key = TypeVar("Key")
Pairs = tuple[tuple[str, str], ...]


class LabelIndex:
    """Known workloads (or identities) by number. An unknown one does not belong in it."""

    def __init__(self) -> None:
        self._all = BitMap()
        self._values: dict[tuple[str, str], BitMap] = {}
        self._keys: dict[str, BitMap] = {}
        self._members: dict[int, Pairs] = {}

    def __len__(self) -> int:
        return len(self._members)

    def __contains__(self, i: object) -> bool:
        return i in self._members

    def add(self, i: int, labels: Labels, name: str) -> None:
        """Add a member, or replace what was known of it."""
        pairs = _pairs(labels, name)
        if self._members.get(i) == pairs:
            return
        self.remove(i)
        self._members[i] = pairs
        self._all.add(i)
        for key, value in pairs:
            self._values.setdefault((key, value), BitMap()).add(i)
            self._keys.setdefault(key, BitMap()).add(i)

    def load(self, members: Iterable[tuple[int, Pairs]]) -> None:
        """Add many new members at once, each as pairs of key and value with the pair of its name last.

        One bitmap is built for each label value, from all that carry it.
        """
        values: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
        for i, pairs in members:
            self._members[i] = pairs
            for pair in pairs:
                values[pair].append(i)
        self._all |= BitMap(self._members)
        keys: dict[str, list[BitMap]] = {}
        for pair, carriers in values.items():
            bitmap = self._values.get(pair, _NOBODY) | BitMap(carriers)
            self._values[pair] = bitmap
            keys.setdefault(pair[0], []).append(bitmap)
        for key, bitmaps in keys.items():
            self._keys[key] = BitMap.union(self._keys.get(key, _NOBODY), *bitmaps)

    def remove(self, i: int) -> None:
        """Forget a member; one that was never there is no matter."""
        if i not in self._members:
            return
        self._all.discard(i)
        for key, value in self._members.pop(i):
            _discard(self._values, (key, value), i)
            _discard(self._keys, key, i)

    def select(self, selector: Selector) -> BitMap:
        """Return the members that match, as a bitmap of the caller's own."""
        found = self._select(selector)
        return found.copy() if self._borrowed(selector) else found

    def _select(self, selector: Selector) -> BitMap:
        """Return the members that match; a leaf's bitmap is the index's own and must not be changed."""
        match selector:
            case Everything():
                return self._all
            case Equal(key, value):
                return self._values.get((key, value), _NOBODY)
            case Has(key):
                return self._keys.get(key, _NOBODY)
            case In(key, values):
                return _union([self._values.get((key, value), _NOBODY) for value in values])
            case Not(of):
                return self._all - self._select(of)
            case Or(of):
                return _union([self._select(each) for each in of])
            case And(of):
                return self._conjunction(of)

    def _conjunction(self, terms: tuple[Selector, ...]) -> BitMap:
        """Meet the positive terms, smallest first, then take away what the negations name: no complement is built."""
        positive = sorted((self._select(term) for term in terms if not isinstance(term, Not)), key=len)
        met = reduce(and_, positive) if positive else self._all
        for term in terms:
            if not met:
                break
            if isinstance(term, Not):
                met = met - self._select(term.of)
        return met.copy() if len(positive) < 2 else met

    @staticmethod
    def _borrowed(selector: Selector) -> bool:
        return isinstance(selector, Everything | Equal | Has)


_NOBODY = BitMap()


def _union(parts: list[BitMap]) -> BitMap:
    return BitMap.union(*parts) if len(parts) > 1 else BitMap(parts[0]) if parts else BitMap()


def _pairs(labels: Labels, name: str) -> Pairs:
    return (*((label.key, label.value) for label in labels.items if label.key != NAME), (NAME, name))


def _discard(bitmaps: dict[Key, BitMap], key: Key, i: int) -> None:
    bitmap = bitmaps[key]
    bitmap.discard(i)
    if not bitmap:
        del bitmaps[key]
