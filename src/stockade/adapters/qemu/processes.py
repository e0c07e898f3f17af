"""The processes that are virtual machines, and the taps that they hold open, by the kernel's word."""

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from stockade.adapters.qemu.commandline import Told, is_machine, read

PROC = Path("/proc")
TUN = "/dev/net/tun"
SETTLED = 5
"""Looks after which a process is taken to be none: whoever becomes a machine does so as soon as it is forked."""
ANEW = 30
"""Looks after which every process is read again: a pid may have been given again between two looks."""
LONGEST = 1 << 20
"""Bytes of a command line that are read."""


class Process(msgspec.Struct, frozen=True):
    """A virtual machine's process. ``taps``: the interface behind each of its descriptors of ``/dev/net/tun``."""

    pid: int
    started: int
    """In the kernel's ticks since the machine's start: a pid that is given again has another."""
    told: Told
    taps: tuple[tuple[int, str], ...]


class Looking:
    """Looks for virtual machines again and again, at a host where nearly every process is none."""

    def __init__(self, proc: Path = PROC) -> None:
        self._proc = proc
        self._looks = 0
        self._anew = False
        self._others: dict[int, int] = {}
        """How often each process was seen to be none."""

    def anew(self) -> None:
        """Read every process at the next look: one that was none may have become a machine. From any thread."""
        self._anew = True

    def machines(self) -> Iterator[Process]:
        """Yield the virtual machines in this network namespace, by pid."""
        whole, self._anew = self._anew or not self._looks % ANEW, False
        mine = _link(self._proc / "self/ns/net")
        pids = sorted(int(each.name) for each in self._proc.iterdir() if each.name.isdigit())
        others = {} if whole else self._others
        self._looks, self._others = self._looks + 1, {pid: others[pid] for pid in pids if pid in others}
        for pid in pids:
            seen = self._others.get(pid, 0)
            if seen >= SETTLED:
                continue
            folder = self._proc / str(pid)
            if not is_machine(_text(folder / "comm").strip()):
                self._others[pid] = seen + 1
            elif _link(folder / "ns/net") == mine and (taps := tuple(_taps(folder))):
                yield Process(pid, _started(folder), read(_words(folder)), taps)


def _taps(folder: Path) -> Iterator[tuple[int, str]]:
    try:
        numbers = sorted(int(each.name) for each in (folder / "fd").iterdir())
    except OSError:
        return
    for number in numbers:
        if _link(folder / "fd" / str(number)) == TUN:
            for line in _text(folder / "fdinfo" / str(number)).splitlines():
                word, _, value = line.partition(":")
                if word == "iff" and value.strip():
                    yield number, value.strip()


def _words(folder: Path) -> list[str]:
    return _text(folder / "cmdline").split("\0")[:-1]


def _started(folder: Path) -> int:
    after_name = _text(folder / "stat").rpartition(") ")[2].split()
    return int(after_name[19]) if len(after_name) > 19 else 0


def _link(path: Path) -> str:
    try:
        return os.readlink(path)  # noqa: PTH115 - what it says, not where it leads
    except OSError:
        return ""


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(LONGEST).decode(errors="replace")
    except OSError:
        return ""
