"""A put, so that each batch counts once whatever ends it in the middle.

ClickHouse has no transactions: an insert becomes a part in each partition of each table, each part there whole or not
at all, one after another. So a put is first written to the journal, then inserted with a mark for each hour, then its
batches are entered in ``batches``, then the journal forgets it. What the journal still holds on the next call has been
cut short: the marks tell which hours have reached which table, and the others are filled from the journal. A batch that
is in ``batches`` is never put again.
"""

import io
import secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

from clickhouse_connect.driver.client import Client

from stockade.adapters.clickhouse.client import ONE_PART
from stockade.adapters.clickhouse.columns import LATEST, Columns, Naming, columns, end_rows, kind_rows, packed
from stockade.adapters.clickhouse.faults import told
from stockade.adapters.clickhouse.journal import Begun, Entered, Journal, entered
from stockade.adapters.clickhouse.schema import TABLES, filling
from stockade.adapters.clickhouse.schema import columns as named
from stockade.core.model.ids import HostId
from stockade.seams.flow_store import FlowsRefused, Put, Resolution, StoredBatch

AT_ONCE = 500_000
"""Flows of one insert; a batch that is larger has one of its own."""
DAY = 86_400
KNOWN = 300_000
UNWRITTEN = (
    "Of this put each batch is stored whole or not at all, which the next call settles; put them again, and those that "
    "are stored are left as they are. What was stored before is as it was."
)

T = TypeVar("T")
Name = tuple[HostId, str, int]


class _Made(NamedTuple):
    """What a put inserts, and what the journal holds of it."""

    flows: Columns
    begun: Begun


class Putter:
    """Puts batches. Safe from several threads: they insert one after another, and prepare what they insert at once."""

    def __init__(self, client: Client, journal: Journal, key: bytes) -> None:
        self._client = client
        self._journal = journal
        self._naming = Naming(key)
        self._known: dict[int, int] = {}
        self._unsettled = True
        self._lock = threading.Lock()

    def put(self, batches: Sequence[StoredBatch]) -> Put:
        """Store batches that are not there yet."""
        new: dict[Name, StoredBatch] = {}
        with told(UNWRITTEN):
            for some in _portions(_each_once(batches)):
                made = self._made(some)  # while another thread's are being inserted
                with self._lock:
                    fresh = self._fresh(some)
                    if fresh:
                        self._put(made if len(fresh) == len(some) else self._made(fresh))
                new |= {_name(each): each for each in fresh}
        flows, count = sum(len(each.flows) for each in new.values()), len(new)
        known = tuple(place for place, each in enumerate(batches) if new.pop(_name(each), None) is None)
        return Put(count, flows, known)

    def settle(self) -> int:
        """Finish what was cut short; return how many puts that were."""
        with self._lock:
            return self._settle_first()

    def _settle_first(self) -> int:
        if not self._unsettled:
            return 0
        pending = self._journal.pending()
        for begun in pending:
            self._finish(begun)
        self._unsettled = False
        return len(pending)

    def _fresh(self, batches: Sequence[StoredBatch]) -> list[StoredBatch]:
        """Return those that are not stored."""
        self._settle_first()
        stored = _stored(self._client, list(map(_name, batches)))
        return [batch for batch in batches if _name(batch) not in stored]

    def _made(self, batches: Sequence[StoredBatch]) -> _Made:
        """Make of batches what a put inserts."""
        put = secrets.randbits(63) | 1
        flows = columns(batches, put, self._naming)
        return _Made(flows, Begun(put, flows.hours, tuple(map(entered, batches)), packed(flows.table)))

    def _put(self, made: _Made) -> None:
        flows, begun = made
        day = max(flows.hours, default=0) // DAY
        self._know("ends", flows.ends, day, end_rows)
        self._know("kinds", flows.kinds, day, kind_rows)
        self._unsettled = True
        self._journal.begin(begun)
        if flows.hours:
            insert_flows(self._client, "flows_in", begun.flows)
        self._enter(begun)
        self._unsettled = False

    def _know(self, table: str, named: dict[int, T], day: int, rows: Callable[[dict[int, T], int], Any]) -> None:
        """Have what ids stand for in its table, as of the newest flow's day, so that it outlives the flow there."""
        missing = {name: what for name, what in named.items() if self._known.get(name, -1) < day}
        if not missing:
            return
        if len(self._known) >= KNOWN:
            self._known.clear()
        self._client.insert_arrow(table, rows(missing, day), settings=ONE_PART)
        self._known.update(dict.fromkeys(missing, day))

    def _enter(self, begun: Begun) -> None:
        _insert_losses(self._client, begun.batches)
        rows = [[each.host, each.stream, each.number, each.newest, each.flows] for each in begun.batches]
        self._client.insert(
            "batches",
            rows,
            ["host", "stream", "number", "newest", "flows"],
            column_type_names=["LowCardinality(String)", "String", "UInt64", "UInt32", "UInt64"],
        )
        self._journal.end(begun.put)

    def _finish(self, begun: Begun) -> None:
        if not begun.batches or _name(begun.batches[0]) in _stored(self._client, [_name(begun.batches[0])]):
            self._journal.end(begun.put)
            return
        self._fill(begun)
        self._enter(begun)

    def _fill(self, begun: Begun) -> None:
        """Fill what the marks miss, from the journal, by the views' own queries."""
        self._client.command("DROP TABLE IF EXISTS unsettled")
        self._client.command("CREATE TABLE unsettled AS flows_in ENGINE = Memory")
        insert_flows(self._client, "unsettled", begun.flows)
        for each, table in TABLES.items():
            present = {
                row[0]
                for row in self._client.query(
                    f"SELECT DISTINCT toUnixTimestamp(toStartOfHour(at)) FROM {table} WHERE put = {{put:UInt64}}",
                    parameters={"put": begun.put},
                ).result_rows
            }
            missing = [hour for hour in begun.hours if hour not in present]
            if missing:
                self._fill_hours(each, missing)
        self._client.command("DROP TABLE unsettled")

    def _fill_hours(self, resolution: Resolution, hours: list[int]) -> None:
        only = "(SELECT * FROM unsettled WHERE toUnixTimestamp(toStartOfHour(first)) IN {hours:Array(UInt32)})"
        self._client.command(
            f"INSERT INTO {TABLES[resolution]} (at, {named(resolution)}) {filling(resolution, only)}",
            parameters={"hours": hours},
            settings=ONE_PART,
        )


def _name(batch: Entered | StoredBatch) -> Name:
    return (batch.host, batch.stream, batch.number)


def _each_once(batches: Sequence[StoredBatch]) -> list[StoredBatch]:
    by_name: dict[Name, StoredBatch] = {}
    for batch in batches:
        _check(batch)
        by_name.setdefault(_name(batch), batch)
    return list(by_name.values())


def _check(batch: StoredBatch) -> None:
    f"{batch.host}{batch.stream}".encode()  # half a character is refused
    if 0 <= batch.number < 1 << 64 and 0 <= batch.until < LATEST:
        return
    raise FlowsRefused.broken(
        f"a batch of {batch.host} cannot be kept", f"its number is {batch.number}, it ended at {batch.until}"
    )


def _portions(batches: Sequence[StoredBatch]) -> Iterator[list[StoredBatch]]:
    """Yield the batches so many at once that one insert holds their flows."""
    portion: list[StoredBatch] = []
    size = 0
    for batch in batches:
        if portion and size + len(batch.flows) > AT_ONCE:
            yield portion
            portion, size = [], 0
        portion.append(batch)
        size += len(batch.flows)
    if portion:
        yield portion


def _stored(client: Client, names: Sequence[Name]) -> set[Name]:
    if not names:
        return set()
    rows = client.query(
        "SELECT DISTINCT host, stream, number FROM batches WHERE host IN {hosts:Array(String)} "
        "AND (host, stream, number) IN "
        "arrayZip({hosts:Array(String)}, {streams:Array(String)}, {numbers:Array(UInt64)})",
        parameters={
            "hosts": [name[0] for name in names],
            "streams": [name[1] for name in names],
            "numbers": [name[2] for name in names],
        },
    ).result_rows
    return {(HostId(host), stream, number) for host, stream, number in rows}


def insert_flows(client: Client, table: str, flows: bytes) -> None:
    """Insert packed flows: as a stream, since the client would send bytes again where a server did not answer."""
    client.raw_insert(table, insert_block=io.BytesIO(flows), fmt="Arrow", settings=ONE_PART)


def _insert_losses(client: Client, batches: Sequence[Entered]) -> None:
    rows = [
        [int(each.until * 1_000_000), each.host, each.stream, each.number, loss.seq, loss.place, loss.what, loss.count]
        for each in batches
        for loss in each.lost
    ]
    if rows:
        insert_losses(client, rows)


def insert_losses(client: Client, rows: list[list[object]]) -> None:
    """Add losses: microseconds, host, stream, number, place in the batch, where, what, how many."""
    client.insert(
        "losses",
        rows,
        ["at", "host", "stream", "number", "seq", "place", "what", "count"],
        column_type_names=[
            "DateTime64(6)",
            "LowCardinality(String)",
            "String",
            "UInt64",
            "UInt32",
            "String",
            "String",
            "UInt64",
        ],
    )
