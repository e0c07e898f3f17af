"""The addresses by which hosts meet each other's workloads, in one list, so that all are asked of at once."""

from collections.abc import Iterable, Sequence

import numpy as np

from stockade.core.compile.addresses import LINK_LOCAL
from stockade.core.compile.hashing import Hashing
from stockade.core.compile.ranges import Ranges
from stockade.core.compile.rows import Numbers, Sums
from stockade.core.model.ids import Address
from stockade.core.model.inventory import Workload


class Directory:
    """``addresses[n]`` is claimed by ``workloads[places[n]]``. An address that two claim is there twice."""

    def __init__(self, workloads: Sequence[Workload]) -> None:
        self.workloads = workloads
        self.ids = [workload.seen.id for workload in workloads]
        self.addresses: list[Address] = []
        self.places: list[int] = []
        self.apart: list[Workload] = []
        """Workloads with addresses that nobody beyond their host meets: of its own realms, or link-local."""
        for place, workload in enumerate(workloads):
            for endpoint in workload.seen.endpoints:
                for address in endpoint.addresses:
                    if endpoint.realm or address.startswith(LINK_LOCAL):
                        self.apart.append(workload)
                    else:
                        self.addresses.append(address)
                        self.places.append(place)
        self._numbered = Numbered(self.addresses)

    def inside(self, ranges: Ranges, hashing: Hashing) -> "Enclosed":
        """Return what is claimed inside some ranges."""
        return Enclosed(ranges, self._numbered.inside(ranges), hashing)

    def brought(self, hashing: Hashing, disputed: Iterable[Address]) -> Sums:
        """Return, for each workload, the sum of its addresses' numbers, those left out that others claim too."""
        hashes = self._numbered.hashed(hashing)
        left_out = frozenset(disputed)
        if left_out:
            hashes[[place for place, address in enumerate(self.addresses) if address in left_out]] = 0
        found = np.zeros(len(self.workloads), dtype=np.uint64)
        np.add.at(found, np.array(self.places, dtype=np.intp), hashes)
        return found


class Enclosed:
    """The addresses inside some ranges that any workload claims, and the sum of their numbers."""

    def __init__(self, ranges: Ranges, addresses: set[Address], hashing: Hashing) -> None:
        self._ranges = ranges
        self._hash = hashing
        self.addresses = addresses
        self.total = self._sum(list(addresses))

    def shift(self, came: Iterable[Address], went: Iterable[Address]) -> None:
        """Some addresses are claimed now that were not before, and the reverse."""
        more, fewer = ([each for each in some if each in self._ranges] for some in (came, went))
        self.addresses.update(more)
        self.addresses.difference_update(fewer)
        self.total += self._sum(more) - self._sum(fewer)

    def _sum(self, addresses: Sequence[Address]) -> int:
        return int(Numbered(addresses).hashed(self._hash).sum(dtype=np.uint64)) if addresses else 0


class Numbered:
    """Some addresses, those of IPv4 as numbers, which is most of them nearly everywhere."""

    def __init__(self, addresses: Sequence[Address]) -> None:
        self._addresses = addresses
        self._six = [place for place, address in enumerate(addresses) if ":" in address]
        self._four: Numbers = np.delete(np.arange(len(addresses)), self._six)
        self._numbers = four_numbers([addresses[place] for place in self._four.tolist()] if self._six else addresses)

    def hashed(self, hashing: Hashing) -> Sums:
        """Return a number that stands for each address."""
        found = np.zeros(len(self._addresses), dtype=np.uint64)
        found[self._four] = hashing.words(self._numbers)
        for place in self._six:
            found[place] = hashing.text(self._addresses[place])
        return found

    def inside(self, ranges: Ranges) -> set[Address]:
        """Return the addresses that lie in some ranges."""
        found = {self._addresses[place] for place in self._six if self._addresses[place] in ranges}
        if ranges.four:
            first, last = np.array(ranges.four, dtype=np.uint64).T
            at = np.searchsorted(first, self._numbers, side="right") - 1
            within = (at >= 0) & (self._numbers <= last[at])
            found.update(self._addresses[place] for place in self._four[within].tolist())
        return found


def four_numbers(addresses: Sequence[Address]) -> Sums:
    """Return IPv4 addresses as numbers; ``ValueError`` where one is none."""
    octets = np.fromstring(".".join(addresses), dtype=np.uint64, sep=".").reshape(len(addresses), 4)
    return octets @ np.array([1 << 24, 1 << 16, 1 << 8, 1], dtype=np.uint64)
