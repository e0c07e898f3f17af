"""A ClickHouse to speak to: in this process (chDB, in a folder), or a server by URL over HTTP. One client for both.

A process holds one embedded ClickHouse at a time, a folder is held by one process at a time, and a process that has one
open must not go on in a fork of itself.
"""

import fcntl
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit, urlunsplit

import clickhouse_connect
from clickhouse_connect.driver.client import Client

from stockade.seams.flow_store import FlowStoreFailed

UNOPENED = "Nothing was changed."
DATABASE = "stockade"
LOCK = "lock"
NAMES = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
ONE_PART: dict[str, int | str] = {
    "min_insert_block_size_rows": 1_000_000_000,
    "min_insert_block_size_bytes": 1_000_000_000_000,
    "max_insert_block_size": 1_000_000_000,
    "max_insert_threads": 1,
    "max_partitions_per_insert_block": 0,
    "async_insert": 0,
    "parallel_view_processing": 1,
    "optimize_on_insert": 0,
}
"""What is inserted at once becomes one part in each partition, there whole or not at all (``putting``).

Rows of one key are summed up when parts are merged, and not before: in what is inserted hardly any are alike.
"""


class Place:
    """Connections to one ClickHouse, the database in it, what to call it, and the lock on its folder.

    A connection does one thing at a time, whoever asks.
    """

    def __init__(self, connected: Callable[[], Client], database: str, name: str, lock: BinaryIO | None = None) -> None:
        self.client = connected()
        self.database = database
        self.name = name
        self._connected = connected
        self._others: list[Client] = []
        self._lock = lock

    def another(self) -> Client:
        """Return one more connection, to the database, which is there."""
        client = self._connected()
        client.database = self.database
        self._others.append(client)
        return client

    def close(self) -> None:
        """Let go of it."""
        for client in (*self._others, self.client):
            client.close()
        if self._lock is not None:
            self._lock.close()


def connect(where: str | Path) -> Place:
    """Connect to a folder's ClickHouse, made where there is none, or to a server's (``http://``, ``https://``)."""
    return _server(str(where)) if is_server(where) else _embedded(Path(where))


def is_server(where: str | Path) -> bool:
    """Say whether it is a server's URL, or else a folder."""
    return str(where).startswith(("http://", "https://"))


def _embedded(folder: Path) -> Place:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.chmod(folder, 0o700)  # noqa: PTH101 - beside mkdir
    lock = _locked(folder)
    try:
        return Place(
            lambda: clickhouse_connect.get_client(interface="chdb", path=str(folder)), DATABASE, "embedded", lock
        )
    except BaseException:
        lock.close()
        raise


def _locked(folder: Path) -> BinaryIO:
    """Hold the folder before ClickHouse looks into it: what it says of another holder goes to standard error alone."""
    lock = (folder / LOCK).open("ab")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as problem:
        lock.close()
        raise FlowStoreFailed(
            f"another process has the flow store {folder} open",
            kept=UNOPENED,
            remedy=f"End that process (`fuser {folder / LOCK}` names it), or name another folder.",
        ) from problem
    return lock


def _server(url: str) -> Place:
    parts = urlsplit(url)
    database = parts.path.strip("/") or DATABASE
    if NAMES.fullmatch(database) is None:
        raise FlowStoreFailed(
            f"{database!r} cannot be a database's name",
            kept=UNOPENED,
            remedy="Use letters, digits and underscores in the path of the server's URL.",
        )
    bare = urlunsplit(parts._replace(path="/default"))
    name = f"{parts.hostname}:{parts.port or ''}".rstrip(":")
    return Place(lambda: clickhouse_connect.get_client(dsn=bare, autogenerate_session_id=False), database, name)
