"""An index of labelled members: a selector becomes set algebra over one roaring bitmap per label value.

Promises the same answer as ``matches`` over every member, and costs that grow with what a selector mentions, not with
the members. Members are small numbers that the caller gives out (32 bits). Never keeps an empty bitmap.
"""

from array import array
from collections.abc import Sequence
from itertools import chain

import numpy as np
from pyroaring import BitMap

from stockade.core.model.labels import NAME, Labels
from stockade.core.model.selector import And, Equal, Everything, Has, In, Not, Or, Selector

Pair = tuple[str, str]
"""A key and a value."""

Carried = tuple[int, ...]
"""What a member carries: the numbers of its pairs, that of its name last."""


class Pairs(dict[str, "_Values"]):
    """Every pair of a key and a value that was met, numbered in the order of first sight: ``pairs[key][value]``."""

    def __init__(self) -> None:
        super().__init__()
        self.order: list[Pair] = []

    def __missing__(self, key: str) -> "_Values":
        self[key] = values = _Values(key, self.order)
        return values

    def carried(self, labels: Labels, name: str) -> Carried:
        """Return what a member of these labels and this name carries."""
        own = [self[label.key][label.value] for label in labels.items if label.key != NAME]
        return (*own, self[NAME][name])


class _Values(dict[str, int]):
    """The values of one key that were met."""

    def __init__(self, key: str, order: list[Pair]) -> None:
        super().__init__()
        self._key = key
        self._order = order

    def __missing__(self, value: str) -> int:
        self[value] = number = len(self._order)
        self._order.append((self._key, value))
        return number


class LabelIndex:
    """Known workloads (or identities) by number. An unknown one does not belong in it."""

    def __init__(self, pairs: Pairs | None = None) -> None:
        """``pairs`` numbers what members carry; whoever loads members gives the numbering that was used."""
        self._pairs = Pairs() if pairs is None else pairs
        self._all = BitMap()
        self._values: dict[Pair, BitMap] = {}
        self._keys: dict[str, BitMap] = {}
        """Those that were asked for since a member came or went that carries the key."""
        self._members: dict[int, Carried] = {}

    def __len__(self) -> int:
        return len(self._members)

    def __contains__(self, i: object) -> bool:
        return i in self._members

    def add(self, i: int, labels: Labels, name: str) -> None:
        """Add a member, or replace what was known of it."""
        carried = self._pairs.carried(labels, name)
        if self._members.get(i) == carried:
            return
        self.remove(i)
        self._members[i] = carried
        self._all.add(i)
        for number in carried:
            pair = self._pairs.order[number]
            self._values.setdefault(pair, BitMap()).add(i)
            self._keys.pop(pair[0], None)

    def load(self, members: Sequence[Carried]) -> None:
        """Fill an empty index with members 0, 1, 2, …: one bitmap is built for each pair, from all that carry it.

        A member need not carry what no selector will ask for.
        """
        self._members = dict(enumerate(members))
        self._all = BitMap(range(len(members)))
        sizes = np.fromiter(map(len, members), dtype=np.intp, count=len(members))
        carried = np.fromiter(chain.from_iterable(members), dtype=np.uint64, count=int(sizes.sum()))
        both = carried << _HALF | np.repeat(np.arange(len(members), dtype=np.uint64), sizes)
        both.sort()  # by pair, then member: one number each sorts far faster than an order of two
        carriers = array("I", both.astype(np.uint32).tobytes())
        bounds = np.searchsorted(both >> _HALF, np.arange(len(self._pairs.order) + 1, dtype=np.uint64)).tolist()
        for pair, start, stop in zip(self._pairs.order, bounds, bounds[1:], strict=False):
            if start < stop:
                self._values[pair] = BitMap(carriers[start:stop])

    def remove(self, i: int) -> None:
        """Forget a member; one that was never there is no matter."""
        if i not in self._members:
            return
        self._all.discard(i)
        for number in self._members.pop(i):
            pair = self._pairs.order[number]
            self._discard(pair, i)
            self._keys.pop(pair[0], None)

    def count(self, key: str, value: str) -> int:
        """Return how many members carry a label."""
        return len(self._values.get((key, value), _NOBODY))

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
                return self._carriers(key)
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
        positive = sorted([self._select(term) for term in terms if not isinstance(term, Not)], key=len)
        if len(positive) == len(terms):
            return BitMap.intersection(*positive)
        met = BitMap.intersection(*positive) if positive else self._all
        for term in terms:
            if not met:
                break
            if isinstance(term, Not):
                met = met - self._select(term.of)
        return met.copy() if len(positive) < 2 else met

    def _carriers(self, key: str) -> BitMap:
        if key not in self._keys:
            self._keys[key] = _union([bitmap for pair, bitmap in self._values.items() if pair[0] == key])
        return self._keys[key]

    def _discard(self, pair: Pair, i: int) -> None:
        bitmap = self._values[pair]
        bitmap.discard(i)
        if not bitmap:
            del self._values[pair]

    @staticmethod
    def _borrowed(selector: Selector) -> bool:
        return isinstance(selector, Everything | Equal | Has)


_NOBODY = BitMap()
_HALF = np.uint64(32)


def _union(parts: list[BitMap]) -> BitMap:
    return BitMap.union(*parts) if len(parts) > 1 else BitMap(parts[0]) if parts else BitMap()
