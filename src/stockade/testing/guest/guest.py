"""A running guest: commands in, output and status out, and its end whatever happens.

Commands go over virtio ports, not over a network: what a guest does to its links and rules never cuts its tester off.
The guest dies with the process that started it, with the end of the ``with`` block, and after its lifetime.
"""

import base64
import contextlib
import json
import queue
import secrets
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from stockade.errors import StockadeError
from stockade.testing.guest.initrd import PORTS
from stockade.testing.guest.machine import Machine, command

BOOT = 180.0
"""Seconds from power to the first answer: a few on a quiet machine, many more on a busy one."""
COMMAND = 120.0
GRACE = 30.0
"""Seconds that a guest has to say that it killed a command."""
HEARD = 1 << 16


class GuestError(StockadeError):
    """A guest, or a command in it, did not do what it should; the message carries its last words."""


class Done(msgspec.Struct, frozen=True):
    """What a command said, on both streams, and its status (137: it was killed for taking too long)."""

    status: int
    output: bytes

    @property
    def text(self) -> str:
        """The output as text."""
        return self.output.decode(errors="replace")


class Guest:
    """A guest, from ``with Guest(machine) as guest`` to the end of the block."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.home = Path()
        self._process: subprocess.Popen[bytes] | None = None
        self._ports: queue.Queue[socket.socket] = queue.Queue()
        self._all: list[socket.socket] = []
        self._qmp: socket.socket | None = None
        self._end: threading.Timer | None = None

    def __enter__(self) -> Self:
        try:
            self._start()
            self.wait()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # What tests do with it

    def run(
        self,
        script: str,
        *,
        input: bytes = b"",  # noqa: A002 - as subprocess calls it
        timeout: float = COMMAND,
        heard: Callable[[bytes], object] | None = None,
    ) -> Done:
        """Run a shell script in the guest and return what it said; ``heard`` gets each piece as it arrives.

        What it leaves running must have its output elsewhere. Several threads may run scripts at a time.
        """
        try:
            port = self._ports.get(timeout=timeout)
        except queue.Empty:
            raise GuestError(f"all {PORTS} ways into the guest are busy") from None
        nonce = secrets.token_hex(12)
        try:
            port.settimeout(timeout + GRACE)
            packed = base64.b64encode(script.encode()).decode()
            port.sendall(f"{nonce} {max(1, round(timeout))} {len(input)} {packed}\n".encode() + input)
            return self._answer(port, nonce, heard or _nobody)
        except OSError as problem:
            raise GuestError(f"the guest said nothing to {script[:80]!r}: {problem}\n{self.last_words}") from problem
        finally:
            self._ports.put(port)

    def check(self, script: str, *, input: bytes = b"", timeout: float = COMMAND) -> str:  # noqa: A002
        """Run a script that must succeed and return what it said."""
        done = self.run(script, input=input, timeout=timeout)
        if done.status:
            raise GuestError(f"{script[:200]!r} in the guest: status {done.status}: {done.text[-2000:]}")
        return done.text

    def copy_in(self, content: bytes, path: str) -> None:
        """Write a file in the guest."""
        self.check(f"mkdir -p $(dirname {path}) && cat > {path}", input=content)

    def copy_out(self, path: str) -> bytes:
        """Return a file of the guest."""
        done = self.run(f"cat {path}")
        if done.status:
            raise GuestError(f"{path} in the guest: {done.text}")
        return done.output

    def reset(self) -> None:
        """Press the reset button: no goodbye, nothing synced; return when the guest answers again."""
        self._tell("system_reset")
        self._stale()
        self.wait()

    def reboot(self, script: str = "reboot") -> None:
        """Reboot in good order; return when the guest answers again."""
        before = self._boot_id()
        with contextlib.suppress(GuestError):
            self.run(f"({script}) >/dev/null 2>&1 & sleep 600", timeout=1)
        until = time.monotonic() + BOOT
        while self._boot_id() == before:
            if time.monotonic() > until:
                raise GuestError(f"the guest did not reboot within {BOOT:.0f} s\n{self.last_words}")
            time.sleep(0.5)

    def power_off(self, script: str = "poweroff") -> None:
        """Power the guest off in good order and wait for its end."""
        with contextlib.suppress(GuestError):
            self.run(f"({script}) >/dev/null 2>&1 &", timeout=10)
        self._over().wait(BOOT)
        self.close()

    def wait(self, timeout: float = BOOT) -> None:
        """Return when the guest answers."""
        until = time.monotonic() + timeout
        while True:
            try:
                return self._hello()
            except OSError:
                if self._over().poll() is not None or time.monotonic() > until:
                    raise GuestError(f"the guest did not come up in {timeout:.0f} s\n{self.last_words}") from None

    @property
    def last_words(self) -> str:
        """The end of what the guest's console and QEMU showed."""
        said = [self.home / name for name in ("console", "errors")]
        return "".join(each.read_bytes()[-3000:].decode(errors="replace") for each in said if each.exists())

    @property
    def pid(self) -> int:
        """QEMU's process."""
        return self._over().pid

    def close(self) -> None:
        """End the guest and remove what it had. May be called twice."""
        if self._end is not None:
            self._end.cancel()
        for each in (*self._all, *filter(None, (self._qmp,))):
            each.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._all, self._qmp, self._process = [], None, None
        if self.home != Path():
            shutil.rmtree(self.home)
            self.home = Path()

    # Within

    def _start(self) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="stockade-guest-"))
        with (self.home / "errors").open("wb") as errors:
            self._process = subprocess.Popen(
                command(self.machine, self.home), stdin=subprocess.DEVNULL, stdout=errors, stderr=errors
            )
        self._end = threading.Timer(self.machine.lifetime, self._process.kill)
        self._end.daemon = True
        self._end.start()
        self._qmp = self._connect("qmp")
        self._heard()
        self._tell("qmp_capabilities")
        self._all = [self._connect(f"port.{n}") for n in range(1, PORTS + 1)]
        for each in self._all:
            self._ports.put(each)

    def _connect(self, name: str) -> socket.socket:
        until = time.monotonic() + BOOT
        while True:
            ours = socket.socket(socket.AF_UNIX)
            try:
                ours.connect(str(self.home / name))
            except OSError:
                ours.close()
                if self._over().poll() is not None or time.monotonic() > until:
                    raise GuestError(f"QEMU did not start: {self.last_words}", remedy="make setup") from None
                time.sleep(0.05)
            else:
                return ours

    def _over(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise GuestError("the guest is not running")
        return self._process

    def _hello(self) -> None:
        """Have each port answer once; what it says of an earlier life is passed over."""
        for port in self._all:
            nonce = secrets.token_hex(12)
            port.settimeout(5)
            port.sendall(f"{nonce} 10 0 {base64.b64encode(b':').decode()}\n".encode())
            self._answer(port, nonce, _nobody)

    def _stale(self) -> None:
        """Read away what ports still hold of the life before."""
        for port in self._all:
            port.settimeout(0.01)
            with contextlib.suppress(OSError):
                while port.recv(HEARD):
                    pass

    def _boot_id(self) -> str:
        try:
            self._hello()
            return self.check("cat /proc/sys/kernel/random/boot_id", timeout=5)
        except (OSError, GuestError):
            return ""

    def _answer(self, port: socket.socket, nonce: str, heard: Callable[[bytes], object]) -> Done:
        begin, end = f"{nonce}{{\n".encode(), f"{nonce}}}".encode()
        pieces = self._pieces(port)
        held = b""
        while begin not in held:
            held = held[-len(begin) :] + next(pieces)
        said = held.partition(begin)[2]
        told = 0
        while end not in said or b"\n" not in said.partition(end)[2]:
            if (safe := len(said) - _begun(said, end)) > told:
                heard(said[told:safe])
                told = safe
            said += next(pieces)
        output, _, status = said.partition(end)
        if output[told:]:
            heard(output[told:])
        return Done(int(status.split()[0]), output)

    def _pieces(self, port: socket.socket) -> Iterator[bytes]:
        while data := port.recv(HEARD):
            yield data
        raise OSError("the guest is gone")

    def _tell(self, execute: str) -> None:
        assert self._qmp is not None
        self._qmp.sendall(json.dumps({"execute": execute}).encode() + b"\n")
        while "return" not in (said := self._heard()):
            if "error" in said:
                raise GuestError(f"QEMU refused {execute}: {said['error']}")

    def _heard(self) -> dict[str, Any]:
        assert self._qmp is not None
        self._qmp.settimeout(60)
        line = b""
        while not line.endswith(b"\n"):
            if not (byte := self._qmp.recv(1)):
                raise GuestError(f"QEMU is gone: {self.last_words}")
            line += byte
        found: dict[str, Any] = json.loads(line)
        return found


def _nobody(_: bytes) -> None:
    """What nobody listens to."""


def _begun(said: bytes, end: bytes) -> int:
    """Return how many of the last bytes may be the beginning of the end, or all from where the end is."""
    if (at := said.find(end)) >= 0:
        return len(said) - at
    return next((length for length in range(len(end), 0, -1) if said.endswith(end[:length])), 0)
