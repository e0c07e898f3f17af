"""``stockade gate``: the birth gate in this machine's runtimes. Shows every change before it makes it."""

import difflib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import App, Parameter

from stockade.adapters.gate import BIRTHS, SOCKET
from stockade.cli.exits import Exit
from stockade.cli.gate_files import Disk, Edits, asked
from stockade.cli.output import ALLOWED, DENIED, UNKNOWN, Span, View, columns, line, remark, show
from stockade.cli.session import deliver
from stockade.cli.settings import NO_FLAGS, Common, Settings, resolve
from stockade.core.gate import TARGETS, Call, CannotEdit, Files, Target
from stockade.errors import StockadeError
from stockade.wire.api import Message

app = App(name="gate")

Runtime = Annotated[str, Parameter(help="docker, podman, cri-o, containerd, cni or nri.")]
Yes = Annotated[bool, Parameter(negative="", help="Do not ask.")]
Restart = Annotated[
    bool, Parameter(negative="", help="Have the runtime heed it at once, by the command that is shown.")
]
Root = Annotated[Path, Parameter(help="Where the machine's files are: for an image that is being made.", show=False)]


class GateView(msgspec.Struct, frozen=True):
    """The gate in one runtime. ``state``: installed, not installed, partly; ``problems``: what is wrong with it."""

    runtime: str
    title: str
    state: str
    files: tuple[str, ...]
    problems: tuple[str, ...] = ()


class GateReply(Message, frozen=True, kw_only=True):
    """Every runtime's gate, and whether the agent answers at it (``agent`` is empty where it does)."""

    gates: tuple[GateView, ...]
    agent: str


@app.command
def install(
    runtime: Runtime, *, yes: Yes = False, restart: Restart = False, root: Root = Path("/"), common: Common = NO_FLAGS
) -> int:
    """Put the gate into a runtime: from then on it starts nothing that this host could not contain.

    Where unknown workloads are held, a container is not started while the agent does not answer.
    """
    settings, target = resolve(common), _target(runtime)
    disk = Disk(settings.state, settings.docker_host, root)
    call = _call(settings, disk)
    files = disk.read(target)
    edits = target.put({**files, **disk.needed(target, files)}, call)
    if not edits and not any(disk.doubtful(each) for each in disk.programs(target, call)):
        remark(f"The gate is in {target.title} already; nothing was changed.")
        return Exit.DONE
    if not _agreed(files, edits, f"Put the gate into {target.title}?", target.heed, yes=yes):
        return Exit.DONE
    disk.write(target, edits, disk.programs(target, call))
    remark(f"The gate is in {target.title}. Take it out again: stockade gate remove {target.name}")
    return _heed(target, target.heed, yes=yes, restart=restart)


@app.command
def remove(
    runtime: Runtime,
    *,
    yes: Yes = False,
    restart: Restart = False,
    keep_name: Annotated[
        bool,
        Parameter(
            negative="", help="Docker: leave the runtime's name, for what it stood before; no restart is needed then."
        ),
    ] = False,
    root: Root = Path("/"),
    common: Common = NO_FLAGS,
) -> int:
    """Take the gate out of a runtime; its configuration is then what it was before.

    Docker's containers that were created behind the gate keep its name, and so does Docker's configuration as long as
    there is one: the name then stands for the runtime that was there before.
    """
    settings, target = resolve(common), _target(runtime)
    disk = Disk(settings.state, settings.docker_host, root)
    files = disk.read(target)
    needed = disk.needed(target, files, keep_name=keep_name)
    edits, lingers = _out_of(disk, target, files, needed)
    if not edits:
        if not lingers:
            disk.tidy(target)
        remark(f"The gate is not in {target.title}.")
        return Exit.DONE
    heed = target.heed if lingers else target.heed_end
    if not _agreed(files, edits, f"Take the gate out of {target.title}?", heed, yes=yes):
        return Exit.DONE
    disk.undo(target, edits)
    remark(f"The gate is out of {target.title}. What is held stays held: the base drop does not need it.")
    if lingers:
        remark("Containers that were created behind it keep its name, which now stands for their runtime alone.")
    code = _heed(target, heed, yes=yes, restart=restart)
    if code is Exit.DONE:
        disk.tidy(target)
    elif heed:
        remark(f"The program stays until then. Afterwards, once more:  stockade gate remove {target.name}")
    return code


@app.command
def status(*, root: Root = Path("/"), common: Common = NO_FLAGS) -> int:
    """Where the gate is, and whether the agent answers at it. Exits 2 where something is wrong with it."""
    settings = resolve(common)
    disk = Disk(settings.state, settings.docker_host, root)
    gates = tuple(_view(disk, target, _call(settings, disk)) for target in TARGETS.values())
    reply = GateReply(gates=gates, agent=asked(settings.run / SOCKET))
    deliver(settings, reply, gate_view)
    used = [each for each in gates if each.state != "not installed"]
    return Exit.LOOK if any(each.problems for each in used) or (used and reply.agent) else Exit.DONE


def gate_view(reply: GateReply) -> View:
    """One line a runtime, and what is wrong below it."""
    for each, laid in zip(reply.gates, columns(("", ""), map(_row, reply.gates)), strict=True):
        yield laid
        for problem in each.problems:
            yield line("    ", Span(problem, "red"))
    yield line()
    yield (
        line(DENIED, f" {reply.agent}") if reply.agent else line(ALLOWED, " the agent answers, and nothing is refused")
    )


def _row(each: GateView) -> tuple[Span | str, ...]:
    sign = {"installed": ALLOWED, "not installed": Span("–", "dim")}.get(each.state, UNKNOWN)
    return (Span(f"{sign.text} {each.title}", sign.style), each.state)


def _view(disk: Disk, target: Target, call: Call) -> GateView:
    files = disk.read(target)
    there = tuple(path for path, text in files.items() if text is not None)
    try:
        everything = {**files, **disk.needed(target, files)}
        if not target.take(everything):
            return GateView(target.name, target.title, "not installed", there)
        missing = target.put(everything, call)
    except CannotEdit as problem:
        return GateView(target.name, target.title, "partly", there, (problem.message,))
    doubts = tuple(filter(None, (disk.doubtful(each) for each in disk.programs(target, call))))
    open_ends = tuple(f"{path} is not as the gate needs it: stockade gate install {target.name}" for path in missing)
    return GateView(target.name, target.title, "partly" if missing else "installed", there, (*open_ends, *doubts))


def _out_of(disk: Disk, target: Target, files: Files, needed: Files) -> tuple[Edits, bool]:
    """Return the edits that take the gate out, byte for byte where that can be, and whether something of it lingers."""
    edits: Edits = target.take({**files, **needed})
    exact = disk.exactly(target, edits)
    lingers = target.lingers(needed)
    if not lingers and not target.take({**files, **needed, **exact}):
        edits = exact
    return edits, lingers


def _target(name: str) -> Target:
    if name not in TARGETS:
        raise StockadeError(
            f'the gate knows no runtime "{name}"', kept="nothing was changed", remedy=f"one of: {', '.join(TARGETS)}"
        )
    return TARGETS[name]


def _call(settings: Settings, disk: Disk) -> Call:
    return Call(disk.program(), str(settings.run / SOCKET), str(settings.state / BIRTHS))


def _agreed(files: Files, edits: Edits, question: str, heed: tuple[str, ...], *, yes: bool) -> bool:
    """Show the change, and ask. ``StockadeError`` where there is nobody to ask."""
    show(_diff(files, edits))
    if heed:
        remark(f"Heeded after:  {' '.join(heed)}")
    if yes:
        return True
    if not sys.stdin.isatty():
        raise StockadeError(
            "there is no terminal to ask on",
            kept="nothing was changed",
            remedy="say --yes after reading the change above",
        )
    print(f"\n{question} [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() in {"y", "yes"}:
        return True
    remark("Nothing was changed.")
    return False


def _diff(files: Files, edits: Edits) -> Iterator[tuple[Span, ...]]:
    for path, after in edits.items():
        before = files.get(path)
        names = (path if before is not None else "/dev/null", path if after is not None else "/dev/null")
        for each in difflib.unified_diff(_lines(before), _lines(after), *names, lineterm=""):
            style = {"+": "green", "-": "red", "@": "dim"}.get(each[:1], "")
            yield line(Span(each, style))


def _lines(text: str | None) -> list[str]:
    return (text or "").splitlines()


def _heed(target: Target, heed: tuple[str, ...], *, yes: bool, restart: bool) -> Exit:
    """Have the runtime read its configuration again, where that was asked for."""
    if not heed:
        return Exit.DONE
    command = " ".join(heed)
    if not restart and not yes and sys.stdin.isatty():
        print(f"\nRun it now: {command}? [y/N] ", end="", file=sys.stderr, flush=True)
        restart = sys.stdin.readline().strip().lower() in {"y", "yes"}
    if not restart:
        remark(f"Not in force before:  {command}")
        return Exit.LOOK
    done = subprocess.run(heed, check=False)
    if done.returncode:
        raise StockadeError(
            f"`{command}` failed with status {done.returncode}",
            kept="the files are changed; the runtime goes on as before until it reads them",
            remedy=f"{command}, or take the gate out again: stockade gate remove {target.name}",
        )
    return Exit.DONE
