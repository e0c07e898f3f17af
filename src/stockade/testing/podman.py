"""A real Podman for tests, root's and that of users made for it, which leaves nothing behind.

It works on a host of its own (``engine_host.py``), with its own storage, runroot, settings and users; no registry is
ever asked: the one image is made here from the machine's static busybox. What runs on that host, Stockade for
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
from typing import Any

import msgspec

from stockade.testing.busybox import PATH, root_archive
from stockade.testing.engine_host import EngineError, EngineHost
from stockade.testing.lab.entry import entered

IMAGE = "localhost/busybox:stockade"
FIRST_UID = 21000
SUBORDINATES = 65536
SLOW = 180.0
"""Seconds for one call of podman on a host that does much else."""

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
    """``file``, ``journald`` (its host then has a journal of its own) or ``none``."""
    runtime: str = "runc"
    hooks: tuple[Path, ...] = ()
    users: tuple[str, ...] = ()
    uplink: bool = True
    bridge_nf: bool = True


DEFAULTS = PodmanOptions()


class User(msgspec.Struct, frozen=True):
    """Somebody on Podman's host, and nowhere else."""

    name: str
    uid: int
    home: Path


ROOT = User("root", 0, Path("/root"))


class Podman(EngineHost):
    """Podman on a host of its own, from ``with Podman() as podman`` to the end of the block."""

    def __init__(self, options: PodmanOptions = DEFAULTS, *, files: Mapping[str, bytes] | None = None) -> None:
        super().__init__(own_cgroups=True)
        self.options = options
        self.image = IMAGE
        self.users: dict[str, User] = {}
        self._files = dict(files or {})
        self._journal: subprocess.Popen[bytes] | None = None

    def close(self) -> None:
        """End every container and remove every trace. May be called twice."""
        super().close()
        self.users.clear()
        if self._journal is not None:
            self._journal.kill()
            self._journal.wait()
            self._journal = None

    # What tests do with it; ``user`` empty is root

    @property
    def environment(self) -> dict[str, str]:
        """The environment in which Stockade finds this Podman, and no Docker engine."""
        return {**os.environ, "HOME": "/root", "DOCKER_HOST": f"unix://{self.root / 'no-docker.sock'}"}

    @property
    def joined(self) -> list[str]:
        """As ``inside``; what the command leaves running ends with the host."""
        return ["sh", "-c", self._joining("engine") + 'exec "$@"', "sh", *self.inside]

    def within(self, name: str) -> list[str]:
        """Return the words before a command that run the machine's own tools in a container's network namespace."""
        return ["nsenter", f"--net=/proc/{self.pid(name)}/ns/net", "--"]

    def command(self, *words: str, user: str = "") -> list[str]:
        """Return the words that run a command on Podman's host as a user."""
        return [*self.joined, *self._as(self._user(user)), *words]

    def podman(self, *words: str, user: str = "", timeout: float = SLOW, given: bytes | None = None) -> str:
        """Run ``podman``; return what it printed, stripped."""
        return _said(self.command("podman", *words, user=user), timeout, given)

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
        self._make_host(uplink=self.options.uplink, bridge_nf=self.options.bridge_nf)
        self.root.chmod(0o711)  # users made for a test pass through
        self.on_host("mount", "--make-rshared", "/")  # as a service manager leaves it
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
        """Give everybody the two devices that rootless networks and storage need, on this host alone."""
        for path in (Path("/dev/net/tun"), Path("/dev/fuse")):
            if path.exists():
                number, own = path.stat().st_rdev, f"/run/{path.name}"
                self.on_host("mknod", "-m", "666", own, "c", str(os.major(number)), str(os.minor(number)))
                self.on_host("mount", "--bind", own, str(path))

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
            words = [*self.joined, str(JOURNAL)]
            self._journal = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait = "for n in $(seq 300); do test -S /run/systemd/journal/socket && exit; sleep 0.1; done; exit 1"
        self.on_host("sh", "-c", wait)

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
            self.on_host("sh", "-c", f"echo '{line}' >> {path}")
        storage = STORAGE.format(
            runroot=f"/run/user/{uid}/containers", graphroot=user.home / ".local/share/containers/storage"
        )
        self._write(str(user.home / ".config/containers/storage.conf"), storage)
        own = [str(user.home), f"/run/user/{uid}"]
        self.on_host("mkdir", "-p", "-m", "700", f"/run/user/{uid}")
        self.on_host("chown", "-R", f"{uid}:{uid}", *own)
        return user

    def _write(self, path: str, text: str) -> None:
        self.on_host("mkdir", "-p", str(Path(path).parent))
        _said([*self.inside, "sh", "-c", f"cat > {path}"], SLOW, text.encode())

    def _user(self, name: str) -> User:
        if name and name not in self.users:
            raise EngineError(f"nobody here is called {name}", remedy="name the user in PodmanOptions")
        return self.users[name] if name else ROOT

    def _as(self, user: User) -> list[str]:
        """As a login does: the user's own words and no others."""
        words = ["env", "-i", "-C", "/", f"PATH={PATH}", f"HOME={user.home}"]
        if user is ROOT:
            return words
        ids = f"--reuid={user.uid}", f"--regid={user.uid}", "--clear-groups"
        return ["setpriv", *ids, *words, f"XDG_RUNTIME_DIR=/run/user/{user.uid}", f"USER={user.name}"]


def _said(command: Sequence[str], timeout: float, given: bytes | None) -> str:
    """Run a command with something on its standard input; return what it printed, stripped."""
    done = subprocess.run(command, input=given or b"", capture_output=True, timeout=timeout, check=False)
    if done.returncode:
        words = (done.stderr or done.stdout).decode(errors="replace").strip()
        raise EngineError(f"`{' '.join(command)}` said {done.returncode}: {words}")
    return done.stdout.decode(errors="replace").strip()


# What is missing


def why_not() -> str:
    """Say why root's Podman cannot be started here; empty where it can."""
    if absent := _absent("podman", "conmon", "runc", "netavark", "busybox", "iptables"):
        return f"{absent} not installed (make setup)"
    if os.geteuid() != 0:
        return "a host for Podman needs root"
    # A user namespace shows root, and mounts are refused all the same.
    if entered():
        return "a host for Podman needs root outside a user namespace"
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
