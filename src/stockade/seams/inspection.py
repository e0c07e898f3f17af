"""Looking at what stands around our tables: the whole of it each time, and word of when to look again."""

from collections.abc import Sequence
from typing import Protocol

from stockade.core.posture.host import Facts


class Watch(Protocol):
    """Becomes readable when something may have changed. It may cry wolf; it need not hear everything."""

    def fileno(self) -> int:
        """Return the descriptor to wait for."""
        ...

    def drain(self) -> None:
        """Forget what was told, without waiting."""
        ...

    def close(self) -> None:
        """Stop listening."""
        ...


class Inspection(Protocol):
    """One host, looked at. Blocking; never called from two threads at once."""

    def look(self, *, stirred: bool = True) -> Facts:
        """Collect everything. A part that cannot be collected says why.

        Where no watch has ``stirred`` since the last look, what they tell of may be taken to be as it was.
        """
        ...

    def watches(self) -> Sequence[Watch]:
        """Begin to listen for changes; theirs to close. ``OSError`` where the kernel cannot be listened to."""
        ...
