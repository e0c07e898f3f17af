"""Opening this host without server, database or agent: our tables go, by nft alone, and a line in a file says so.

Tables that a living helper owns nobody else can delete: the helper is ended first, and they are anybody's then.
The next ``stockade up`` reads those lines into the audit log, and keeps the host open until policy is applied again.
Touches nothing but our own tables and files.
"""

import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import msgspec

from stockade.adapters.gate import BIRTHS
from stockade.agent.state import AssignmentFile
from stockade.core.compile.nft.ruleset import TABLE
from stockade.decoding import ready
from stockade.errors import StockadeError

FAMILIES = ("inet", "bridge")
LINES = "off.jsonl"
"""In the state folder: one JSON object a line, oldest first."""
SBIN = "/usr/sbin:/sbin"
PATIENCE = 30
HELPER = "/stockade/nfthelper/__main__.py"
ENDING = 5.0
"""Seconds that a helper may take to end."""


class Opened(msgspec.Struct, frozen=True):
    """One emergency opening: when (seconds since the epoch), by whom, why, and the tables that were there."""

    at: float
    who: str
    uid: int
    note: str
    tables: tuple[str, ...]


class Remain(StockadeError):  # noqa: N818 - reads as what happened
    """Tables of ours are still there."""


def our_tables() -> tuple[str, ...]:
    """Return which of our tables the kernel holds, as ``family name``."""
    listed = _nft("list", "tables")
    if listed.returncode:
        raise Remain(
            f"nft cannot read the kernel's tables: {_said(listed)}",
            kept="whatever is in force stays in force",
            remedy="run it again as root",
        )
    ours = {f"{family} {TABLE}" for family in FAMILIES}
    return tuple(sorted(ours & {line.removeprefix("table ").strip() for line in listed.stdout.splitlines()}))


def remove(tables: Iterable[str]) -> None:
    """Delete tables in one transaction: all or none. A helper that owns them is ended first."""
    text = "".join(f"delete table {table}\n" for table in tables)
    done = _nft("-f", "-", given=text)
    if done.returncode and (found := helpers()):
        end(found)
        done = _nft("-f", "-", given=text)
    if done.returncode:
        raise Remain(
            f"the kernel refuses to delete our tables: {_said(done)}",
            kept="what is in force stays in force",
            remedy="run it again as root",
        )


def open_gate(run: Path, state: Path) -> None:
    """Let a runtime's gate, which finds no agent now, pass everybody again."""
    for folder in (run, state):
        (folder / BIRTHS).unlink(missing_ok=True)


def helpers() -> tuple[int, ...]:
    """Return the helpers that live in this network namespace: only there can they own the tables that we see."""
    numbers = (int(each.name) for each in Path("/proc").iterdir() if each.name.isdigit())
    return tuple(sorted(pid for pid in numbers if _is_helper(pid)))


def end(pids: Iterable[int]) -> None:
    """End helpers and wait until they are gone. Nothing that they hold goes with them."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + ENDING
    while any(map(_is_helper, pids)) and time.monotonic() < deadline:
        time.sleep(0.02)


def end_server(socket_path: Path) -> int:
    """End whoever listens at the API's socket, by force if need be; return its process id, 0 where nobody does."""
    with socket.socket(socket.AF_UNIX) as asking, suppress(OSError):
        asking.settimeout(ENDING)
        asking.connect(str(socket_path))
        pid, _, _ = struct.unpack("3i", asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        pinned = os.pidfd_open(pid)
        try:
            signal.pidfd_send_signal(pinned, signal.SIGTERM)
            if not select.select([pinned], [], [], ENDING)[0]:
                signal.pidfd_send_signal(pinned, signal.SIGKILL)
                select.select([pinned], [], [], ENDING)
        finally:
            os.close(pinned)
        return int(pid)
    return 0


def write_down(state: Path, opened: Opened) -> None:
    """Add a line, on disk before this returns. The agent's last assignment goes, which makes room for it, too."""
    try:
        state.mkdir(parents=True, exist_ok=True)
        AssignmentFile(state).remove()
        with (state / LINES).open("ab") as file:
            file.write(b"\n" * (file.tell() > 0))  # a line that a full disk cut short spoils no other
            file.write(msgspec.json.encode(opened) + b"\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as problem:
        raise Remain(
            f"this host is open, but that cannot be written down: {problem}",
            kept="it stays open until the next `stockade up`, which would enforce again",
            remedy="free some space, or make the state folder writable, then again: stockade off",
        ) from problem


def written_down(state: Path) -> tuple[Opened, ...]:
    """Return the lines that no server has read yet, oldest first. A line cut short by a crash is left out."""
    try:
        lines = (state / LINES).read_bytes().splitlines()
    except FileNotFoundError:
        return ()
    return tuple(opened for line in lines if (opened := _read(line)) is not None)


def forget(state: Path) -> None:
    """Remove the lines, once they are in the audit log."""
    (state / LINES).unlink(missing_ok=True)


def _read(line: bytes) -> Opened | None:
    try:
        return msgspec.json.decode(line, type=ready(Opened))
    except msgspec.DecodeError:
        return None


def _is_helper(pid: int) -> bool:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
        same = Path(f"/proc/{pid}/ns/net").readlink() == Path("/proc/self/ns/net").readlink()
    except OSError:
        return False
    return same and words[1:2] in (["-IS"], ["-I"]) and words[2].endswith(HELPER)


def _nft(*arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
    program = shutil.which("nft", path=f"{os.environ.get('PATH', '')}:{SBIN}")
    if program is None:
        raise Remain(
            "the program nft is not installed",
            kept="what is in force stays in force",
            remedy="apt-get install nftables, then again",
        )
    return subprocess.run(
        (program, *arguments), input=given, capture_output=True, text=True, timeout=PATIENCE, check=False
    )


def _said(done: subprocess.CompletedProcess[str]) -> str:
    return (done.stderr.strip().splitlines() or ["no reason given"])[0]
