"""``stockade lab``: a lab of network namespaces that stays while its command runs, and a way into its nodes.

A record in the state folder tells a second terminal where the lab is. Nothing outlives the lab, the record included.
"""

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import App, Parameter

from stockade.cli.exits import Exit
from stockade.cli.output import View, bold, columns, line, remark
from stockade.cli.session import deliver
from stockade.cli.settings import NO_FLAGS, Common, Settings, resolve
from stockade.cli.shop_lab import SHOP
from stockade.decoding import ready
from stockade.errors import StockadeError
from stockade.testing.lab import Lab, enter
from stockade.wire.api import Message

app = App(name="lab", help="A lab of network namespaces to try policies on.")

RECORD = "lab.json"
PATIENCE = 30.0
"""Seconds that a lab may take to end."""
STARTED = 19
"""The field of /proc/PID/stat, counted after the command's name, that says when a process began."""


class LabNode(msgspec.Struct, frozen=True):
    """A node: ``pid`` is a process that lives in its namespace."""

    name: str
    pid: int
    addresses: tuple[str, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()


class LabRecord(Message, frozen=True, kw_only=True):
    """A lab that is up. ``started`` tells its process from a later one with the same number."""

    pid: int
    started: int
    nodes: tuple[LabNode, ...]


@app.command
def up(*, common: Common = NO_FLAGS) -> int:
    """Build the lab that examples/shop is written for, and keep it until Ctrl-C or `stockade lab down`.

    Needs no root: without it, the lab lives in a user namespace. Nothing is enforced in it; `stockade demo` does that.
    """
    settings = resolve(common)
    _refuse_second(settings.state)
    enter()
    return asyncio.run(_live(settings))


@app.command
def down(*, common: Common = NO_FLAGS) -> int:
    """End the lab that is up, and wait until nothing of it is left."""
    it = _up(resolve(common).state)
    os.kill(it.pid, signal.SIGTERM)
    deadline = time.monotonic() + PATIENCE
    while _lives(it):
        if time.monotonic() > deadline:
            raise StockadeError(
                f"the lab (pid {it.pid}) has not ended in {PATIENCE:.0f} s",
                kept="it is being taken down",
                remedy=f"look at it: ps {it.pid}",
            )
        time.sleep(0.05)
    remark("The lab is gone.")
    return Exit.DONE


@app.command(name="exec")
def exec_(
    node: Annotated[str, Parameter(help="The node's name; `lab` is the lab's host.")],
    *command: Annotated[str, Parameter(help="What to run there, after --.", allow_leading_hyphen=True)],
    common: Common = NO_FLAGS,
) -> int:
    """Run a command in a node of the lab: stockade lab exec web-1 -- ip address.

    Its exit code is the command's.
    """
    it = _up(resolve(common).state)
    found = next((each for each in it.nodes if each.name == node), None)
    if found is None:
        names = ", ".join(each.name for each in it.nodes)
        raise StockadeError(f'the lab has no node "{node}"', kept="nothing was run", remedy=f"its nodes: {names}")
    words = [*_inside(found.pid), *(command or (os.environ.get("SHELL", "/bin/sh"),))]
    os.execvp(words[0], words)


async def _live(settings: Settings) -> Exit:
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    async with Lab(SHOP) as lab:
        nodes = tuple(_node(lab, name) for name in (SHOP.host, *(each.name for each in SHOP.nodes)))
        record = LabRecord(pid=os.getpid(), started=_began(os.getpid()), nodes=nodes)
        with _written(settings.state, record):
            deliver(settings, record, lab_view)
            await ended.wait()
    remark("The lab is gone; nothing is left behind.")
    return Exit.DONE


def lab_view(record: LabRecord) -> View:
    """The nodes, and how to get into one."""
    rows = (
        (each.name, ", ".join(each.addresses), " ".join(f"{key}={value}" for key, value in each.labels))
        for each in record.nodes
    )
    yield from columns(("NODE", "ADDRESSES", "LABELS"), rows)
    yield line()
    yield line("In another terminal:  ", bold("stockade lab exec web-1 -- ip address"))
    yield line("Ctrl-C, or stockade lab down, leaves nothing behind.")


def _node(lab: Lab, name: str) -> LabNode:
    labels = lab.nodes[name].labels if name in lab.nodes else lab.topology.labels
    return LabNode(name, lab.pid(name), (lab.address(name), lab.address(name, 6)), labels)


# The record


@contextmanager
def _written(state: Path, record: LabRecord) -> Iterator[None]:
    state.mkdir(parents=True, exist_ok=True)
    (state / RECORD).write_bytes(msgspec.json.encode(record))
    try:
        yield
    finally:
        (state / RECORD).unlink(missing_ok=True)


def _record(state: Path) -> LabRecord | None:
    """Return the lab that is up; None where none is, or where a killed one has left its record."""
    with suppress(FileNotFoundError, msgspec.DecodeError):
        record = msgspec.json.decode((state / RECORD).read_bytes(), type=ready(LabRecord))
        return record if _lives(record) else None
    return None


def _up(state: Path) -> LabRecord:
    record = _record(state)
    if record is None:
        raise StockadeError("no lab is up", kept="nothing was done", remedy="in another terminal: stockade lab up")
    return record


def _refuse_second(state: Path) -> None:
    if record := _record(state):
        raise StockadeError(
            f"a lab is up already (pid {record.pid})", kept="it stays", remedy="stockade lab down, or another --state"
        )


# Processes


def _lives(record: LabRecord) -> bool:
    return _began(record.pid) == record.started


def _began(pid: int) -> int:
    """Return when a process began, in clock ticks since boot; -1 where there is none, or only its corpse."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return -1
    fields = stat.rpartition(")")[2].split()
    return -1 if fields[0] == "Z" else int(fields[STARTED])


def _inside(pid: int) -> list[str]:
    words = ["nsenter", "-t", str(pid), "--net"]
    if _namespace(pid, "user") != _namespace(os.getpid(), "user"):
        words += ["--user", "--preserve-credentials"]
    return [*words, "--"]


def _namespace(pid: int, kind: str) -> str:
    with suppress(OSError):
        return str(Path(f"/proc/{pid}/ns/{kind}").readlink())
    return ""
