"""Network namespaces held open, and code run inside them. Pids and paths are reused; a descriptor is not.

Nothing here ever changes the namespace of the process: whatever runs elsewhere runs in a thread of its own.
"""

import asyncio
import ctypes
import os
import select
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from stockade.errors import StockadeError

NEW_NET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)
Result = TypeVar("Result")


class NamespaceGone(StockadeError):  # noqa: N818 - reads as what happened
    """The namespace, or the process that it was to be reached by, is no more."""


class Namespace:
    """One network namespace, kept alive by an open descriptor until ``close``."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.inode = os.fstat(fd).st_ino
        """What tells it from every other namespace that lives at the same time."""

    @classmethod
    def at(cls, path: str | Path) -> Self:
        """Open a namespace by its path (``/proc/<pid>/ns/net``, ``/run/netns/…``). Raises ``NamespaceGone``."""
        try:
            return cls(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
        except OSError as problem:
            raise _gone(f"{path} cannot be opened: {os.strerror(problem.errno or 0)}") from problem

    @classmethod
    def of(cls, pid: int) -> Self:
        """Open the namespace of a process, which is certain to have lived throughout. Raises ``NamespaceGone``."""
        try:
            alive = os.pidfd_open(pid)
        except OSError as problem:
            raise _gone(f"process {pid} is gone") from problem
        try:
            found = cls.at(f"/proc/{pid}/ns/net")
            if select.select([alive], [], [], 0)[0]:
                found.close()
                raise _gone(f"process {pid} is gone")
        finally:
            os.close(alive)
        return found

    def close(self) -> None:
        """Let go of it. May be called twice."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def call(self, work: Callable[[], Result]) -> Result:
        """Run something inside, in a thread that ends with it; return what it returns, raise what it raises."""
        outcome: list[Result] = []
        problems: list[BaseException] = []

        def enter() -> None:
            try:
                _enter(self.fd)
                outcome.append(work())
            except BaseException as problem:  # noqa: BLE001 - raised again below, in the caller's thread
                problems.append(problem)

        thread = threading.Thread(target=enter, name=f"netns-{self.inode}")
        thread.start()
        thread.join()
        if problems:
            raise problems[0]
        return outcome[0]

    async def run(self, work: Callable[[], Result]) -> Result:
        """Do as ``call`` does, without holding up the event loop."""
        return await asyncio.to_thread(self.call, work)


def inside(namespace: Namespace | None, work: Callable[[], Result]) -> Result:
    """Run something inside a namespace; None is the one we are in."""
    return work() if namespace is None else namespace.call(work)


def _enter(fd: int) -> None:
    if fd < 0:
        raise _gone("it was closed")
    if _libc.setns(fd, NEW_NET) != 0:
        code = ctypes.get_errno()
        raise StockadeError(
            f"a network namespace cannot be entered: {os.strerror(code)}",
            kept="nothing was changed",
            remedy="run as root, or with CAP_SYS_ADMIN",
        )


def _gone(what: str) -> NamespaceGone:
    return NamespaceGone(f"a network namespace is gone: {what}", remedy="nothing; what it belonged to has ended")
