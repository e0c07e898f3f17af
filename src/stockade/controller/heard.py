"""Traffic of one snapshot, kept as long as what is stored of it is the same: told by the store's marks, never by time.

What is kept says what would be read and merged anew. It is bounded, and kept only where nothing came in meanwhile.
"""

import threading
from collections.abc import Sequence

import msgspec

from stockade.controller.flow_reading import recorded
from stockade.controller.whose import Whose
from stockade.core.graph.merge import Telling, merged
from stockade.core.graph.values import Traffic
from stockade.core.model.snapshot import Snapshot
from stockade.seams.flow_store import FlowFilter, FlowMark, FlowStore

ANSWERS, TRAFFIC = 4, 100_000
"""Answers that are kept, and how much traffic in all of them."""


class Told(msgspec.Struct, frozen=True):
    """Traffic from ``since`` to ``until``: as asked, or wider. ``partial_before``: older than this not all is kept."""

    traffic: Sequence[Traffic]
    since: float
    until: float
    partial_before: float | None = None


class Heard:
    """Asks a store for the traffic of one snapshot. Safe from several threads."""

    def __init__(self, snapshot: Snapshot, told: Telling) -> None:
        self._snapshot, self._telling = snapshot, told
        self._lock = threading.Lock()
        self._kept: dict[tuple[str, ...], Sequence[Traffic]] = {}

    def traffic(
        self, store: FlowStore, since: float, until: float, filters: tuple[FlowFilter, ...], whose: Whose
    ) -> Told:
        """Return the traffic of a time that one of the filters asks for. Blocks."""
        marks = _marks(store, since, until, filters)
        key = tuple(each.text for each in marks)
        with self._lock:
            found = self._kept.get(key)
        if found is None:
            seen = recorded(store, self._snapshot, since, until, *filters, whose=whose, timed=False)
            found = merged(seen.flows, self._telling)
            if _marks(store, since, until, filters) == marks:
                self._keep(key, found)
        return Told(
            found,
            min([since, *(each.since for each in marks)]),
            max([until, *(each.until for each in marks)]),
            max([each.partial_before for each in marks if each.partial_before], default=None),
        )

    def _keep(self, key: tuple[str, ...], traffic: Sequence[Traffic]) -> None:
        with self._lock:
            self._kept[key] = traffic
            while len(self._kept) > ANSWERS or sum(map(len, self._kept.values())) > TRAFFIC:
                del self._kept[next(iter(self._kept))]


def _marks(store: FlowStore, since: float, until: float, filters: tuple[FlowFilter, ...]) -> tuple[FlowMark, ...]:
    return tuple(store.mark(msgspec.structs.replace(each, since=since, until=until)) for each in filters)
