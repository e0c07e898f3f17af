"""Random flows, and what a flow store answers about them: read from the seam's words, slow and obvious."""

import ipaddress
import random
from collections.abc import Iterable, Sequence
from functools import cmp_to_key

import msgspec

from stockade.core.model.flow import FlowEnd, FlowKey, StoredFlow, Tally, Verdict, Via
from stockade.core.model.flow_table import kept
from stockade.core.model.ids import Address, HostId, Prefix, RuleId, WorkloadId
from stockade.core.model.packet import Direction
from stockade.seams.flow_store import (
    Dimension,
    EndFilter,
    FlowFilter,
    FlowGroup,
    FlowQuery,
    LabelCondition,
    Measure,
    Of,
    Retention,
    ServiceRange,
    StoredBatch,
    Test,
    Value,
    stored,
)

ALWAYS = Retention(raw=10_000, minute=10_000, hour=10_000)
BEGAN = 1_700_002_800
SPAN = 3 * 3600
HOSTS = (HostId("host-a"), HostId("host-b"))
KEYS = ("app", "env", "role", "name", "net work", "it's")
VALUES = ("web", "db", "", "prod", "a'b", "é\\")
RULES = tuple(map(RuleId, ("shop/web-to-db", "default", "held", "", 'it\'s/"{r}"')))
PROCESSES = ("", "nginx (nginx.service)", "post'gres", "curl, nginx (nginx.service)")
UNITS = {Of.MINUTE: 60, Of.HOUR: 3600, Of.DAY: 86_400}
TOLD = ("", "api.example.com", "web")
NETWORKS = ("", "office", "inter'net")


def ends(dice: random.Random, count: int) -> list[FlowEnd]:
    """Return ends: workloads with labels, and addresses of nobody's, of both families."""
    found = []
    for place in range(count):
        address = Address(
            f"10.0.{place % 4}.{place}" if place % 3 else str(ipaddress.ip_address(f"2001:db8::{place:x}"))
        )
        if dice.random() < 0.3:
            found.append(FlowEnd(address, network=dice.choice(NETWORKS), told=dice.choice(TOLD)))
            continue
        labels = {key: dice.choice(VALUES) for key in KEYS if dice.random() < 0.6}
        found.append(FlowEnd(address, WorkloadId(f"docker:{place}"), tuple(sorted(labels.items()))))
    return found


def flows(dice: random.Random, host: HostId, count: int, known: Sequence[FlowEnd]) -> tuple[StoredFlow, ...]:
    """Return one host's flows: some of one key, some at the very edges of minutes and hours."""
    return tuple(_flow(dice, host, dice.choice(known), dice.choice(known)) for _ in range(count))


def _flow(dice: random.Random, host: HostId, source: FlowEnd, destination: FlowEnd) -> StoredFlow:
    first = BEGAN + dice.choice((dice.randrange(SPAN * 10**6) / 10**6, dice.randrange(SPAN // 60) * 60.0))
    key = FlowKey(
        source=source.address,
        destination=destination.address,
        protocol=dice.choice((1, 6, 17)),
        port=dice.choice((0, 53, 80, 443, 2048, 65535)),
        end=dice.choice(list(Direction)),
        verdict=dice.choice(list(Verdict)),
        rule=dice.choice(RULES),
        source_workload=dice.choice((None, source.workload)),
        destination_workload=dice.choice((None, destination.workload)),
        via=dice.choice(list(Via)),
        service=dice.choice(("", "10.9.9.9:80")),
        process=dice.choice(PROCESSES),
        name=destination.told,
    )
    tally = Tally(
        first=first,
        last=round(first + dice.randrange(10**7) / 10**6, 6),  # as microseconds say it
        connections=dice.randrange(5),
        packets=dice.randrange(1000),
        bytes_out=dice.choice((0, dice.randrange(10**12))),
        bytes_in=dice.randrange(10**6),
        ended=dice.randrange(5),
        seconds=dice.randrange(10**9) / 10**6,
    )
    return StoredFlow(host, source, destination, key, tally)


def world(seed: int, count: int = 1500) -> list[StoredBatch]:
    """Return batches of two hosts."""
    dice = random.Random(seed)
    known = ends(dice, 24)
    return [
        StoredBatch(host, "stream", number, BEGAN + SPAN, kept(flows(dice, host, count // 6, known)))
        for host in HOSTS
        for number in range(3)
    ]


def every(batches: Iterable[StoredBatch]) -> list[StoredFlow]:
    """Return the flows of batches."""
    return [flow for batch in batches for flow in stored(batch.host, batch.flows)]


def matches(flow: StoredFlow, where: FlowFilter) -> bool:
    """Say whether a flow is one that is asked for."""
    key = flow.key
    return (
        (where.since is None or flow.tally.first >= where.since)
        and (where.until is None or flow.tally.first < where.until)
        and _is(flow.source, where.source)
        and _is(flow.destination, where.destination)
        and (not where.services or any(_serves(key, each) for each in where.services))
        and key.verdict in (where.verdicts or (key.verdict,))
        and key.rule in (where.rules or (key.rule,))
        and flow.host in (where.hosts or (flow.host,))
        and key.end in (where.ends or (key.end,))
        and key.via in (where.vias or (key.via,))
        and key.process in (where.processes or (key.process,))
        and (not where.programs or any(each in where.programs for each in key.process.split(", ")))
        and key.service in (where.opened_to or (key.service,))
    )


def _serves(key: FlowKey, service: ServiceRange) -> bool:
    return service.protocol in (None, key.protocol) and service.first <= key.port <= service.last


def _is(end: FlowEnd, which: EndFilter) -> bool:
    labels = dict(end.labels)
    return (
        all(_holds(labels, each) for each in which.labels)
        and end.workload in (which.workloads or (end.workload,))
        and end.network in (which.networks or (end.network,))
        and end.told in (which.told or (end.told,))
        and (not which.prefixes or any(_inside(end.address, each) for each in which.prefixes))
        and which.known in (None, end.workload is not None)
    )


def _holds(labels: dict[str, str], condition: LabelCondition) -> bool:
    if condition.test is Test.EXISTS:
        return condition.key in labels
    if condition.test is Test.ABSENT:
        return condition.key not in labels
    inside = condition.key in labels and labels[condition.key] in condition.values
    return inside is (condition.test is Test.IN)


def _inside(address: str, prefix: str) -> bool:
    return ipaddress.ip_address(address) in ipaddress.ip_network(prefix)


def value(flow: StoredFlow, by: Dimension) -> Value:
    """Return a flow's value of one dimension."""
    side, _, what = by.of.value.partition(".")
    if what:
        end = flow.source if side == "source" else flow.destination
        if what == "label":
            return dict(end.labels).get(by.label, f"dns:{end.told}" if end.told and by.label == "name" else None)
        return {"workload": end.workload, "address": end.address, "network": end.network or None}[what]
    if by.of in UNITS:
        unit = UNITS[by.of]
        return int(flow.tally.first // unit * unit)
    if by.of is Of.HOST:
        return flow.host
    found = getattr(flow.key, by.of.value)
    return found.value if isinstance(found, Direction | Verdict | Via) else found


def groups(flows: Iterable[StoredFlow], query: FlowQuery) -> list[FlowGroup]:
    """Return every group, in order."""
    found: dict[tuple[Value, ...], list[Tally]] = {}
    for flow in flows:
        if matches(flow, query.where):
            found.setdefault(tuple(value(flow, each) for each in query.by), []).append(flow.tally)
    unordered = [FlowGroup(values, _sum(tallies)) for values, tallies in found.items()]
    return sorted(unordered, key=cmp_to_key(lambda one, other: _compare(one, other, query)))


def _compare(one: FlowGroup, other: FlowGroup, query: FlowQuery) -> int:
    turned = -1 if query.descending else 1
    if query.order is Measure.GROUP:
        return turned * _sign(_ordered(one), _ordered(other))
    return turned * _sign(measured(one, query.order), measured(other, query.order)) or _sign(
        _ordered(one), _ordered(other)
    )


def _sign(one: object, other: object) -> int:
    return (one > other) - (one < other)  # type: ignore[operator]


def _ordered(group: FlowGroup) -> list[tuple[bool, object]]:
    return [(each is not None, "" if each is None else _bytes(each)) for each in group.values]


def _bytes(each: str | int) -> object:
    return each.encode() if isinstance(each, str) else each


def measured(group: FlowGroup, measure: Measure) -> float:
    """Return what a group is ordered by."""
    if measure is Measure.BYTES:
        return group.sums.bytes_out + group.sums.bytes_in
    found: float = getattr(group.sums, measure.value.replace(" ", "_"))
    return found


def _sum(tallies: Sequence[Tally]) -> Tally:
    return Tally(
        first=min(each.first for each in tallies),
        last=round(max(each.last for each in tallies), 6),
        connections=sum(each.connections for each in tallies),
        packets=sum(each.packets for each in tallies),
        bytes_out=sum(each.bytes_out for each in tallies),
        bytes_in=sum(each.bytes_in for each in tallies),
        ended=sum(each.ended for each in tallies),
        seconds=sum(round(each.seconds * 10**6) for each in tallies) / 10**6,
    )


def some_filter(dice: random.Random, batches: Sequence[StoredBatch]) -> FlowFilter:
    """Return a random filter that has to do with the batches."""
    some = dice.choice(every(batches))

    def maybe(*values: object) -> tuple:  # type: ignore[type-arg]
        return values if dice.random() < 0.25 else ()

    moments = (None, some.tally.first, some.tally.first // 60 * 60, some.tally.first // 3600 * 3600)
    since, until = dice.choice(moments), dice.choice(moments)
    if until is not None and dice.random() < 0.7:
        until += dice.choice((1.5, 60, 3600, 5000))
    return FlowFilter(
        since=since,
        until=until,
        source=_end_filter(dice, some.source),
        destination=_end_filter(dice, some.destination),
        services=maybe(
            ServiceRange(dice.choice((None, some.key.protocol)), 0, some.key.port), ServiceRange(17, 53, 53)
        ),
        verdicts=maybe(some.key.verdict, Verdict.DENIED),
        rules=maybe(some.key.rule, RULES[4]),
        hosts=maybe(some.host),
        ends=maybe(some.key.end),
        vias=maybe(some.key.via),
        processes=maybe(some.key.process),
        programs=maybe(dice.choice(some.key.process.split(", "))),
        opened_to=maybe(some.key.service),
    )


def _end_filter(dice: random.Random, end: FlowEnd) -> EndFilter:
    if dice.random() < 0.4:
        return EndFilter()
    chosen = dice.randrange(6)
    labels = tuple(
        LabelCondition(dice.choice(KEYS), dice.choice(list(Test)), tuple(dice.sample(VALUES, 3)))
        for _ in range(dice.randrange(1, 3))
    )
    return EndFilter(
        labels=labels if chosen == 0 else (),
        workloads=(end.workload,) if chosen == 1 and end.workload else (),
        prefixes=(Prefix(end.address), Prefix("10.0.1.0/24"), Prefix("2001:db8::/125")) if chosen == 2 else (),
        networks=(end.network, "office") if chosen == 3 else (),
        known=dice.choice((True, False)) if chosen == 4 else None,
        told=(dice.choice(TOLD), "web") if chosen == 5 else (),
    )


def some_dimensions(dice: random.Random) -> tuple[Dimension, ...]:
    """Return up to four dimensions in any order."""
    return tuple(
        Dimension(of, dice.choice(KEYS)) if of.value.endswith("label") else Dimension(of)
        for of in dice.sample(list(Of), dice.randrange(5))
    )


def whole(flow: StoredFlow) -> StoredFlow:
    """Times are kept to the microsecond."""
    tally = flow.tally
    times = {name: round(getattr(tally, name), 6) for name in ("first", "last", "seconds")}
    return msgspec.structs.replace(flow, tally=msgspec.structs.replace(tally, **times))


def ordered(flows: Iterable[StoredFlow]) -> list[bytes]:
    """What there is of flows, in an order that depends on nothing else."""
    return sorted(msgspec.json.encode(whole(flow)) for flow in flows)
