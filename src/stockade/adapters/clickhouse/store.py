"""``seams.flow_store.FlowStore`` in ClickHouse: in this process, or a server."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue

from stockade.adapters.clickhouse.client import UNOPENED, Place, connect, is_server
from stockade.adapters.clickhouse.faults import told
from stockade.adapters.clickhouse.journal import Journal
from stockade.adapters.clickhouse.putting import Putter
from stockade.adapters.clickhouse.reading import Reader
from stockade.adapters.clickhouse.schema import keep, lighten, migrate, secret
from stockade.adapters.clickhouse.trimming import held, note_broken, trimmed
from stockade.seams.flow_store import (
    FlowFilter,
    FlowGroups,
    FlowMark,
    FlowPage,
    FlowQuery,
    FlowStats,
    FlowStoreFailed,
    HostLoss,
    Put,
    Retention,
    StoredBatch,
)

JOURNAL = "journal"
UNREAD = "Nothing was changed."
READERS = 2
"""Questions that are answered at the same time: a short one does not wait for a long one."""


def open_flow_store(
    where: str | Path, *, retention: Retention | None = None, journal: Path | None = None
) -> "ClickHouseFlowStore":
    """Open a folder's or a server's flows, finish what was cut short, bring the schema to the newest.

    ``journal`` is the folder for puts in progress: beside the flows where they are embedded, to be given for a server.
    ``FlowStoreFailed`` where it is damaged, held by another process, or newer than we are.
    """
    with told(UNOPENED):
        begun = Journal(_journal(where) if journal is None else journal)
        place = connect(where)
        try:
            migrate(place)
            kept = Retention() if retention is None else retention
            keep(place.client, kept)
            lighten(place.client)
            note_broken(place.client)
            begun.tidy()
            store = ClickHouseFlowStore(place, begun, kept)
            store.settle()
        except BaseException:
            place.close()
            raise
        return store


def _journal(where: str | Path) -> Path:
    if is_server(where):
        raise FlowStoreFailed(
            "a ClickHouse server needs a folder here for puts in progress, and none is named",
            kept=UNOPENED,
            remedy="Name one in the state folder.",
        )
    return Path(where) / JOURNAL


class ClickHouseFlowStore:
    """A ``FlowStore``."""

    def __init__(self, place: Place, journal: Journal, retention: Retention) -> None:
        self._place = place
        self._client = place.client
        self._retention = retention
        self._readers = SimpleQueue[Reader]()
        for client in (place.client, *(place.another() for _ in range(READERS - 1))):
            self._readers.put(Reader(client))
        self._putter = Putter(place.another(), place.another(), journal, secret(place.client))

    def put(self, batches: Sequence[StoredBatch]) -> Put:
        """Store batches that are not there yet."""
        return self._putter.put(batches)

    def settle(self) -> int:
        """Finish puts that were cut short; return how many."""
        return self._putter.settle()

    def groups(self, query: FlowQuery) -> FlowGroups:
        """Return flows summed up."""
        with self._reader() as reader:
            return reader.groups(query)

    def mark(self, where: FlowFilter) -> FlowMark:
        """Return marks of some flows: of each piece of their time how many rows, and two sums of hashes of them."""
        with self._reader() as reader:
            return reader.mark(where)

    def flows(self, where: FlowFilter, limit: int, after: str | None = None) -> FlowPage:
        """Return single flows, newest first."""
        with self._reader() as reader:
            return reader.flows(where, limit, after)

    def losses(self, since: float, until: float) -> tuple[HostLoss, ...]:
        """Return what was lost, oldest first."""
        with self._reader() as reader:
            return reader.losses(since, until)

    def trim(self, now: float) -> tuple[HostLoss, ...]:
        """Forget what is too old, and the oldest of what is too much."""
        with self._putter.alone() as client, told("What was not forgotten yet is kept, and what was is counted."):
            return trimmed(client, self._retention, now)

    def stats(self) -> FlowStats:
        """Return what is held."""
        with self._reader() as reader:
            kept, size = held(reader.client)
            return FlowStats(kept, size, self._retention, self._place.name, str(reader.client.server_version))

    def close(self) -> None:
        """Let go of it."""
        with told("What was stored is stored."):
            self._place.close()

    @contextmanager
    def _reader(self) -> Iterator[Reader]:
        """Lend a connection for one question."""
        reader = self._readers.get()
        try:
            with told(UNREAD):
                yield reader
        finally:
            self._readers.put(reader)
