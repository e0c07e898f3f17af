"""Recorded flows, read back summed up by the minute or hour: what suggestions and replays judge."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

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
PLAIN = (
    Of.SOURCE_ADDRESS, Of.SOURCE_WORKLOAD, Of.SOURCE_NETWORK, Of.DESTINATION_ADDRESS, Of.DESTINATION_WORKLOAD,
    Of.DESTINATION_NETWORK, Of.PROTOCOL, Of.PORT, Of.END, Of.VERDICT, Of.HOST,
)  # fmt: skip
"""What every sum that is read back is by: what comes first of its values. Ends come first among these."""
END, ENDS = 3, 6
MORE = (Of.RULE, Of.VIA, Of.SERVICE, Of.PROCESS)
BY = (*PLAIN, *MORE)
NO_MORE: tuple[Value, ...] = ("", Via.DIRECT.value, "", "")


class Recorded(msgspec.Struct, frozen=True):
    """Flows, oldest first. ``partial_before``: older than this not all is kept.

    ``since`` and ``until`` are what was read: as asked, or wider where only minutes or hours are kept.
    """

    flows: tuple[StoredFlow, ...]
    partial_before: float | None = None
    since: float | None = None
    until: float | None = None


def recorded(
    store: FlowStore,
    snapshot: Snapshot,
    since: float,
    until: float,
    *ends: FlowFilter,
    whose: Whose | None = None,
    timed: bool = True,
) -> Recorded:
    """Return all flows of a time that one of the filters asks for, or all; labels are the snapshot's. Blocks.

    ``whose``: what that snapshot knows of addresses, where it was looked up already. Not ``timed``: each kind of flow
    once for the whole time, for who asks how much and not when.

    ``Refused`` where they are too many.
    """
    read = sums(store, since, until, *ends, step=step_of(until - since) if timed else None)
    flows = sorted(flows_of(read.found.values(), whose or Whose(snapshot)), key=lambda each: each.tally.first)
    return Recorded(tuple(flows), read.partial_before, read.since, read.until)


class Sums(msgspec.Struct, frozen=True):
    """What was read, by the values of ``BY`` and the step of time. Moments are as in ``Recorded``."""

    found: Mapping[tuple[Value, ...], FlowGroup]
    partial_before: float | None
    since: float
    until: float


def step_of(seconds: float) -> Of:
    """Return the step of time by which flows are read back."""
    return Of.MINUTE if seconds <= FINE else Of.HOUR


def sums(store: FlowStore, since: float, until: float, *ends: FlowFilter, step: Of | None = None) -> Sums:
    """Read sums of flows by all that they say, and by a step of time. ``Refused`` where they are too many. Blocks."""
    by = (*(Dimension(each) for each in BY), *((Dimension(step),) if step else ()))
    found, partial = dict[tuple[Value, ...], FlowGroup](), None
    begun, ended = since, until
    for each in ends or (FlowFilter(),):
        within = msgspec.structs.replace(each, since=since, until=until)
        told = store.groups(FlowQuery(within, by, Measure.FIRST, descending=False, limit=MOST))
        begun, ended = min(begun, told.since or begun), max(ended, told.until or ended)
        if told.total > MOST:
            raise Refused(
                Why.TOO_LARGE,
                f"{told.total} kinds of flows were recorded in that time, which are too many to look at at once",
                remedy="Ask about a shorter time, or about fewer workloads.",
            )
        found |= {each.values: each for each in told.groups}
        partial = max(filter(None, (partial, told.partial_before)), default=None)
    return Sums(found, partial, begun, ended)


DIRECTIONS = {each.value: each for each in Direction}
VERDICTS = {each.value: each for each in Verdict}
VIAS = {each.value: each for each in Via}


def flow_of(group: FlowGroup, source: FlowEnd, destination: FlowEnd, more: Sequence[Value] = NO_MORE) -> StoredFlow:
    """Return a sum that is by ``PLAIN`` first as a flow between two ends, with what it says ``MORE``.

    Told apart by place, for there are many.
    """
    protocol, port, end, verdict, host = group.values[ENDS : len(PLAIN)]
    rule, via, service, process = more
    key = FlowKey(
        source.address,
        destination.address,
        int(protocol or 0),
        int(port or 0),
        DIRECTIONS[str(end)],
        VERDICTS[str(verdict)],
        RuleId(str(rule or "")),
        source.workload,
        destination.workload,
        VIAS[str(via)],
        str(service or ""),
        str(process or ""),
    )
    return StoredFlow(HostId(str(host)), source, destination, key, group.sums)


def flows_of(groups: Iterable[FlowGroup], whose: Whose) -> Iterator[StoredFlow]:
    """Yield flows from sums by ``BY``."""
    outside: dict[tuple[Value, Value], FlowEnd] = {}
    for each in groups:
        source, destination = _end(each.values[:END], whose, outside), _end(each.values[END:ENDS], whose, outside)
        yield flow_of(each, source, destination, each.values[len(PLAIN) : len(BY)])


def _end(values: Sequence[Value], whose: Whose, outside: dict[tuple[Value, Value], FlowEnd]) -> FlowEnd:
    """Return an end as it was recorded; whose workload is gone has no labels any more."""
    address, workload, network = values
    if workload is not None:
        return whose.end(Address(str(address)), WorkloadId(str(workload)))
    if (found := outside.get((address, network))) is None:
        found = outside[address, network] = FlowEnd(Address(str(address)), network=str(network or ""))
    return found
