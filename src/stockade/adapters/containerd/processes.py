"""The network namespace of a process that containerd names by its pid. Pids are reused; a descriptor is not.

Reads ``/proc``, never signals anybody.
"""

import os
import select
from types import TracebackType
from typing import Self


class Held:
    """A process and its network namespace, held open: what is read of them is of this process and no later one."""

    def __init__(self, pid: int) -> None:
        """Raises ``OSError`` where there is no such process any more."""
        self._process = os.pidfd_open(pid)
        try:
            self._network = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            os.close(self._process)
            raise
        self.inode = os.fstat(self._network).st_ino
        self.path = f"/proc/{os.getpid()}/fd/{self._network}"
        """Where its namespace can be opened, whatever has become of the process."""

    def lives(self) -> bool:
        """Tell whether the process has lived throughout, so that its pid has been nobody else's."""
        return not select.select([self._process], [], [], 0)[0]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._process)
        os.close(self._network)


def inode_of(path: str) -> int:
    """Return the number of the namespace at a path; 0 where there is none."""
    try:
        return os.stat(path).st_ino  # noqa: PTH116 - a Path would do the same
    except OSError:
        return 0
