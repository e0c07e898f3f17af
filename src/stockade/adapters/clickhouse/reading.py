"""Questions to the flow store: asked over one connection, and answered as ``seams.flow_store`` says."""

import base64
import ipaddress
from collections.abc import Sequence
from typing import Any

import msgspec
from clickhouse_connect.driver.client import Client

from stockade.adapters.clickhouse.asking import Bound, groups_sql, looked_up, mark_sql, rows_sql
from stockade.adapters.clickhouse.ranges import ENDLESS, HOUR, Ranges, Segment, piece_of, ranges
from stockade.adapters.clickhouse.schema import COUNTS, KIND
from stockade.adapters.clickhouse.trimming import floors
from stockade.core.model.flow import FlowEnd, FlowLoss, StoredFlow, Tally
from stockade.core.model.flow_table import FlowKind, KeptEnd, stored_flow
from stockade.core.model.ids import HostId
from stockade.decoding import ready
from stockade.seams.flow_store import (
    FlowFilter,
    FlowGroup,
    FlowGroups,
    FlowMark,
    FlowPage,
    FlowPiece,
    FlowQuery,
    FlowsRefused,
    FlowStoreFailed,
    HostLoss,
    Of,
    Resolution,
)

UNREAD = "Nothing was changed."
ASKED: dict[str, int | str] = {
    "join_algorithm": "hash",  # what ids stand for is little beside the flows: no flow is moved to meet it
    "max_memory_usage": 2_000_000_000,
    "max_bytes_before_external_group_by": 500_000_000,
    "max_execution_time": 60,
}
"""How a question is answered, and what it may take: bytes, bytes before it goes on on the disk, seconds."""
MANY = 200_000
"""Ends, or kinds, beyond which a question looks at those alone that its flows name. Whoever is asked for by strangers
gathers ends by the million; with few it is dearer to find out which are named than to look at all."""
MICRO = 1_000_000


class _Row(msgspec.Struct, frozen=True, array_like=True):
    """A row of ``rows_sql``."""

    began: int
    ceased: int
    stream: str
    number: int
    seq: int
    kind: int
    source: int
    destination: int
    connections: int
    packets: int
    bytes_out: int
    bytes_in: int
    ended: int
    lived: int


class _After(msgspec.Struct, frozen=True, array_like=True):
    """Where a page ended, as ``asking.PLACE`` has it."""

    began: int
    stream: str
    number: int
    seq: int
    kind: int


class Reader:
    """Asks over one connection. One question at a time."""

    def __init__(self, client: Client) -> None:
        self.client = client

    def groups(self, query: FlowQuery) -> FlowGroups:
        """Return flows summed up."""
        _check(query.where)
        minutes = any(each.of is Of.MINUTE for each in query.by)
        read = self._ranges(query.where, hours=not minutes)
        if not read.segments:
            return FlowGroups((), 0, query.where.since, query.where.until)
        bound = Bound()
        sql = groups_sql(query, read.segments, bound, self._large(looked_up(query)))
        found = self.client.query(sql, parameters=bound.values, settings=ASKED).result_rows
        return FlowGroups(
            groups=tuple(_group(row, query) for row in found),
            total=int(found[0][-1]) if found else 0,
            since=_answered(query.where.since, read.since),
            until=_answered(query.where.until, read.until),
            partial_before=_seconds(read.partial_before),
        )

    def mark(self, where: FlowFilter) -> FlowMark:
        """Return marks of some flows: of each piece of their time how many rows, and two sums of hashes of them."""
        _check(where)
        kept = floors(self.client)
        read = ranges(*_asked(where), kept)
        size = piece_of(read, kept)
        if size % HOUR:
            read = ranges(*_asked(where), kept, hours=False)
        bound, rows = Bound(), list[Any]()
        if read.segments:
            sql = mark_sql(where, read.segments, size // MICRO, bound)
            rows = list(self.client.query(sql, parameters=bound.values, settings=ASKED).result_rows)
        return FlowMark(
            tuple(_piece(row, read, size) for row in rows),
            size // MICRO,
            _answered(where.since, read.since) or 0.0,
            _answered(where.until, read.until) or ENDLESS / MICRO,
            _seconds(read.partial_before),
        )

    def flows(self, where: FlowFilter, limit: int, after: str | None = None) -> FlowPage:
        """Return single flows, newest first."""
        _check(where)
        since, until = _asked(where)
        begins = floors(self.client).raw
        bound = Bound()
        sql = rows_sql(where, Segment(Resolution.RAW, since, until), limit + 1, _place(after), bound)
        found = self.client.query(sql, parameters=bound.values, settings=ASKED).result_rows
        rows = [msgspec.convert(row, ready(_Row)) for row in found]
        shown = rows[:limit]
        return FlowPage(
            flows=self._whole(shown),
            after=_cursor(shown[-1]) if shown and len(rows) > limit else None,
            partial_before=_seconds(begins) if since < begins else None,
        )

    def losses(self, since: float, until: float) -> tuple[HostLoss, ...]:
        """Return what was lost, oldest first."""
        rows = self.client.query(
            "SELECT toUnixTimestamp64Micro(at), host, place, what, count FROM losses FINAL "
            "WHERE toUnixTimestamp64Micro(at) >= {since:Int64} AND toUnixTimestamp64Micro(at) < {until:Int64} "
            "ORDER BY at, host, stream, number, seq",
            parameters={"since": _micro(since), "until": _micro(until)},
        ).result_rows
        return tuple(
            HostLoss(at / MICRO, HostId(host), FlowLoss(place, what, count)) for at, host, place, what, count in rows
        )

    def _large(self, tables: Sequence[str]) -> frozenset[str]:
        if not tables:
            return frozenset()
        counted = self.client.query(f"SELECT {', '.join(f'(SELECT count() FROM {each})' for each in tables)}")
        return frozenset(table for table, count in zip(tables, counted.result_rows[0], strict=True) if count > MANY)

    def _ranges(self, where: FlowFilter, *, hours: bool) -> Ranges:
        since, until = _asked(where)
        return ranges(since, until, floors(self.client), hours=hours)

    def _whole(self, rows: Sequence[_Row]) -> tuple[StoredFlow, ...]:
        ends = self._ends({each.source for each in rows} | {each.destination for each in rows})
        kinds = self._kinds({each.kind for each in rows})
        return tuple(_flow(each, ends, kinds) for each in rows)

    def _ends(self, ids: set[int]) -> dict[int, KeptEnd]:
        columns = "address, workload, labels, network, told_address, told_workload, told_name"
        return {row[0]: _end(row[1:]) for row in self._named("ends", columns, ids)}

    def _kinds(self, ids: set[int]) -> dict[int, tuple[HostId, FlowKind]]:
        rows = self._named("kinds", ", ".join(KIND), ids)
        return {row[0]: (HostId(row[1]), msgspec.convert(row[2:], ready(FlowKind))) for row in rows}

    def _named(self, table: str, columns: str, ids: set[int]) -> Sequence[Sequence[Any]]:
        found = self.client.query(
            f"SELECT id, {columns} FROM {table} WHERE id IN {{ids:Array(UInt64)}}", parameters={"ids": sorted(ids)}
        ).result_rows
        if len({row[0] for row in found}) < len(ids):
            raise FlowStoreFailed(
                f"the flow store does not know any more what some of its flows were: `{table}` is not whole",
                kept="The flows' numbers are kept, and sums that do not ask for it are right.",
                remedy="Put the store back from a backup, or move it away: a new one is made.",
            )
        return found


def _check(where: FlowFilter) -> None:
    for prefix in (*where.source.prefixes, *where.destination.prefixes):
        try:
            ipaddress.ip_network(prefix, strict=False)
        except ValueError as problem:
            raise FlowsRefused(
                f"{prefix!r} is neither an address nor a prefix", kept=UNREAD, remedy="Write it as 10.0.0.0/8."
            ) from problem


def _asked(where: FlowFilter) -> tuple[int, int]:
    since = 0 if where.since is None else max(0, _micro(where.since))
    return since, ENDLESS if where.until is None else max(0, min(ENDLESS, _micro(where.until)))


def _micro(moment: float) -> int:
    return round(max(-1.0, min(moment, ENDLESS / MICRO)) * MICRO)


def _answered(asked: float | None, answered: int) -> float | None:
    if asked is None or _micro(asked) == answered:
        return asked
    return answered / MICRO


def _seconds(moment: int | None) -> float | None:
    return None if moment is None else moment / MICRO


def _piece(row: Sequence[Any], read: Ranges, size: int) -> FlowPiece:
    number = int(row[0])
    since, until = max(number * size, read.since), min((number + 1) * size, read.until)
    return FlowPiece(number, since / MICRO, until / MICRO, "-".join(map(str, row[1:])))


def _group(row: Sequence[Any], query: FlowQuery) -> FlowGroup:
    size = len(query.by)
    values = tuple(int(value) if isinstance(value, int) else value for value in row[:size])
    counts = dict(zip((*COUNTS, "first", "last"), row[size : size + len(COUNTS) + 2], strict=True))
    return FlowGroup(values, _tally(counts))


def _tally(counts: dict[str, int]) -> Tally:
    return Tally(
        first=counts["first"] / MICRO,
        last=counts["last"] / MICRO,
        connections=counts["connections"],
        packets=counts["packets"],
        bytes_out=counts["bytes_out"],
        bytes_in=counts["bytes_in"],
        ended=counts["ended"],
        seconds=counts["lived"] / MICRO,
    )


def _end(row: Sequence[Any]) -> KeptEnd:
    address, workload, labels, network, told_address, told_workload, told_name = row
    end = FlowEnd(address, workload, tuple(sorted(labels.items())), network, told_name)
    return KeptEnd(end, told_address, told_workload)


def _flow(row: _Row, ends: dict[int, KeptEnd], kinds: dict[int, tuple[HostId, FlowKind]]) -> StoredFlow:
    host, kind = kinds[row.kind]
    counts = {name: getattr(row, name) for name in COUNTS}
    tally = _tally({**counts, "first": row.began, "last": row.ceased})
    return stored_flow(host, ends[row.source], ends[row.destination], kind, tally)


def _cursor(row: _Row) -> str:
    text = msgspec.msgpack.encode(_After(row.began, row.stream, row.number, row.seq, row.kind))
    return base64.urlsafe_b64encode(text).decode()


def _place(after: str | None) -> tuple[Any, ...]:
    if after is None:
        return ()
    try:
        place = msgspec.msgpack.decode(base64.urlsafe_b64decode(after), type=ready(_After))
    except (ValueError, msgspec.MsgspecError) as problem:
        raise FlowsRefused(
            f"{after[:80]!r} is no place in the flows to go on from", kept=UNREAD, remedy="Start with the first page."
        ) from problem
    return msgspec.structs.astuple(place)
