"""Birth records: when a workload was created, noticed, isolated, allowed and realised, one time each."""

import msgspec

from stockade.core.model.ids import WorkloadId
from stockade.core.model.intent import Intent
from stockade.core.model.inventory import Sighting, WorkloadKind, WorkloadState
from stockade.core.model.policy import Births
from stockade.wire import BirthRecord


class BirthBook:
    """Open records of workloads that are not yet realised, and which have been told of."""

    def __init__(self) -> None:
        self._records: dict[WorkloadId, BirthRecord] = {}
        self._done: set[WorkloadId] = set()

    def notice(self, sightings: tuple[Sighting, ...], held: bool, now: float) -> None:
        """Open a record for each running workload that is new. ``held``: the base drop holds the unknown already."""
        present = {each.id for each in sightings}
        self._done &= present
        for each in sightings:
            if each.kind is WorkloadKind.HOST or each.state is not WorkloadState.RUNNING or each.owner is not None:
                continue
            if each.id in self._done or each.id in self._records:
                continue
            created = each.created
            isolated = (created if created is not None else now) if held else None
            self._records[each.id] = BirthRecord(each.id, each.name, created, now, isolated)
        for gone in self._records.keys() - present:
            del self._records[gone]

    def realise(self, intent: Intent, now: float) -> tuple[BirthRecord, ...]:
        """Close the records of workloads that an intent, now in force, knows; return them."""
        closed = []
        known = {end.workload for end in intent.ends if end.program is not None}
        for id_ in sorted(self._records.keys() & known):
            record = self._records.pop(id_)
            isolated = record.isolated if record.isolated is not None else now
            closed.append(msgspec.structs.replace(record, isolated=isolated, allowed=now, realised=now))
            self._done.add(id_)
        return tuple(closed)

    def held(self) -> tuple[BirthRecord, ...]:
        """Return the records that are still open."""
        return tuple(self._records[each] for each in sorted(self._records))


def holds(intent: Intent | None) -> bool:
    """Tell whether an intent in force holds unknown endpoints."""
    return intent is not None and intent.births is Births.HOLD
