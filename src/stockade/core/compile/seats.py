"""Which identities sit on which host, so that every host's fingerprint is one sum."""

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

from stockade.core.compile.ledger import Sums
from stockade.core.model.ids import HostId

Numbers = NDArray[np.intp]


class Seats:
    """For each host what it is by itself, and the identities of its ends, in the order in which it told of them.

    An end's weight is that of its place: ends that change identities with each other change the sum.
    """

    def __init__(self, hosts: Iterable[HostId], odd: Callable[[int], Sums]) -> None:
        """``odd(n)`` gives n odd numbers, one for each place; the first of them never change."""
        self.order = sorted(hosts)
        self.rows = {host: row for row, host in enumerate(self.order)}
        self._static = np.zeros(len(self.order), dtype=np.uint64)
        self._identities: list[Numbers] = [_NUMBERS] * len(self.order)
        self._odd = odd
        self._places = odd(_PLACES)
        self._flat: tuple[Numbers, Sums, Numbers] | None = None

    def seat(self, host: HostId, static: int, identities: list[int]) -> None:
        """Set down one host."""
        row = self.rows[host]
        if len(identities) > len(self._places):
            self._places = self._odd(2 * len(identities))
        same_size = len(self._identities[row]) == len(identities)
        self._static[row] = static
        self._identities[row] = np.array(identities, dtype=np.intp)
        if self._flat is not None and same_size:
            start = int(self._flat[2][row])
            self._flat[0][start : start + len(identities)] = self._identities[row]
        else:
            self._flat = None

    def prints(self, totals: Sums) -> Sums:
        """Return each host's sum: its own part, and each end's weight times what its identity is and says."""
        if not self.order:
            return self._static.copy()
        identities, weights, starts = self._flattened()
        ends = np.append(weights * totals[identities], np.uint64(0))
        sums = np.add.reduceat(ends, starts)
        empty = np.diff(np.append(starts, len(ends) - 1)) == 0
        return self._static + np.where(empty, np.uint64(0), sums)

    def _flattened(self) -> tuple[Numbers, Sums, Numbers]:
        if self._flat is None:
            sizes = np.array([len(each) for each in self._identities], dtype=np.intp)
            starts = np.concatenate((np.zeros(1, dtype=np.intp), np.cumsum(sizes)[:-1]))
            self._flat = np.concatenate(self._identities), _places(self._places, sizes), starts
        return self._flat


def _places(weights: Sums, sizes: Numbers) -> Sums:
    """Return each host's weights, host after host."""
    return np.concatenate([weights[:size] for size in sizes.tolist()])


_NUMBERS: Numbers = np.zeros(0, dtype=np.intp)
_PLACES = 256
