"""A real Podman for tests, root's and that of users made for it, which leaves nothing behind.

It works on a machine of its own (``machines.py``), with its own storage, runroot, settings and users; no registry is
ever asked: the one image is made here from the machine's static busybox. What runs on that machine, Stockade for
instance, finds this Podman by the usual ways: ``podman``, ``/etc/containers``, ``/etc/passwd``, ``/run/user``.

Needs root. ``why_not`` and ``why_not_rootless`` say what else is missing.
"""

import json
import os
import shutil
import stat
import subprocess
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from stockade.testing.busybox import PATH, root_archive
from stockade.testing.machines import Machine, MachineError, said

IMAGE = "localhost/busybox:stockade"
FIRST_UID = 21000
SUBORDINATES = 65536
SLOW = 180.0
"""Seconds for one call of podman on a machine that does much else."""

STORAGE = """
[storage]
driver = "overlay"
runroot = "{runroot}"
graphroot = "{graphroot}"
"""
SETTINGS = """
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "{events}"
runtime = "{runtime}"
hooks_dir = [{hooks}]
[network]
network_backend = "{network}"
"""


JOURNAL = Path("/lib/systemd/systemd-journald")
JOURNAL_SETTINGS = """
[Journal]
Storage=volatile
ReadKMsg=no
Audit=no
"""


class PodmanOptions(msgspec.Struct, frozen=True):
    """How Podman is set up. ``hooks`` are its folders of OCI hooks, root's and its users'; ``users`` have their own."""

    network: str = "netavark"
    """``netavark`` or ``cni``."""
    events: str = "file"
    """``file``, ``journald`` (the machine then has a journal of its own) or ``none``."""
    runtime: str = "runc"
    hooks: tuple[Path, ...] = ()
    users: tuple[str, ...] = ()
    uplink: bool = True
    bridge_nf: bool = True


DEFAULTS = PodmanOptions()


class User(msgspec.Struct, frozen=True):
    """Somebody on Podman's machine, and nowhere else."""

    name: str
    uid: int
    home: Path


ROOT = User("root", 0, Path("/root"))


class Podman:
    """Podman on a machine of its own, from ``with Podman() as podman`` to the end of the block."""

    def __init__(self, options: PodmanOptions = DEFAULTS, *, files: Mapping[str, bytes] | None = None) -> None:
        self.options = options
        self.image = IMAGE
        self.machine = Machine(uplink=options.uplink, bridge_nf=options.bridge_nf)
        self.users: dict[str, User] = {}
        self._files = dict(files or {})
        self._journal: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            self._open()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End every container and remove every trace. May be called twice."""
        self.machine.close()
        self.users.clear()
        if self._journal is not None:
            self._journal.kill()
            self._journal.wait()

    # What tests do with it; ``user`` empty is root

    @property
    def root(self) -> Path:
        """The folder of everything that is kept."""
        return self.machine.root

    @property
    def inside(self) -> list[str]:
        """The words before a command that run it on Podman's machine."""
        return self.machine.joined

    @property
    def environment(self) -> dict[str, str]:
        """The environment in which Stockade finds this Podman, and no Docker engine."""
        return {**os.environ, "HOME": "/root", "DOCKER_HOST": f"unix://{self.root / 'no-docker.sock'}"}

    @property
    def host_pid(self) -> int:
        """A process that holds the machine's namespaces."""
        return self.machine.host_pid

    @property
    def outside_pid(self) -> int:
        """A process that holds the network namespace of the machine outside."""
        return self.machine.outside_pid

    def on_host(self, *command: str) -> str:
        """Run a command on Podman's machine; return what it printed, stripped."""
        return self.machine.on_host(*command)

    def within(self, name: str) -> list[str]:
        """Return the words before a command that run the machine's own tools in a container's network namespace."""
        return ["nsenter", f"--net=/proc/{self.pid(name)}/ns/net", "--"]

    def command(self, *words: str, user: str = "") -> list[str]:
        """Return the words that run a command on Podman's machine as a user."""
        return [*self.machine.joined, *self._as(self._user(user)), *words]

    def podman(self, *words: str, user: str = "", timeout: float = SLOW, given: bytes | None = None) -> str:
        """Run ``podman``; return what it printed, stripped."""
        return said(self.command("podman", *words, user=user), timeout=timeout, given=given)

    def run(
        self, name: str, *words: str, command: Sequence[str] = ("sleep", "100000"), user: str = "", init: bool = True
    ) -> str:
        """Start a container in the background (``words`` are options of ``podman run``); return its id."""
        first = ["--init"] if init else []
        return self.podman("run", "-d", *first, "--name", name, *words, self.image, *command, user=user)

    def exec(self, name: str, *command: str, user: str = "", timeout: float = SLOW) -> str:
        """Run a command in a container; return what it printed, stripped."""
        return self.podman("exec", name, *command, user=user, timeout=timeout)

    def remove(self, *names: str, user: str = "") -> None:
        """Remove containers, running or not, with no time to say goodbye."""
        self.podman("rm", "-f", "-t", "0", "-v", *names, user=user)

    def clear(self) -> None:
        """Remove every pod, container and network that a test has made, whoever's."""
        for user in ("", *self.users):
            self.podman("pod", "rm", "-f", "-a", user=user)
            if left := self.podman("ps", "-aq", user=user).split():
                self.podman("rm", "-f", "-i", "-t", "0", "-v", "--depend", *left, user=user)
            self.podman("network", "prune", "-f", user=user)

    def inspect(self, name: str, user: str = "") -> dict[str, Any]:
        """Return Podman's own description of a container."""
        found: list[dict[str, Any]] = json.loads(self.podman("container", "inspect", name, user=user))
        return found[0]

    def pid(self, name: str, user: str = "") -> int:
        """Return the pid of a container's first process, as the machine counts."""
        return int(self.inspect(name, user)["State"]["Pid"])

    # Opening

    def _open(self) -> None:
        self.machine.__enter__()
        self._private_devices()
        self._settings()
        if self.options.events == "journald":
            self._keep_journal()
        for number, name in enumerate(self.options.users, 1):
            self.users[name] = self._make_user(name, FIRST_UID + number)
        archive = root_archive(self._files)
        for user in ("", *self.users):
            self.podman("import", "--change", f"ENV PATH={PATH}", "-", self.image, user=user, given=archive)

    def _private_devices(self) -> None:
        """Give everybody the two devices that rootless networks and storage need, on this machine alone."""
        for path in (Path("/dev/net/tun"), Path("/dev/fuse")):
            if path.exists():
                number, own = path.stat().st_rdev, f"/run/{path.name}"
                self.machine.on_host("mknod", "-m", "666", own, "c", str(os.major(number)), str(os.minor(number)))
                self.machine.on_host("mount", "--bind", own, str(path))

    def _settings(self) -> None:
        options = self.options
        hooks = ", ".join(f'"{each}"' for each in options.hooks)
        text = SETTINGS.format(events=options.events, runtime=options.runtime, network=options.network, hooks=hooks)
        self._write("/etc/containers/containers.conf", text)
        self._write("/etc/containers/policy.json", '{"default": [{"type": "insecureAcceptAnything"}]}\n')
        storage = STORAGE.format(runroot="/run/containers/storage", graphroot=self.root / "storage")
        self._write("/etc/containers/storage.conf", storage)

    def _keep_journal(self) -> None:
        self._write("/etc/machine-id", f"{uuid.uuid4().hex}\n")
        self._write("/etc/systemd/journald.conf", JOURNAL_SETTINGS)
        with (self.root / "journal.log").open("wb") as log:
            words = [*self.machine.joined, str(JOURNAL)]
            self._journal = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait = "for n in $(seq 300); do test -S /run/systemd/journal/socket && exit; sleep 0.1; done; exit 1"
        self.machine.on_host("sh", "-c", wait)

    def _make_user(self, name: str, uid: int) -> User:
        user = User(name, uid, self.root / "home" / name)
        user.home.mkdir(parents=True)
        first = uid * SUBORDINATES
        lines = {
            "/etc/passwd": f"{name}:x:{uid}:{uid}::{user.home}:/bin/sh",
            "/etc/group": f"{name}:x:{uid}:",
            "/etc/subuid": f"{name}:{first}:{SUBORDINATES}",
            "/etc/subgid": f"{name}:{first}:{SUBORDINATES}",
        }
        for path, line in lines.items():
            self.machine.on_host("sh", "-c", f"echo '{line}' >> {path}")
        storage = STORAGE.format(
            runroot=f"/run/user/{uid}/containers", graphroot=user.home / ".local/share/containers/storage"
        )
        self._write(str(user.home / ".config/containers/storage.conf"), storage)
        own = [str(user.home), f"/run/user/{uid}"]
        self.machine.on_host("mkdir", "-m", "700", f"/run/user/{uid}")
        self.machine.on_host("chown", "-R", f"{uid}:{uid}", *own)
        return user

    def _write(self, path: str, text: str) -> None:
        self.machine.on_host("mkdir", "-p", str(Path(path).parent))
        self.machine.on_host("sh", "-c", f"cat > {path}", given=text.encode())

    def _user(self, name: str) -> User:
        if name and name not in self.users:
            raise MachineError(f"nobody here is called {name}", remedy="name the user in PodmanOptions")
        return self.users[name] if name else ROOT

    def _as(self, user: User) -> list[str]:
        """As a login does: the user's own words and no others."""
        words = ["env", "-i", "-C", "/", f"PATH={PATH}", f"HOME={user.home}"]
        if user is ROOT:
            return words
        ids = f"--reuid={user.uid}", f"--regid={user.uid}", "--clear-groups"
        return ["setpriv", *ids, *words, f"XDG_RUNTIME_DIR=/run/user/{user.uid}", f"USER={user.name}"]


# What is missing


def why_not() -> str:
    """Say why root's Podman cannot be started here; empty where it can."""
    if absent := _absent("podman", "conmon", "runc", "netavark", "busybox", "iptables"):
        return f"{absent} not installed (make setup)"
    if os.geteuid() != 0:
        return "a machine for Podman needs root"
    # A user namespace shows root, and mounts are refused all the same.
    if Path("/proc/self/uid_map").read_text(encoding="ascii").split() != ["0", "0", "4294967295"]:
        return "a machine for Podman needs root outside a user namespace"
    return ""


def why_not_rootless() -> str:
    """Say why a user's Podman cannot be started here; empty where it can."""
    if reason := why_not():
        return reason
    if absent := _absent("newuidmap", "slirp4netns", "setpriv"):
        return f"{absent} not installed (make setup)"
    tun = Path("/dev/net/tun")
    if not tun.exists() or not stat.S_ISCHR(tun.stat().st_mode):
        return "no /dev/net/tun: slirp4netns makes its link of it"
    return ""


def why_not_journald() -> str:
    """Say why there can be no journal of Podman's events here; empty where there can."""
    return why_not() or ("" if JOURNAL.exists() else f"no {JOURNAL}: systemd is not installed")


def _absent(*programs: str) -> str:
    """Podman keeps some of its helpers out of everybody's way."""
    path = f"{PATH}:/usr/lib/podman:/usr/libexec/podman"
    return ", ".join(program for program in programs if shutil.which(program, path=path) is None)
