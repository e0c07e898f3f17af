"""Questions → SQL. What a user says becomes a bound parameter; names of columns come from closed lists alone."""

from collections.abc import Collection, Sequence
from typing import Any, Final, NamedTuple

from stockade.adapters.clickhouse.ranges import ENDLESS, Segment
from stockade.adapters.clickhouse.schema import COUNTS, TABLES
from stockade.core.model.flow import TOGETHER
from stockade.core.model.labels import NAME
from stockade.core.model.selector import And, Equal, Everything, Has, In, Not, Or, Selector
from stockade.seams.flow_store import (
    LABELS,
    TOLD,
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

OF_KIND: Final = {
    Of.PROTOCOL: "protocol",
    Of.PORT: "port",
    Of.VERDICT: "verdict",
    Of.RULE: "rule",
    Of.PROCESS: "process",
    Of.HOST: "host",
    Of.END: "end",
    Of.VIA: "via",
    Of.SERVICE: "service",
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
OF_TIME: Final = {
    Of.MINUTE: "toUnixTimestamp(toStartOfMinute(at))",
    Of.HOUR: "toUnixTimestamp(toStartOfHour(at))",
    Of.DAY: "toUnixTimestamp(toStartOfDay(at, 'UTC'))",
}
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
NAMED: Final = {"source": "ends", "destination": "ends", "kind": "kinds"}
"""What a flow names by an id, and the table that has it."""
SUMS: Final = (*COUNTS, "first", "last")


class Bound:
    """The parameters of one statement: each value goes in here and leaves its placeholder."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}

    def __call__(self, value: Any, kind: str) -> str:
        """Bind a value of a ClickHouse type; return its placeholder."""
        for each in value if isinstance(value, list) else [value]:
            str(each).encode()  # half a character is refused before ClickHouse sees it
        name = f"p{len(self.values)}"
        self.values[name] = value
        return f"{{{name}:{kind}}}"


def groups_sql(
    query: FlowQuery, segments: Sequence[Segment], bound: Bound, large: Collection[str] = frozenset()
) -> str:
    """Return the statement that sums up; columns: the dimensions, the sums, the number of all groups.

    Flows are summed up by numbers: of all ends (or kinds) that are one in what is asked for, the lowest id stands for
    all. What these few ids stand for is looked up last. Of ``large`` tables only what the flows name is looked at,
    which takes another look at the flows.
    """
    asked = _Asked(query, segments, bound, large)
    names = [f"d{place}" for place in range(len(query.by))]
    chosen = [f"{_column(each, place)} AS d{place}" for place, each in enumerate(query.by)]
    shown = [*chosen, *(f"g.{name} AS {name}" for name in SUMS), "count() OVER () AS groups"]
    plain = [*names, *COUNTS, "toUnixTimestamp64Micro(first)", "toUnixTimestamp64Micro(last)", "groups"]
    return (
        f"SELECT {', '.join(plain)} FROM (SELECT {', '.join(shown)} "
        f"FROM ({_grouped(asked)}) AS g {_meanings(asked)}) "
        f"ORDER BY {_order(query, names)} LIMIT {bound(query.limit, 'UInt64')}"
    )


def looked_up(query: FlowQuery) -> tuple[str, ...]:
    """Return the tables in which what ids stand for is looked up."""
    return tuple(sorted({NAMED[name] for name in _ids(query.by)}))


def mark_sql(where: FlowFilter, segments: Sequence[Segment], seconds: int, bound: Bound) -> str:
    """Return the statement that tells whether flows are the same as before: rows, and two sums of hashes of them.

    One row for each piece of so many seconds that has any, by its number. Rows of what is summed up as it is kept may
    be joined in the meantime: their mark then differs, and they do not.
    """
    columns = f"source, destination, kind, {', '.join(SUMS)}"
    piece = f"intDiv(toUnixTimestamp(at), {int(seconds)}) AS piece"
    hashes = f"{piece}, cityHash64({columns}) AS one, xxHash64({columns}) AS other"
    read = " UNION ALL ".join(
        f"SELECT {hashes} FROM {TABLES[each.resolution]} WHERE {_conditions(where, each, bound)}" for each in segments
    )
    return f"SELECT piece, count(), sum(one), sum(other) FROM ({read}) GROUP BY piece ORDER BY piece"


def rows_sql(where: FlowFilter, segment: Segment, limit: int, after: Sequence[int | str], bound: Bound) -> str:
    """Return the statement for single flows, newest first; ``after``: the place in that order to go on from."""
    later = ""
    if after:
        last = ", ".join(bound(value, kind) for value, kind in zip(after, PLACE.values(), strict=True))
        later = f" AND ({', '.join(PLACE)}) < ({last})"
    newest = ", ".join(f"{name} DESC" for name in PLACE)
    return (
        f"SELECT toUnixTimestamp64Micro(first) AS began, toUnixTimestamp64Micro(last) AS ceased, stream, number, seq, "
        f"kind, source, destination, {', '.join(COUNTS)} FROM {TABLES[segment.resolution]} "
        f"WHERE {_conditions(where, segment, bound)}{later} ORDER BY {newest} LIMIT {bound(limit, 'UInt64')}"
    )


PLACE: Final = {"began": "Int64", "stream": "String", "number": "UInt64", "seq": "UInt32", "kind": "UInt64"}
"""The order of single flows: no two have the same place."""


class _Asked(NamedTuple):
    """A question for sums, where they are read, and the tables of which not all is looked at."""

    query: FlowQuery
    segments: Sequence[Segment]
    bound: Bound
    large: Collection[str]


def _grouped(asked: _Asked) -> str:
    """Return the query for the sums of each group, named by the ids that stand for it."""
    by = asked.query.by
    ids, times = _ids(by), _times(by)
    read = _read(asked)
    if len(ids) == 1:  # an end, or a kind, is that of many flows: it is looked up once
        read = _summed(read, [*ids, *times])
    standing = [f"the_{name}.standing AS {name}" for name in ids]
    keys = ", ".join([*(f"the_{name}.standing" for name in ids), *(f"f.{name}" for name in times)])
    grouped = f"GROUP BY {keys}" if keys else "HAVING count() > 0"
    columns = ", ".join([*standing, *(f"f.{name} AS {name}" for name in times), *_sums("f")])
    joins = " ".join(
        f"ANY LEFT JOIN ({_standing(name, asked)}) AS the_{name} ON f.{name} = the_{name}.id" for name in ids
    )
    return f"SELECT {columns} FROM ({read}) AS f {joins} {grouped}"


def _read(asked: _Asked) -> str:
    """Return what is read of each segment: the columns that the groups need, and no others."""
    by = asked.query.by
    times = [f"{OF_TIME[of]} AS {of.value}" for of in OF_TIME if of.value in _times(by)]
    return _of_segments(asked, ", ".join([*_ids(by), *times, *SUMS]))


def _of_segments(asked: _Asked, columns: str) -> str:
    return " UNION ALL ".join(
        f"SELECT {columns} FROM {TABLES[each.resolution]} WHERE {_conditions(asked.query.where, each, asked.bound)}"
        for each in asked.segments
    )


def _summed(read: str, keys: Sequence[str]) -> str:
    return f"SELECT {', '.join([*keys, *_sums('r')])} FROM ({read}) AS r GROUP BY {', '.join(keys)}"


def _sums(of: str) -> list[str]:
    counts = [f"sum({of}.{name}) AS {name}" for name in COUNTS]
    return [*counts, f"min({of}.first) AS first", f"max({of}.last) AS last"]


def _ids(by: Sequence[Dimension]) -> list[str]:
    return [name for name in NAMED if any(each.of not in OF_TIME and _needed(each) == name for each in by)]


def _times(by: Sequence[Dimension]) -> list[str]:
    return [of.value for of in OF_TIME if any(each.of is of for each in by)]


def _needed(each: Dimension) -> str:
    return OF_END[each.of][0] if each.of in OF_END else "kind"


def _standing(name: str, asked: _Asked) -> str:
    """Return the query for which id stands for each: the lowest of those that are one in what is asked for."""
    parts = ", ".join(dict.fromkeys(_looked_up(each, asked.bound) for each in _of(name, asked.query.by)))
    alike = f"SELECT min(id) AS standing, groupUniqArray(id) AS ids FROM {_named(name, asked)} GROUP BY {parts}"
    return f"SELECT standing, arrayJoin(ids) AS id FROM ({alike})"


def _named(name: str, asked: _Asked) -> str:
    """Return the table of what ids of this column stand for; of a large one, the rows that the flows name."""
    table = NAMED[name]
    return f"{table} WHERE id IN ({_of_segments(asked, name)})" if table in asked.large else table


def _of(name: str, by: Sequence[Dimension]) -> list[Dimension]:
    return [each for each in by if each.of not in OF_TIME and _needed(each) == name]


def _meanings(asked: _Asked) -> str:
    """Return the joins that find what ids stand for. ``ANY``: that is written again while it is in use."""
    by, joins = asked.query.by, []
    for name in _ids(by):
        wanted = [
            f"{_looked_up(each, asked.bound)} AS {name}{place}"
            for place, each in enumerate(by)
            if each.of not in OF_TIME and _needed(each) == name
        ]
        found = f"(SELECT id, {', '.join(wanted)} FROM {_named(name, asked)}) AS the_{name}"
        joins.append(f"ANY LEFT JOIN {found} ON g.{name} = the_{name}.id")
    return " ".join(joins)


def _looked_up(each: Dimension, bound: Bound) -> str:
    return OF_KIND[each.of] if each.of in OF_KIND else _of_end(each, bound)


def _of_end(each: Dimension, bound: Bound) -> str:
    if each.of in LABELS:
        key = bound(each.label, "String")
        otherwise = f"if(told_name = '', NULL, concat('{TOLD}', told_name))" if each.label == NAME else "NULL"
        return f"if(mapContains(labels, {key}), toNullable(toString(labels[{key}])), {otherwise})"
    name = OF_END[each.of][1]
    return "nullIf(toString(network), '')" if name == "network" else name


def _column(each: Dimension, place: int) -> str:
    return f"g.{each.of.value}" if each.of in OF_TIME else f"the_{_needed(each)}.{_needed(each)}{place}"


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
            *_kind(where, bound),
        ]
    )


def _kind(where: FlowFilter, bound: Bound) -> list[str]:
    conditions = [
        *_services(where.services, bound),
        *_one_of("verdict", [each.value for each in where.verdicts], bound),
        *_one_of("rule", where.rules, bound),
        *_one_of("host", where.hosts, bound),
        *_one_of("end", [each.value for each in where.ends], bound),
        *_one_of("via", [each.value for each in where.vias], bound),
        *_one_of("process", where.processes, bound),
        *_programs(where.programs, bound),
        *_one_of("service", where.opened_to, bound),
    ]
    return [f"kind IN (SELECT id FROM kinds WHERE {' AND '.join(conditions)})"] if conditions else []


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


def _programs(programs: Sequence[str], bound: Bound) -> list[str]:
    if not programs:
        return []
    together, wanted = bound(TOGETHER, "String"), bound(list(programs), "Array(String)")
    return [f"hasAny(splitByString({together}, toString(process)), {wanted})"]


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
        *_one_of("told_name", which.told, bound),
    ]
    if which.prefixes:
        prefixes = bound(
            [each if "/" in each else f"{each}/{_whole(each)}" for each in which.prefixes], "Array(String)"
        )
        conditions.append(f"arrayExists(prefix -> isIPAddressInRange(address, prefix), {prefixes})")
    if which.selector is not None:
        conditions.append(f"length(labels) > 1 AND {_selected(which.selector, bound)}")
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


def _selected(selector: Selector, bound: Bound) -> str:
    """Return a selector as a condition. Every workload has its ``name`` among its labels, a labelled one others too."""
    match selector:
        case Everything():
            return "true"
        case Equal(key=key, value=value):
            return _label(LabelCondition(key, Test.IN, (value,)), bound)
        case In(key=key, values=values):
            return _label(LabelCondition(key, Test.IN, values), bound)
        case Has(key=key):
            return _label(LabelCondition(key, Test.EXISTS), bound)
        case Not(of=of):
            return f"NOT ({_selected(of, bound)})"
        case And(of=parts):
            return f"({' AND '.join(_selected(each, bound) for each in parts)})"
        case Or(of=parts):
            return f"({' OR '.join(_selected(each, bound) for each in parts)})"
