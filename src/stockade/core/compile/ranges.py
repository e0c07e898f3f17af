"""Is an address inside some prefixes? Asked of every address of a large inventory."""

import ipaddress
from bisect import bisect_right
from collections.abc import Iterable

from stockade.core.model.ids import Prefix


class Ranges:
    """Disjoint prefixes as sorted bounds."""

    def __init__(self, prefixes: Iterable[Prefix]) -> None:
        bounds: dict[int, list[tuple[int, int]]] = {4: [], 6: []}
        for prefix in prefixes:
            network = ipaddress.ip_network(prefix)
            bounds[network.version].append((int(network[0]), int(network[-1])))
        self.four, self._six = sorted(bounds[4]), sorted(bounds[6])
        """First and last address of each, as numbers; of IPv4 for whoever asks of many at once."""

    def __contains__(self, address: str) -> bool:
        bounds, number = (self._six, _six(address)) if ":" in address else (self.four, _four(address))
        at = bisect_right(bounds, (number, number if not bounds else bounds[-1][1])) - 1
        return at >= 0 and bounds[at][0] <= number <= bounds[at][1]


def _four(address: str) -> int:
    one, two, three, four = address.split(".")
    return int(one) << 24 | int(two) << 16 | int(three) << 8 | int(four)


def _six(address: str) -> int:
    return int(ipaddress.IPv6Address(address))
