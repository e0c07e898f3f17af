"""Flows over the HTTP API: what may be asked of them, and what is answered. Times are seconds since the epoch (UTC)."""

import msgspec

from stockade.core.model.flow import Verdict, Via
from stockade.core.model.ids import Address, HostId, RuleId, WorkloadId
from stockade.core.model.packet import Direction
from stockade.wire.api import Message
from stockade.wire.exporters import ExporterView


class FlowEndView(msgspec.Struct, frozen=True):
    """One end, as it was known when the flow was stored. ``name`` is its workload's, its address where it has none.

    ``told`` is the name by which a resolver led the source to an address that is nobody's known; empty: not known.
    """

    address: Address
    name: str
    workload: WorkloadId | None = None
    labels: tuple[tuple[str, str], ...] = ()
    network: str = ""
    told: str = ""


class FlowView(msgspec.Struct, frozen=True):
    """What one host saw of one kind of connection in one batch (``docs/flows.md``). ``on`` is as policy writes it."""

    host: HostId
    first: float
    last: float
    source: FlowEndView
    destination: FlowEndView
    on: str
    end: Direction
    verdict: Verdict
    rule: RuleId
    via: Via
    service: str
    process: str
    connections: int
    packets: int
    bytes_out: int
    bytes_in: int
    ended: int
    seconds: float


class FlowsReply(Message, frozen=True, kw_only=True):
    """Flows, newest first. ``after``: ask with it for what comes behind these; None: there is nothing.

    ``partial_before``: flows before then are not kept singly any more; None: none of those asked for.
    """

    flows: tuple[FlowView, ...]
    after: str | None = None
    partial_before: float | None = None


class FlowGroupView(msgspec.Struct, frozen=True):
    """Flows summed up: their values of what they are grouped by; null where an end has no such label, or is nobody."""

    values: tuple[str | int | None, ...]
    connections: int
    packets: int
    bytes_out: int
    bytes_in: int
    ended: int
    seconds: float
    first: float
    last: float


class FlowGroupsReply(Message, frozen=True, kw_only=True):
    """The first of ``total`` groups. ``since`` and ``until`` are what was answered: maybe more than was asked."""

    by: tuple[str, ...]
    groups: tuple[FlowGroupView, ...]
    total: int
    since: float | None = None
    until: float | None = None
    partial_before: float | None = None


class FlowLossView(msgspec.Struct, frozen=True):
    """Something that was not recorded, or is no longer kept."""

    at: float
    host: HostId
    where: str
    what: str
    count: int


class FlowsKept(msgspec.Struct, frozen=True):
    """What is kept singly, by the minute or by the hour, and for how many days."""

    resolution: str
    days: int
    rows: int
    bytes: int
    oldest: float | None = None
    newest: float | None = None


class FlowStoreReply(Message, frozen=True, kw_only=True):
    """Where flows are kept, how many, and what was lost lately. ``limit``: bytes that they may take; null: any."""

    where: str
    version: str
    kept: tuple[FlowsKept, ...]
    bytes: int
    limit: int | None
    losses: tuple[FlowLossView, ...] = ()
    skews: tuple[tuple[HostId, float], ...] = ()
    """Seconds by which hosts' clocks are behind this controller's, where that is more than half a second."""
    exporters: tuple[ExporterView, ...] = ()
    """Devices without an agent, since this server's start, by address."""
    refused: int = 0
    """Datagrams of devices that are not on the list."""
