"""Events → snapshot. The last event of an object decides; nothing depends on the order across objects.

Objects are: each workload's sighting, each workload's operator labels, each host, and the policy (with what lapsed of
it). One event speaks of several: ``HostGone`` of its host and of every workload then on it, so it keeps its place
among their events. Operator labels are remembered whether or not their workload is there, until taken back.

Normal form: a workload that is stopped, or that shares another's network namespace, has no endpoints.
"""

from collections.abc import Iterable, Mapping
from typing import TypeVar

import msgspec
from immutables import Map

from stockade.core.fold.labelling import Labeller
from stockade.core.model.event import (
    Event,
    HostGone,
    HostSeen,
    LabelsSet,
    PolicyActivated,
    QuarantineLapsed,
    WorkloadGone,
    WorkloadSeen,
)
from stockade.core.model.ids import HostId, Revision, WorkloadId
from stockade.core.model.inventory import Sighting, Workload, WorkloadState
from stockade.core.model.labels import Label, LabelSource
from stockade.core.model.snapshot import Snapshot

_K = TypeVar("_K")
_V = TypeVar("_V")

NOTHING = Snapshot()
"""Before the first event."""


class Folding:
    """A snapshot that follows events one at a time. ``snapshot`` is always the newest, and each is a value.

    It keeps the label rules parsed and equal label sets in one object between events; the snapshots it gives equal
    those of ``apply``.
    """

    def __init__(self, start: Snapshot = NOTHING) -> None:
        self.snapshot = start
        self._labeller = Labeller(start.policy.label_rules)

    def apply(self, event: Event) -> Snapshot:
        """Take one event in and return the snapshot after it."""
        self.snapshot = _after(self.snapshot, event, self._labeller)
        if self.snapshot.policy.label_rules is not self._labeller.rules:
            self._labeller = Labeller(self.snapshot.policy.label_rules)
        self._labeller.trim(len(self.snapshot.workloads))
        return self.snapshot


def fold(events: Iterable[Event], start: Snapshot = NOTHING) -> Snapshot:
    """Return the snapshot after ``events``."""
    folding = Folding(start)
    for event in events:
        folding.apply(event)
    return folding.snapshot


def apply(snapshot: Snapshot, event: Event) -> Snapshot:
    """Return the snapshot after one event; its revision is one higher, whether or not anything else changed."""
    return _after(snapshot, event, Labeller(snapshot.policy.label_rules))


def _after(snapshot: Snapshot, event: Event, labeller: Labeller) -> Snapshot:
    before = snapshot._replace(
        revision=Revision(snapshot.revision + 1),
        hosts=_map(snapshot.hosts),
        workloads=_map(snapshot.workloads),
        operator_labels=_map(snapshot.operator_labels),
    )
    match event:
        case WorkloadSeen(sighting=sighting):
            return _workload_seen(before, _normal(sighting), labeller)
        case WorkloadGone(id=id_):
            return before._replace(workloads=_without(before.workloads, id_))
        case HostSeen(host=host):
            return before._replace(hosts=_map(before.hosts).set(host.id, host))
        case HostGone(id=id_):
            return _host_gone(before, id_)
        case LabelsSet():
            return _labels_set(before, event, labeller)
        case PolicyActivated():
            return _policy_activated(before, event)
        case QuarantineLapsed(name=name):
            return _quarantine_lapsed(before, name)


def _map(mapping: Mapping[_K, _V]) -> Map[_K, _V]:
    return mapping if isinstance(mapping, Map) else Map(mapping)


def _without(mapping: Mapping[_K, _V], key: _K) -> Map[_K, _V]:
    return _map(mapping).delete(key) if key in mapping else _map(mapping)


def _normal(sighting: Sighting) -> Sighting:
    if sighting.endpoints and (sighting.state is WorkloadState.STOPPED or sighting.owner is not None):
        return msgspec.structs.replace(sighting, endpoints=())
    return sighting


def _workload_seen(snapshot: Snapshot, sighting: Sighting, labeller: Labeller) -> Snapshot:
    workload = labeller.workload(sighting, snapshot.operator_labels.get(sighting.id, ()))
    return snapshot._replace(workloads=_map(snapshot.workloads).set(sighting.id, workload))


def _host_gone(snapshot: Snapshot, host: HostId) -> Snapshot:
    workloads = _map(snapshot.workloads).mutate()
    for id_, workload in snapshot.workloads.items():
        if workload.seen.host == host:
            del workloads[id_]
    return snapshot._replace(hosts=_without(snapshot.hosts, host), workloads=workloads.finish())


def _labels_set(snapshot: Snapshot, event: LabelsSet, labeller: Labeller) -> Snapshot:
    by_hand = tuple(Label(key, value, LabelSource.OPERATOR, event.by) for key, value in sorted(event.labels))
    kept = _map(snapshot.operator_labels)
    after = snapshot._replace(operator_labels=kept.set(event.id, by_hand) if by_hand else _without(kept, event.id))
    workload = snapshot.workloads.get(event.id)
    return _workload_seen(after, workload.seen, labeller) if workload else after


def _policy_activated(snapshot: Snapshot, event: PolicyActivated) -> Snapshot:
    """Make a newer version the active one. Versions are immutable, so that the active one again changes nothing."""
    if event.version < snapshot.version or (event.version == snapshot.version and event.policy == snapshot.policy):
        return snapshot
    after = snapshot._replace(policy=event.policy, version=event.version, lapsed=frozenset())
    if event.policy.label_rules == snapshot.policy.label_rules:
        return after
    return after._replace(workloads=_relabelled(after))


def _relabelled(snapshot: Snapshot) -> Map[WorkloadId, Workload]:
    """Label every workload anew; one whose labels stay the same stays the same object."""
    labeller = Labeller(snapshot.policy.label_rules)
    workloads = _map(snapshot.workloads).mutate()
    for id_, workload in snapshot.workloads.items():
        again = labeller.workload(workload.seen, snapshot.operator_labels.get(id_, ()))
        if again != workload:
            workloads[id_] = again
    return workloads.finish()


def _quarantine_lapsed(snapshot: Snapshot, name: str) -> Snapshot:
    if all(quarantine.name != name for quarantine in snapshot.policy.quarantines):
        return snapshot
    return snapshot._replace(lapsed=snapshot.lapsed | {name})
