"""Which identities sit on which host, so that every host's fingerprint is one sum."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from stockade.core.compile.ledger import Sums
from stockade.core.model.ids import HostId

Numbers = NDArray[np.intp]


class Seats:
    """For each host what it is by itself, and for each of its ends an identity and a weight."""

    def __init__(self, hosts: Iterable[HostId]) -> None:
        self.order = sorted(hosts)
        self.rows = {host: row for row, host in enumerate(self.order)}
        self._static = np.zeros(len(self.order), dtype=np.uint64)
        self._identities: list[Numbers] = [_NUMBERS] * len(self.order)
        self._weights: list[Sums] = [_SUMS] * len(self.order)
        self._flat: tuple[Numbers, Sums, Numbers] | None = None

    def seat(self, host: HostId, static: int, identities: list[int], weights: list[int]) -> None:
        """Set down one host."""
        row = self.rows[host]
        same_size = len(self._identities[row]) == len(identities)
        self._static[row] = static
        self._identities[row] = np.array(identities, dtype=np.intp)
        self._weights[row] = np.array(weights, dtype=np.uint64)
        if self._flat is not None and same_size:
            start = int(self._flat[2][row])
            self._flat[0][start : start + len(identities)] = self._identities[row]
            self._flat[1][start : start + len(identities)] = self._weights[row]
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
            self._flat = np.concatenate(self._identities), np.concatenate(self._weights), starts
        return self._flat


_NUMBERS: Numbers = np.zeros(0, dtype=np.intp)
_SUMS: Sums = np.zeros(0, dtype=np.uint64)
