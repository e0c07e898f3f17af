"""A real Docker engine for tests, which leaves nothing behind.

``dockerd`` runs on a host of its own (``engine_host``), with its own data, state, socket, cgroups and subnets. No
registry is ever asked: the one image is made here from the machine's static busybox.
"""

import contextlib
import json
import os
import re
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from stockade.testing.busybox import PATH, root_archive
from stockade.testing.engine_host import HOST_ADDRESSES, OUTSIDE_ADDRESSES, UPLINK, EngineError, EngineHost

__all__ = [
    "HOST_ADDRESSES",
    "IMAGE",
    "OUTSIDE_ADDRESSES",
    "UPLINK",
    "Engine",
    "EngineError",
    "EngineOptions",
]

IMAGE = "busybox:stockade"
ADDRESS_POOL = "172.29.0.0/16"
BRIDGE_SUBNET = "172.28.0.1/16"
BRIDGE_SUBNET_V6 = "fd00:28::/64"

AT_ONCE = 10
"""Containers that are removed by one call: the client asks for all of a call at the same time."""


class EngineOptions(msgspec.Struct, frozen=True):
    """How the engine is set up. ``uplink`` gives its host a wire to a machine outside; ``extra`` go to ``dockerd``."""

    userland_proxy: bool = True
    iptables: bool = True
    ipv6: bool = True
    live_restore: bool = False
    bridge_nf: bool = True
    """``bridge-nf-call-iptables`` and its sisters, in the engine's namespace."""
    uplink: bool = True
    storage: str = "overlay2"
    extra: tuple[str, ...] = ()


DEFAULTS = EngineOptions()


class Engine(EngineHost):
    """A running engine, from ``with Engine() as engine`` (or ``async with``) to the end of the block."""

    def __init__(self, options: EngineOptions = DEFAULTS, *, files: Mapping[str, bytes] | None = None) -> None:
        super().__init__()
        self.options = options
        self.image = IMAGE
        self._files = dict(files or {})

    # The life of the engine

    def start(self, timeout: float = 30.0) -> None:
        """Start ``dockerd`` and wait until it answers."""
        self._forget_dead_containerd()
        self._launch(self._dockerd(), "dockerd.log")
        self._await_answer(timeout)

    # What tests do with it

    @property
    def socket(self) -> Path:
        """The Unix socket of the engine's API."""
        return self.root / "docker.sock"

    @property
    def environment(self) -> dict[str, str]:
        """The environment in which ``docker`` and Stockade find this engine and no other."""
        return {**os.environ, "DOCKER_HOST": f"unix://{self.socket}", "DOCKER_CONFIG": str(self.root / "client")}

    def docker(self, *words: str, timeout: float = 60.0) -> str:
        """Run the ``docker`` client; return what it printed, stripped."""
        return self._said(["docker", *words], timeout)

    def run(self, name: str, *words: str, command: Sequence[str] = ("sleep", "100000")) -> str:
        """Start a container in the background (``words`` are options of ``docker run``); return its id."""
        return self.docker("run", "-d", "--init", "--name", name, *words, self.image, *command)

    def exec(self, name: str, *command: str, timeout: float = 60.0) -> str:
        """Run a command in a container; return what it printed, stripped."""
        return self.docker("exec", name, *command, timeout=timeout)

    def remove(self, *names: str) -> None:
        """Remove containers, running or not, with no time to say goodbye; a few at a time."""
        for start in range(0, len(names), AT_ONCE):
            self.docker("rm", "-f", "-v", *names[start : start + AT_ONCE])

    def clear(self) -> None:
        """Remove every container and every network that a test has made."""
        self.remove(*self.docker("ps", "-aq", "--no-trunc").split())
        try:
            self._remove_networks()
        except EngineError:
            # It lost count of a network's endpoints, as it may when many go at once. It counts anew when it starts.
            self.restart()
            self._remove_networks()

    def _remove_networks(self) -> None:
        if networks := self.docker("network", "ls", "-q", "--filter", "type=custom").split():
            self.docker("network", "rm", *networks)

    def inspect(self, name: str) -> dict[str, Any]:
        """Return the engine's own description of a container (or network)."""
        found: list[dict[str, Any]] = json.loads(self.docker("inspect", name))
        return found[0]

    def pid(self, name: str) -> int:
        """Return the pid of a container's first process, as the machine counts."""
        return int(self.inspect(name)["State"]["Pid"])

    def within(self, name: str) -> list[str]:
        """Return the words before a command that run the machine's own tools in a container's network namespace."""
        return ["nsenter", f"--net=/proc/{self.pid(name)}/ns/net", "--"]

    def log(self, lines: int = 40) -> str:
        """Return the last lines of the daemon's log."""
        return "\n".join((self.root / "dockerd.log").read_text(errors="replace").splitlines()[-lines:])

    # Opening

    def _open(self) -> None:
        self._make_host(uplink=self.options.uplink, bridge_nf=self.options.bridge_nf)
        self.start()
        self._import_image()

    def _dockerd(self) -> list[str]:
        options = self.options
        words = ["dockerd", "--data-root", str(self.root / "data"), "--exec-root", str(self.root / "exec")]
        words += ["--pidfile", str(self.root / "docker.pid"), "--host", f"unix://{self.socket}", "--group", "root"]
        words += ["--bip", BRIDGE_SUBNET, "--default-address-pool", f"base={ADDRESS_POOL},size=24"]
        words += ["--storage-driver", options.storage, "--cgroup-parent", f"/{self._cgroup}", "--log-level", "warn"]
        words += ["--exec-opt", "native.cgroupdriver=cgroupfs", "--shutdown-timeout", "1"]
        words += [f"--userland-proxy={_bool(options.userland_proxy)}", f"--iptables={_bool(options.iptables)}"]
        words += [f"--live-restore={_bool(options.live_restore)}"]
        if options.ipv6:
            words += ["--ipv6", "--fixed-cidr-v6", BRIDGE_SUBNET_V6, "--experimental"]
            words += [f"--ip6tables={_bool(options.iptables)}"]
        return [*words, *options.extra]

    def _await_answer(self, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if self._daemon is None or self._daemon.poll() is not None:
                break
            if _answers(self.socket):
                return
            time.sleep(0.02)
        raise EngineError(f"dockerd did not come up:\n{self.log()}", remedy="read its last words above")

    def _forget_dead_containerd(self) -> None:
        """``dockerd`` takes whoever has the pid of its last containerd for a living one, and waits for it in vain.

        The last one dies with its ``dockerd``, and may be about to.
        """
        record = self.root / "exec" / "containerd" / "containerd.pid"
        deadline = time.monotonic() + 10
        with contextlib.suppress(FileNotFoundError):
            pid = record.read_text().strip()
            while _is_alive(pid, "containerd"):
                if time.monotonic() > deadline:
                    return
                time.sleep(0.02)
            record.unlink()

    def _import_image(self) -> None:
        done = subprocess.run(
            ["docker", "import", "--change", f"ENV PATH={PATH}", "-", self.image],
            input=root_archive(self._files),
            capture_output=True,
            env=self.environment,
            check=False,
        )
        if done.returncode:
            raise EngineError(f"no image could be imported: {done.stderr.decode(errors='replace').strip()}")


# Small steps


def _is_alive(pid: str, name: str) -> bool:
    """Whether a process of this name has this pid, and has not died: one that nobody has reaped yet has."""
    try:
        _, said, state = re.split(r" \((.*)\) ", Path(f"/proc/{pid}/stat").read_text(), maxsplit=1)
    except (FileNotFoundError, ProcessLookupError):
        return False
    return said == name and not state.startswith(("Z", "X"))


def _answers(path: Path) -> bool:
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(2)
            connection.connect(str(path))
            connection.sendall(b"GET /_ping HTTP/1.0\r\nHost: docker\r\n\r\n")
            return b" 200 " in connection.recv(64)
    except OSError:
        return False


def _bool(flag: bool) -> str:
    return "true" if flag else "false"
