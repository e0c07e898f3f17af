"""A machine of its own for a container engine under test, which leaves nothing behind.

Its network, mounts, cgroups, ``/run``, ``/etc``, ``/usr/local`` and ``/var/lib`` are its own; pids are the real
machine's. Nothing outside is ever touched: users and settings that a test writes to ``/etc`` are seen in it and nowhere
else. Closing it kills everything in its cgroups and takes its namespaces, cgroups and files away. Should the process
that opened it be killed, the shell that holds the namespaces does the same.

Needs root. ``inside`` enters it; ``outside`` enters a second machine on the same wire (where ``uplink`` is on).
"""

import contextlib
import ipaddress
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from stockade.errors import StockadeError
from stockade.testing.busybox import PATH

UPLINK = "up0"
HOST_ADDRESSES = ("198.51.100.1/24", "2001:db8:51::1/64")
OUTSIDE_ADDRESSES = ("198.51.100.2/24", "2001:db8:51::2/64")
JOIN = 'for c in {cgroups}; do echo $$ > $c/cgroup.procs; done; exec "$@"'
LAYER = """
mkdir -p /run/layer{folder}/up /run/layer{folder}/work
mount -t overlay overlay -o lowerdir={folder},upperdir=/run/layer{folder}/up,workdir=/run/layer{folder}/work {folder}
"""

WILL = """
members() {{ find {mounts} -name cgroup.procs -exec cat {{}} + 2>/dev/null; }}
for round in $(seq 100); do
    test -n "$(members)" || break
    find {mounts} -name freezer.state 2>/dev/null | while read -r switch; do echo THAWED > "$switch"; done
    find {mounts} -name cgroup.freeze 2>/dev/null | while read -r switch; do echo 0 > "$switch"; done
    kill -9 $(members) 2>/dev/null
    sleep 0.1
done
umount -l {mounts}
find {tops} -depth -type d -exec rmdir {{}} + 2>/dev/null
grep -o ' {root}/[^ ]*' /proc/self/mounts | sort -r | xargs -r umount -l
rm -rf {root}
"""


class MachineError(StockadeError):
    """The machine, or a command on it, did not do what it should; the message carries its last words."""


class Machine:
    """A machine, from ``with Machine() as machine`` to the end of the block."""

    def __init__(self, *, uplink: bool = True, bridge_nf: bool = True) -> None:
        """``bridge_nf``: ``bridge-nf-call-iptables`` and its sisters, in this machine's namespace."""
        self.root = Path()
        self._uplink = uplink
        self._bridge_nf = bridge_nf
        self._cgroup = ""
        self._host: subprocess.Popen[bytes] | None = None
        self._outside: subprocess.Popen[bytes] | None = None

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
        """End everything that was started here and remove every trace of it. May be called twice."""
        try:
            self._kill_members()
        finally:
            for process in (self._host, self._outside):
                if process is not None:
                    process.kill()
                    process.communicate()
            self._host = self._outside = None
        for folder in list(self._cgroups()):
            _insist(folder.rmdir)
        if self.root != Path():
            shutil.rmtree(self.root)
            self.root = Path()

    @property
    def inside(self) -> list[str]:
        """The words before a command that run it here: its network, mounts and cgroups, not its pids."""
        return _enter(self._host)

    @property
    def joined(self) -> list[str]:
        """As ``inside``; what the command leaves running ends with the machine."""
        here = " ".join(str(tree / "host") for tree in _every_hierarchy())
        return [*self.inside, "sh", "-c", JOIN.format(cgroups=here), "sh"]

    @property
    def outside(self) -> list[str]:
        """The words before a command that run it on the machine at the other end of the uplink."""
        return _enter(self._outside)

    @property
    def host_pid(self) -> int:
        """A process that holds the machine's namespaces: ``/proc/<pid>/ns/net``, ``/proc/<pid>/root``."""
        return _pid(self._host)

    @property
    def outside_pid(self) -> int:
        """A process that holds the network namespace of the machine outside."""
        return _pid(self._outside)

    def on_host(self, *command: str, timeout: float = 60.0, given: bytes | None = None) -> str:
        """Run a command here, ``given`` on its standard input; return what it printed, stripped."""
        return said([*self.joined, *command], timeout=timeout, given=given)

    # Opening

    def _open(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="stk-"))
        self.root.chmod(0o711)  # users made for a test pass through
        self._cgroup = f"stockade-{self.root.name}"
        self._make_cgroups()
        self._host = self._hold_host()
        self._prepare_mounts()
        self._prepare_network()

    def _make_cgroups(self) -> None:
        trees = _every_hierarchy()
        if not trees:
            raise MachineError("no cgroups are mounted", remedy="mount them; a container engine needs them anyway")
        for tree in trees:
            top = tree / self._cgroup
            for folder in (top, top / "host"):
                folder.mkdir()
                for name in ("cpuset.cpus", "cpuset.mems"):  # v1 lets nobody into a set of none
                    if (tree / "tasks").exists() and (folder / name).exists():
                        (folder / name).write_text((folder.parent / name).read_text())

    def _hold_host(self) -> "subprocess.Popen[bytes]":
        """A cgroup namespace's top is where its maker was; the holder itself must not end with the members."""
        trees = _every_hierarchy()
        join = JOIN.format(cgroups=" ".join(str(tree / self._cgroup) for tree in trees))
        holder = _hold("-m", "-n", "-C", before=["sh", "-c", join, "sh"], afterwards=self._last_will())
        for tree in trees:
            (tree / "cgroup.procs").write_text(str(holder.pid))
        return holder

    def _prepare_mounts(self) -> None:
        """Give it its own ``/run``, folders whose changes go nowhere, and cgroup trees of which it is the top."""
        steps = [
            "mount -t tmpfs tmpfs /run",
            "mkdir -p /run/lock /run/user",
            *(LAYER.format(folder=folder) for folder in ("/etc", "/var/lib", "/usr/local")),
            *(f"mount --bind {tree / self._cgroup} {tree}" for tree in _every_hierarchy()),
            "mount --make-rshared /",
        ]
        said([*self.inside, "sh", "-ec", "\n".join(steps)])

    def _prepare_network(self) -> None:
        self.on_host("ip", "link", "set", "lo", "up")
        for family in ("iptables", "ip6tables", "arptables"):
            switch = f"/proc/sys/net/bridge/bridge-nf-call-{family}"
            self.on_host("sh", "-c", f"test ! -e {switch} || echo {int(self._bridge_nf)} > {switch}")
        if self._uplink:
            self._outside = _hold("-n")
            peer = str(self._outside.pid)
            self.on_host("ip", "link", "add", UPLINK, "type", "veth", "peer", "name", UPLINK, "netns", peer)
            _address(self.inside, HOST_ADDRESSES, OUTSIDE_ADDRESSES)
            said([*self.outside, "ip", "link", "set", "lo", "up"])
            _address(self.outside, OUTSIDE_ADDRESSES, HOST_ADDRESSES)

    # Cgroups

    def _cgroups(self) -> Iterator[Path]:
        """Every cgroup of the machine as seen from outside, the deepest first."""
        if not self._cgroup:
            return
        for tree in _every_hierarchy():
            top = tree / self._cgroup
            for folder, _, _ in os.walk(top, topdown=False) if top.exists() else ():
                yield Path(folder)

    def _members(self) -> set[int]:
        found: set[int] = set()
        for folder in self._cgroups():
            with contextlib.suppress(OSError):
                found.update(map(int, (folder / "cgroup.procs").read_text().split()))
        return found

    def _kill_members(self) -> None:
        """Kill until nobody is left: whoever starts a process while it is being killed is met in the next round."""
        deadline = time.monotonic() + 20
        while members := self._members():
            self._unfreeze()
            for pid in members:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if time.monotonic() > deadline:
                raise MachineError(f"processes {sorted(members)} do not die", kept=f"their files under {self.root}")
            time.sleep(0.02)

    def _unfreeze(self) -> None:
        """A paused container does not die before it goes on (cgroup v1)."""
        for folder in self._cgroups():
            for switch, word in (("freezer.state", "THAWED"), ("cgroup.freeze", "0")):
                if (folder / switch).exists():
                    (folder / switch).write_text(word)

    def _last_will(self) -> str:
        """What is done when nobody is left to close the machine: as ``close`` does, in shell, from within."""
        trees = _every_hierarchy()
        tops = " ".join(str(tree / self._cgroup) for tree in trees)
        return WILL.format(mounts=" ".join(map(str, trees)), tops=tops, root=self.root)


# Small steps


def said(
    command: Sequence[str],
    *,
    timeout: float = 60.0,
    given: bytes | None = None,
    environment: Mapping[str, str] | None = None,
) -> str:
    """Run a command; return what it printed, stripped. ``MachineError`` with its last words where it fails."""
    done = subprocess.run(
        command,
        input=given,
        stdin=subprocess.DEVNULL if given is None else None,
        capture_output=True,
        timeout=timeout,
        env=environment,
        check=False,
    )
    if done.returncode:
        words = (done.stderr or done.stdout).decode(errors="replace").strip()
        raise MachineError(f"`{' '.join(command)}` said {done.returncode}: {words}")
    return done.stdout.decode(errors="replace").strip()


def _hold(*namespaces: str, before: Sequence[str] = (), afterwards: str = "") -> subprocess.Popen[bytes]:
    """Start a process that holds new namespaces; when this process is no more (its input closes) it does the rest."""
    command = [*before, "unshare", *namespaces, "sh", "-c", f"echo ready; read -r end\n{afterwards}"]
    environment = {**os.environ, "PATH": PATH}
    # A group of its own: Ctrl-C is for the process that opened the machine, which then closes it.
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, process_group=0)
    if holder.stdout is None or holder.stdout.readline() != b"ready\n":
        holder.kill()
        holder.wait()
        raise MachineError("no namespace for a machine could be made", remedy="run as root")
    return holder


def _pid(process: subprocess.Popen[bytes] | None) -> int:
    if process is None:
        raise MachineError("this part of the machine is not there", remedy="open the machine, with its uplink")
    return process.pid


def _enter(process: subprocess.Popen[bytes] | None) -> list[str]:
    return ["nsenter", "-t", str(_pid(process)), "-m", "-n", "-C", "--"]


def _address(enter: list[str], own: Sequence[str], peers: Sequence[str]) -> None:
    """Address one end of the uplink; the other end is its way to everywhere else."""
    lines = [f"ip link set {UPLINK} up"]
    for cidr, peer in zip(own, peers, strict=True):
        nodad = "nodad" if ":" in cidr else ""
        lines += [f"ip address add {cidr} dev {UPLINK} {nodad}"]
        lines += [f"ip route add default via {ipaddress.ip_interface(peer).ip} dev {UPLINK}"]
    said([*enter, "sh", "-ec", "\n".join(lines)])


def _every_hierarchy() -> list[Path]:
    """All cgroup trees: one with cgroup v2, one for each controller with v1."""
    mounts = [line.split(" - ") for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return [Path(left.split()[4]) for left, right in mounts if right.startswith("cgroup")]


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
