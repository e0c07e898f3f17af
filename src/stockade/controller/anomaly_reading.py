"""Recorded flows, read back for anomalies: summed up, with the labels that make segments as they were at the time."""

from collections.abc import Iterator, Mapping, Sequence

from stockade.core.graph.baseline import SEGMENT
from stockade.core.graph.scans import Target, called, target
from stockade.core.graph.values import Traffic
from stockade.core.model.flow import FlowEnd, FlowKey, StoredFlow, Verdict
from stockade.core.model.ids import Address, HostId, Prefix, WorkloadId
from stockade.core.model.labels import NAME
from stockade.core.model.packet import Direction
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
    *map(Dimension, (
        Of.SOURCE_ADDRESS, Of.SOURCE_WORKLOAD, Of.SOURCE_NETWORK, Of.DESTINATION_ADDRESS, Of.DESTINATION_WORKLOAD,
        Of.DESTINATION_NETWORK, Of.PROTOCOL, Of.PORT, Of.END, Of.VERDICT, Of.HOST,
    )),
    *(Dimension(end, key) for end in (Of.SOURCE_LABEL, Of.DESTINATION_LABEL) for key in LABELS),
)  # fmt: skip
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


def target_of(flow: StoredFlow) -> Target:
    """Return who tries whom on what."""
    return (called(flow.source), called(flow.destination), flow.key.protocol, flow.key.port)


def _flow(group: FlowGroup, ends: Ends) -> StoredFlow:
    value = dict(zip(BY, group.values, strict=False))
    source = _end(value, Of.SOURCE_ADDRESS, Of.SOURCE_WORKLOAD, Of.SOURCE_NETWORK, Of.SOURCE_LABEL, ends)
    destination = _end(
        value, Of.DESTINATION_ADDRESS, Of.DESTINATION_WORKLOAD, Of.DESTINATION_NETWORK, Of.DESTINATION_LABEL, ends
    )
    key = FlowKey(
        source=source.address,
        destination=destination.address,
        protocol=int(value[Dimension(Of.PROTOCOL)] or 0),
        port=int(value[Dimension(Of.PORT)] or 0),
        end=Direction(value[Dimension(Of.END)]),
        verdict=Verdict(value[Dimension(Of.VERDICT)]),
        source_workload=source.workload,
        destination_workload=destination.workload,
    )
    return StoredFlow(HostId(str(value[Dimension(Of.HOST)])), source, destination, key, group.sums)


def _end(value: Mapping[Dimension, Value], at: Of, who: Of, where: Of, label: Of, ends: Ends) -> FlowEnd:
    """Return an end as it was; the same value for the same end, of which there are few beside flows."""
    told = tuple(_told(value, at, who, where, label))
    if (found := ends.get(told)) is None:
        address, workload, network, *values = told
        labels = tuple(sorted((key, str(text)) for key, text in zip(LABELS, values, strict=True) if text is not None))
        id_ = WorkloadId(str(workload)) if workload is not None else None
        found = ends[told] = FlowEnd(Address(str(address)), id_, labels, "" if id_ else str(network or ""))
    return found


def _told(value: Mapping[Dimension, Value], at: Of, who: Of, where: Of, label: Of) -> Iterator[Value]:
    yield from (value[Dimension(each)] for each in (at, who, where))
    yield from (value[Dimension(label, key)] for key in LABELS)
