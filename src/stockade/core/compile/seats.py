"""Which identities sit on which host, so that every host's fingerprint is one sum."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from stockade.core.compile.rows import Numbers, Rows, Sums
from stockade.core.model.ids import HostId


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
            start = self._flat.starts[row]
            self._flat.ends.numbers[start : start + len(identities)] = identities
        else:
            self._flat = None

    def prints(self, totals: Sums) -> Sums:
        """Return each host's sum: its own part, and each end's weight times what its identity is and says."""
        if not self.order:
            return self._static.copy()
        if self._flat is None:
            self._flat = self._flattened()
        ends = self._flat.ends
        return self._static + ends.totals(self._flat.weights * totals[ends.numbers])

    def _flattened(self) -> "_Flat":
        sizes = np.fromiter(map(len, self._identities), dtype=np.intp, count=len(self.order))
        weights = np.concatenate([self._places[:size] for size in sizes.tolist()])
        return _Flat(Rows(np.concatenate(self._identities), sizes), weights, np.cumsum(sizes) - sizes)


class _Flat(NamedTuple):
    """The ends of all hosts, host after host, with each end's weight, and where each host's begin."""

    ends: Rows
    weights: Sums
    starts: Numbers


_NUMBERS: Numbers = np.zeros(0, dtype=np.intp)
_PLACES = 256
