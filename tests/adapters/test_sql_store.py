"""The SQL store on real SQLite files: all or nothing, append-only, and words for every failure."""

import sqlite3
import stat
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import Connection, Engine, text
from sqlalchemy.event import listen

from stockade.adapters.sql import SqlStore, open_store
from stockade.adapters.sql import engine as engine_module
from stockade.adapters.sql.engine import open_engine
from stockade.adapters.sql.migrate import migrate
from stockade.adapters.sql.migrations import STEPS, Step
from stockade.core.model.event import Event, PolicyActivated, QuarantineLapsed, WorkloadGone, WorkloadSeen
from stockade.core.model.ids import Address, HostId, Revision, Version, WorkloadId
from stockade.core.model.inventory import Attachment, Endpoint, Host, Sighting, Workload, WorkloadKind
from stockade.core.model.labels import Label, Labels
from stockade.core.model.policy import EnforcementMode, Mode, Policy, PolicySet
from stockade.core.model.selector import ALL, Equal, Not
from stockade.core.model.snapshot import Snapshot
from stockade.errors import StockadeError
from stockade.seams.store import (
    Birth,
    Commit,
    Conflict,
    Entry,
    Realised,
    SourceFile,
    StoredVersion,
    Unconfirmed,
)
from stockade.wire import BirthRecord

HOST = HostId("host-a")
POLICY = PolicySet(
    policies=(Policy("shop", scope=Not(Equal("app", "x"))),), modes=(EnforcementMode("default", ALL, Mode.VISIBILITY),)
)


def seen(name: str) -> WorkloadSeen:
    endpoint = Endpoint(Attachment.BRIDGED, (Address("10.0.0.1"),), "veth0", "br0", "02:00:00:00:00:01")
    return WorkloadSeen(Sighting(WorkloadId(name), name, WorkloadKind.CONTAINER, HOST, endpoints=(endpoint,)))


def version(number: int) -> StoredVersion:
    files = (SourceFile("shop.yaml", "kind: Policy\n"),)
    return StoredVersion(Version(number), "ada", "why", 5.0, f"hash{number}", POLICY, files, "canonical")


def put(store: SqlStore, after: int, *events: Event, **more: object) -> Revision:
    return store.commit(Commit(events=events, **more), after=Revision(after), at=10.0 + after)  # type: ignore[arg-type]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


@pytest.fixture
def store(path: Path) -> Iterator[SqlStore]:
    opened = open_store(f"sqlite:///{path}")
    yield opened
    opened.close()


def plain(snapshot: Snapshot) -> Snapshot:
    """Return it with dictionaries, which compare with any mapping."""
    return Snapshot(*(dict(each) if isinstance(each, Mapping) else each for each in snapshot))  # type: ignore[arg-type]


def reopened(path: Path) -> SqlStore:
    return open_store(f"sqlite:///{path}")


def rows(path: Path, table: str) -> int:
    with sqlite3.connect(path) as connection:
        return int(connection.execute(f"select count(*) from {table}").fetchone()[0])


def test_everything_of_a_commit_comes_back(store: SqlStore, path: Path) -> None:
    birth = Birth(HOST, BirthRecord(WorkloadId("a"), "a", created=1.0, noticed=1.5))
    realised = Realised(HOST, 12.0, Version(1), Revision(2), "f", "refused")
    waits = Unconfirmed(Version(1), Version(0), 99.0)
    events = (seen("a"), PolicyActivated(Version(1), POLICY))
    last = put(
        store,
        0,
        *events,
        generation=(HOST, 7),
        version=version(1),
        unconfirmed=waits,
        audit=(Entry("ada", "apply", "1", uid=0),),
        births=(birth,),
        realised=(realised,),
    )
    store.close()
    again = reopened(path)
    loaded = again.load()
    assert last == 2
    assert [event.event for event in loaded.events] == list(events)
    assert [event.revision for event in loaded.events] == [1, 2]
    assert loaded.snapshot == Snapshot()
    assert loaded.generations == {HOST: 7}
    assert loaded.realised == (realised,)
    assert loaded.unconfirmed == waits
    assert again.version(Version(1)) == version(1)
    assert again.versions(5) == (version(1),)
    assert again.births(5) == (birth,)
    assert [(entry.number, entry.entry.who, entry.entry.uid) for entry in again.audit(5)] == [(1, "ada", 0)]


def test_a_commit_that_fails_half_way_stores_nothing(store: SqlStore, path: Path) -> None:
    put(store, 0, version=version(1))
    with pytest.raises(Conflict):
        put(store, 0, seen("a"), version=version(1), audit=(Entry("ada", "apply"),))
    assert (rows(path, "events"), rows(path, "versions"), rows(path, "audit")) == (0, 1, 0)


def test_a_writer_that_is_behind_is_refused(store: SqlStore, path: Path) -> None:
    other = reopened(path)
    put(other, 0, seen("a"))
    with pytest.raises(Conflict, match="revision 1, this controller at 0") as refused:
        put(store, 0, seen("b"))
    assert refused.value.kept
    assert refused.value.remedy
    assert [event.event for event in store.load().events] == [seen("a")]


@pytest.mark.parametrize("table", ["audit", "versions"])
@pytest.mark.parametrize(
    "verb", ["update {0} set {1} = 'mallory'", "delete from {0}", "insert or replace into {0} select * from {0}"]
)
def test_audit_and_versions_only_grow(store: SqlStore, path: Path, table: str, verb: str) -> None:
    put(store, 0, version=version(1), audit=(Entry("ada", "apply"),))
    column = {"audit": "who", "versions": "author"}[table]
    connection = sqlite3.connect(path)
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        connection.execute(verb.format(table, column))
    connection.close()
    assert rows(path, table) == 1


def test_audit_is_read_newest_first_in_pages(store: SqlStore) -> None:
    put(store, 0, audit=tuple(Entry("ada", "apply", str(number)) for number in range(1, 8)))
    assert [entry.number for entry in store.audit(3)] == [7, 6, 5]
    assert [entry.number for entry in store.audit(3, before=5)] == [4, 3, 2]


def test_a_checkpoint_bounds_what_is_replayed(path: Path) -> None:
    store = open_store(f"sqlite:///{path}", kept_events=2)
    put(store, 0, seen("a"), seen("b"), seen("c"), WorkloadGone(WorkloadId("a")))
    workload = Workload(seen("b").sighting, Labels((Label("app", "x"),)), (Label("app", "y"),))
    snapshot = Snapshot(
        Revision(4),
        {HOST: Host(HOST, WorkloadId("h"))},
        {WorkloadId("b"): workload},
        POLICY,
        Version(3),
        frozenset("q"),
        {WorkloadId("gone"): (Label("app", "x"),)},
    )
    store.checkpoint(snapshot)
    put(store, 4, QuarantineLapsed("q"))
    loaded = store.load()
    assert [event.revision for event in loaded.events] == [5]
    assert plain(loaded.snapshot) == snapshot
    assert all(loaded.snapshot), "a field that was not stored would be empty"
    assert [event.revision for event in store.events(Revision(2), 10)] == [3, 4, 5]
    with pytest.raises(StockadeError, match="up to revision 2 are no longer kept"):
        store.events(Revision(1), 10)


def test_equal_labels_of_a_checkpoint_are_one_object(path: Path) -> None:
    alike = Labels((Label("app", "shop"), Label("role", "web")))
    other = Labels((Label("app", "shop"), Label("role", "db")))
    labels = {"web-1": alike, "web-2": msgspec.structs.replace(alike), "db-1": other, "odd": Labels()}
    made = Snapshot(
        workloads={each: Workload(seen(each).sighting, said) for each, said in labels.items()}  # type: ignore[misc]
    )
    with closing(open_store(f"sqlite:///{path}")) as store:
        store.checkpoint(made)
    with closing(open_store(f"sqlite:///{path}")) as store:
        back = store.load().snapshot.workloads
    assert dict(back) == dict(made.workloads)
    web, twin, db = (back[WorkloadId(each)].labels for each in ("web-1", "web-2", "db-1"))
    assert web is twin
    assert web.items[0] is db.items[0]


def test_the_revision_goes_on_from_a_checkpoint_without_events(path: Path) -> None:
    store = open_store(f"sqlite:///{path}", kept_events=0)
    put(store, 0, seen("a"))
    store.checkpoint(Snapshot(revision=Revision(1)))
    assert put(store, 1, seen("b")) == 2


def test_confirming_clears_what_waits(store: SqlStore) -> None:
    put(store, 0, unconfirmed=Unconfirmed(Version(2), Version(1), 50.0))
    put(store, 0, unconfirmed=Unconfirmed(Version(3), Version(1), 60.0))
    assert store.load().unconfirmed == Unconfirmed(Version(3), Version(1), 60.0)
    put(store, 0, confirmed=True)
    assert store.load().unconfirmed is None


def test_a_later_birth_record_replaces_the_earlier(store: SqlStore) -> None:
    early, late = (
        BirthRecord(WorkloadId("a"), "a", created=1.0),
        BirthRecord(WorkloadId("a"), "a", created=1.0, allowed=2.0),
    )
    other = BirthRecord(WorkloadId("b"), "b", created=3.0)
    put(store, 0, births=(Birth(HOST, early), Birth(HOST, other)))
    put(store, 0, births=(Birth(HOST, late),))
    assert [birth.record for birth in store.births(9)] == [other, late]
    assert [birth.record for birth in store.births(9, WorkloadId("a"))] == [late]


def test_only_the_owner_reads_the_file(store: SqlStore, path: Path) -> None:
    put(store, 0, seen("a"))
    modes = {stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()}
    assert modes == {0o600}


def test_the_secret_is_made_once(store: SqlStore, path: Path, tmp_path: Path) -> None:
    secret = store.secret()
    assert len(secret) == 32
    assert [store.secret(), reopened(path).secret()] == [secret, secret]
    assert reopened(tmp_path / "other.db").secret() != secret


# Migrations


def test_steps_are_applied_once(path: Path) -> None:
    engine = open_engine(f"sqlite:///{path}")
    assert [migrate(engine), migrate(engine)] == [len(STEPS), 0]


def test_what_the_release_before_does_not_read_is_added_and_no_step(store: SqlStore, path: Path) -> None:
    store.close()
    with sqlite3.connect(path) as connection:
        connection.execute("drop table accepted_findings")  # as the release before leaves it
    assert reopened(path).load().accepted == ()
    with sqlite3.connect(path) as connection:
        assert connection.execute("select max(number) from schema_steps").fetchone() == (len(STEPS),)


def test_a_newer_database_is_refused_and_untouched(store: SqlStore, path: Path) -> None:
    store.close()
    with sqlite3.connect(path) as connection:
        connection.execute("insert into schema_steps values (99, 'later', 0)")
    before = path.read_bytes()
    with pytest.raises(StockadeError, match="schema 99") as refused:
        reopened(path)
    assert "newer version" in refused.value.remedy
    assert path.read_bytes() == before


def test_a_step_that_fails_leaves_the_schema_before_it(store: SqlStore, path: Path) -> None:
    def broken(connection: Connection) -> None:
        connection.execute(text("create table half (x integer)"))
        connection.execute(text("create table half (x integer)"))

    engine: Engine = open_engine(f"sqlite:///{path}")
    with pytest.raises(Exception, match="already exists"):
        migrate(engine, (*STEPS, Step(len(STEPS) + 1, "broken", broken)))
    with sqlite3.connect(path) as connection:
        assert not connection.execute("select 1 from sqlite_master where name = 'half'").fetchall()
    assert migrate(engine) == 0


# Failures


def test_a_full_database_keeps_what_it_had(store: SqlStore, path: Path) -> None:
    put(store, 0, seen("a"), version=version(1))
    store.close()
    small = reopened(path)

    def bound(connection: sqlite3.Connection, _record: object) -> None:
        pages = connection.execute("pragma page_count").fetchone()[0]
        connection.execute(f"pragma max_page_count = {pages}")

    engine_module.event.listen(small._engine, "connect", bound)
    small._engine.dispose()
    many = tuple(seen(f"w{number}") for number in range(500))
    with pytest.raises(StockadeError, match="no room left") as full:
        put(small, 1, *many, version=version(2), audit=(Entry("ada", "apply"),))
    assert "stay as they were" in full.value.kept
    assert "df -h" in full.value.remedy
    small.close()
    again = reopened(path)
    assert [event.revision for event in again.load().events] == [1]
    assert again.versions(9) == (version(1),)
    assert put(again, 1, seen("b")) == 2


def test_a_locked_database_is_named(store: SqlStore, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "BUSY_TIMEOUT", 20)
    store._engine.dispose()
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("begin immediate")
    with pytest.raises(StockadeError, match="holds the database locked") as locked:
        put(store, 0, seen("a"))
    assert locked.value.kept
    assert store.load().events == ()
    holder.execute("rollback")
    holder.close()
    assert put(store, 0, seen("a")) == 1


def test_a_file_that_is_no_database_is_refused_and_untouched(path: Path) -> None:
    path.write_bytes(b"this is my diary\n" * 100)
    with pytest.raises(StockadeError, match="is damaged") as refused:
        reopened(path)
    assert "restore a backup" in refused.value.remedy
    assert path.read_bytes() == b"this is my diary\n" * 100


def test_a_damaged_page_is_found_at_start(store: SqlStore, path: Path) -> None:
    put(store, 0, *(seen(f"w{number}") for number in range(300)))
    store.close()
    data = bytearray(path.read_bytes())
    data[8192:12288] = b"\xa5" * 4096
    path.write_bytes(bytes(data))
    with pytest.raises(StockadeError, match="is damaged"):
        reopened(path)


def test_a_folder_that_is_not_there_is_an_error_in_words(tmp_path: Path) -> None:
    with pytest.raises(StockadeError, match="cannot be opened") as refused:
        open_store(f"sqlite:///{tmp_path}/absent/state.db")
    assert "state folder" in refused.value.remedy


def test_a_row_that_cannot_be_read_is_named(store: SqlStore, path: Path) -> None:
    put(store, 0, seen("a"))
    with sqlite3.connect(path) as connection:
        connection.execute('update events set payload = \'{"type": "never"}\'')
    with pytest.raises(StockadeError, match="event 1 cannot be read"):
        store.load()


NORMAL, FULL = 1, 2
"""SQLite's ``synchronous``: with FULL a commit waits for the disk."""


def test_only_what_hosts_would_tell_again_is_written_without_waiting_for_the_disk(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path / 'stockade.db'}")
    migrate(engine)
    store, waited = SqlStore(engine), []
    listen(
        engine, "commit", lambda connection: waited.append(connection.exec_driver_sql("pragma synchronous").scalar())
    )
    told = Commit(events=(seen("a"),), generation=(HOST, 1), realised=(Realised(HOST, 1.0),))
    revision = store.commit(told, after=Revision(0), at=1.0)
    for decided in (
        Commit(version=version(1)),
        Commit(audit=(Entry("ada", "apply"),)),
        Commit(unconfirmed=Unconfirmed(Version(1), Version(0), 9.0)),
        Commit(confirmed=True),
    ):
        store.commit(decided, after=revision, at=2.0)
    store.commit(Commit(events=(seen("b"),)), after=revision, at=3.0)
    assert waited == [NORMAL, FULL, FULL, FULL, FULL, NORMAL]
    store.close()
