"""What a database does instead of what was asked, in words: what happened, what was kept, what to do next."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError, IntegrityError

from stockade.seams.store import Conflict, StoreFailed

FULL = (
    "there is no room left for the database",
    "Free some space on its disk (`df -h` shows it); nothing needs to be restarted.",
)
BUSY = (
    "another process holds the database locked",
    "End the other process (`fuser` on the database file names it), then try again.",
)
CORRUPT = (
    "the database file is damaged",
    "Move the file away, then restore a backup or apply your policy again; `stockade off` works without it.",
)
READ_ONLY = (
    "the database cannot be written",
    "Check owner and mode of the state folder and of the file system that it is on.",
)
ABSENT = (
    "the database cannot be opened",
    "Check that the state folder exists, is writable, and that its disk has room.",
)
OUTPUT = (
    "the disk failed to read or write the database",
    "See the kernel's log (`dmesg`), and check that the disk has room.",
)

SQLITE = {
    sqlite3.SQLITE_FULL: FULL,
    sqlite3.SQLITE_BUSY: BUSY,
    sqlite3.SQLITE_LOCKED: BUSY,
    sqlite3.SQLITE_CORRUPT: CORRUPT,
    sqlite3.SQLITE_NOTADB: CORRUPT,
    sqlite3.SQLITE_READONLY: READ_ONLY,
    sqlite3.SQLITE_CANTOPEN: ABSENT,
    sqlite3.SQLITE_IOERR: OUTPUT,
}


@contextmanager
def told(kept: str) -> Iterator[None]:
    """Turn the driver's errors into ``StoreFailed``; ``kept`` says what stays as it was."""
    try:
        yield
    except IntegrityError as problem:
        raise Conflict(
            "another controller wrote to the same database in between",
            kept=kept,
            remedy="Let one controller use a state folder; restart this one to read what the other wrote.",
        ) from problem
    except DBAPIError as problem:
        raise _told(problem.orig, kept) from problem
    except sqlite3.Error as problem:
        raise _told(problem, kept) from problem


def damaged(found: str) -> StoreFailed:
    """Return the error for a database whose own check found it damaged."""
    what, remedy = CORRUPT
    return StoreFailed(f"{what}: {found}", kept="It was not touched; enforcement stays as it is.", remedy=remedy)


def _told(problem: BaseException | None, kept: str) -> StoreFailed:
    code = getattr(problem, "sqlite_errorcode", 0) & 0xFF
    what, remedy = SQLITE.get(code, ("the database refused", "See the message; nothing needs to be undone."))
    return StoreFailed(f"{what}: {problem}", kept=kept, remedy=remedy)
