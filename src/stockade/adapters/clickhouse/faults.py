"""What ClickHouse does instead of what was asked, in words: what happened, what was kept, what to do next."""

from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
from clickhouse_connect.driver.exceptions import ClickHouseError
from urllib3.exceptions import HTTPError

from stockade.seams.flow_store import FlowsRefused, FlowStoreFailed

FULL = ("NOT_ENOUGH_SPACE", "No space left", "CANNOT_WRITE_TO_FILE")
DENIED = ("AUTHENTICATION_FAILED", "ACCESS_DENIED", "REQUIRED_PASSWORD")
LOCKED_MESSAGE = "another process has the flow store open"
LOCKED = ("Cannot lock file", "already running")
TOO_MUCH = ("MEMORY_LIMIT_EXCEEDED", "TIMEOUT_EXCEEDED")
UNREADABLE = ("Error initializing EmbeddedServer",)
ELSEWHERE = ("already initialized with path",)
SHOWN = 400


@contextmanager
def told(kept: str) -> Iterator[None]:
    """Turn whatever the database raises into ``FlowStoreFailed``; ``kept`` says what it holds now."""
    try:
        yield
    except FlowStoreFailed:
        raise
    except UnicodeError as problem:
        raise FlowsRefused(
            "a text holds half a character (a lone surrogate), which no flow store can keep or look for",
            kept=kept,
            remedy="Ask again without it.",
        ) from problem
    except (ClickHouseError, HTTPError, OSError, RuntimeError, msgspec.MsgspecError) as problem:
        raise _failure(str(problem), kept) from problem


def _failure(text: str, kept: str) -> FlowStoreFailed:
    for marks, message, remedy in (
        (
            FULL,
            "there is no room left for the flow store",
            "Free some space on its disk (`df -h`), or bound the store.",
        ),
        (LOCKED, LOCKED_MESSAGE, "End that process, or name another folder."),
        (ELSEWHERE, "this process has another flow store open", "Close that one first: a process can hold one."),
        (
            TOO_MUCH,
            "this would take more memory or time than it may",
            "Ask for less: a shorter range, fewer dimensions.",
        ),
        (
            UNREADABLE,
            "the flow store's folder is damaged, or none of ours (standard error has ClickHouse's own words)",
            "Put the folder back from a backup, or move it away: a new one is made.",
        ),
        (DENIED, "the ClickHouse server refuses us", "Check the user and password in its URL, and the user's grants."),
    ):
        if any(mark in text for mark in marks):
            return FlowStoreFailed(f"{message}: {_short(text)}", kept=kept, remedy=remedy)
    return FlowStoreFailed(
        f"the flow store failed: {_short(text)}",
        kept=kept,
        remedy="Try again; where it is embedded and stays so, move its folder away: a new one is made.",
    )


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= SHOWN else line[:SHOWN] + " …"
