"""Exit codes, the same for every verb."""

import enum


class Exit(enum.IntEnum):
    """What a verb's end says."""

    DONE = 0
    """Done, nothing to report."""
    ERROR = 1
    """Not done; what was kept and what to do next is on stderr."""
    LOOK = 2
    """There is something to see: changes, a denial, findings."""
    NOT_ASSESSED = 3
    """Nothing could be judged."""
    INTERRUPTED = 130
    """Ended by Ctrl-C."""
