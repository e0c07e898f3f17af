"""A network namespace of the test's own, with a helper in it, and nothing left behind."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from stockade.adapters.nft import NftKernel
from stockade.core.compile.nft.ruleset import Ruleset
from stockade.core.reconcile import steps, text
from stockade.testing.kernel import FakeKernel


class Room:
    """``netns`` is the namespace's file; ``kernel`` the adapter under test."""

    def __init__(self, holder: int, folder: Path) -> None:
        self.netns = f"/proc/{holder}/ns/net"
        self.socket = folder / "nft.sock"
        self.kernel = self.another()

    def another(self, name: str = "nft.sock") -> NftKernel:
        return NftKernel(self.socket.with_name(name), FakeKernel(), netns=self.netns, deadline=20)

    def apply(self, desired: Ruleset, kernel: NftKernel | None = None) -> int:
        """Reconcile; return in how many steps."""
        kernel = kernel or self.kernel
        planned = steps(desired, kernel.observe())
        for step in planned:
            kernel.commit(text(step))
        return len(planned)

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the namespace, as any other process."""
        return subprocess.run(
            ["nsenter", f"--net={self.netns}", "--", *words], capture_output=True, text=True, timeout=60, check=False
        )

    def nft(self, *words: str) -> str:
        """Run nft as another process; return its complaint, or nothing."""
        return self.run("nft", *words).stderr

    def helper_pid(self) -> int:
        return int(self.kernel.helper.ping()["pid"])

    def deputy(self) -> int:
        """Wait until the helper has a deputy; return its process."""
        return self._standing_by("deputy")

    def spare(self) -> int:
        """Wait until the helper has a spare; return its process."""
        return self._standing_by("spare")

    def _standing_by(self, who: str) -> int:
        until = time.monotonic() + 10
        while not (pid := int(self.kernel.helper.ping()[who])):
            assert time.monotonic() < until, f"no {who} is appointed"
            time.sleep(0.02)
        return pid

    def kill_helper(self) -> int:
        """Kill the helper and its deputy, if there is one yet."""
        said = self.kernel.helper.ping()
        for pid in (int(said["deputy"]), int(said["pid"])):
            if pid:
                kill(pid)
        return int(said["pid"])


def kill(pid: int, number: int = signal.SIGKILL) -> None:
    """Kill a process that we started, and wait until it is gone."""
    os.kill(pid, number)
    gone(pid)


def gone(pid: int) -> bool:
    """Tell whether a process ends within a while: whoever ends is there until its sockets are closed, one by one."""
    until = time.monotonic() + 10
    while (there := alive(pid)) and time.monotonic() < until:
        time.sleep(0.005)
    return not there


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@contextmanager
def bare_room(folder: Path = Path()) -> Iterator[Room]:
    """A namespace, while the block lasts. No helper is started unless it is asked something."""
    holder = subprocess.Popen(["unshare", "-n", "sh", "-c", "echo ready; exec cat"], stdin=-1, stdout=-1)
    try:
        assert holder.stdout.readline() == b"ready\n"
        made = Room(holder.pid, folder)
        made.run("ip", "link", "set", "lo", "up")
        yield made
    finally:
        holder.kill()
        holder.communicate()


@contextmanager
def room(folder: Path) -> Iterator[Room]:
    """A namespace and its helper, which ends with the block, whatever state it is in."""
    with bare_room(folder) as made:
        try:
            yield made
        finally:
            with suppress(OSError):
                made.kernel.helper.replace()
            made.kernel.helper.release()
