"""A put, so that each batch counts once whatever ends it in the middle.

ClickHouse has no transactions: an insert becomes a part in each partition of each table, each part there whole or not
at all, one after another. So a put is first written to the journal, then inserted with a mark for each hour, then its
batches are entered in ``batches``, then the journal forgets it. What the journal still holds on the next call has been
cut short: the marks tell which hours have reached which table, and the others are filled from the journal. A batch that
is in ``batches`` is never put again.

Puts go on beside one another, but for two things: a batch is in one of them alone, and only one of them at a time
inserts flows or settles what was cut short.
"""

import contextlib
import io
import secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from clickhouse_connect.driver.client import Client

from stockade.adapters.clickhouse.client import ONE_PART
from stockade.adapters.clickhouse.columns import LATEST, Columns, Named, Naming, columns, end_rows, kind_rows, packed
from stockade.adapters.clickhouse.faults import told
from stockade.adapters.clickhouse.journal import Begun, Entered, Journal, entered
from stockade.adapters.clickhouse.schema import TABLES, filling
from stockade.adapters.clickhouse.schema import columns as named
from stockade.core.model.ids import HostId
from stockade.seams.flow_store import FlowsRefused, Put, Resolution, StoredBatch

AT_ONCE = 500_000
"""Flows of one insert; a batch that is larger has one of its own."""
BEFORE = 0
"""Stands for whatever a process before this one left cut short; no put has this number."""
UNWRITTEN = (
    "Of this put each batch is stored whole or not at all, which the next call settles; put them again, and those that "
    "are stored are left as they are. What was stored before is as it was."
)

Name = tuple[HostId, str, int]


class _Made(NamedTuple):
    """What a put inserts, and what the journal holds of it."""

    flows: Columns
    begun: Begun


class Putter:
    """Puts batches. Safe from several threads."""

    def __init__(self, client: Client, inserter: Client, journal: Journal, key: bytes) -> None:
        self._client = client
        self._inserter = inserter
        """Another connection: while it inserts flows, what else a put takes goes on."""
        self._journal = journal
        self._naming = Naming(key)
        self._claims = _Claims()
        self._under_way: set[int] = set()
        """Puts begun here, which others must not take for cut short."""
        self._cut_short = {BEFORE}
        """Puts that failed here and are not settled yet."""
        self._alone = threading.Lock()

    def put(self, batches: Sequence[StoredBatch]) -> Put:
        """Store batches that are not there yet."""
        new: dict[Name, StoredBatch] = {}
        with told(UNWRITTEN):
            for some in _portions(_each_once(batches)):
                made = self._made(some)
                with self._claims.on(set(map(_name, some))):
                    fresh = self._fresh(some)
                    if fresh:
                        self._put(made if len(fresh) == len(some) else self._made(fresh))
                new |= {_name(each): each for each in fresh}
        flows, count = sum(len(each.flows) for each in new.values()), len(new)
        known = tuple(place for place, each in enumerate(batches) if new.pop(_name(each), None) is None)
        return Put(count, flows, known)

    @contextlib.contextmanager
    def alone(self) -> Iterator[Client]:
        """Have nobody insert flows meanwhile; yield a connection that no question holds up."""
        with self._alone:
            yield self._client

    def settle(self) -> int:
        """Finish what was cut short; return how many puts that were."""
        if not self._cut_short:
            return 0  # and whoever is inserting is not waited for
        with self._alone:
            failed = frozenset(self._cut_short)
            if not failed:
                return 0
            pending = self._journal.pending(besides=self._under_way)
            for begun in pending:
                self._finish(begun)
            self._cut_short -= failed  # and not those that have failed since
        return len(pending)

    def _fresh(self, batches: Sequence[StoredBatch]) -> list[StoredBatch]:
        """Return those that are not stored."""
        self.settle()
        stored = _stored(self._client, list(map(_name, batches)))
        return [batch for batch in batches if _name(batch) not in stored]

    def _made(self, batches: Sequence[StoredBatch]) -> _Made:
        """Make of batches what a put inserts."""
        put = secrets.randbits(63) | 1
        flows = columns(batches, put, self._naming)
        return _Made(flows, Begun(put, flows.hours, tuple(map(entered, batches)), packed(flows.table)))

    def _put(self, made: _Made) -> None:
        flows, begun = made
        self._know("ends", flows.ends, end_rows)
        self._know("kinds", flows.kinds, kind_rows)
        self._under_way.add(begun.put)
        try:
            self._journal.begin(begun)
            if flows.hours:
                with self._alone:
                    insert_flows(self._inserter, "flows_in", begun.flows)
            self._enter(begun)
        except BaseException:
            self._under_way.discard(begun.put)  # first: whoever settles meanwhile must not pass it over and be done
            self._cut_short.add(begun.put)
            raise
        self._under_way.discard(begun.put)

    def _know(self, table: str, named: Sequence[Named], rows: Callable[[Sequence[Named]], Any]) -> None:
        """Have what ids stand for in its table, as of the newest flow's day, so that it outlives the flow there."""
        if named:
            self._client.insert_arrow(table, rows(named), settings=ONE_PART)
            self._naming.know(named)

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


class _Claims:
    """Who puts which batches: each is put by one at a time."""

    def __init__(self) -> None:
        self._claimed: set[Name] = set()
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def on(self, names: set[Name]) -> Iterator[None]:
        """Have them, once nobody else has any of them."""
        with self._changed:
            self._changed.wait_for(lambda: self._claimed.isdisjoint(names))
            self._claimed |= names
        try:
            yield
        finally:
            with self._changed:
                self._claimed -= names
                self._changed.notify_all()


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
