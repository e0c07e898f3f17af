"""Birth records: when a workload was created, noticed, isolated, allowed and realised, one time each. Pure.

A record is told of when it is complete, and before that where that takes longer than ``PATIENCE``: one that is held,
for who knows how long, is on record too.

What runs already when an agent first looks is no birth, unless the intent on disk does not know it: then it was born
while no agent ran. Nobody was isolated, and nothing leaked, where policy denies its workload nothing.
"""

import msgspec

from stockade.core.compile.decide import enforces
from stockade.core.model.ids import WorkloadId
from stockade.core.model.intent import Intent
from stockade.core.model.inventory import Sighting, WorkloadKind, WorkloadState
from stockade.core.model.policy import Births
from stockade.wire import BirthRecord

PATIENCE = 1.0
"""Seconds that a record may take to be complete before it is told of as it is."""


class BirthBook:
    """Open records of workloads that are not yet realised, and which of them have been told of."""

    def __init__(self) -> None:
        self._records: dict[WorkloadId, BirthRecord] = {}
        self._done: set[WorkloadId] = set()
        self._told: set[WorkloadId] = set()
        self._looked = False

    def notice(self, sightings: tuple[Sighting, ...], intent: Intent | None, now: float) -> bool:
        """Open a record for each running workload that is new; tell whether there was one.

        ``intent``: what is in force, if anything is.
        """
        if not self._looked:
            self._looked = True
            self._done = set(_there_already(sightings, intent))
        present = {each.id for each in sightings}
        self._done &= present
        self._told &= present
        for gone in self._records.keys() - present:
            del self._records[gone]
        born = [
            each for each in sightings if each.id not in self._done and each.id not in self._records and _born(each)
        ]
        self._records |= {each.id: _record(each, intent, now) for each in born}
        return bool(born)

    def waiting(self) -> tuple[BirthRecord, ...]:
        """Return the open records that nobody was told of."""
        untold = sorted(self._records.keys() - self._told)
        self._told |= set(untold)
        return tuple(self._records[each] for each in untold)

    def realise(self, intent: Intent, now: float) -> tuple[BirthRecord, ...]:
        """Close the records of workloads that an intent, now in force, knows; return them."""
        programs = {program.id: program for program in intent.programs}
        known = {end.workload: programs[end.program] for end in intent.ends if end.workload and end.program}
        closed = []
        for id_ in sorted(self._records.keys() & known.keys()):
            record = self._records.pop(id_)
            isolated = now if record.isolated is None and enforces(known[id_]) else record.isolated
            closed.append(msgspec.structs.replace(record, isolated=isolated, allowed=now, realised=now))
            self._done.add(id_)
        return tuple(closed)


def _born(sighting: Sighting) -> bool:
    """Tell whether a workload can have a birth: one that runs, with a network namespace of its own."""
    return sighting.kind is not WorkloadKind.HOST and sighting.state is WorkloadState.RUNNING and sighting.owner is None


def _there_already(sightings: tuple[Sighting, ...], intent: Intent | None) -> list[WorkloadId]:
    """Return who was there before: by the intent, or where there is none, everybody."""
    judged = {end.workload for end in intent.ends} if intent else set()
    return [each.id for each in sightings if _born(each) and (not judged or not each.endpoints or each.id in judged)]


def _record(sighting: Sighting, intent: Intent | None, now: float) -> BirthRecord:
    """Where births are held the base drop isolates a workload before anybody has heard of it."""
    created = sighting.created
    held = intent is not None and intent.births is Births.HOLD
    isolated = (created if created is not None else now) if held else None
    return BirthRecord(sighting.id, sighting.name, created, now, isolated, runtime=sighting.facts.runtime)
