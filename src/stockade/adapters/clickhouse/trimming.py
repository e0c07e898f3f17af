"""What is held, and what is forgotten: what is older than its retention, and the oldest of what is too much.

Partitions are dropped whole. What the bound on the disk takes is counted, host by host, as lost; what its retention
ends is not. Raw flows go first, then minutes, then hours: what goes is detail, until nothing else is left to go.
"""

import secrets
import time
from collections.abc import Sequence

import msgspec
from clickhouse_connect.driver.client import Client

from stockade.adapters.clickhouse.putting import insert_losses
from stockade.adapters.clickhouse.ranges import Floors
from stockade.adapters.clickhouse.schema import PARTITIONS, TABLES
from stockade.core.model.flow import FlowLoss
from stockade.core.model.ids import HostId
from stockade.seams.flow_store import FlowStoreFailed, HostLoss, Kept, Resolution, Retention

DAY = 86_400
MICRO = 1_000_000
SPANS = {Resolution.RAW: 3600, Resolution.MINUTE: DAY, Resolution.HOUR: 31 * DAY}
"""Seconds that a partition reaches from where it begins, at most."""
WHAT = {Resolution.RAW: "flows", Resolution.MINUTE: "minutes of flows", Resolution.HOUR: "hours of flows"}
DISK = "disk"
NEEDED = {"batches", "ends", "kinds", "settings"}


class Partition(msgspec.Struct, frozen=True):
    """One partition: its rows lie from ``since`` to before ``until``, in seconds."""

    resolution: Resolution
    id: str
    bytes: int
    since: int
    until: int


def held(client: Client) -> tuple[tuple[Kept, ...], int]:
    """Return what is held of each resolution, and the bytes of everything."""
    sizes = {
        row[0]: (row[1], row[2])
        for row in client.query(
            "SELECT table, sum(rows), sum(bytes_on_disk) FROM system.parts WHERE active "
            "AND database = currentDatabase() GROUP BY table"
        ).result_rows
    }
    kept = []
    for each, table in TABLES.items():
        rows, oldest, newest = client.query(
            f"SELECT count(), toUnixTimestamp64Micro(min(first)), toUnixTimestamp64Micro(max(last)) "
            f"FROM {table} WHERE put = 0"
        ).result_rows[0]
        size = sizes.get(table, (0, 0))[1]
        times = (oldest / MICRO, newest / MICRO) if rows else (None, None)
        kept.append(Kept(each, rows, size, *times))
    return tuple(kept), sum(size for _, size in sizes.values())


def floors(client: Client) -> Floors:
    """Return before when not all is kept."""
    rows = client.query("SELECT resolution, toUnixTimestamp(max(at)) FROM floors GROUP BY resolution").result_rows
    found = {name: at * MICRO for name, at in rows}
    return Floors(*(found.get(each.value, 0) for each in (Resolution.RAW, Resolution.MINUTE, Resolution.HOUR)))


def trimmed(client: Client, retention: Retention, now: float) -> tuple[HostLoss, ...]:
    """Forget; return what was lost to the bound."""
    days = {Resolution.RAW: retention.raw, Resolution.MINUTE: retention.minute, Resolution.HOUR: retention.hour}
    for each in _partitions(client):
        if each.until <= now - days[each.resolution] * DAY:
            _drop(client, each)
    return () if retention.bytes is None else _bounded(client, retention.bytes, now)


def note_broken(client: Client) -> None:
    """Have on record what ClickHouse found damaged when it started and put aside, as lost.

    ``FlowStoreFailed`` where that is what all else is read by.
    """
    known = {row[0] for row in client.query("SELECT DISTINCT stream FROM losses WHERE number = 0").result_rows}
    broken = client.query(
        "SELECT table, name FROM system.detached_parts WHERE database = currentDatabase() AND reason LIKE 'broken%' "
        "ORDER BY table, name"
    ).result_rows
    tables = sorted({table for table, _ in broken} & NEEDED)
    if tables:
        raise FlowStoreFailed(
            f"the flow store is damaged: parts of {', '.join(tables)} cannot be read",
            kept="ClickHouse has put them aside, in `detached`; nothing was removed.",
            remedy="Put the store back from a backup, or move its folder away: a new one is made.",
        )
    now = time.time_ns() // 1000
    fresh = [(table, name) for table, name in broken if f"{table} {name}" not in known]
    if fresh:
        insert_losses(
            client, [[now, "", f"{table} {name}", 0, 0, DISK, f"parts of {table}", 1] for table, name in fresh]
        )


def _bounded(client: Client, limit: int, now: float) -> tuple[HostLoss, ...]:
    lost: list[HostLoss] = []
    for each in _by_worth(_partitions(client)):
        if _size(client) <= limit:
            break
        lost += _counted(client, each, now)
        _drop(client, each)
    return tuple(lost)


def _size(client: Client) -> int:
    rows = client.query(
        "SELECT sum(bytes_on_disk) FROM system.parts WHERE active AND database = currentDatabase()"
    ).result_rows
    return int(rows[0][0])


def _by_worth(partitions: Sequence[Partition]) -> list[Partition]:
    order = list(TABLES)
    return sorted(partitions, key=lambda each: (order.index(each.resolution), each.since))


def _partitions(client: Client) -> list[Partition]:
    found = []
    for each, table in TABLES.items():
        rows = client.query(
            f"SELECT _partition_id, toUnixTimestamp(min(at)), toUnixTimestamp(max(at)) FROM {table} "
            "GROUP BY _partition_id"
        ).result_rows
        sizes: dict[str, int] = dict(
            client.query(  # type: ignore[arg-type] # rows of two
                "SELECT partition_id, sum(bytes_on_disk) FROM system.parts WHERE active "
                "AND database = currentDatabase() AND table = {table:String} GROUP BY partition_id",
                parameters={"table": table},
            ).result_rows
        )
        found += [Partition(each, name, sizes.get(name, 0), since, until + 1) for name, since, until in rows]
    return sorted(found, key=lambda one: (one.resolution.value, one.since))


def _counted(client: Client, partition: Partition, now: float) -> list[HostLoss]:
    """Have what a partition holds on record as lost, before it is."""
    rows = client.query(
        f"SELECT host, sum(found) FROM "
        f"(SELECT kind, count() AS found FROM {TABLES[partition.resolution]} "
        "WHERE _partition_id = {id:String} AND put = 0 GROUP BY kind) AS f "
        "ANY LEFT JOIN (SELECT id, host FROM kinds) AS the_kind ON f.kind = the_kind.id GROUP BY host ORDER BY host",
        parameters={"id": partition.id},
    ).result_rows
    lost = [HostLoss(now, HostId(host), FlowLoss(DISK, WHAT[partition.resolution], count)) for host, count in rows]
    stream, number = f"{partition.resolution.value} {partition.id}", secrets.randbits(63)
    if lost:
        insert_losses(
            client,
            [
                [round(now * MICRO), one.host, stream, number, 0, one.loss.where, one.loss.what, one.loss.count]
                for one in lost
            ],
        )
    return lost


def _drop(client: Client, partition: Partition) -> None:
    """Have it on record that not all is kept before it is so."""
    client.insert(
        "floors", [[partition.resolution.value, _end(partition)]], ["resolution", "at"],
        column_type_names=["String", "UInt32"],
    )  # fmt: skip
    client.command(
        f"ALTER TABLE {TABLES[partition.resolution]} DROP PARTITION ID {{id:String}}", parameters={"id": partition.id}
    )


def _end(partition: Partition) -> int:
    """Return the first whole hour (of minutes: day) after what was dropped: nothing that is kept is cut by it."""
    unit = 3600 if partition.resolution is Resolution.RAW else DAY
    return -(-partition.until // unit) * unit


__all__ = ["PARTITIONS", "floors", "held", "trimmed"]
