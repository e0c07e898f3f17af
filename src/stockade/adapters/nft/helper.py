"""The nft helper, as its client sees it: found or started, asked with a deadline, released or replaced.

Promises: no call lasts longer than the deadline; a call that failed half-way says so with ``OSError``, and it is then
unknown whether the kernel took it, so look again. The helper is started as a program and outlives this process. One
that came with another version of Stockade is ended and replaced by ours, which adopts its tables.
"""

import contextlib
import errno
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

PROGRAM = Path(__file__).parents[2] / "nfthelper" / "__main__.py"
LARGEST = 64 << 20
SHORT = 3.0
"""Seconds in which a living helper that has nothing to do answers, or a new one starts."""
AT_ONCE = 1.0
"""Seconds in which a spare has begun a helper; after that it is begun from nothing."""
ROUND = 0.002
READY = b"ready"


class Helper:
    """One helper, by the path of its socket. Safe to use from several threads; requests queue.

    ``netns`` is the file of the network namespace that a helper started here works in; otherwise it works in that of
    the thread that starts it. ``deadline``: seconds that one request may take.
    """

    def __init__(self, path: Path, *, netns: str | None = None, deadline: float = 30.0) -> None:
        self.path = path
        self.netns = netns
        self.deadline = deadline
        self.port = 0
        """The helper's netlink port: changes that carry another one are somebody else's."""
        self._connection: socket.socket | None = None
        self._lock = threading.Lock()

    def call(self, **request: Any) -> dict[str, Any]:
        """Ask a living helper, started if need be. ``OSError`` where it fails; no transaction is ever sent twice."""
        with self._lock:
            if not self._connected():
                self._ensure()
            try:
                return self._ask(request, self.deadline)
            except ConnectionError:
                if request["do"] == "commit":
                    raise
            self._ensure()
            return self._ask(request, self.deadline)

    def ping(self) -> dict[str, Any]:
        """Return what a living helper says of itself, started if need be."""
        with self._lock:
            return self._ensure()

    def is_port(self, port: int) -> bool:
        """Tell whether a transaction is the helper's: also that of one which has begun to work and not yet answered."""
        if port == self.port:
            return True
        try:
            return port == int(self.path.with_name(f"{self.path.name}.lock").read_bytes())
        except (OSError, ValueError):
            return False

    def pinned(self) -> int:
        """Return a descriptor of the living helper's process, started if need be: readable once it has ended."""
        with self._lock:
            return os.pidfd_open(int(self._ensure()["pid"]))

    def release(self) -> None:
        """End the helper, if one lives, and wait until its socket is gone. Persistent tables stay, without an owner."""
        with self._lock:
            try:
                self._connect()
                self._ask({"do": "release"}, self.deadline)
            except (FileNotFoundError, ConnectionRefusedError):
                return
            finally:
                self._close()
            self._await(lambda: not self.path.exists(), "the helper does not end")

    def replace(self) -> None:
        """Kill a helper that does not answer, and start another, which adopts its tables."""
        with self._lock:
            with contextlib.suppress(OSError):
                self._kill()
            self._close()
            self._ensure()

    def close(self) -> None:
        """Let go of the connection. The helper lives on."""
        with self._lock:
            self._close()

    # within, under the lock

    def _ensure(self) -> dict[str, Any]:
        """Return a living helper's answer: over the connection that is there, or a new one, or from a new helper."""
        for attempt in (self._again, self._find, self._start):
            with contextlib.suppress(FileNotFoundError, ConnectionError):
                return attempt()
        raise ConnectionRefusedError(errno.ECONNREFUSED, "the nft helper does not answer", str(self.path))

    def _connected(self) -> bool:
        """Tell whether a helper is at the other end: one that ended has closed it, and one that lives says nothing."""
        if self._connection is None:
            return False
        poll = select.poll()
        poll.register(self._connection, select.POLLIN)
        return not poll.poll(0)

    def _again(self) -> dict[str, Any]:
        if self._connection is None:
            raise ConnectionResetError
        return self._greet()

    def _find(self) -> dict[str, Any]:
        """Return the answer of the helper that lives, unless it is another version's: then it is asked to go."""
        self._connect()
        said = self._greet()
        if said.get("source") == _source():
            return said
        self._ask({"do": "release"}, self.deadline)
        self._close()
        self._await(lambda: not self.path.exists(), "another version's helper does not end")
        raise ConnectionRefusedError

    def _start(self) -> dict[str, Any]:
        """Start a helper: by the spare of one that was killed, or where that does not do, from nothing."""
        if not self._by_spare():
            self._from_nothing()
        self._await(self._connects, "the nft helper does not answer")
        return self._greet()

    def _by_spare(self) -> bool:
        """Ask a spare for a helper; False where none is there, or it is another program, or in another place."""
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asked:
            namespace = Path(self.netns or "/proc/thread-self/ns/net").stat().st_ino
            question = {"source": _source(), "namespace": namespace}
            asked.settimeout(AT_ONCE)
            _connect(asked, self.path.with_name(f"{self.path.name}.spare"))
            asked.sendall(json.dumps(question).encode())
            return asked.recv(len(READY)) == READY
        return False

    def _from_nothing(self) -> None:
        command = [sys.executable, "-IS", str(PROGRAM), str(self.path)]
        command += [self.netns] if self.netns else []
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                start_new_session=True,
                timeout=self.deadline,
                check=False,
            )
        except subprocess.TimeoutExpired:
            late = f"the nft helper has not started within {self.deadline:g} s"
            raise TimeoutError(errno.ETIMEDOUT, late, str(self.path)) from None
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"]
            raise OSError(errno.EIO, f"the nft helper does not start: {said[-1]}", str(self.path))

    def _greet(self) -> dict[str, Any]:
        said = self._ask({"do": "ping"}, self.deadline)
        self.port = int(said["port"])
        return said

    def _connects(self) -> bool:
        try:
            self._connect()
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        return True

    def _connect(self) -> None:
        self._close()
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(self.deadline)
        try:
            _connect(connection, self.path)
        except OSError:
            connection.close()
            raise
        self._connection = connection

    def _ask(self, request: dict[str, Any], patience: float) -> dict[str, Any]:
        """Send one request and wait for its answer. A connection that failed is closed: its next answer is late."""
        connection = self._connection
        if connection is None:
            raise ConnectionResetError(errno.ECONNRESET, "not connected", str(self.path))
        until = time.monotonic() + patience
        try:
            body = json.dumps(request).encode()
            connection.settimeout(patience)
            connection.sendall(struct.pack(">I", len(body)) + body)
            (length,) = struct.unpack(">I", _receive(connection, 4, until))
            if length > LARGEST:
                raise ConnectionAbortedError(errno.EMSGSIZE, "the helper's answer is too large", str(self.path))
            answer: dict[str, Any] = json.loads(_receive(connection, length, until))
        except BaseException:
            self._close()
            raise
        if failed := answer.get("failed"):
            raise OSError(errno.EIO, f"the nft helper failed: {failed}", str(self.path))
        return answer

    def _kill(self) -> None:
        """Kill whoever listens on the socket; the number is taken from the kernel and pinned before it is used."""
        self._connect()
        if self._connection is None:
            return
        pid, _, _ = struct.unpack("3i", self._connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        pinned = os.pidfd_open(pid)
        try:
            if str(PROGRAM).encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                signal.pidfd_send_signal(pinned, signal.SIGKILL)
        finally:
            os.close(pinned)

    def _await(self, happens: Callable[[], bool], otherwise: str) -> None:
        until = time.monotonic() + SHORT
        while not happens():
            if time.monotonic() > until:
                raise TimeoutError(errno.ETIMEDOUT, otherwise, str(self.path))
            time.sleep(ROUND)

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _source() -> int:
    """Return what tells the helper that came with us from others."""
    return zlib.crc32(b"".join(each.read_bytes() for each in sorted(PROGRAM.parent.glob("*.py"))))


def _connect(connection: socket.socket, path: Path) -> None:
    """Connect to a path, through its folder, since a socket's name has room for 107 bytes."""
    folder = os.open(path.parent, os.O_PATH)
    try:
        connection.connect(f"/proc/self/fd/{folder}/{path.name}")
    finally:
        os.close(folder)


def _receive(connection: socket.socket, length: int, until: float) -> bytes:
    """Return so many bytes, or raise ``TimeoutError`` or ``ConnectionError``."""
    parts = bytearray()
    while len(parts) < length:
        connection.settimeout(max(0.001, until - time.monotonic()))
        part = connection.recv(min(1 << 20, length - len(parts)))
        if not part:
            raise ConnectionResetError(errno.ECONNRESET, "the nft helper closed the connection")
        parts += part
    return bytes(parts)
