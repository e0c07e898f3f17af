"""Values ↔ the JSON text of a column. What cannot be read back is an error that names the row, never a guess."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

import immutables
import msgspec

from stockade.core.model.ids import Revision, Version, WorkloadId
from stockade.core.model.inventory import Host, Workload
from stockade.core.model.labels import NO_LABELS, Label, Labels
from stockade.core.model.policy import PolicySet
from stockade.core.model.snapshot import Snapshot
from stockade.decoding import ready
from stockade.seams.store import StoreFailed

T = TypeVar("T")


class _Checkpoint(msgspec.Struct, frozen=True):
    revision: Revision
    hosts: tuple[Host, ...]
    workloads: tuple[Workload, ...]
    policy: PolicySet
    version: Version
    lapsed: tuple[str, ...]
    operator_labels: tuple[tuple[WorkloadId, tuple[Label, ...]], ...]


def write(value: object) -> str:
    """Return a value's JSON; the same value gives the same text."""
    return msgspec.json.encode(value, order="deterministic").decode()


def read(text: str, kind: type[T], row: str) -> T:
    """Return the value of a column; ``row`` names it in the error."""
    try:
        return msgspec.json.decode(text, type=ready(kind))
    except msgspec.MsgspecError as problem:
        raise StoreFailed(
            f"the database's {row} cannot be read: {problem}",
            kept="The database was not touched; enforcement stays as it is.",
            remedy="Start the version of Stockade that wrote it, or restore the database from a backup.",
        ) from problem


def write_snapshot(snapshot: Snapshot) -> str:
    """Return a snapshot's JSON."""
    return write(
        _Checkpoint(
            snapshot.revision,
            tuple(snapshot.hosts[key] for key in sorted(snapshot.hosts)),
            tuple(snapshot.workloads[key] for key in sorted(snapshot.workloads)),
            snapshot.policy,
            snapshot.version,
            tuple(sorted(snapshot.lapsed)),
            tuple(sorted(snapshot.operator_labels.items())),
        )
    )


def read_snapshot(text: str, row: str) -> Snapshot:
    """Return the snapshot that was written. Equal labels are one object in it, as they are in one that was folded."""
    stored = read(text, _Checkpoint, row)
    return Snapshot(
        revision=stored.revision,
        hosts=immutables.Map({host.id: host for host in stored.hosts}),
        workloads=immutables.Map({workload.id: workload for workload in _labelled_once(stored.workloads)}),
        policy=stored.policy,
        version=stored.version,
        lapsed=frozenset(stored.lapsed),
        operator_labels=immutables.Map(stored.operator_labels),
    )


def _labelled_once(workloads: Iterable[Workload]) -> Iterator[Workload]:
    """Yield workloads with each set of labels, and each label, made once: there are many, and most are alike."""
    sets, single = {NO_LABELS: NO_LABELS}, dict[Label, Label]()
    for each in workloads:
        known = sets.get(each.labels)
        if known is None:
            known = Labels(tuple([single.setdefault(label, label) for label in each.labels.items]))
            sets[known] = known
        yield msgspec.structs.replace(each, labels=known)
