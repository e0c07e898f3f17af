"""What this process's C library keeps of memory that was given back to it."""

import contextlib
import ctypes

M_ARENA_MAX = -8
"""malloc.h of the GNU C library."""


def keep_little() -> None:
    """Have all threads share one heap: each would keep one of its own, as large as its largest job. Call it first."""
    with contextlib.suppress(AttributeError, OSError):  # another C library, which does not
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1)
