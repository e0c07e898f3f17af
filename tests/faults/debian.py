"""A Debian machine in a lab: systemd is its first process, its network is the lab host's, its disk outlives a reset.

What is real: systemd, dpkg, apt, units, cgroups, sandboxes, the packages. What is not: the kernel is this machine's, so
a reset does not empty it; ``reset`` flushes the lab host's rules, as a kernel that starts has none.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stockade.testing.lab import Command, Lab
from stockade.testing.lab.entry import entered

ROOT = Path(__file__).resolve().parents[2]
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
BOOTED_WITHIN = 120.0
DROP_IN = "/etc/systemd/system/stockade.service.d"
CGROUPS = Path("/sys/fs/cgroup")

BOOT = """
set -e
disk=$1 root=$2 name=$3 lab=$4
for place in /sys/fs/cgroup /sys/fs/cgroup/unified /sys/fs/cgroup/systemd; do
  if [ -e "$place/cgroup.procs" ]; then
    mkdir -p "$place/$name"
    echo $$ >"$place/$name/cgroup.procs"
  fi
done
exec unshare --mount --pid --uts --ipc --cgroup --fork --kill-child bash -ec '
disk=$1 root=$2 name=$3 lab=$4
mount --make-rprivate /
mount -t overlay overlay -o "lowerdir=$root,upperdir=$disk/upper,workdir=$disk/work" "$disk/root"
cd "$disk/root"
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs tmpfs tmp
mount -t tmpfs -o mode=755 tmpfs dev
for node in null zero full random urandom tty; do touch dev/$node; mount --bind /dev/$node dev/$node; done
mkdir -p dev/pts dev/shm lab
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
mount --bind "$lab" lab
if [ -e /sys/fs/cgroup/cgroup.procs ]; then
  mount -t cgroup2 cgroup2 sys/fs/cgroup
else
  mount -t tmpfs -o mode=755 tmpfs sys/fs/cgroup
  mkdir sys/fs/cgroup/unified sys/fs/cgroup/systemd
  mount -t cgroup2 cgroup2 sys/fs/cgroup/unified
  mount -t cgroup -o none,name=systemd,xattr cgroup sys/fs/cgroup/systemd
fi
hostname "$name"
mkdir -p old
pivot_root . old
umount -l /old
exec env -i container=lab PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd
' bash "$disk" "$root" "$name" "$lab"
"""


def why_not() -> str:
    """Say why no Debian machine can be run here; empty where it can."""
    if os.geteuid() != 0 or entered():
        return "a Debian machine needs root outside a user namespace"
    if shutil.which("debootstrap", path=PATH) is None:
        return "debootstrap not installed (make setup)"
    return ""


class Machine:
    """One machine. ``disk`` keeps what it writes, ``lab`` is shown to it as ``/lab``."""

    def __init__(self, lab: Lab, disk: Path, shown: Path) -> None:
        self._lab = lab
        self._disk = disk
        self._shown = shown
        self._name = f"stockade-{disk.name}-{os.getpid()}"
        self._command: Command | None = None
        self.pid = 0
        """The process id of its systemd, as this process counts; 0 where it is off."""

    async def boot(self) -> None:
        """Start it and wait until systemd has started what it is to start, or has failed to."""
        root = await asyncio.to_thread(made_root)
        for each in ("upper", "work", "root"):
            (self._disk / each).mkdir(exist_ok=True)
        argv = ["bash", "-c", BOOT, "bash", str(self._disk), str(root), self._name, str(self._shown)]
        with (self._shown / "boot.log").open("ab") as log, Path(os.devnull).open("rb") as nothing:
            streams = (nothing.fileno(), log.fileno(), log.fileno())
            self._command = await self._lab.start(self._lab.host_name, argv, streams=streams)
        self.pid = await self._first_process(self._command.pid)
        await self.run("systemctl", "is-system-running", "--wait", within=BOOTED_WITHIN)

    async def reset(self) -> None:
        """Cut the power: every process is killed, the kernel forgets its rules, the disk stays."""
        if self._command is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)  # the first process of its namespace: all others go with it
        await self._command.wait(30)
        self._command, self.pid = None, 0
        await self._lab.run(self._lab.host_name, ["nft", "flush", "ruleset"])
        await asyncio.to_thread(self._leave_cgroups)

    def serve(self, *words: str) -> None:
        """Have ``stockade up`` run with these words here, by an administrator's drop-in."""
        (dropped := self.path(DROP_IN)).mkdir(parents=True)
        text = f"[Service]\nExecStart=\nExecStart=/usr/bin/stockade up {' '.join(words)}\n"
        (dropped / "lab.conf").write_text(text, encoding="utf-8")

    async def install(self, package: Path) -> None:
        """Have apt install a package from a file, as a user does."""
        shutil.copy(package, self._shown / package.name)
        await self.done("apt-get", "install", "-y", f"/lab/{package.name}", within=300)

    async def run(self, *words: str, within: float = 60.0) -> subprocess.CompletedProcess[str]:
        """Run a command on it, as its root."""
        return await asyncio.to_thread(self._run, words, within)

    async def done(self, *words: str, within: float = 60.0) -> str:
        """Run a command that must succeed; return what it wrote."""
        ran = await self.run(*words, within=within)
        assert ran.returncode == 0, (words, ran.stdout[-2000:], ran.stderr[-2000:])
        return ran.stdout

    def path(self, inside: str) -> Path:
        """Return a path of the machine's, as this process reaches it while the machine runs."""
        return Path(f"/proc/{self.pid}/root{inside}")

    def _run(self, words: tuple[str, ...], within: float) -> subprocess.CompletedProcess[str]:
        command = ["nsenter", "-t", str(self.pid), "-m", "-p", "-u", "-i", "-n", "-C", "--", *words]
        environment = {"PATH": PATH, "HOME": "/root", "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
        return subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=within,
            check=False,
        )

    async def _first_process(self, outer: int) -> int:
        """Wait until the first process of the machine's own namespace is systemd, which answers."""
        deadline = time.monotonic() + BOOTED_WITHIN
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError, ValueError, IndexError):
                pid = int(Path(f"/proc/{outer}/task/{outer}/children").read_text(encoding="ascii").split()[0])
                if (
                    Path(f"/proc/{pid}/comm").read_text(encoding="ascii").strip() == "systemd"
                    and Path(f"/proc/{pid}/root/run/systemd/private").exists()
                ):
                    return pid
            await asyncio.sleep(0.02)
        said = (self._shown / "boot.log").read_text(encoding="utf-8", errors="replace")
        raise AssertionError(f"the machine does not boot: {said[-1000:]}")

    def _leave_cgroups(self) -> None:
        for place in (CGROUPS, CGROUPS / "unified", CGROUPS / "systemd"):
            for folder in sorted((place / self._name).glob("**/"), reverse=True):
                with contextlib.suppress(OSError):
                    folder.rmdir()


def made_root() -> Path:
    """Return the folder of the Debian root, made where it is not there."""
    made = subprocess.run([ROOT / "scripts" / "debian-root"], stdout=subprocess.PIPE, text=True, check=True)
    return Path(made.stdout.strip())


@contextmanager
def disk(folder: Path) -> Iterator[Path]:
    """A disk in memory: it can carry an overlay on any machine."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "disk", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
