# SPDX-License-Identifier: GPL-2.0-or-later
#
# Part of the program in ``holding.py``, and under the same license for the same reason.
"""Who stands by for a helper, in case that it is killed: a deputy and a spare, both of them copies of it.

The deputy has the same sockets, and goes on in its place: the tables stay owned all the while. The spare has none of
them, and has all that a helper needs before it opens its own: where helper and deputy are killed at once, whoever asks
it (``{"source": …, "namespace": …}`` and an end, on the socket beside the helper's) has another helper without waiting
for Python to start. Promises: a spare that would begin another program, or work in another network namespace, than is
asked for ends instead; so does one whose socket nobody can reach any more.
"""

import contextlib
import json
import os
import select
import signal
import socket
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

AFTER = 0.5
"""Seconds of service, or since the last one ended, before a deputy or a spare is appointed: who kills them need not do
so twice."""
PATIENCE = 5.0
"""Seconds for a process to end that was killed."""
BACKLOG = 32
HEARD = 1.0
"""Seconds for a question to the spare to arrive."""
LOOK = 5.0
"""Seconds between a spare's looks whether its socket is still its own."""
QUESTION = 4096
DESCRIPTORS = 1 << 20
SOURCE = zlib.crc32(b"".join(each.read_bytes() for each in sorted(Path(__file__).parent.glob("*.py"))))
"""Tells one helper from another: a newer client wants the helper that came with it."""


class Standby:
    """Deputy and spare of the helper that serves the socket ``path``, which is this process."""

    def __init__(self, path: Path, serve: Callable[[int], None]) -> None:
        """``serve`` is another helper's whole life; it says down the pipe that it is given once it answers."""
        self.path = path.with_name(f"{path.name}.spare")
        self.serve = serve
        self.deputy = 0
        self.spare = 0
        self.lines: dict[int, socket.socket | None] = {}
        """By descriptor: what is readable once the deputy (a line to it) or the spare (its process) has ended."""
        self.begin()

    def begin(self) -> None:
        """Begin as the one who serves. A line to a deputy is another one's, who had this process for it."""
        for descriptor in tuple(self.lines):
            self.close(descriptor)
        self.deputy = self.spare = 0
        self.at = time.monotonic() + AFTER

    def until(self) -> float | None:
        """Return the seconds until somebody is to be appointed; None where both are there."""
        return None if self.deputy and self.spare else max(0.0, self.at - time.monotonic())

    def appoint(self, step_aside: Callable[[], None]) -> bool:
        """Have copies of this process stand by. True in the deputy, once who served has ended.

        ``step_aside``: what a deputy does first: clients' connections are not its own.
        """
        self.at = time.monotonic() + AFTER
        if not self.spare:
            self.keep_spare()
        return not self.deputy and self.deputise(step_aside)

    def lost(self, descriptor: int) -> None:
        """Take note that somebody has ended; another one follows."""
        self.at = time.monotonic() + AFTER
        pid, self.deputy, self.spare = (
            (self.deputy, 0, self.spare) if self.lines[descriptor] else (self.spare, self.deputy, 0)
        )
        self.close(descriptor)
        end(pid)

    def dismiss(self) -> None:
        """End both, and be sure of it."""
        for pid in (self.deputy, self.spare):
            if pid:
                end(pid)
        self.begin()

    def leave(self) -> None:
        """Remove the spare's socket."""
        self.path.unlink(missing_ok=True)

    # The deputy

    def deputise(self, step_aside: Callable[[], None]) -> bool:
        """Appoint a deputy. Nothing is ever said along the line to it: it ends with whoever is at its other end."""
        ours, theirs = socket.socketpair()
        with held(signal.SIGTERM):  # who is told to end meanwhile first learns which of the two it is
            if pid := os.fork():
                self.deputy, self.lines[ours.fileno()] = pid, ours
            else:
                ending = signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if pid:
            theirs.close()
            return False
        ours.close()
        step_aside()
        theirs.recv(1)
        theirs.close()
        signal.signal(signal.SIGTERM, ending)
        self.begin()
        return True

    # The spare

    def keep_spare(self) -> None:
        """Find the spare that is there, or appoint one."""
        if spare := self.found():
            self.lines[os.pidfd_open(spare)] = None
            self.spare = spare
        else:
            self.fork_spare()

    def found(self) -> int:
        """Return the spare that another helper of this socket had, or that began this one; 0 where there is none."""
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as asked:
            folder = os.open(self.path.parent, os.O_PATH)
            try:
                asked.connect(f"/proc/self/fd/{folder}/{self.path.name}")
            finally:
                os.close(folder)
            return peer(asked)[0]
        return 0

    def fork_spare(self) -> None:
        """Appoint one."""
        listener = bound(self.path)
        with held(signal.SIGTERM):
            if pid := os.fork():
                self.spare, self.lines[os.pidfd_open(pid)] = pid, None
            else:
                try:
                    signal.signal(signal.SIGTERM, signal.SIG_DFL)
                    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
                    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM,))
                    os.closerange(3, listener.fileno())
                    os.closerange(listener.fileno() + 1, DESCRIPTORS)
                    self.be_spare(listener)
                finally:
                    os._exit(0)
        listener.close()

    def be_spare(self, listener: socket.socket) -> None:
        """Answer for as long as one can be reached, and is what is asked for."""
        listener.listen(BACKLOG)  # the kernel then names us to who connects
        own = self.path.stat().st_ino
        fit = True
        while fit:
            with contextlib.suppress(OSError):
                if select.select([listener], [], [], LOOK)[0]:
                    fit = self.answer(listener.accept()[0], listener)
            fit = fit and there(self.path) == own

    def answer(self, connection: socket.socket, listener: socket.socket) -> bool:
        """Have whoever asks given another helper; False where this is not the program, or the place, that is meant."""
        with connection:
            if peer(connection)[1] not in (0, os.geteuid()):
                return True
            connection.settimeout(HEARD)
            if not (question := connection.recv(QUESTION)):
                return True
            if question != asked_for(SOURCE, there(Path("/proc/self/ns/net"))):
                return False
            if os.fork() == 0:
                try:
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    listener.close()
                    connection.settimeout(None)
                    self.serve(connection.detach())
                finally:
                    os._exit(0)
            return True

    def close(self, descriptor: int) -> None:
        """Close one of the lines."""
        if line := self.lines.pop(descriptor):
            line.close()
        else:
            os.close(descriptor)


def asked_for(source: int, namespace: int) -> bytes:
    """Return the question to a spare: to be this program, in this network namespace (its inode)."""
    return json.dumps({"source": source, "namespace": namespace}).encode()


def bound(path: Path) -> socket.socket:
    """Return a socket that is bound to a path, in place of what was there, for its own user alone."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        # Through its folder, since a socket's name has room for 107 bytes.
        folder = os.open(path.parent, os.O_PATH)
        listener.bind(f"/proc/self/fd/{folder}/{path.name}")
        os.close(folder)
    finally:
        os.umask(before)
    listener.listen(BACKLOG)
    listener.setblocking(False)
    return listener


def peer(connection: socket.socket) -> tuple[int, int]:
    """Return the process and the user at the other end."""
    pid, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return pid, uid


def there(path: Path) -> int:
    """Return a file's inode; 0 where there is none."""
    try:
        return path.stat().st_ino
    except OSError:
        return 0


def end(pid: int) -> bool:
    """Kill a process and wait until it is no more; False where it is gone already, or does not go."""
    try:
        pinned = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        signal.pidfd_send_signal(pinned, signal.SIGKILL)
        return bool(select.select([pinned], [], [], PATIENCE)[0])
    except OSError:
        return False
    finally:
        os.close(pinned)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)


@contextlib.contextmanager
def held(number: signal.Signals) -> Iterator[None]:
    """Have a signal wait."""
    signal.pthread_sigmask(signal.SIG_BLOCK, (number,))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (number,))
