"""Recorded flows, read back for anomalies: summed up, with the labels that make segments as they were at the time."""

from collections.abc import Sequence

from stockade.controller.flow_reading import END, ENDS, PLAIN, flow_of
from stockade.core.graph.baseline import SEGMENT
from stockade.core.graph.scans import target, target_of
from stockade.core.graph.values import Traffic
from stockade.core.model.flow import FlowEnd, StoredFlow
from stockade.core.model.ids import Address, Prefix, WorkloadId
from stockade.core.model.labels import NAME
from stockade.seams.flow_store import (
    Dimension,
    EndFilter,
    FlowFilter,
    FlowGroup,
    FlowQuery,
    FlowStore,
    Measure,
    Of,
    ServiceRange,
    Value,
)

KINDS = 100_000
"""The most sums that are read at once."""
SINGLE = 20_000
"""The most single flows that are read at once."""
LABELS = (*SEGMENT, NAME)
BY = (
    *map(Dimension, PLAIN),
    *(Dimension(end, key) for end in (Of.SOURCE_LABEL, Of.DESTINATION_LABEL) for key in LABELS),
)
Ends = dict[tuple[Value, ...], FlowEnd]


def summed(store: FlowStore, since: float, until: float) -> tuple[StoredFlow, ...] | None:
    """Return all flows of a time, each kind in one; None where there are too many kinds. Blocks."""
    told = store.groups(FlowQuery(FlowFilter(since=since, until=until), BY, Measure.FIRST, False, KINDS))
    if told.total > KINDS:
        return None
    ends: Ends = {}
    return tuple(_flow(each, ends) for each in told.groups)


def singly(
    store: FlowStore, some: Sequence[Traffic], since: float, until: float
) -> tuple[tuple[StoredFlow, ...], bool]:
    """Return the single flows between these ends on these ports, and whether they are all of them. Blocks."""
    wanted = {target(each) for each in some}
    where = FlowFilter(
        since=since,
        until=until,
        source=EndFilter(workloads=tuple(sorted({each.source.workload for each in some if each.source.workload}))),
        destination=EndFilter(prefixes=tuple(sorted({Prefix(each.destination.address) for each in some}))),
        services=tuple(ServiceRange(*at) for at in sorted({(each.protocol, each.port, each.port) for each in some})),
    )
    page = store.flows(where, SINGLE)
    return tuple(each for each in page.flows if target_of(each) in wanted), page.after is None


def _flow(group: FlowGroup, ends: Ends) -> StoredFlow:
    """Return a sum as a flow."""
    told, labels = group.values, group.values[len(PLAIN) :]
    source = _end((*told[:END], *labels[: len(LABELS)]), ends)
    destination = _end((*told[END:ENDS], *labels[len(LABELS) :]), ends)
    return flow_of(group, source, destination)


def _end(told: tuple[Value, ...], ends: Ends) -> FlowEnd:
    """Return an end as it was; the same value for the same end, of which there are few beside flows."""
    if (found := ends.get(told)) is None:
        address, workload, network, *values = told
        labels = tuple(sorted((key, str(text)) for key, text in zip(LABELS, values, strict=True) if text is not None))
        id_ = WorkloadId(str(workload)) if workload is not None else None
        found = ends[told] = FlowEnd(Address(str(address)), id_, labels, "" if id_ else str(network or ""))
    return found
