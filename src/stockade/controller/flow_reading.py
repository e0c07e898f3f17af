"""Recorded flows, read back summed up by the minute or hour: what suggestions and replays judge."""

from collections.abc import Iterable, Iterator

import msgspec

from stockade.controller.refused import Refused, Why
from stockade.controller.whose import Whose
from stockade.core.model.flow import FlowEnd, FlowKey, StoredFlow, Verdict, Via
from stockade.core.model.ids import Address, HostId, RuleId, WorkloadId
from stockade.core.model.packet import Direction
from stockade.core.model.snapshot import Snapshot
from stockade.seams.flow_store import Dimension, FlowFilter, FlowGroup, FlowQuery, FlowStore, Measure, Of, Value

FINE = 2 * 3600.0
"""Seconds of flows that are read by the minute; more are by the hour."""
MOST = 300_000
"""Sums read at once: what is more is asked for in parts."""
BY = (
    Of.SOURCE_ADDRESS, Of.SOURCE_WORKLOAD, Of.SOURCE_NETWORK, Of.DESTINATION_ADDRESS, Of.DESTINATION_WORKLOAD,
    Of.DESTINATION_NETWORK, Of.PROTOCOL, Of.PORT, Of.END, Of.VERDICT, Of.RULE, Of.HOST, Of.VIA, Of.SERVICE, Of.PROCESS,
)  # fmt: skip


class Recorded(msgspec.Struct, frozen=True):
    """Flows, oldest first. ``partial_before``: older than this not all is kept."""

    flows: tuple[StoredFlow, ...]
    partial_before: float | None = None


def recorded(
    store: FlowStore,
    snapshot: Snapshot,
    since: float,
    until: float,
    *ends: FlowFilter,
    whose: Whose | None = None,
) -> Recorded:
    """Return all flows of a time that one of the filters asks for, or all; labels are the snapshot's. Blocks.

    ``whose``: what that snapshot knows of addresses, where it was looked up already.

    ``Refused`` where they are too many.
    """
    step = Dimension(Of.MINUTE if until - since <= FINE else Of.HOUR)
    by = (*(Dimension(each) for each in BY), step)
    found, partial = dict[tuple[Value, ...], FlowGroup](), None
    for where in ends or (FlowFilter(),):
        timed = msgspec.structs.replace(where, since=since, until=until)
        told = store.groups(FlowQuery(timed, by, Measure.FIRST, descending=False, limit=MOST))
        if told.total > MOST:
            raise Refused(
                Why.TOO_LARGE,
                f"{told.total} kinds of flows were recorded in that time, which are too many to look at at once",
                remedy="Ask about a shorter time, or about fewer workloads.",
            )
        found |= {each.values: each for each in told.groups}
        partial = max(filter(None, (partial, told.partial_before)), default=None)
    flows = sorted(_flows(found.values(), whose or Whose(snapshot)), key=lambda each: each.tally.first)
    return Recorded(tuple(flows), partial)


def _flows(groups: Iterable[FlowGroup], whose: Whose) -> Iterator[StoredFlow]:
    for group in groups:
        value = dict(zip(BY, group.values, strict=False))
        source, destination = (_end(value, which, whose) for which in ("source", "destination"))
        key = FlowKey(
            source=source.address,
            destination=destination.address,
            protocol=int(value[Of.PROTOCOL] or 0),
            port=int(value[Of.PORT] or 0),
            end=Direction(value[Of.END]),
            verdict=Verdict(value[Of.VERDICT]),
            rule=RuleId(str(value[Of.RULE] or "")),
            source_workload=source.workload,
            destination_workload=destination.workload,
            via=Via(value[Of.VIA]),
            service=str(value[Of.SERVICE] or ""),
            process=str(value[Of.PROCESS] or ""),
        )
        yield StoredFlow(HostId(str(value[Of.HOST])), source, destination, key, group.sums)


def _end(value: dict[Of, Value], which: str, whose: Whose) -> FlowEnd:
    """Return an end as it was recorded; whose workload is gone has no labels any more."""
    address = Address(str(value[Of(f"{which}.address")]))
    workload = value[Of(f"{which}.workload")]
    if workload is not None:
        return whose.end(address, WorkloadId(str(workload)))
    return FlowEnd(address, network=str(value[Of(f"{which}.network")] or ""))
