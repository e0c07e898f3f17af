"""A host of its own for a container engine under test, which leaves nothing behind.

The host is a network and a mount namespace, cgroups, and a folder for everything that the engine writes. The machine's
own links, rules, mounts, ``/run``, ``/etc`` and ``/opt`` are never touched. Closing it kills everything in its cgroups,
and takes its namespaces, cgroups and files away; it needs no help from a daemon that hangs. Should the process that
opened it be killed, a shell that waits for that does the same.

Needs root. ``inside`` enters the host, as an engine's container sees it; ``outside`` enters a second network namespace,
a machine on the same wire.
"""

import asyncio
import contextlib
import ipaddress
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from stockade.errors import StockadeError
from stockade.testing.busybox import PATH

UPLINK = "up0"
HOST_ADDRESSES = ("198.51.100.1/24", "2001:db8:51::1/64")
OUTSIDE_ADDRESSES = ("198.51.100.2/24", "2001:db8:51::2/64")
LAYERED = ("/etc", "/opt", "/usr/local", "/usr/share", "/var/lib")
"""Folders of the machine that the host sees, and whose changes it keeps to itself."""

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


class EngineError(StockadeError):
    """The engine, or a command given to it, did not do what it should; the message carries its last words."""


class EngineHost:
    """A running engine on a host of its own, from ``with …`` (or ``async with``) to the end of the block.

    An engine says in ``_open`` what it takes: ``_make_host``, then what is its own.
    """

    def __init__(self, *, own_cgroups: bool = False) -> None:
        """``own_cgroups``: what asks for a cgroup by its path, from the root, gets it below the host's own."""
        self.root = Path()
        self._own_cgroups = own_cgroups
        self._cgroup = ""
        self._host: _Held | None = None
        self._outside: _Held | None = None
        self._daemon: subprocess.Popen[bytes] | None = None

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
        """Start the engine's daemon and wait until it answers."""
        raise NotImplementedError

    def stop(self, timeout: float = 30.0) -> None:
        """Stop the daemon in good order, as a service manager does."""
        self._signal(signal.SIGTERM)
        self._reap(timeout)

    def restart(self) -> None:
        """Stop in good order, then start."""
        self.stop()
        self.start()

    def reload(self) -> None:
        """Have the daemon read its configuration again (SIGHUP)."""
        self._signal(signal.SIGHUP)

    def kill(self) -> None:
        """Kill the daemon (-9). What it has started lives on."""
        self._signal(signal.SIGKILL)
        self._reap(10)

    def freeze(self) -> None:
        """Make the daemon hang (SIGSTOP): connections are accepted by the kernel, and nothing answers."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen daemon go on."""
        self._signal(signal.SIGCONT)

    def close(self) -> None:
        """End everything that the engine started and remove every trace of it. May be called twice."""
        try:
            self._kill_cgroup()
        finally:
            if self._daemon is not None:
                self._daemon.kill()
                self._daemon.wait()
            for held in (self._host, self._outside):
                if held is not None:
                    held.release()
            self._daemon = None
            self._host = self._outside = None
        self._remove_cgroup()
        if self.root != Path():
            shutil.rmtree(self.root)
            self.root = Path()

    # What tests do with it

    @property
    def environment(self) -> dict[str, str]:
        """The environment in which clients and Stockade find this engine and no other."""
        return dict(os.environ)

    @property
    def inside(self) -> list[str]:
        """The words before a command that run it on the engine's host: its network and mounts, not its pids."""
        return _enter(self._host, *(["-C"] if self._own_cgroups else []))

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

    def ports_of(self, namespace: str) -> dict[str, str]:
        """Return, by MAC, the host-side interface of each link in a network namespace, as the kernel tells it."""
        inner = json.loads(self.on_host("nsenter", f"--net={namespace}", "--", "ip", "-j", "link"))
        outer = {link["ifindex"]: link["ifname"] for link in json.loads(self.on_host("ip", "-j", "link"))}
        return {link["address"]: outer[link["link_index"]] for link in inner if link.get("link_index") in outer}

    def on_host(self, *command: str, timeout: float = 60.0) -> str:
        """Run a command on the engine's host; return what it printed, stripped."""
        return self._said([*self.inside, *command], timeout)

    def begin(self, *command: str) -> subprocess.Popen[bytes]:
        """Start a program on the engine's host. It ends with the host, if not before."""
        return subprocess.Popen(self._member(command), stdin=subprocess.DEVNULL)

    # Opening

    def _open(self) -> None:
        raise NotImplementedError

    def _make_host(self, *, uplink: bool, bridge_nf: bool) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="stk-"))
        self._cgroup = f"stockade-{self.root.name}"
        self._make_cgroups()
        if self._own_cgroups:
            self._host = _Held("-C", "-m", "-n", joining=self._joining(), afterwards=self._last_will())
            self._own_trees()
        else:
            self._host = _Held("-m", "-n", afterwards=self._last_will())
        self._prepare_mounts()
        self._prepare_network(uplink=uplink, bridge_nf=bridge_nf)

    def _prepare_mounts(self) -> None:
        """Give the engine's host its own ``/run``, and and folders of the machine whose changes go nowhere."""
        steps = ["mount -t tmpfs tmpfs /run", "mkdir -p /run/lock"]
        for folder in LAYERED:
            layer = f"/run/layer{folder}"
            steps += [f"mkdir -p {layer}/up {layer}/work"]
            steps += [
                f"mount -t overlay overlay -o lowerdir={folder},upperdir={layer}/up,workdir={layer}/work {folder}"
            ]
        self.on_host("sh", "-ec", "\n".join(steps))

    def _prepare_network(self, *, uplink: bool, bridge_nf: bool) -> None:
        self.on_host("ip", "link", "set", "lo", "up")
        flag = int(bridge_nf)
        for family in ("iptables", "ip6tables", "arptables"):
            switch = f"/proc/sys/net/bridge/bridge-nf-call-{family}"
            self.on_host("sh", "-c", f"test ! -e {switch} || echo {flag} > {switch}")
        if uplink:
            self._lay_uplink()

    def _lay_uplink(self) -> None:
        self._outside = _Held("-n")
        peer = str(self._outside.pid)
        self.on_host("ip", "link", "add", UPLINK, "type", "veth", "peer", "name", UPLINK, "netns", peer)
        _address(self.inside, HOST_ADDRESSES, OUTSIDE_ADDRESSES)
        self._said([*self.outside, "ip", "link", "set", "lo", "up"], 10)
        _address(self.outside, OUTSIDE_ADDRESSES, HOST_ADDRESSES)

    def _launch(self, command: Sequence[str], log: str) -> None:
        """Start the daemon on its host, its words going to a file of the root folder."""
        with (self.root / log).open("ab") as words:
            # A daemon that is killed by a signal leaves its stack traces in TMPDIR.
            environment = {**os.environ, "TMPDIR": str(self.root)}
            self._daemon = subprocess.Popen(
                self._member(command), stdin=subprocess.DEVNULL, stdout=words, stderr=words, env=environment
            )

    def _member(self, command: Sequence[str]) -> list[str]:
        """A shell joins the cgroup before it becomes the command, so that nothing it starts is ever outside."""
        return ["sh", "-c", self._joining("engine") + 'exec nsenter "$@"', *self.inside, *command]

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
        for tree in self._trees():
            for folder in (tree / self._cgroup, tree / self._cgroup / "engine"):
                folder.mkdir()
                _inherit_cpuset(folder)

    def _trees(self) -> list[Path]:
        return _every_hierarchy() if self._own_cgroups else _hierarchies()

    def _joining(self, *below: str) -> str:
        """Return the shell's words that make it a member of the host's cgroup, or of one below it."""
        folders = " ".join(str(Path(tree, self._cgroup, *below)) for tree in self._trees())
        return f"for c in {folders}; do echo $$ > $c/cgroup.procs; done; "

    def _own_trees(self) -> None:
        """Mount each cgroup tree as the host sees it: what is its root there is the host's own cgroup.

        A tree that another host's end takes from it at this moment cannot be mounted before that is over.
        """
        lines = ['again() { for round in $(seq 50); do "$@" 2>/dev/null && return; sleep 0.1; done; "$@"; }']
        for tree in _every_hierarchy():
            kind, options = _mounted(tree)
            lines += [f"umount {tree}", f"again mount -t {kind} -o {options} cgroup {tree}"]
        self.on_host("sh", "-ec", "\n".join(lines))

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


class _Held:
    """New namespaces, and the process that holds them."""

    def __init__(self, *namespaces: str, joining: str = "", afterwards: str = "") -> None:
        """Make them; when this process is no more (its pipe closes) a shell outside does what is left to be done.

        ``joining``: the shell's words by which the holder becomes a member of a cgroup, which it then leaves.
        """
        inner = "echo $$; read go; exec cat >/dev/null"
        words = [joining + 'exec unshare "$@"', "sh", *namespaces, "sh", "-c", inner]
        command = ["sh", "-c", f'sh -c "$@"\n{afterwards}', "sh", *words]
        environment = {**os.environ, "PATH": PATH}
        # A group of its own: Ctrl-C is for the process that opened the engine, which then closes it.
        self._outer = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, process_group=0
        )
        said = self._outer.stdout.readline().strip() if self._outer.stdout else b""
        if not said.isdigit():
            self.release()
            raise EngineError("no namespace for a container engine could be made", remedy="run as root")
        self.pid = int(said)
        if joining:
            self._leave()
        if self._outer.stdin:
            self._outer.stdin.write(b"go\n")
            self._outer.stdin.flush()

    def release(self) -> None:
        """End it, and do nothing afterwards."""
        self._outer.kill()
        self._outer.communicate()

    def _leave(self) -> None:
        """It must not die with the members of its cgroup: whoever dies with them cannot bury them."""
        for tree in _every_hierarchy():
            (tree / "cgroup.procs").write_text(str(self.pid))


def _pid(process: "subprocess.Popen[bytes] | _Held | None") -> int:
    if process is None:
        raise EngineError("this part of the engine is not running", remedy="start it, or ask for it in its options")
    return process.pid


def _enter(process: _Held | None, *more: str) -> list[str]:
    return ["nsenter", "-t", str(_pid(process)), "-m", "-n", *more, "--"]


def _address(enter: list[str], own: Sequence[str], peers: Sequence[str]) -> None:
    """Address one end of the uplink; the other end is its way to everywhere else."""
    lines = [f"ip link set {UPLINK} up"]
    for cidr, peer in zip(own, peers, strict=True):
        nodad = "nodad" if ":" in cidr else ""
        lines += [f"ip address add {cidr} dev {UPLINK} {nodad}"]
        lines += [f"ip route add default via {ipaddress.ip_interface(peer).ip} dev {UPLINK}"]
    subprocess.run([*enter, "sh", "-ec", "\n".join(lines)], check=True, capture_output=True)


def _every_hierarchy() -> list[Path]:
    """All cgroup trees: one with cgroup v2, one for each controller with v1."""
    mounts = [line.split(" - ") for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return [Path(left.split()[4]) for left, right in mounts if right.startswith("cgroup")]


def _hierarchies() -> list[Path]:
    """The trees in which the engine's own processes are kept together: one is enough to find them all again."""
    trees = _every_hierarchy()
    if not trees:
        raise EngineError("no cgroups are mounted", remedy="mount them; a container engine needs them anyway")
    return [tree for tree in trees if tree.name == "pids"] or trees[:1]


def _inherit_cpuset(folder: Path) -> None:
    """A new cgroup may use no processor before it is told which (cgroup v1)."""
    for name in ("cpuset.cpus", "cpuset.mems"):
        if (folder / name).exists() and not (folder / name).read_text().strip():
            (folder / name).write_text((folder.parent / name).read_text())


def _mounted(tree: Path) -> tuple[str, str]:
    """Return the kind and the options with which a cgroup tree is mounted."""
    lines = (line.split(" - ") for line in Path("/proc/self/mountinfo").read_text().splitlines())
    kind, _, options = next(right.split(" ", 2) for left, right in lines if left.split()[4] == str(tree))
    return kind, options


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
