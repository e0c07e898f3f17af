"""A host for tests that is a network and a mount namespace with one bridge, ``br0``, and its own ``/run/netns``.

What is made there ends with it; the machine's own links, mounts and names are never touched. Needs root.
"""

import contextlib
import os
import subprocess
from collections.abc import Iterator

from stockade.errors import StockadeError
from stockade.testing.lab.entry import entered

BEGIN = (
    "mkdir -p /run/netns; mount -t tmpfs none /run/netns; ip link set lo up; ip link add br0 type bridge;"
    "ip addr add 10.99.0.1/24 dev br0; ip link set br0 up; echo ready; exec sleep 600"
)


class BareHost:
    """``words`` before a command run it there."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.words = ["nsenter", f"--net=/proc/{pid}/ns/net", f"--mount=/proc/{pid}/ns/mnt", "--"]

    def run(self, script: str) -> str:
        """Run a shell script there; return what it said. ``StockadeError`` with its last words where it failed."""
        argv = [*self.words, "sh", "-ec", script]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode:
            raise StockadeError(f"{script}: {done.stderr.strip()}")
        return done.stdout

    def start(self, *words: str, **more: object) -> "subprocess.Popen[bytes]":
        """Start a program there."""
        argv = [*self.words, *words]
        return subprocess.Popen(argv, stdin=subprocess.DEVNULL, **more)  # type: ignore[call-overload, no-any-return]

    def plug(self, name: str, number: int) -> None:
        """Plug a bare namespace into the bridge by hand, as anybody with root may; its address ends in ``number``."""
        self.run(
            f"ip netns add {name}; ip link add {name} type veth peer name eth0 netns {name};"
            f"ip link set {name} master br0 up; ip -n {name} addr add 10.99.0.{number}/24 dev eth0;"
            f"ip -n {name} link set eth0 up; ip -n {name} link set lo up"
        )


def why_not() -> str:
    """Say why there can be no such host here; empty where there can."""
    if os.geteuid() != 0 or entered():
        return "a host of its own for a census needs root outside a user namespace"
    return ""


@contextlib.contextmanager
def bare_host() -> Iterator[BareHost]:
    """Yield a host; it ends with all that is in it."""
    holder = subprocess.Popen(["unshare", "-n", "-m", "sh", "-ec", BEGIN], stdout=subprocess.PIPE)
    try:
        if holder.stdout is None or holder.stdout.readline() != b"ready\n":
            raise StockadeError("no bare host can be made", remedy="run as root")
        yield BareHost(holder.pid)
    finally:
        holder.kill()
        holder.wait()
        if holder.stdout is not None:
            holder.stdout.close()
