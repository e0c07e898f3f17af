"""What users ask of flows → what the store is asked, and its answers → what users are shown."""

import ipaddress
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import TypeVar

from stockade.controller.exporters.exporters import Exporters
from stockade.controller.refused import Refused, Why
from stockade.core import policy, select
from stockade.core.graph.scans import named
from stockade.core.graph.zoom import port_text
from stockade.core.model.flow import TOGETHER, FlowEnd, StoredFlow, Tally, Verdict, Via
from stockade.core.model.ids import HostId, Prefix, RuleId, WorkloadId
from stockade.core.model.labels import NAME, Label, Labels
from stockade.core.model.net import Ports, Protocol
from stockade.core.model.packet import Direction
from stockade.core.model.selector import Equal
from stockade.core.model.snapshot import Snapshot
from stockade.seams.flow_store import (
    TOLD,
    Dimension,
    EndFilter,
    FlowFilter,
    FlowGroup,
    FlowGroups,
    FlowPage,
    FlowStats,
    FlowStoreFailed,
    HostLoss,
    Measure,
    ServiceRange,
    dimension,
)
from stockade.wire.flows import (
    FlowEndView,
    FlowGroupsReply,
    FlowGroupView,
    FlowLossView,
    FlowsKept,
    FlowsReply,
    FlowStoreReply,
    FlowView,
)

NETWORK = "network:"
KNOWN, UNKNOWN = "known", "unknown"
NONE, LITERALLY = "none", "="
T = TypeVar("T")

# What is asked


def end_filter(text: str, snapshot: Snapshot) -> EndFilter:
    """Return what a text says of an end. ``Refused`` where it says nothing.

    An address or prefix; ``known`` or ``unknown``; ``network:NAME``; ``dns:NAME`` that a resolver told; a workload's
    id or name; else a selector.
    """
    if not text:
        return EndFilter()
    if text in (KNOWN, UNKNOWN):
        return EndFilter(known=text == KNOWN)
    if text.startswith(TOLD):
        return EndFilter(told=(text.removeprefix(TOLD).rstrip(".").lower(),))
    if text.startswith(NETWORK):
        return EndFilter(networks=(text.removeprefix(NETWORK),))
    if (prefix := _prefix(text)) is not None:
        return EndFilter(prefixes=(prefix,))
    if WorkloadId(text) in snapshot.workloads or ":" in text:
        return EndFilter(workloads=(WorkloadId(text),))
    if all(each.isalnum() or each in "-._/" for each in text) and text != "all":
        return EndFilter(selector=Equal(NAME, text))
    try:
        return EndFilter(selector=select.parse(text))
    except select.SelectorError as problem:
        raise Refused(
            Why.INVALID,
            f'"{text}" names no end of a flow: {problem}',
            remedy="Give a selector (role = web), a name, an address or prefix, network:NAME, dns:NAME, known.",
        ) from problem


def _prefix(text: str) -> Prefix | None:
    try:
        return Prefix(str(ipaddress.ip_network(text, strict=False)))
    except ValueError:
        return None


def services(text: str, snapshot: Snapshot) -> tuple[ServiceRange, ...]:
    """Return the ports that a text means: as policy writes them, or a service's name; several with commas."""
    found: list[Ports] = []
    for word in filter(None, (part.strip() for part in text.split(","))):
        named = next((each.ports for each in snapshot.policy.services if each.name == word), None)
        found += named if named is not None else (_ports(word, snapshot),)
    return tuple(
        ServiceRange(None if each.protocol is Protocol.ANY else int(each.protocol), each.first, each.last)
        for each in found
    )


def _ports(word: str, snapshot: Snapshot) -> Ports:
    try:
        return policy.ports_of(word)
    except policy.WordError as problem:
        services = [each.name for each in snapshot.policy.services]
        nearest = problem.nearest or next(iter(get_close_matches(word, services, 1)), "")
        near = f'; did you mean "{nearest}"?' if nearest else ""
        remedy = f"Expected: {problem.expected}."
        raise Refused(Why.INVALID, f'"{word}": {problem.message}{near}', remedy=remedy) from None


def verdicts(text: str) -> tuple[Verdict, ...]:
    """Return the verdicts that a text names, separated by commas; a dash may stand for a space."""
    by_name = {each.value: each for each in Verdict}
    words = [part.strip().replace("-", " ") for part in text.split(",") if part.strip()]
    if wrong := [word for word in words if word not in by_name]:
        raise Refused(Why.INVALID, f'"{wrong[0]}" is no verdict', remedy=f"One of: {', '.join(by_name)}.")
    return tuple(by_name[word] for word in words)


def judging_ends(text: str) -> tuple[Direction, ...]:
    """Return the ends that a text names: ``source`` is where connections leave, ``destination`` where they come in."""
    return _named(text, {"source": Direction.EGRESS, "destination": Direction.INGRESS} | _ends(), "end of a flow")


def vias(text: str) -> tuple[Via, ...]:
    """Return the ways that a text names, separated by commas."""
    return _named(text, {each.value: each for each in Via}, "way to a destination")


def _ends() -> dict[str, Direction]:
    return {each.value: each for each in Direction}


def _named(text: str, by_name: Mapping[str, T], what: str) -> tuple[T, ...]:
    words = [part.strip() for part in text.split(",") if part.strip()]
    if wrong := [word for word in words if word not in by_name]:
        raise Refused(Why.INVALID, f'"{wrong[0]}" is no {what}', remedy=f"One of: {', '.join(by_name)}.")
    return tuple(dict.fromkeys(by_name[word] for word in words))


def meant(text: str) -> str:
    """Return the value that a text means: itself, but for ``none``, which is that there is none.

    What follows ``=`` is meant literally: a program may be called ``none``.
    """
    return "" if text == NONE else text.removeprefix(LITERALLY)


def said(value: str) -> str:
    """Return the text that means a value and nothing else."""
    return f"{LITERALLY}{value}" if value else NONE


def among(program: str) -> str:
    """Return the text that means a program among those that were met at an end."""
    return said(program) if program == NONE or program.startswith(LITERALLY) else program


def _exactly(process: str) -> bool:
    return process == NONE or process.startswith(LITERALLY)


def flow_filter(snapshot: Snapshot, *, source: str = "", destination: str = "", on: str = "", verdict: str = "",
                rule: str = "", host: str = "", process: str = "", end: str = "", via: str = "", service: str = "",
                since: float | None = None, until: float | None = None) -> FlowFilter:  # fmt: skip
    """Return the filter that a user means. ``Refused`` where a part of it means nothing."""
    return FlowFilter(
        since=since,
        until=until,
        source=end_filter(source, snapshot),
        destination=end_filter(destination, snapshot),
        services=services(on, snapshot),
        verdicts=verdicts(verdict),
        rules=(RuleId(rule),) if rule else (),
        hosts=(HostId(host),) if host else (),
        ends=judging_ends(end),
        vias=vias(via),
        processes=(meant(process),) if _exactly(process) else (),
        programs=(process,) if process and not _exactly(process) else (),
        opened_to=(meant(service),) if service else (),
    )


def dimensions(text: str) -> tuple[Dimension, ...]:
    """Return what to group by, from names separated by commas. ``Refused`` where one is none."""
    try:
        return tuple(dimension(part.strip()) for part in text.split(",") if part.strip())
    except FlowStoreFailed as problem:
        raise Refused(Why.INVALID, problem.message, remedy=problem.remedy) from None


def measure(text: str) -> Measure:
    """Return what to order by; a dash may stand for a space."""
    by_name = {each.value: each for each in Measure}
    if (wanted := text.replace("-", " ")) not in by_name:
        raise Refused(Why.INVALID, f'"{text}" orders nothing', remedy=f"One of: {', '.join(by_name)}.")
    return by_name[wanted]


def passes(flow: StoredFlow, where: FlowFilter) -> bool:
    """Tell whether one flow is asked for, whatever its time: what the store does with what is stored."""
    key = flow.key
    return (
        meets(flow.source, where.source)
        and meets(flow.destination, where.destination)
        and (not where.services or any(_served(key.protocol, key.port, each) for each in where.services))
        and (not where.verdicts or key.verdict in where.verdicts)
        and (not where.rules or key.rule in where.rules)
        and (not where.hosts or flow.host in where.hosts)
        and (not where.ends or key.end in where.ends)
        and (not where.vias or key.via in where.vias)
        and (not where.processes or key.process in where.processes)
        and (not where.programs or not set(where.programs).isdisjoint(key.process.split(TOGETHER)))
        and (not where.opened_to or key.service in where.opened_to)
    )


def _served(protocol: int, port: int, each: ServiceRange) -> bool:
    return each.protocol in (None, protocol) and each.first <= port <= each.last


def meets(end: FlowEnd, which: EndFilter) -> bool:
    """Tell whether an end is one that is asked for."""
    if which.known is not None and which.known != (end.workload is not None):
        return False
    if which.networks and end.network not in which.networks:
        return False
    if which.told and end.told not in which.told:
        return False
    if which.workloads and end.workload not in which.workloads:
        return False
    at = ipaddress.ip_address(end.address)
    if which.prefixes and not any(at in ipaddress.ip_network(each) for each in which.prefixes):
        return False
    if which.selector is None:
        return True
    labels = Labels(tuple(Label(key, value) for key, value in end.labels if key != NAME))
    return bool(labels.items) and select.matches(which.selector, labels, dict(end.labels)[NAME])


# What is answered


def flows_reply(page: FlowPage) -> FlowsReply:
    """Describe single flows. Each end is described once: there are far more flows than ends."""
    met = {end for flow in page.flows for end in (flow.source, flow.destination)}
    ends = {end: _end_view(end) for end in met}
    flows = tuple(_view(flow, ends[flow.source], ends[flow.destination]) for flow in page.flows)
    return FlowsReply(flows=flows, after=page.after, partial_before=page.partial_before)


def flow_view(flow: StoredFlow) -> FlowView:
    """Describe one flow."""
    return _view(flow, _end_view(flow.source), _end_view(flow.destination))


def _view(flow: StoredFlow, source: FlowEndView, destination: FlowEndView) -> FlowView:
    key, tally = flow.key, flow.tally
    return FlowView(
        flow.host, tally.first, tally.last, source, destination,
        port_text(key.protocol, key.port), key.end, key.verdict, key.rule, key.via, key.service, key.process,
        *_counts(tally),
    )  # fmt: skip


def _end_view(end: FlowEnd) -> FlowEndView:
    labels = tuple([label for label in end.labels if label[0] != NAME])
    return FlowEndView(end.address, named(end), end.workload, labels, end.network, end.told)


def _counts(tally: Tally) -> tuple[int, int, int, int, int, float]:
    return tally.connections, tally.packets, tally.bytes_out, tally.bytes_in, tally.ended, tally.seconds


def groups_reply(by: str, found: FlowGroups) -> FlowGroupsReply:
    """Describe flows that are summed up."""
    names = tuple(part.strip() for part in by.split(",") if part.strip())
    groups = tuple(map(_group_view, found.groups))
    return FlowGroupsReply(
        by=names,
        groups=groups,
        total=found.total,
        since=found.since,
        until=found.until,
        partial_before=found.partial_before,
    )


def _group_view(group: FlowGroup) -> FlowGroupView:
    return FlowGroupView(group.values, *_counts(group.sums), group.sums.first, group.sums.last)


def store_reply(
    stats: FlowStats, losses: Iterable[HostLoss], skews: dict[HostId, float], exporters: Exporters | None = None
) -> FlowStoreReply:
    """Describe the store, newest loss first."""
    days = {"raw": stats.retention.raw, "minute": stats.retention.minute, "hour": stats.retention.hour}
    return FlowStoreReply(
        where=stats.where,
        version=stats.version,
        kept=tuple(
            FlowsKept(
                each.resolution.value, days[each.resolution.value], each.rows, each.bytes, each.oldest, each.newest
            )
            for each in stats.kept
        ),
        bytes=stats.bytes,
        limit=stats.retention.bytes,
        losses=tuple(
            FlowLossView(each.at, each.host, each.loss.where, each.loss.what, each.loss.count)
            for each in sorted(losses, reverse=True)
        ),
        skews=tuple(sorted((host, behind) for host, behind in skews.items() if behind)),
        exporters=exporters.views() if exporters else (),
        refused=exporters.refused if exporters else 0,
    )
