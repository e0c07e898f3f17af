"""Questions → SQL. What a user says becomes a bound parameter; names of columns come from closed lists alone."""

from collections.abc import Sequence
from typing import Any, Final

from stockade.adapters.clickhouse.ranges import ENDLESS, Segment
from stockade.adapters.clickhouse.schema import COUNTS, TABLES
from stockade.seams.flow_store import (
    LABELS,
    Dimension,
    EndFilter,
    FlowFilter,
    FlowQuery,
    LabelCondition,
    Measure,
    Of,
    Resolution,
    ServiceRange,
    Test,
)

PLAIN: Final = {
    Of.PROTOCOL: "protocol",
    Of.PORT: "port",
    Of.VERDICT: "verdict",
    Of.RULE: "rule",
    Of.PROCESS: "process",
    Of.HOST: "host",
    Of.END: "end",
    Of.VIA: "via",
    Of.SERVICE: "service",
    Of.MINUTE: "minute",
    Of.HOUR: "hour",
}
OF_END: Final = {
    Of.SOURCE_LABEL: ("source", ""),
    Of.SOURCE_WORKLOAD: ("source", "workload"),
    Of.SOURCE_ADDRESS: ("source", "address"),
    Of.SOURCE_NETWORK: ("source", "network"),
    Of.DESTINATION_LABEL: ("destination", ""),
    Of.DESTINATION_WORKLOAD: ("destination", "workload"),
    Of.DESTINATION_ADDRESS: ("destination", "address"),
    Of.DESTINATION_NETWORK: ("destination", "network"),
}
OF_TIME: Final = {Of.MINUTE: "toUnixTimestamp(toStartOfMinute({}))", Of.HOUR: "toUnixTimestamp(toStartOfHour({}))"}
MEASURES: Final = {
    Measure.CONNECTIONS: "connections",
    Measure.PACKETS: "packets",
    Measure.BYTES_OUT: "bytes_out",
    Measure.BYTES_IN: "bytes_in",
    Measure.BYTES: "bytes_out + bytes_in",
    Measure.ENDED: "ended",
    Measure.SECONDS: "lived",
    Measure.FIRST: "first",
    Measure.LAST: "last",
}
DIMENSIONS_SHOWN: Final = (
    "source", "destination", "protocol", "port", "end", "verdict", "rule", "via", "service", "process",
)  # fmt: skip
SUMS: Final = (*COUNTS, "first", "last")


class Bound:
    """The parameters of one statement: each value goes in here and leaves its placeholder."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}

    def __call__(self, value: Any, kind: str) -> str:
        """Bind a value of a ClickHouse type; return its placeholder."""
        name = f"p{len(self.values)}"
        self.values[name] = value
        return f"{{{name}:{kind}}}"


def groups_sql(query: FlowQuery, segments: Sequence[Segment], bound: Bound) -> str:
    """Return the statement that sums up; columns: the dimensions, the sums, the number of all groups."""
    names = [f"d{place}" for place in range(len(query.by))]
    sums = ", ".join([f"sum(f.{name}) AS {name}" for name in COUNTS])
    inner = _segments(query, segments, bound)
    joins = _joins(query.by, bound)
    chosen = [f"{_column(each, place)} AS d{place}" for place, each in enumerate(query.by)]
    grouped = f"GROUP BY {', '.join(names)}" if names else "HAVING count() > 0"
    return (
        f"SELECT {''.join(each + ', ' for each in chosen)}{sums}, toUnixTimestamp64Micro(min(f.first)) AS first, "
        f"toUnixTimestamp64Micro(max(f.last)) AS last, count() OVER () AS groups "
        f"FROM ({inner}) AS f {joins} {grouped} ORDER BY {_order(query, names)} LIMIT {bound(query.limit, 'UInt64')}"
    )


def rows_sql(where: FlowFilter, segment: Segment, limit: int, after: Sequence[Any], bound: Bound) -> str:
    """Return the statement for single flows, newest first; ``after``: the place in that order to go on from."""
    place = "(toUnixTimestamp64Micro(first), host, stream, number, seq)"
    later = ""
    if after:
        kinds = ("Int64", "String", "String", "UInt64", "UInt32")
        last = ", ".join(bound(value, kind) for value, kind in zip(after, kinds, strict=True))
        later = f" AND {place} < ({last})"
    columns = ", ".join(["host", "stream", "number", "seq", *DIMENSIONS_SHOWN, *COUNTS])
    return (
        f"SELECT toUnixTimestamp64Micro(first) AS began, toUnixTimestamp64Micro(last) AS ceased, {columns} "
        f"FROM {TABLES[Resolution.RAW]} WHERE {_conditions(where, segment, bound)}{later} "
        f"ORDER BY {place.replace('(', '', 1)[:-1].replace(',', ' DESC,')} DESC LIMIT {bound(limit, 'UInt64')}"
    )


def _segments(query: FlowQuery, segments: Sequence[Segment], bound: Bound) -> str:
    """Return what is read of each segment: the columns that the groups need, and no others."""
    needed = list(dict.fromkeys(_needed(each) for each in query.by if each.of not in OF_TIME))
    times = [f"{OF_TIME[of].format('at')} AS {PLAIN[of]}" for of in OF_TIME if any(each.of is of for each in query.by)]
    columns = ", ".join([*needed, *times, *SUMS])
    return " UNION ALL ".join(
        f"SELECT {columns} FROM {TABLES[each.resolution]} WHERE {_conditions(query.where, each, bound)}"
        for each in segments
    )


def _needed(each: Dimension) -> str:
    return OF_END[each.of][0] if each.of in OF_END else PLAIN[each.of]


def _joins(by: Sequence[Dimension], bound: Bound) -> str:
    """Return the joins that find what the ends were. ``ANY``: an end is written again while it is in use."""
    joins = []
    for end in ("source", "destination"):
        wanted = [
            f"{_of_end(each, bound)} AS {end}{place}"
            for place, each in enumerate(by)
            if each.of in OF_END and OF_END[each.of][0] == end
        ]
        if wanted:
            joins.append(
                f"ANY LEFT JOIN (SELECT id, {', '.join(wanted)} FROM ends) AS {end}_end ON f.{end} = {end}_end.id"
            )
    return " ".join(joins)


def _of_end(each: Dimension, bound: Bound) -> str:
    if each.of in LABELS:
        key = bound(each.label, "String")
        return f"if(mapContains(labels, {key}), toNullable(toString(labels[{key}])), NULL)"
    name = OF_END[each.of][1]
    return "nullIf(toString(network), '')" if name == "network" else name


def _column(each: Dimension, place: int) -> str:
    if each.of in OF_END:
        end = OF_END[each.of][0]
        return f"{end}_end.{end}{place}"
    return f"f.{PLAIN[each.of]}"


def _order(query: FlowQuery, names: Sequence[str]) -> str:
    way = "DESC" if query.descending else "ASC"
    nulls = "LAST" if query.descending else "FIRST"
    by_group = [f"{name} {way} NULLS {nulls}" for name in names]
    if query.order is Measure.GROUP:
        return ", ".join(by_group) or "connections"
    return ", ".join([f"{MEASURES[query.order]} {way}", *(f"{name} ASC NULLS FIRST" for name in names)])


def _conditions(where: FlowFilter, segment: Segment, bound: Bound) -> str:
    return " AND ".join(
        [
            "put = 0",
            *_within(segment),
            *_end("source", where.source, bound),
            *_end("destination", where.destination, bound),
            *_services(where.services, bound),
            *_one_of("verdict", [each.value for each in where.verdicts], bound),
            *_one_of("rule", where.rules, bound),
            *_one_of("host", where.hosts, bound),
            *_one_of("end", [each.value for each in where.ends], bound),
            *_one_of("via", [each.value for each in where.vias], bound),
            *_one_of("process", where.processes, bound),
        ]
    )


def _within(segment: Segment) -> list[str]:
    """Numbers of our own, so that partitions are chosen by them; ``at`` is the bucket that ``first`` lies in."""
    raw = segment.resolution is Resolution.RAW
    found = []
    if segment.since > 0:
        found.append(f"at >= toDateTime({segment.since // 60_000_000 * 60}, 'UTC')")
        if raw:
            found.append(f"first >= fromUnixTimestamp64Micro(toInt64({segment.since}), 'UTC')")
    if segment.until < ENDLESS:
        found.append(f"at {'<=' if raw else '<'} toDateTime({segment.until // 1_000_000}, 'UTC')")
        if raw:
            found.append(f"first < fromUnixTimestamp64Micro(toInt64({segment.until}), 'UTC')")
    return found


def _one_of(column: str, values: Sequence[str], bound: Bound) -> list[str]:
    return [f"{column} IN {bound(list(values), 'Array(String)')}"] if values else []


def _services(services: Sequence[ServiceRange], bound: Bound) -> list[str]:
    if not services:
        return []
    return [f"({' OR '.join(_service(each, bound) for each in services)})"]


def _service(each: ServiceRange, bound: Bound) -> str:
    ports = f"port BETWEEN {bound(each.first, 'Int64')} AND {bound(each.last, 'Int64')}"
    return ports if each.protocol is None else f"(protocol = {bound(each.protocol, 'Int64')} AND {ports})"


def _end(end: str, which: EndFilter, bound: Bound) -> list[str]:
    conditions = [
        *(_label(each, bound) for each in which.labels),
        *_one_of("workload", which.workloads, bound),
        *_one_of("network", which.networks, bound),
    ]
    if which.prefixes:
        prefixes = bound(
            [each if "/" in each else f"{each}/{_whole(each)}" for each in which.prefixes], "Array(String)"
        )
        conditions.append(f"arrayExists(prefix -> isIPAddressInRange(address, prefix), {prefixes})")
    if which.known is not None:
        conditions.append(f"workload IS {'NOT ' if which.known else ''}NULL")
    return [f"{end} IN (SELECT id FROM ends WHERE {' AND '.join(conditions)})"] if conditions else []


def _whole(address: str) -> int:
    return 128 if ":" in address else 32


def _label(each: LabelCondition, bound: Bound) -> str:
    there = f"mapContains(labels, {bound(each.key, 'String')})"
    if each.test is Test.EXISTS:
        return there
    if each.test is Test.ABSENT:
        return f"NOT {there}"
    found = f"({there} AND labels[{bound(each.key, 'String')}] IN {bound(list(each.values), 'Array(String)')})"
    return found if each.test is Test.IN else f"NOT {found}"
