"""What something could leave behind: processes, namespaces, links, mounts, tables, files. Looks, and changes nothing.

Processes are told apart from everybody else's by a word in their environment, since others work on the same machine;
namespaces by their inode numbers, wherever a process is still in them or holds them open.
"""

import os
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

import msgspec

MARK = "STOCKADE_TRACE"
"""The environment variable whose value marks processes."""


class Traces(msgspec.Struct, frozen=True):
    """What is there now, each as a line of text."""

    processes: frozenset[str] = frozenset()
    links: frozenset[str] = frozenset()
    mounts: frozenset[str] = frozenset()
    tables: frozenset[str] = frozenset()
    files: frozenset[str] = frozenset()

    def new_since(self, before: "Traces") -> list[str]:
        """Return what is here and was not there before, sorted."""
        found = []
        for field in self.__struct_fields__:
            new = getattr(self, field) - getattr(before, field)
            found += [f"{field}: {each}" for each in new]
        return sorted(found)


def traces(mark: str = "", folders: Iterable[Path] = ()) -> Traces:
    """Look at marked processes, at this process's own links, mounts and nft tables, and at what is in folders.

    What is mounted in somebody else's temporary folder is theirs.
    """
    folders = tuple(folders)
    return Traces(
        processes=frozenset(f"{pid} {name}" for pid, name in marked(mark)) if mark else frozenset(),
        links=frozenset(os.listdir("/sys/class/net")),  # noqa: PTH208 - the names alone
        mounts=frozenset(
            " ".join(words[3:5])
            for line in _lines(Path("/proc/self/mountinfo"))
            if not _foreign(Path((words := line.split())[4]), folders)
        ),
        tables=frozenset(_tables()),
        files=frozenset(str(path) for folder in folders for path in folder.rglob("*")),
    )


def _foreign(point: Path, folders: Iterable[Path]) -> bool:
    ours = any(point.is_relative_to(folder) for folder in folders) or "stockade-" in str(point)
    return point.is_relative_to(tempfile.gettempdir()) and not ours


def marked(mark: str) -> list[tuple[int, str]]:
    """Return (pid, name) of every living process that was started with the mark in its environment, but this one."""
    word = f"{MARK}={mark}".encode()
    found = []
    for pid in _pids():
        try:
            words = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            name = Path(f"/proc/{pid}/comm").read_text().strip()
        except OSError:
            continue
        if word in words and pid != os.getpid():
            found.append((pid, name))
    return found


def still_alive(namespaces: Iterable[int]) -> set[int]:
    """Return which of these network namespaces (inode numbers) a process is in, or holds open."""
    wanted = set(namespaces)
    names = {f"net:[{each}]": each for each in wanted}
    found = set()
    for pid in _pids():
        for link in (Path(f"/proc/{pid}/ns/net"), *_descriptors(pid)):
            try:
                found.add(names.get(str(link.readlink()), 0))
            except OSError:
                continue
    return found & wanted


def _descriptors(pid: int) -> list[Path]:
    try:
        return list(Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return []


def _pids() -> list[int]:
    return [int(each) for each in os.listdir("/proc") if each.isdigit()]  # noqa: PTH208 - the names alone


def _tables() -> list[str]:
    try:
        done = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=False)
    except OSError:
        return []
    return done.stdout.splitlines()


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines()
