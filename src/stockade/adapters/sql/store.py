"""``seams.store.Store`` over SQL. Writes are one transaction each; what fails leaves the database as it was."""

import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, Row, bindparam, delete, func, insert, select, update
from sqlalchemy.exc import DatabaseError

from stockade.adapters.sql.codec import read, read_snapshot, write, write_snapshot
from stockade.adapters.sql.engine import open_engine
from stockade.adapters.sql.faults import damaged, told
from stockade.adapters.sql.migrate import migrate
from stockade.adapters.sql.tables import (
    ACCEPTED,
    AGENTS,
    AUDIT,
    BIRTHS,
    CHECKPOINTS,
    EVENTS,
    KEPT,
    UNCONFIRMED,
    VERSIONS,
)
from stockade.core.model.event import Event
from stockade.core.model.finding import Waiver
from stockade.core.model.ids import HostId, Revision, Version, WorkloadId
from stockade.core.model.policy import PolicySet
from stockade.core.model.snapshot import Snapshot
from stockade.seams.store import (
    Birth,
    Commit,
    Conflict,
    Entry,
    Loaded,
    NumberedEntry,
    Realised,
    RevisedEvent,
    SourceFile,
    StoredVersion,
    StoreFailed,
    Unconfirmed,
)

KEPT_EVENTS = 100_000
"""How many events stay readable behind the last checkpoint; older ones live on in it."""
KEPT_BIRTHS = 10_000
SECRET, SECRET_BYTES = "fingerprint-key", 32

UNOPENED = "Nothing was changed; enforcement stays as it is."
UNREAD = "Nothing was changed."
UNWRITTEN = "Nothing of this step was stored; the active policy version and enforcement stay as they were."


def open_store(url: str, *, kept_events: int = KEPT_EVENTS) -> "SqlStore":
    """Open a database, check it, and bring it to the newest schema. ``StoreFailed`` where that cannot be done."""
    with told(UNOPENED):
        try:
            engine = open_engine(url)
        except OSError as problem:
            raise _unopened(problem) from problem
        try:
            _check(engine)
            migrate(engine)
        except BaseException:
            engine.dispose()
            raise
        return SqlStore(engine, kept_events)


class SqlStore:
    """A ``Store``. Its methods may be called from any thread."""

    def __init__(self, engine: Engine, kept_events: int = KEPT_EVENTS) -> None:
        self._engine = engine
        self._reading = engine.execution_options(reading=True)
        self._hasty = engine.execution_options(hasty=True)
        self._kept_events = kept_events

    def load(self) -> Loaded:
        """Return the last checkpoint and what came after it."""
        with self._read() as connection:
            snapshot = _checkpoint(connection)
            return Loaded(
                snapshot=snapshot,
                events=_events(connection, snapshot.revision, None),
                generations={HostId(row.host): row.generation for row in connection.execute(select(AGENTS))},
                realised=_realised(connection),
                unconfirmed=_unconfirmed(connection),
                accepted=_accepted(connection),
            )

    def commit(self, commit: Commit, *, after: Revision, at: float) -> Revision:
        """Store all of it or nothing."""
        engine = self._hasty if commit.retold else self._engine
        with told(UNWRITTEN), engine.begin() as connection:
            _expect(connection, after)
            last = _add_events(connection, commit.events, after, at)
            if commit.version is not None:
                connection.execute(insert(VERSIONS).values(_version_row(commit.version)))
            _confirmation(connection, commit)
            _accept(connection, commit)
            _add_audit(connection, commit.audit, at)
            _add_births(connection, commit.births, at)
            _note_agents(connection, commit)
            return last

    def checkpoint(self, snapshot: Snapshot) -> None:
        """Store a snapshot, drop earlier ones, and forget events far behind it."""
        payload = write_snapshot(snapshot)
        with told("The earlier checkpoint and all events are kept."), self._engine.begin() as connection:
            connection.execute(delete(CHECKPOINTS))
            connection.execute(insert(CHECKPOINTS).values(revision=snapshot.revision, payload=payload))
            connection.execute(delete(EVENTS).where(EVENTS.c.revision <= snapshot.revision - self._kept_events))

    def events(self, since: Revision, limit: int) -> tuple[RevisedEvent, ...]:
        """Return events after ``since``, oldest first."""
        with self._read() as connection:
            oldest = connection.execute(select(func.min(EVENTS.c.revision))).scalar()
            if oldest is not None and since < oldest - 1:
                raise StoreFailed(
                    f"events up to revision {oldest - 1} are no longer kept",
                    kept=UNREAD,
                    remedy=f"Ask for events since {oldest - 1}, and take workloads and policy as they are now.",
                )
            return _events(connection, since, limit)

    def version(self, number: Version) -> StoredVersion | None:
        """Return one version."""
        with self._read() as connection:
            row = connection.execute(select(VERSIONS).where(VERSIONS.c.number == number)).one_or_none()
            return None if row is None else _version(row)

    def versions(self, limit: int) -> tuple[StoredVersion, ...]:
        """Return the newest versions."""
        with self._read() as connection:
            rows = connection.execute(select(VERSIONS).order_by(VERSIONS.c.number.desc()).limit(limit))
            return tuple(_version(row) for row in rows)

    def audit(self, last: int, before: int | None = None) -> tuple[NumberedEntry, ...]:
        """Return the newest audit entries."""
        query = select(AUDIT).order_by(AUDIT.c.number.desc()).limit(last)
        with self._read() as connection:
            rows = connection.execute(query if before is None else query.where(AUDIT.c.number < before))
            return tuple(_entry(row) for row in rows)

    def births(self, last: int, workload: WorkloadId | None = None) -> tuple[Birth, ...]:
        """Return the newest birth records."""
        query = select(BIRTHS).order_by(BIRTHS.c.at.desc(), BIRTHS.c.workload).limit(last)
        with self._read() as connection:
            rows = connection.execute(query if workload is None else query.where(BIRTHS.c.workload == workload))
            return tuple(read(row.payload, Birth, f"birth of {row.workload}") for row in rows)

    def secret(self) -> bytes:
        """Return the installation's own random bytes."""
        with told(UNREAD), self._engine.begin() as connection:
            kept = connection.execute(select(KEPT.c.value).where(KEPT.c.name == SECRET)).scalar_one_or_none()
            if kept is None:
                kept = secrets.token_hex(SECRET_BYTES)
                connection.execute(insert(KEPT).values(name=SECRET, value=kept))
            return bytes.fromhex(kept)

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    @contextmanager
    def _read(self) -> Iterator[Connection]:
        """One transaction, so that several reads see one instant."""
        with told(UNREAD), self._reading.begin() as connection:
            yield connection


def _unopened(problem: OSError) -> StoreFailed:
    return StoreFailed(
        f"the database cannot be opened: {problem}",
        kept=UNOPENED,
        remedy="Check that the state folder exists, is writable, and that its disk has room.",
    )


def _check(engine: Engine) -> None:
    """Refuse a damaged SQLite file before anything is written into it."""
    if engine.dialect.name != "sqlite":
        return
    with engine.execution_options(reading=True).begin() as connection:
        try:
            found = connection.exec_driver_sql("pragma quick_check(1)").scalar_one()
        except DatabaseError as problem:
            raise damaged(str(problem.orig)) from problem
    if found != "ok":
        raise damaged(found)


# Reading


def _checkpoint(connection: Connection) -> Snapshot:
    row = connection.execute(select(CHECKPOINTS).order_by(CHECKPOINTS.c.revision.desc()).limit(1)).one_or_none()
    return Snapshot() if row is None else read_snapshot(row.payload, f"checkpoint {row.revision}")


def _events(connection: Connection, since: Revision, limit: int | None) -> tuple[RevisedEvent, ...]:
    query = select(EVENTS).where(EVENTS.c.revision > since).order_by(EVENTS.c.revision).limit(limit)
    return tuple(_event(row) for row in connection.execute(query))


def _event(row: Row[Any]) -> RevisedEvent:
    happened: Event = read(row.payload, Event, f"event {row.revision}")  # type: ignore[arg-type]  # a union
    return RevisedEvent(Revision(row.revision), row.at, happened)


def _realised(connection: Connection) -> tuple[Realised, ...]:
    rows = connection.execute(select(AGENTS).where(AGENTS.c.at.is_not(None)).order_by(AGENTS.c.host))
    return tuple(Realised(row.host, row.at, row.version, row.revision, row.fingerprint, row.error) for row in rows)


def _unconfirmed(connection: Connection) -> Unconfirmed | None:
    row = connection.execute(select(UNCONFIRMED)).one_or_none()
    return None if row is None else Unconfirmed(Version(row.version), Version(row.returns_to), row.deadline)


def _accepted(connection: Connection) -> tuple[Waiver, ...]:
    rows = connection.execute(select(ACCEPTED).order_by(ACCEPTED.c.id))
    return tuple(read(row.payload, Waiver, f"waiver of {row.id}") for row in rows)


def _version(row: Row[Any]) -> StoredVersion:
    name = f"version {row.number}"
    return StoredVersion(
        number=Version(row.number),
        author=row.author,
        note=row.note,
        at=row.at,
        hash=row.hash,
        policy=read(row.policy, PolicySet, name),
        files=read(row.files, tuple[SourceFile, ...], name),
        canonical=row.canonical,
        restores=None if row.restores is None else Version(row.restores),
    )


def _entry(row: Row[Any]) -> NumberedEntry:
    entry = Entry(row.who, row.action, row.target, row.outcome, row.detail, row.uid)
    return NumberedEntry(row.number, row.at, entry)


# Writing


# Every step takes these: they are put together once, not at each birth.
NEWEST = select(
    select(func.max(EVENTS.c.revision)).scalar_subquery(), select(func.max(CHECKPOINTS.c.revision)).scalar_subquery()
)
NEWEST_ENTRY = select(func.max(AUDIT.c.number))
ADD_EVENT, ADD_BIRTH, ADD_AGENT = insert(EVENTS), insert(BIRTHS), insert(AGENTS)
SAME_BIRTH = delete(BIRTHS).where(BIRTHS.c.workload == bindparam("of"))
OLD_BIRTHS = delete(BIRTHS).where(
    BIRTHS.c.at <= select(BIRTHS.c.at).order_by(BIRTHS.c.at.desc()).offset(KEPT_BIRTHS).limit(1).scalar_subquery()
)
SAME_AGENT = update(AGENTS).where(AGENTS.c.host == bindparam("of"))


def _expect(connection: Connection, after: Revision) -> None:
    """Refuse to build upon a past that is not the store's."""
    stored = max(each or 0 for each in connection.execute(NEWEST).one())
    if stored != after:
        raise Conflict(
            f"the database is at revision {stored}, this controller at {after}: somebody else wrote to it",
            kept=UNWRITTEN,
            remedy="Let one controller use a state folder; restart this one to read what the other wrote.",
        )


def _add_events(connection: Connection, events: Sequence[Event], after: Revision, at: float) -> Revision:
    rows = [
        {"revision": revision, "at": at, "payload": write(event)}
        for revision, event in enumerate(events, start=after + 1)
    ]
    if rows:
        connection.execute(ADD_EVENT, rows)
    return Revision(after + len(rows))


def _version_row(version: StoredVersion) -> dict[str, object]:
    return {
        "number": version.number,
        "at": version.at,
        "author": version.author,
        "note": version.note,
        "hash": version.hash,
        "restores": version.restores,
        "policy": write(version.policy),
        "files": write(version.files),
        "canonical": version.canonical,
    }


def _confirmation(connection: Connection, commit: Commit) -> None:
    if commit.confirmed or commit.unconfirmed is not None:
        connection.execute(delete(UNCONFIRMED))
    if (waits := commit.unconfirmed) is not None:
        row = {"version": waits.version, "returns_to": waits.returns_to, "deadline": waits.deadline}
        connection.execute(insert(UNCONFIRMED).values(row))


def _accept(connection: Connection, commit: Commit) -> None:
    gone = {*commit.reopened, *(each.id for each in commit.accepted)}
    for id_ in sorted(gone):
        connection.execute(delete(ACCEPTED).where(ACCEPTED.c.id == id_))
    if commit.accepted:
        rows = [{"id": each.id, "payload": write(each)} for each in commit.accepted]
        connection.execute(insert(ACCEPTED), rows)


def _add_audit(connection: Connection, entries: Sequence[Entry], at: float) -> None:
    if not entries:
        return
    first = (connection.execute(NEWEST_ENTRY).scalar_one() or 0) + 1
    rows = [
        {
            "number": number,
            "at": at,
            "who": entry.who,
            "uid": entry.uid,
            "action": entry.action,
            "target": entry.target,
            "outcome": entry.outcome,
            "detail": entry.detail,
        }
        for number, entry in enumerate(entries, start=first)
    ]
    connection.execute(insert(AUDIT), rows)


def _add_births(connection: Connection, births: Sequence[Birth], at: float) -> None:
    for birth in births:
        connection.execute(SAME_BIRTH, {"of": birth.record.workload})
        row = {
            "workload": birth.record.workload,
            "host": birth.host,
            "at": birth.record.created or birth.record.noticed or at,
            "payload": write(birth),
        }
        connection.execute(ADD_BIRTH, row)
    if births:
        connection.execute(OLD_BIRTHS)


def _note_agents(connection: Connection, commit: Commit) -> None:
    if commit.generation is not None:
        host, generation = commit.generation
        _note_agent(connection, host, {"generation": generation})
    for each in commit.realised:
        row = {
            "version": each.version,
            "revision": each.revision,
            "fingerprint": each.fingerprint,
            "at": each.at,
            "error": each.error,
        }
        _note_agent(connection, each.host, row)


def _note_agent(connection: Connection, host: HostId, row: Mapping[str, object]) -> None:
    changed = connection.execute(SAME_AGENT, {"of": host, **row})
    if changed.rowcount == 0:
        blank = {"host": host, "generation": 0, "fingerprint": "", "error": ""}
        connection.execute(ADD_AGENT, blank | dict(row))
