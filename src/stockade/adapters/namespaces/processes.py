"""Processes as ``/proc`` shows them. A process that ends while it is read is one that is not there."""

import contextlib
import fcntl
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

PROC = Path("/proc")
_CONTAINER = re.compile(r"(?:^|[-:/])([0-9a-f]{64})(?:\.scope)?(?=/|$)")
"""How engines name a container's control group: by its id."""
_CUT = 15
"""Bytes of a name that the kernel keeps."""
_SERVICES = (".service", ".socket")
_UNITS = (".service", ".scope", ".mount", ".socket", ".swap")
NS_GET_NSTYPE, CLONE_NEWNET = 0xB703, 0x40000000
"""ioctl_ns(2), clone(2)."""
_TICKS = os.sysconf("SC_CLK_TCK")


class ProcessSeen(msgspec.Struct, frozen=True):
    """A process: when it began (seconds since the epoch), its unit, and the container that it is the first of."""

    pid: int
    name: str
    began: float
    unit: str = ""
    container: str = ""


def pids(proc: Path = PROC) -> set[int]:
    """Return all processes that there are."""
    return {int(each) for each in os.listdir(proc) if each.isdigit()}  # noqa: PTH208 - a Path costs more than the call


def namespace_of(pid: int, proc: Path = PROC) -> int:
    """Return the inode of a process's network namespace; 0 where it cannot be told, or the process is gone.

    Raises ``PermissionError`` where this process may not know.
    """
    try:
        return number(os.readlink(f"{proc}/{pid}/ns/net"))  # noqa: PTH115 - likewise
    except PermissionError:
        raise
    except OSError:
        return 0


def number(link: str) -> int:
    """Read ``net:[4026531840]``; 0 where it names no network namespace."""
    return int(link[5:-1]) if link.startswith("net:[") else 0


def look(pid: int, proc: Path = PROC) -> ProcessSeen | None:
    """Look at one process; None where it is gone."""
    try:
        stat = (proc / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
        group = _group(pid, proc)
    except (OSError, IndexError):
        return None
    name, rest = stat[stat.index("(") + 1 : stat.rindex(")")], stat[stat.rindex(")") + 2 :].split()
    began = _boot(proc) + int(rest[19]) / _TICKS
    return ProcessSeen(pid, name, began, _unit(group), _container(pid, int(rest[1]), group, proc))


class Program(NamedTuple):
    """What a process runs, and what it runs in: the service manager's unit, and the id of the container."""

    name: str
    unit: str = ""
    container: str = ""


def program(pid: int, proc: Path = PROC) -> Program | None:
    """Look at what a process runs; None where it is gone. Its arguments are never read: they may hold secrets.

    The name is the kernel's, which cuts it after fifteen bytes; its file's, where that is the same and longer.
    """
    folder = proc / str(pid)
    try:
        name = (folder / "comm").read_text(encoding="utf-8", errors="replace").rstrip("\n")
        group = _group(pid, proc)
    except OSError:
        return None
    with contextlib.suppress(OSError):
        file = (folder / "exe").readlink().name.removesuffix(" (deleted)")
        name = file if len(name) == _CUT and file.startswith(name) else name
    container, within = _innermost(group)
    return Program(name, _service(within), container)


def _innermost(group: str) -> tuple[str, str]:
    """Return a control group's container, and what of the path is within it: all where it has none."""
    found = list(_CONTAINER.finditer(group))
    return (found[-1][1], group[found[-1].end() :]) if found else ("", group)


def _service(group: str) -> str:
    return next((part for part in reversed(group.split("/")) if part.endswith(_SERVICES)), "")


def _group(pid: int, proc: Path) -> str:
    """Return the control group by which processes are told apart: version 2's, systemd's, or the longest there is."""
    lines = (proc / str(pid) / "cgroup").read_text(encoding="utf-8", errors="replace").splitlines()
    parts = [line.split(":", 2) for line in lines]
    return max((part[2] for part in parts if len(part) == 3), key=len, default="")


def _unit(group: str) -> str:
    return next((part for part in reversed(group.split("/")) if part.endswith(_UNITS)), "")


def _container(pid: int, parent: int, group: str, proc: Path) -> str:
    """Return the id of the container whose first process this is; empty where it is not a container's first.

    What is begun within a container, in a namespace of its own, bears its control group's name too: that its parent is
    within as well, and that its pid namespace is nested deeper, tells it apart.
    """
    found = _CONTAINER.findall(group)
    if not found or parent == 0:
        return ""
    try:
        if found[-1] in _group(parent, proc) or _depth(pid, proc)[-1:] != [1] or len(_depth(pid, proc)) != 2:
            return ""
    except OSError:
        return ""
    return str(found[-1])


def _depth(pid: int, proc: Path) -> list[int]:
    """Return a process's ids, from this pid namespace inwards."""
    for line in (proc / str(pid) / "status").read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith("NSpid:"):
            return [int(each) for each in line.split()[1:]]
    return []


def _boot(proc: Path) -> float:
    """Return when the machine started, by the clock as it is set now."""
    for line in (proc / "stat").read_text(encoding="ascii").splitlines():
        if line.startswith("btime "):
            return float(line.split()[1])
    return 0.0


def parent_of(pid: int, proc: Path = PROC) -> int:
    """Return a process's parent; 0 where it has none, or is gone."""
    try:
        stat = (proc / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0
    return int(stat[stat.rindex(")") + 2 :].split()[1])


def children(pid: int, proc: Path = PROC) -> list[int]:
    """Return the processes that a process began and that live, in the order in which they were begun."""
    try:
        text = (proc / str(pid) / "task" / str(pid) / "children").read_text(encoding="ascii")
    except OSError:
        return []
    return [int(each) for each in text.split()]


def open_namespaces(pid: int, proc: Path = PROC) -> Iterator[tuple[int, str]]:
    """Yield the network namespaces that a process holds open: (inode, path).

    One that was opened where it was mounted bears that place's name, and after that is gone none but ``/``.
    """
    folder = f"{proc}/{pid}/fd"
    try:
        files = os.listdir(folder)  # noqa: PTH208 - likewise
    except OSError:
        return
    for file in sorted(files, key=int):
        path = f"{folder}/{file}"
        try:
            target = os.readlink(path)  # noqa: PTH115 - likewise
            found = number(target) or (_opened(path) if target == "/" or "netns" in target else 0)
        except OSError:
            continue
        if found:
            yield found, path


def _opened(path: str) -> int:
    """Return the inode of the network namespace that a path leads to; 0 where it leads to something else."""
    if os.stat(path).st_dev != os.stat("/proc/self/ns/net").st_dev:  # noqa: PTH116 - likewise
        return 0
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.fstat(fd).st_ino if fcntl.ioctl(fd, NS_GET_NSTYPE) == CLONE_NEWNET else 0
    finally:
        os.close(fd)
