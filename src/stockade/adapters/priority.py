"""How soon this process gets a processor that others want too."""

import contextlib
import os
import sys

AHEAD = -10
"""Its weight in the kernel's fair share is then some nine times that of an ordinary process (sched(7))."""
TURN = 0.0005
"""Seconds after which a thread of this process that computes lets another one have its turn, where one waits."""


def go_first() -> None:
    """Have this process, and who holds our tables for it, go before others: a newborn waits for them, and nobody else.

    Where that is not permitted it stays as it is. Within the process nobody computes for long before others get on.
    """
    sys.setswitchinterval(TURN)
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, AHEAD)
