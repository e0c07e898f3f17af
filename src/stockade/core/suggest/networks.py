"""Network sets for addresses outside the inventory: the narrowest that policy has, as flows and policy know them."""

from stockade.core.model.flow import FlowEnd
from stockade.core.model.ids import Prefix
from stockade.core.model.snapshot import Snapshot
from stockade.core.plan.cells import holds
from stockade.core.plan.parties import World


class Sets:
    """The network sets of one snapshot."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.prefixes = World(snapshot._replace(workloads={})).prefixes
        self._by_size = sorted(self.prefixes, key=lambda name: (_size(self.prefixes[name]), name))
        bridges = (bridge for host in snapshot.hosts.values() for bridge in host.bridges)
        self._bridged = tuple(sorted({subnet for bridge in bridges for subnet in bridge.subnets}))
        self._found: dict[tuple[str, str], tuple[str, ...]] = {}

    def holding(self, end: FlowEnd) -> str:
        """Return the set to name an address by; empty where it is in none, as is all behind a bridge of ours."""
        return next(iter(self.all_holding(end)), "")

    def all_holding(self, end: FlowEnd) -> tuple[str, ...]:
        """Return the sets that hold an address: the one that it was stored with first, then the narrowest first."""
        key = (end.address, end.network)
        if key not in self._found:
            ours = holds(self._bridged, end.address)
            inside = [name for name in self._by_size if not ours and holds(self.prefixes[name], end.address)]
            self._found[key] = tuple(sorted(inside, key=lambda name: name != end.network))
        return self._found[key]


def _size(prefixes: tuple[Prefix, ...]) -> int:
    """Count addresses, an IPv4 one as many as the IPv6 ones of the same share of its family."""
    return sum(1 << (128 - int(each.rpartition("/")[2]) * (1 if ":" in each else 4)) for each in prefixes)
