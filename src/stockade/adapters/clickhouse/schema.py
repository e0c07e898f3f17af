"""The tables, one schema for both kinds of ClickHouse, and how an older one becomes the newest.

Flows enter by ``flows_in``, which keeps nothing: views of it fill ``flows_raw``, ``flows_minute`` and ``flows_hour``.
All three have the same columns, all of them numbers; a row with ``put`` other than 0 is no flow, but the mark that a
put has reached the partition (``putting``). What an end was (labels included) is in ``ends`` and what else a flow was
in ``kinds``, each under the keyed hash of it: as it was, for as long as a flow names it.
"""

import secrets
import time
from typing import Final

import msgspec
from clickhouse_connect.driver.client import Client

from stockade.adapters.clickhouse.client import UNOPENED, Place
from stockade.seams.flow_store import FlowStoreFailed, Resolution, Retention

TABLES: Final = {
    Resolution.RAW: "flows_raw",
    Resolution.MINUTE: "flows_minute",
    Resolution.HOUR: "flows_hour",
}
PARTITIONS: Final = {
    Resolution.RAW: "toStartOfHour(at)",
    Resolution.MINUTE: "toDate(at)",
    Resolution.HOUR: "toYYYYMM(at)",
}
BUCKETS: Final = {
    Resolution.RAW: "toStartOfMinute(first)",
    Resolution.MINUTE: "toStartOfMinute(first)",
    Resolution.HOUR: "toStartOfHour(first)",
}
KIND: Final = ("host", "protocol", "port", "end", "verdict", "rule", "via", "service", "process")
"""What a flow is beside its ends and its time."""
COUNTS: Final = ("connections", "packets", "bytes_out", "bytes_in", "ended", "lived")
SLACK: Final = {Resolution.RAW: 1, Resolution.MINUTE: 2, Resolution.HOUR: 32}
"""Days that a table keeps beyond its retention: ``trimming`` forgets whole partitions and has it on record; the tables
themselves see to it where nobody trims."""
LONGEST = 10_000
"""Days; ClickHouse's moments end in 2106."""
TIME = "DateTime64(6, 'UTC')"
LOW = "LowCardinality(String)"

_IDS = "source UInt64, destination UInt64, kind UInt64, put UInt64 CODEC(ZSTD(1))"
_BATCH = f"stream {LOW}, number UInt64 CODEC(ZSTD(1)), seq UInt32 CODEC(ZSTD(1))"
_RAW_SUMS = ", ".join(
    [f"{name} {TIME} CODEC(ZSTD(1))" for name in ("first", "last")]
    + [f"{name} UInt64 CODEC(T64, LZ4)" for name in COUNTS]
)
_SUMS = ", ".join(
    [
        f"{name} SimpleAggregateFunction({how}, {TIME}) CODEC(ZSTD(1))"
        for name, how in (("first", "min"), ("last", "max"))
    ]
    + [f"{name} SimpleAggregateFunction(sum, UInt64) CODEC(T64, LZ4)" for name in COUNTS]
)
_KEY = "at, destination, source, kind, put"
_AT = "at DateTime('UTC') CODEC(Delta, ZSTD(1))"
_WHOLE_PARTS = "SETTINGS ttl_only_drop_parts = 1"
_ON_THE_DISK = (
    "SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, min_compressed_bytes_to_fsync_after_merge = 1"
)
"""For what all else is read by: a power cut must not take it."""
_LIGHTER: Final = {"auto_statistics_types": "''", "merge_selector_base": 8}
"""Settings by which flows cost less to merge, each where this ClickHouse knows it.

Statistics of each column cost a tenth of a merge, and no question here asks for what they would help with. Parts are
merged once they are eight times the largest of them, instead of five: each row is written anew a fifth less often, and
what is asked takes no longer.
"""
_NAME = f"host {LOW}, stream String, number UInt64"


def filling(resolution: Resolution, source: str) -> str:
    """Return the query that makes a resolution's rows of what enters; the views' own, and recovery's.

    The tables themselves sum up what is equal by their key, when they merge their parts; so does whoever asks.
    """
    return f"SELECT {BUCKETS[resolution]} AS at, {columns(resolution)} FROM {source}"


def columns(resolution: Resolution) -> str:
    """Return a resolution's columns beside ``at``."""
    batch = "stream, number, seq, " if resolution is Resolution.RAW else ""
    return f"source, destination, kind, put, {batch}first, last, {', '.join(COUNTS)}"


_FIRST_SCHEMA = (
    f"CREATE TABLE flows_in ({_IDS}, {_BATCH}, {_RAW_SUMS}) ENGINE = Null",
    f"""CREATE TABLE flows_raw ({_AT}, {_IDS}, {_BATCH}, {_RAW_SUMS}) ENGINE = MergeTree
  PARTITION BY {PARTITIONS[Resolution.RAW]} ORDER BY ({_KEY}) {_WHOLE_PARTS}""",
    *(
        f"""CREATE TABLE {TABLES[each]} ({_AT}, {_IDS}, {_SUMS}) ENGINE = AggregatingMergeTree
  PARTITION BY {PARTITIONS[each]} ORDER BY ({_KEY}) {_WHOLE_PARTS}"""
        for each in (Resolution.MINUTE, Resolution.HOUR)
    ),
    f"""CREATE TABLE ends (id UInt64, day Date, address String, workload Nullable(String),
  labels Map({LOW}, {LOW}), network {LOW}, told_address String, told_workload Nullable(String))
  ENGINE = ReplacingMergeTree(day) ORDER BY id {_ON_THE_DISK}""",
    f"""CREATE TABLE kinds (id UInt64, day Date, host {LOW}, protocol UInt8, port UInt16, end {LOW}, verdict {LOW},
  rule {LOW}, via {LOW}, service {LOW}, process {LOW}) ENGINE = ReplacingMergeTree(day) ORDER BY id {_ON_THE_DISK}""",
    f"""CREATE TABLE batches ({_NAME}, newest DateTime('UTC'), flows UInt64)
  ENGINE = ReplacingMergeTree ORDER BY (host, stream, number) {_ON_THE_DISK}""",
    f"""CREATE TABLE losses (at {TIME}, {_NAME}, seq UInt32, place String, what String, count UInt64)
  ENGINE = ReplacingMergeTree ORDER BY (at, host, stream, number, seq)""",
    "CREATE TABLE floors (resolution String, at DateTime('UTC')) ENGINE = ReplacingMergeTree ORDER BY (resolution, at)",
    *(
        f"CREATE MATERIALIZED VIEW to_{TABLES[each]} TO {TABLES[each]} AS {filling(each, 'flows_in')}"
        for each in TABLES
    ),
)


class Step(msgspec.Struct, frozen=True):
    """One change of the schema, never edited once released."""

    number: int
    name: str
    statements: tuple[str, ...]


STEPS: Final = (
    Step(1, "flows", _FIRST_SCHEMA),
    Step(2, "names", ("ALTER TABLE ends ADD COLUMN IF NOT EXISTS told_name String",)),
)


def migrate(place: Place, steps: tuple[Step, ...] = STEPS) -> int:
    """Bring the database to the newest schema; return how many steps that took.

    A step that was cut short is taken again from where it was. A schema that is newer than any step is refused.
    """
    client = place.client
    client.command(f"CREATE DATABASE IF NOT EXISTS {place.database}")
    client.database = place.database
    client.command(
        "CREATE TABLE IF NOT EXISTS settings (name String, value String, at DateTime64(6)) "
        "ENGINE = ReplacingMergeTree(at) ORDER BY name"
    )
    applied, newest = int(setting(client, "schema") or 0), steps[-1].number
    if applied > newest:
        raise FlowStoreFailed(
            f"the flow store has schema {applied}, this Stockade knows up to {newest}: a newer one wrote it",
            kept=UNOPENED,
            remedy="Start that newer version, or name another folder or database.",
        )
    missing = [step for step in steps if step.number > applied]
    for step in missing:
        for statement in step.statements:
            client.command(_repeatable(statement))
        remember(client, "schema", str(step.number))
    return len(missing)


def _repeatable(statement: str) -> str:
    """A step may have been cut short: what it made already is left."""
    for made in ("CREATE TABLE", "CREATE MATERIALIZED VIEW"):
        statement = statement.replace(made + " ", made + " IF NOT EXISTS ", 1)
    return statement


def secret(client: Client) -> bytes:
    """Return the store's own random bytes, made when first asked for."""
    kept = setting(client, "key")
    if kept is None:
        kept = secrets.token_hex(32)
        remember(client, "key", kept)
    return bytes.fromhex(kept)


def setting(client: Client, name: str) -> str | None:
    """Return what was remembered under a name."""
    rows = client.query(
        "SELECT value FROM settings WHERE name = {name:String} ORDER BY at DESC LIMIT 1", parameters={"name": name}
    ).result_rows
    return str(rows[0][0]) if rows else None


def remember(client: Client, name: str, value: str) -> None:
    """Keep a value under a name, in place of the one before."""
    client.insert("settings", [[name, value, time.time_ns() // 1000]], ["name", "value", "at"],
                  column_type_names=["String", "String", "DateTime64(6)"])  # fmt: skip


def keep(client: Client, retention: Retention) -> None:
    """Tell the tables how long they keep, where that is not what they were told last."""
    said = f"{retention.raw}/{retention.minute}/{retention.hour}"
    if setting(client, "retention") == said:
        return
    days = {Resolution.RAW: retention.raw, Resolution.MINUTE: retention.minute, Resolution.HOUR: retention.hour}
    if not all(1 <= each <= LONGEST for each in days.values()):
        raise FlowStoreFailed(
            f"flows cannot be kept for {said} days",
            kept=UNOPENED,
            remedy=f"Name from 1 to {LONGEST} days for each of raw flows, minutes and hours.",
        )
    for each, table in TABLES.items():
        _ttl(client, table, "at", days[each] + SLACK[each])
    longest = max(days.values()) + SLACK[Resolution.HOUR]
    _ttl(client, "ends", "day", longest)
    _ttl(client, "kinds", "day", longest)
    _ttl(client, "batches", "newest", longest)
    _ttl(client, "losses", "toDateTime(at)", longest)
    remember(client, "retention", said)


def lighten(client: Client) -> None:
    """Have the tables written with less work, where they were not yet: moments packed more cheaply, and ``_LIGHTER``.

    No step of the schema: they hold the same, and an older version goes on with them.
    """
    settings = "SELECT name FROM system.merge_tree_settings WHERE name IN {names:Array(String)}"
    known = {str(row[0]) for row in client.query(settings, parameters={"names": list(_LIGHTER)}).result_rows}
    changes = {f"{name} = {value}" for name, value in _LIGHTER.items() if name in known}
    said = "; ".join(("T64, LZ4", *sorted(changes)))
    if setting(client, "written") == said:
        return
    for table in TABLES.values():
        codecs = [f"MODIFY COLUMN {name} CODEC(T64, LZ4)" for name in ("first", "last")]
        client.command(f"ALTER TABLE {table} {', '.join(codecs)}")
        for change in sorted(changes):
            client.command(f"ALTER TABLE {table} MODIFY SETTING {change}")
    remember(client, "written", said)


def _ttl(client: Client, table: str, column: str, days: int) -> None:
    client.command(
        f"ALTER TABLE {table} MODIFY TTL {column} + toIntervalDay({int(days)})",
        settings={"materialize_ttl_after_modify": 0},
    )
