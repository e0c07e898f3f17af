"""Which identities sit on which host, so that every host's fingerprint is one sum."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from stockade.core.compile.rows import Numbers, Sums
from stockade.core.model.ids import HostId


class Seats:
    """For each host what it is by itself, and the identities of its workloads, in the order in which it told of them.

    A workload's weight is that of its place: workloads that change identities with each other change the sum.
    """

    def __init__(self, hosts: Iterable[HostId], odd: Callable[[int], Sums]) -> None:
        """``odd(n)`` gives n odd numbers, one for each place; the first of them never change."""
        self.order = sorted(hosts)
        self.rows = {host: row for row, host in enumerate(self.order)}
        self._static = np.zeros(len(self.order), dtype=np.uint64)
        self._identities: list[Numbers] = [_NUMBERS] * len(self.order)
        self._odd = odd
        self._places = odd(_PLACES)
        self._flat: _Flat | None = None

    def seat(self, host: HostId, static: int, identities: list[int]) -> None:
        """Set down one host."""
        row = self.rows[host]
        if len(identities) > len(self._places):
            self._places = self._odd(2 * len(identities))
        same_size = len(self._identities[row]) == len(identities)
        self._static[row] = static
        self._identities[row] = np.array(identities, dtype=np.intp)
        if self._flat is not None and same_size:
            self._flat.put(row, identities)
        else:
            self._flat = None

    def prints(self, totals: Sums) -> Sums:
        """Return each host's sum: its own part, and each workload's weight times what its identity is and says."""
        if not self.order:
            return self._static.copy()
        if self._flat is None:
            self._flat = self._flattened()
        return self._static + self._flat.sums(totals)

    def _flattened(self) -> "_Flat":
        sizes = list(map(len, self._identities))
        weights = [part for size in sizes for part in (self._places[:size], _NOTHING)]
        identities = [part for own in self._identities for part in (own, _NOBODY)]
        starts = np.cumsum([0, *(size + 1 for size in sizes[:-1])])
        return _Flat(np.concatenate(identities), np.concatenate(weights), starts)


class _Flat(NamedTuple):
    """The workloads of all hosts, host after host, each host's closed by one that weighs nothing: none is empty."""

    identities: Numbers
    weights: Sums
    starts: Numbers

    def put(self, row: int, identities: list[int]) -> None:
        start = self.starts[row]
        self.identities[start : start + len(identities)] = identities

    def sums(self, totals: Sums) -> Sums:
        if not len(totals):
            return np.zeros(len(self.starts), dtype=np.uint64)
        return np.add.reduceat(self.weights * totals[self.identities], self.starts)


_NUMBERS: Numbers = np.zeros(0, dtype=np.intp)
_NOBODY: Numbers = np.zeros(1, dtype=np.intp)
_NOTHING: Sums = np.zeros(1, dtype=np.uint64)
_PLACES = 256
