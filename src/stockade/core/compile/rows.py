"""Rows of numbers of different lengths, one after the other in one array, so that sums over all rows are one step."""

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Sums = NDArray[np.uint64]
"""Numbers that stand for sets; they wrap."""

Numbers = NDArray[np.intp]


class Rows(NamedTuple):
    """``numbers`` are those of all rows; ``sizes`` says how many are each row's."""

    numbers: Numbers
    sizes: Numbers

    def sums(self, values: Sums) -> Sums:
        """Return, for each row, the sum of the values that its numbers stand for."""
        running = np.zeros(len(self.numbers) + 1, dtype=np.uint64)
        np.cumsum(values[self.numbers], out=running[1:])
        ends = np.cumsum(self.sizes)
        totals: Sums = running[ends] - running[ends - self.sizes]
        return totals

    def spread(self, values: Sums, size: int) -> Sums:
        """Return ``size`` sums: each row's value is added at each of its numbers."""
        found = np.zeros(size, dtype=np.uint64)
        np.add.at(found, self.numbers, np.repeat(values, self.sizes))
        return found


def rows(lists: Sequence[Sequence[int]]) -> Rows:
    """Return lists as rows."""
    sizes = np.fromiter(map(len, lists), dtype=np.intp, count=len(lists))
    return Rows(np.fromiter(chain.from_iterable(lists), dtype=np.intp, count=int(sizes.sum())), sizes)


def sums(numbers: Iterable[int]) -> Sums:
    """Return numbers of any size as ones that wrap."""
    return np.array([number & _MASK for number in numbers], dtype=np.uint64)


_MASK = (1 << 64) - 1
