"""What is counted of all workloads of a snapshot: once, in one walk, however many pages show it."""

import threading
from collections import Counter
from collections.abc import Iterator, Mapping

import msgspec

from stockade.core import select
from stockade.core.fold.declared import contests
from stockade.core.model.ids import HostId
from stockade.core.model.labels import NAME
from stockade.core.model.policy import Mode
from stockade.core.model.snapshot import Contest, Snapshot
from stockade.core.oracle import mode


class Census(msgspec.Struct, frozen=True):
    """``carried`` and ``unlabelled`` count the workloads of each host; ``modes`` those that a host of ours carries."""

    carried: Mapping[HostId | None, int]
    unlabelled: Mapping[HostId | None, int]
    modes: tuple[tuple[Mode, int], ...]
    """Those that any has, least strict first."""
    contests: tuple[Contest, ...]

    @property
    def unknown(self) -> int:
        """How many nobody has labelled."""
        return sum(self.unlabelled.values())


class Censuses:
    """Remembers the census of the last snapshot. Safe from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: tuple[Snapshot, Census] | None = None

    def of(self, snapshot: Snapshot) -> Census:
        """Return what is counted of a snapshot."""
        with self._lock:
            if self._kept is None or self._kept[0] is not snapshot:
                self._kept = snapshot, taken(snapshot)
            return self._kept[1]


def taken(snapshot: Snapshot) -> Census:
    """Count the workloads of a snapshot."""
    every = snapshot.workloads.values()
    counted = Counter(_modes(snapshot))
    return Census(
        Counter(each.seen.host for each in every),
        Counter(each.seen.host for each in every if not each.known),
        tuple((each, counted[each]) for each in Mode if counted[each]),
        contests(snapshot),
    )


def _modes(snapshot: Snapshot) -> Iterator[Mode]:
    """Yield the mode of each known workload on a host of ours: equal labels are mostly one object, looked at once."""
    named = NAME in select.keys(*(each.select for each in snapshot.policy.modes))
    known: dict[int, Mode] = {}
    for each in snapshot.workloads.values():
        if not each.known or each.seen.host not in snapshot.hosts:
            continue
        found = None if named else known.get(id(each.labels))
        if found is None:
            found = known[id(each.labels)] = mode(snapshot, each)
        yield found
