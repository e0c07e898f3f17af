"""What this process keeps of memory that is no longer used, and how often it looks for it."""

import contextlib
import ctypes
import gc
import sys
from collections.abc import Iterator

M_ARENA_MAX = -8
"""malloc.h of the GNU C library."""


def keep_little() -> None:
    """Have all threads share one heap: each would keep one of its own, as large as its largest job. Call it first."""
    with contextlib.suppress(AttributeError, OSError):  # another C library, which does not
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1)


MADE = 10_000
"""Objects after which cycles among them are looked for: some hundred flows of a batch make as many as Python's 700."""
YOUNGER = 20
"""Looks at the younger objects after which older ones are looked at too."""


def look_rarely() -> None:
    """Have Python look for cycles of dead objects less often, and never among those that are there now.

    Call it when all is loaded: what a program consists of does not die. What is in no cycle is freed at once as ever.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(MADE, YOUNGER, YOUNGER)


def give_back() -> None:
    """Give the machine back what was freed and would be kept for the next burst. Call it when little happens."""
    with contextlib.suppress(AttributeError, OSError):  # another C library, which does not
        ctypes.CDLL(None).malloc_trim(0)


@contextlib.contextmanager
def without(package: str) -> Iterator[None]:
    """Import something without what it would load beside itself if that is there; nobody else goes without it."""
    if package in sys.modules:
        yield
        return
    # None there has an import fail as if the package were missing; typeshed knows modules only.
    sys.modules[package] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[package]
