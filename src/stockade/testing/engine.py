"""A real Docker engine for tests, which leaves nothing behind.

``dockerd`` runs in a network and a mount namespace of its own, with its own data, state, socket, cgroups and subnets.
The machine's own links, rules, mounts, ``/run`` and ``/etc`` are never touched, and no registry is ever asked: the one
image is made here from the machine's static busybox. Closing the engine kills everything in its cgroup, containers
first, and takes its namespaces, cgroups and files away; it needs no help from a daemon that hangs. Should the process
that opened it be killed, the shell that holds the namespaces does the same.

Needs root. The engine's host, as a container on it sees it, is the network namespace: ``inside`` enters it,
``outside`` enters a second one, a machine on the same wire (where ``uplink`` is on).
"""

import asyncio
import contextlib
import ipaddress
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from stockade.errors import StockadeError
from stockade.testing.busybox import PATH, root_archive

IMAGE = "busybox:stockade"
ADDRESS_POOL = "172.29.0.0/16"
BRIDGE_SUBNET = "172.28.0.1/16"
BRIDGE_SUBNET_V6 = "fd00:28::/64"
UPLINK = "up0"
HOST_ADDRESSES = ("198.51.100.1/24", "2001:db8:51::1/64")
OUTSIDE_ADDRESSES = ("198.51.100.2/24", "2001:db8:51::2/64")

AT_ONCE = 10
"""Containers that are removed by one call: the client asks for all of a call at the same time."""

WILL = """
members() {{ find {tops} -name cgroup.procs -exec cat {{}} + 2>/dev/null; }}
for round in $(seq 100); do
    test -n "$(members)" || break
    find {tops} -name freezer.state 2>/dev/null | while read -r switch; do echo THAWED > "$switch"; done
    find {tops} -name cgroup.freeze 2>/dev/null | while read -r switch; do echo 0 > "$switch"; done
    kill -9 $(members) 2>/dev/null
    sleep 0.1
done
find {tops} -depth -type d -exec rmdir {{}} + 2>/dev/null
grep -o ' {root}/[^ ]*' /proc/self/mounts | sort -r | xargs -r umount -l
rm -rf {root}
"""


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


class EngineError(StockadeError):
    """The engine, or a command given to it, did not do what it should; the message carries its last words."""


class Engine:
    """A running engine, from ``with Engine() as engine`` (or ``async with``) to the end of the block."""

    def __init__(self, options: EngineOptions = DEFAULTS, *, files: Mapping[str, bytes] | None = None) -> None:
        self.options = options
        self.root = Path()
        self.image = IMAGE
        self._files = dict(files or {})
        self._cgroup = ""
        self._host: subprocess.Popen[bytes] | None = None
        self._outside: subprocess.Popen[bytes] | None = None
        self._daemon: subprocess.Popen[bytes] | None = None

    # The life of the engine

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

    async def __aenter__(self) -> Self:
        return await asyncio.to_thread(self.__enter__)

    async def __aexit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.close)

    def start(self, timeout: float = 30.0) -> None:
        """Start ``dockerd`` and wait until it answers."""
        self._forget_dead_containerd()
        with (self.root / "dockerd.log").open("ab") as log:
            # The shell joins the cgroup before it becomes the daemon, so that nothing it starts is ever outside.
            join = f"for c in {self._engine_cgroups()}; do echo $$ > $c/cgroup.procs; done; exec " + '"$@"'
            command = [*self.inside, "sh", "-c", join, "dockerd", *self._dockerd()]
            # containerd leaves its stack traces in TMPDIR.
            environment = {**os.environ, "TMPDIR": str(self.root)}
            self._daemon = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)
        self._await_answer(timeout)

    def stop(self, timeout: float = 30.0) -> None:
        """Stop ``dockerd`` in good order, as a service manager does; its containers end unless ``live_restore``."""
        self._signal(signal.SIGTERM)
        self._reap(timeout)

    def restart(self) -> None:
        """Stop in good order, then start."""
        self.stop()
        self.start()

    def reload(self) -> None:
        """Have ``dockerd`` read its configuration again."""
        self._signal(signal.SIGHUP)

    def kill(self) -> None:
        """Kill ``dockerd`` (-9). Its containers, containerd and proxies live on."""
        self._signal(signal.SIGKILL)
        self._reap(10)

    def freeze(self) -> None:
        """Make ``dockerd`` hang (SIGSTOP): connections are accepted by the kernel, and nothing answers."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen ``dockerd`` go on."""
        self._signal(signal.SIGCONT)

    def close(self) -> None:
        """End everything that the engine started and remove every trace of it. May be called twice."""
        try:
            self._kill_cgroup()
        finally:
            for process in (self._daemon, self._host, self._outside):
                if process is not None:
                    process.kill()
                    process.communicate()
            self._daemon = self._host = self._outside = None
        self._remove_cgroup()
        if self.root != Path():
            shutil.rmtree(self.root)
            self.root = Path()

    # What tests do with it

    @property
    def socket(self) -> Path:
        """The Unix socket of the engine's API."""
        return self.root / "docker.sock"

    @property
    def environment(self) -> dict[str, str]:
        """The environment in which ``docker`` and Stockade find this engine and no other."""
        return {**os.environ, "DOCKER_HOST": f"unix://{self.socket}", "DOCKER_CONFIG": str(self.root / "client")}

    @property
    def inside(self) -> list[str]:
        """The words before a command that run it on the engine's host: its network and mounts, not its pids."""
        return _enter(self._host)

    @property
    def outside(self) -> list[str]:
        """The words before a command that run it on the machine at the other end of the uplink."""
        return _enter(self._outside)

    @property
    def host_pid(self) -> int:
        """A process that holds the engine's host namespaces: ``/proc/<pid>/ns/net``, ``/proc/<pid>/root``."""
        return _pid(self._host)

    @property
    def outside_pid(self) -> int:
        """A process that holds the network namespace of the machine outside."""
        return _pid(self._outside)

    @property
    def daemon_pid(self) -> int:
        """The pid of ``dockerd``."""
        return _pid(self._daemon)

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

    def ports_of(self, namespace: str) -> dict[str, str]:
        """Return, by MAC, the host-side interface of each link in a network namespace, as the kernel tells it."""
        inner = json.loads(self.on_host("nsenter", f"--net={namespace}", "--", "ip", "-j", "link"))
        outer = {link["ifindex"]: link["ifname"] for link in json.loads(self.on_host("ip", "-j", "link"))}
        return {link["address"]: outer[link["link_index"]] for link in inner if link.get("link_index") in outer}

    def on_host(self, *command: str, timeout: float = 60.0) -> str:
        """Run a command on the engine's host; return what it printed, stripped."""
        return self._said([*self.inside, *command], timeout)

    def log(self, lines: int = 40) -> str:
        """Return the last lines of the daemon's log."""
        return "\n".join((self.root / "dockerd.log").read_text(errors="replace").splitlines()[-lines:])

    # Opening

    def _open(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="stk-"))
        self._cgroup = f"stockade-{self.root.name}"
        self._host = _hold("-m", "-n", afterwards=self._last_will())
        self._prepare_mounts()
        self._prepare_network()
        self._make_cgroups()
        self.start()
        self._import_image()

    def _prepare_mounts(self) -> None:
        """Give the engine's host its own ``/run``, and an ``/etc`` and a ``/usr/local`` whose changes go nowhere."""
        steps = ["mount -t tmpfs tmpfs /run", "mkdir -p /run/lock"]
        for number, folder in enumerate(("/etc", "/usr/local")):
            layer = f"/run/layer/{number}"
            steps.append(f"mkdir -p {layer}/up {layer}/work")
            options = f"lowerdir={folder},upperdir={layer}/up,workdir={layer}/work"
            steps.append(f"mount -t overlay overlay -o {options} {folder}")
        self.on_host("sh", "-ec", "\n".join(steps))

    def _prepare_network(self) -> None:
        self.on_host("ip", "link", "set", "lo", "up")
        flag = int(self.options.bridge_nf)
        for family in ("iptables", "ip6tables", "arptables"):
            switch = f"/proc/sys/net/bridge/bridge-nf-call-{family}"
            self.on_host("sh", "-c", f"test ! -e {switch} || echo {flag} > {switch}")
        if self.options.uplink:
            self._lay_uplink()

    def _lay_uplink(self) -> None:
        self._outside = _hold("-n")
        peer = str(self._outside.pid)
        self.on_host("ip", "link", "add", UPLINK, "type", "veth", "peer", "name", UPLINK, "netns", peer)
        _address(self.inside, HOST_ADDRESSES, OUTSIDE_ADDRESSES)
        self._said([*self.outside, "ip", "link", "set", "lo", "up"], 10)
        _address(self.outside, OUTSIDE_ADDRESSES, HOST_ADDRESSES)

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
        """``dockerd`` takes a containerd that nobody has reaped yet for a living one, and waits for it in vain."""
        record = self.root / "exec" / "containerd" / "containerd.pid"
        with contextlib.suppress(FileNotFoundError):
            pid = record.read_text().strip()
            if not Path(f"/proc/{pid}").exists() or ") Z " in Path(f"/proc/{pid}/stat").read_text():
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

    # Processes and cgroups

    def _said(self, command: list[str], timeout: float) -> str:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout, env=self.environment, check=False
        )
        if done.returncode:
            raise EngineError(f"`{' '.join(command)}` said {done.returncode}: {(done.stderr or done.stdout).strip()}")
        return done.stdout.strip()

    def _signal(self, number: signal.Signals) -> None:
        os.kill(self.daemon_pid, number)

    def _reap(self, timeout: float) -> None:
        if self._daemon is not None:
            self._daemon.wait(timeout)
            self._daemon = None

    def _make_cgroups(self) -> None:
        for parent in _hierarchies():
            (parent / self._cgroup / "engine").mkdir(parents=True)

    def _engine_cgroups(self) -> str:
        return " ".join(str(parent / self._cgroup / "engine") for parent in _hierarchies())

    def _folders(self) -> Iterator[Path]:
        """Every cgroup of the engine, the deepest first."""
        if not self._cgroup:
            return
        for parent in _every_hierarchy():
            top = parent / self._cgroup
            for folder, _, _ in os.walk(top, topdown=False) if top.exists() else ():
                yield Path(folder)

    def _members(self) -> set[int]:
        found: set[int] = set()
        for folder in self._folders():
            with contextlib.suppress(OSError):
                found.update(map(int, (folder / "cgroup.procs").read_text().split()))
        return found

    def _kill_cgroup(self) -> None:
        """Kill until nobody is left: whoever starts a process while it is being killed is met in the next round."""
        deadline = time.monotonic() + 20
        while members := self._members():
            self._unfreeze()
            for pid in members:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if self._daemon is not None:
                self._daemon.poll()
            if time.monotonic() > deadline:
                raise EngineError(f"processes {sorted(members)} do not die", kept=f"their files under {self.root}")
            time.sleep(0.02)

    def _unfreeze(self) -> None:
        """A paused container does not die before it goes on (cgroup v1)."""
        for folder in self._folders():
            for switch, word in (("freezer.state", "THAWED"), ("cgroup.freeze", "0")):
                if (folder / switch).exists():
                    (folder / switch).write_text(word)

    def _last_will(self) -> str:
        """What is done when nobody is left to close the engine: as ``close`` does, in shell."""
        tops = " ".join(str(tree / self._cgroup) for tree in _every_hierarchy())
        return WILL.format(tops=tops, root=self.root)

    def _remove_cgroup(self) -> None:
        for folder in list(self._folders()):
            _insist(folder.rmdir)


# Small steps


def _hold(*namespaces: str, afterwards: str = "") -> subprocess.Popen[bytes]:
    """Start a process that holds new namespaces; when this process is no more (its input closes) it does the rest."""
    command = ["unshare", *namespaces, "sh", "-c", f"echo ready; cat >/dev/null\n{afterwards}"]
    environment = {**os.environ, "PATH": PATH}
    # A group of its own: Ctrl-C is for the process that opened the engine, which then closes it.
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, process_group=0)
    if holder.stdout is None or holder.stdout.readline() != b"ready\n":
        holder.kill()
        holder.wait()
        raise EngineError("no namespace for a Docker engine could be made", remedy="run as root")
    return holder


def _pid(process: subprocess.Popen[bytes] | None) -> int:
    if process is None:
        raise EngineError("this part of the engine is not running", remedy="start it, or ask for it in EngineOptions")
    return process.pid


def _enter(process: subprocess.Popen[bytes] | None) -> list[str]:
    return ["nsenter", "-t", str(_pid(process)), "-m", "-n", "--"]


def _address(enter: list[str], own: Sequence[str], peers: Sequence[str]) -> None:
    """Address one end of the uplink; the other end is its way to everywhere else."""
    lines = [f"ip link set {UPLINK} up"]
    for cidr, peer in zip(own, peers, strict=True):
        nodad = "nodad" if ":" in cidr else ""
        lines += [f"ip address add {cidr} dev {UPLINK} {nodad}"]
        lines += [f"ip route add default via {ipaddress.ip_interface(peer).ip} dev {UPLINK}"]
    subprocess.run([*enter, "sh", "-ec", "\n".join(lines)], check=True, capture_output=True)


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


def _every_hierarchy() -> list[Path]:
    """All cgroup trees: one with cgroup v2, one for each controller with v1."""
    mounts = [line.split(" - ") for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return [Path(left.split()[4]) for left, right in mounts if right.startswith("cgroup")]


def _hierarchies() -> list[Path]:
    """The trees in which the engine's own processes are kept together: one is enough to find them all again."""
    trees = _every_hierarchy()
    if not trees:
        raise EngineError("no cgroups are mounted", remedy="mount them; a Docker engine needs them anyway")
    return [tree for tree in trees if tree.name == "pids"] or trees[:1]


def _insist(remove: Callable[[], None], rounds: int = 100) -> None:
    """A cgroup is busy for a moment after its last process has died."""
    for _ in range(rounds):
        try:
            remove()
        except FileNotFoundError:
            return
        except OSError:
            time.sleep(0.02)
        else:
            return
