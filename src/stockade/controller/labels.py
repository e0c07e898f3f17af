"""Operator labels: set whole for one workload, audited, and refused where they could not be labels."""

from collections.abc import Mapping

from stockade.controller.loop import Controller
from stockade.controller.refused import Refused, Why
from stockade.controller.views import find
from stockade.core.fold.labelling import complaint
from stockade.core.model.event import LabelsSet
from stockade.core.model.inventory import Workload
from stockade.core.model.labels import Label
from stockade.seams.store import Commit, Entry
from stockade.wire.api import Caller

MOST = 64
"""Operator labels on one workload."""


async def set_labels(controller: Controller, name: str, labels: Mapping[str, str], by: Caller) -> Workload:
    """Make these all the operator labels of a workload; return it as it then is."""
    return await controller.exclusively(lambda: _set(controller, name, labels, by))


async def _set(controller: Controller, name: str, labels: Mapping[str, str], by: Caller) -> Workload:
    workload = find(controller.snapshot, name)
    _admit(labels)
    pairs = tuple(sorted(labels.items()))
    text = " ".join(f"{key}={value}" for key, value in pairs) or "none"
    entry = Entry(by.name, "labels", workload.id, detail=text, uid=by.uid)
    await controller.commit(Commit(events=(LabelsSet(workload.id, pairs, by.name),), audit=(entry,)))
    return controller.snapshot.workloads[workload.id]


def _admit(labels: Mapping[str, str]) -> None:
    if len(labels) > MOST:
        raise Refused(Why.INVALID, f"{len(labels)} labels are too many", remedy=f"Set at most {MOST}.")
    for key, value in sorted(labels.items()):
        if what := complaint(Label(key, value)):
            raise Refused(Why.INVALID, f"{key}={value}: {what}", remedy="Choose another key or value.")
