"""Opens the database: real transactions, commits as durable as they need to be, a file that only its owner may read."""

import os
import sqlite3
from pathlib import Path

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url

BUSY_TIMEOUT = 5000
"""Milliseconds to wait for another process's lock."""
SYNCHRONOUS = "synchronous"
"""The pragma as a connection has it, kept beside the connection."""


def open_engine(url: str) -> Engine:
    """Return an engine for a database URL; ``sqlite:///PATH`` is created where it does not exist."""
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite":
        return create_engine(parsed, isolation_level="SERIALIZABLE")
    _create_private(parsed)
    engine = create_engine(parsed)
    event.listen(engine, "connect", _prepare)
    event.listen(engine, "begin", _begin)
    return engine


def _create_private(url: URL) -> None:
    """Make the file with mode 0600 before SQLite would make it with the umask's; its WAL inherits the mode."""
    if url.database is None:
        return
    Path(url.database).touch(mode=0o600, exist_ok=True)
    os.chmod(url.database, 0o600)  # noqa: PTH101 - beside touch


def _prepare(connection: sqlite3.Connection, _record: object) -> None:
    """Take transactions out of the driver's hands."""
    connection.isolation_level = None
    for pragma in (
        f"busy_timeout = {BUSY_TIMEOUT}",
        "journal_mode = wal",
        "journal_size_limit = 16777216",
    ):
        connection.execute(f"pragma {pragma}")


def _begin(connection: Connection) -> None:
    """Writers take the lock at once: a transaction that read first and then cannot write would fail half-way.

    A commit means that it is on the disk, but for what is written in haste: that is in the write-ahead log, which
    outlives the process and, after a power cut, is read up to where it is whole.
    """
    options = connection.get_execution_options()
    if options.get("reading", False):
        connection.exec_driver_sql("begin")
        return
    wanted = "normal" if options.get("hasty", False) else "full"
    if connection.info.get(SYNCHRONOUS) != wanted:
        connection.exec_driver_sql(f"pragma synchronous = {wanted}")
        connection.info[SYNCHRONOUS] = wanted
    connection.exec_driver_sql("begin immediate")
