"""Events → snapshot. The last event of an object decides; nothing depends on the order across objects.

Objects are: each workload's sighting, each workload's operator labels, each host, and the policy (with what lapsed of
it). One event speaks of several: ``HostGone`` of its host and of every workload then on it, so it keeps its place
among their events. Operator labels are remembered whether or not their workload is there, until taken back.

Normal form: a workload that is stopped, or that shares another's network namespace, has no endpoints. One that a
document declares has those of its addresses that nobody reports as somebody's; what a source says of it is not heard.
"""

from collections.abc import Iterable, Mapping
from typing import TypeVar

import msgspec
from immutables import Map

from stockade.core.fold.declared import contested, declared_id, is_declared, sighting_of, taken
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
from stockade.core.model.policy import UnmanagedWorkload
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
        self._labeller = Labeller(start.policy)

    def apply(self, event: Event) -> Snapshot:
        """Take one event in and return the snapshot after it."""
        self.snapshot = _after(self.snapshot, event, self._labeller)
        policy, (rules, documents) = self.snapshot.policy, self._labeller.spoken
        if policy.label_rules is not rules or policy.workloads is not documents:
            self._labeller = Labeller(policy)
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
    return _after(snapshot, event, Labeller(snapshot.policy))


def _after(snapshot: Snapshot, event: Event, labeller: Labeller) -> Snapshot:
    before = snapshot._replace(
        revision=Revision(snapshot.revision + 1),
        hosts=_map(snapshot.hosts),
        workloads=_map(snapshot.workloads),
        operator_labels=_map(snapshot.operator_labels),
    )
    match event:
        case WorkloadSeen(sighting=sighting):
            return _reported(before, sighting.id, _normal(sighting), labeller)
        case WorkloadGone(id=id_):
            return _reported(before, id_, None, labeller)
        case HostSeen(host=host):
            return before._replace(hosts=_map(before.hosts).set(host.id, host))
        case HostGone(id=id_):
            return _host_gone(before, id_, labeller)
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


def _reported(snapshot: Snapshot, id_: WorkloadId, now: Sighting | None, labeller: Labeller) -> Snapshot:
    """Take what a source says of a workload, or that it is no more; declared ones may gain or lose addresses by it."""
    if is_declared(id_):
        return snapshot
    known = snapshot.workloads.get(id_)
    if now is None:
        after = snapshot._replace(workloads=_without(snapshot.workloads, id_))
    else:
        after = _workload_seen(snapshot, now, labeller)
    return _settled(after, [each for each in (known and known.seen, now) if each], labeller)


def _host_gone(snapshot: Snapshot, host: HostId, labeller: Labeller) -> Snapshot:
    gone = [each.seen for each in snapshot.workloads.values() if each.seen.host == host]
    workloads = _map(snapshot.workloads).mutate()
    for sighting in gone:
        del workloads[sighting.id]
    after = snapshot._replace(hosts=_without(snapshot.hosts, host), workloads=workloads.finish())
    return _settled(after, gone, labeller)


def _settled(snapshot: Snapshot, moved: list[Sighting], labeller: Labeller) -> Snapshot:
    """Settle anew what is left to those declared workloads that claim an address of any that moved."""
    documents = contested(snapshot.policy.workloads, moved)
    return snapshot._replace(workloads=_declaring(snapshot, documents, labeller)) if documents else snapshot


def _declaring(
    snapshot: Snapshot, documents: Iterable[UnmanagedWorkload], labeller: Labeller
) -> Map[WorkloadId, Workload]:
    """Put in the workloads of documents; one that stays the same stays the same object."""
    others = taken(each.seen for each in snapshot.workloads.values())
    workloads = _map(snapshot.workloads).mutate()
    for document in documents:
        sighting = sighting_of(document, others)
        declared = labeller.workload(sighting, snapshot.operator_labels.get(sighting.id, ()))
        if declared != snapshot.workloads.get(sighting.id):
            workloads[sighting.id] = declared
    return workloads.finish()


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
    old, new = snapshot.policy, event.policy
    if new.label_rules == old.label_rules and new.workloads == old.workloads:
        return after
    labeller = Labeller(new)
    after = after._replace(workloads=_declared_anew(after, labeller))
    return after if new.label_rules == old.label_rules else after._replace(workloads=_relabelled(after, labeller))


def _declared_anew(snapshot: Snapshot, labeller: Labeller) -> Map[WorkloadId, Workload]:
    """Put in every workload that documents declare, and take out those that none declares any more."""
    documents = snapshot.policy.workloads
    kept = {declared_id(each) for each in documents}
    workloads = _declaring(snapshot, documents, labeller).mutate()
    for id_ in snapshot.workloads:
        if is_declared(id_) and id_ not in kept:
            del workloads[id_]
    return workloads.finish()


def _relabelled(snapshot: Snapshot, labeller: Labeller) -> Map[WorkloadId, Workload]:
    """Label every workload anew; one whose labels stay the same stays the same object."""
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
