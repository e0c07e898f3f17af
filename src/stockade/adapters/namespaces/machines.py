"""``Runtime`` over systemd's machines: what systemd-machined has registered, and what systemd-nspawn runs beside it.

Read from the files that machined keeps (``/run/systemd/machines``) and from the processes called ``systemd-nspawn``,
since a container need not be registered (``--register=no``). Virtual machines are somebody else's to tell of.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from stockade.adapters.namespaces.processes import PROC, children, look, namespace_of, pids
from stockade.core.model.ids import HostId, WorkloadId
from stockade.core.model.inventory import Facts, Sighting, WorkloadKind
from stockade.seams.clock import Clock
from stockade.seams.places import Place, Places
from stockade.seams.runtime import Gone, Listed, Lost, RuntimeEvent, Seen

MACHINES = Path("/run/systemd/machines")
NSPAWN = "systemd-nspawn"
PAUSE = 1.0
"""Seconds between looks, at least."""
SHARE = 0.001
"""Of one processor, that looking may take."""
YOUNG = 3.0
"""Seconds in which a process may still become another program."""
MOVES = 4.0
"""Seconds between looks into a machine's network, which may be laid after the machine was begun."""


class Machine(msgspec.Struct, frozen=True):
    """A machine: its first process, and what machined or nspawn's command line says of it."""

    name: str
    leader: int
    root: str = ""
    service: str = ""
    unit: str = ""


class MachinesRuntime:
    """Implements ``seams.runtime.Runtime``. ``places`` runs in a thread."""

    name = "machines"

    def __init__(
        self, host: HostId, *, places: Places, clock: Clock, machines: Path = MACHINES, proc: Path = PROC
    ) -> None:
        """``machines``: the folder that machined keeps."""
        self._host = host
        self._places = places
        self._clock = clock
        self._machines = machines
        self._proc = proc
        self._settled: dict[int, bool] = {}
        """Processes that will not become another program: whether each is nspawn."""
        self._first: dict[int, float] = {}
        self._places_of: dict[tuple[str, int], tuple[float, Place]] = {}
        self._cost = 0.0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="machines")

    async def events(self) -> AsyncIterator[RuntimeEvent]:
        """Yield ``Listed`` first, then changes, for ever; ``Lost`` where they cannot be read, until they can."""
        told: dict[WorkloadId, Seen] | None = None
        while True:
            try:
                found = await asyncio.get_running_loop().run_in_executor(self._thread, self._look, self._clock.now())
            except OSError as problem:
                yield Lost(f"machines cannot be read: {problem.strerror or problem}")
                told = None
            else:
                for event in self._news(told, found):
                    yield event
                told = found
            await asyncio.sleep(max(PAUSE, self._cost / SHARE))

    def _news(self, told: dict[WorkloadId, Seen] | None, found: dict[WorkloadId, Seen]) -> Iterator[RuntimeEvent]:
        if told is None:
            yield Listed(tuple(found[each] for each in sorted(found)))
            return
        for gone in sorted(told.keys() - found.keys()):
            yield Gone(gone, self._clock.now())
        for each in sorted(found):
            if told.get(each) != found[each]:
                yield found[each]

    # Blocking, in a thread

    def _look(self, now: float) -> dict[WorkloadId, Seen]:
        began = time.thread_time()
        machines = {each.name: each for each in self._running(now)} | {each.name: each for each in self._registered()}
        self._cost = time.thread_time() - began
        seen = {}
        for each in machines.values():
            if (one := self._seen(each, now)) is not None:
                seen[one.sighting.id] = one
        leaders = {(each.name, each.leader) for each in machines.values()}
        self._places_of = {key: known for key, known in self._places_of.items() if key in leaders}
        return seen

    def _registered(self) -> Iterator[Machine]:
        """Yield the containers that machined knows; a file each, and links beside them that are named by unit."""
        if not self._machines.is_dir():
            return
        for file in sorted(self._machines.iterdir()):
            if not file.is_symlink() and (machine := read(file)) is not None:
                yield machine

    def _running(self, now: float) -> Iterator[Machine]:
        """Yield what the processes called systemd-nspawn run."""
        there = pids(self._proc)
        for known in (self._settled, self._first):
            for gone in known.keys() - there:
                del known[gone]
        for pid in sorted(there):
            if self._is_nspawn(pid, now) and (machine := self._run_by(pid)) is not None:
                yield machine

    def _is_nspawn(self, pid: int, now: float) -> bool:
        if (settled := self._settled.get(pid)) is not None:
            return settled
        try:
            found = (self._proc / str(pid) / "comm").read_text(encoding="utf-8", errors="replace").strip() == NSPAWN
        except OSError:
            return False
        if found or now - self._first.setdefault(pid, now) > YOUNG:
            self._settled[pid] = found
        return found

    def _run_by(self, pid: int) -> Machine | None:
        """Return the machine of one nspawn: its child is the first process there."""
        leader = children(pid, self._proc)[:1]
        try:
            words = (self._proc / str(pid) / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            return None
        root = option(words, "-D", "--directory") or option(words, "-i", "--image")
        name = option(words, "-M", "--machine") or Path(root).name
        return Machine(name, leader[0], root, NSPAWN) if leader and name else None

    def _seen(self, machine: Machine, now: float) -> Seen | None:
        leader = look(machine.leader, self._proc)
        inode = namespace_of(machine.leader, self._proc)
        if leader is None or not inode:
            return None
        shares = inode == namespace_of(os.getpid(), self._proc)
        place = Place("") if shares else self._place(machine, now)
        unit = machine.unit or leader.unit
        facts = {"root": machine.root, "service": machine.service, "unit": unit}
        sighting = Sighting(
            WorkloadId(f"machine:{self._host}:{machine.name}"),
            machine.name,
            WorkloadKind.CONTAINER,
            self._host,
            endpoints=place.endpoints,
            owner=WorkloadId(f"host:{self._host}") if shares else None,
            facts=Facts(runtime="machine", labels=tuple(sorted((key, value) for key, value in facts.items() if value))),
            created=leader.began,
        )
        return Seen(sighting, leader.began, marks=(place.mark,) if place.mark else ())

    def _place(self, machine: Machine, now: float) -> Place:
        """Look into its network, again now and then: links come after the first process, and may move."""
        known = self._places_of.get((machine.name, machine.leader))
        if known is not None and now - known[0] < MOVES and known[1].endpoints:
            return known[1]
        try:
            place = self._places(f"{self._proc}/{machine.leader}/ns/net")
        except OSError:
            place = Place("")
        self._places_of[machine.name, machine.leader] = (now, place)
        return place


def read(file: Path) -> Machine | None:
    """Read what machined keeps of one machine; None where it is no container, or not all there."""
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    told = {key: value.strip('"') for key, equals, value in (line.partition("=") for line in lines) if equals}
    if told.get("CLASS") != "container" or not told.get("LEADER", "").isdigit():
        return None
    return Machine(
        told.get("NAME", file.name), int(told["LEADER"]), told.get("ROOT", ""), told.get("SERVICE", ""),
        told.get("SCOPE") or told.get("UNIT", ""),
    )  # fmt: skip


def option(words: list[str], short: str, long: str) -> str:
    """Return the value of an option of a command line, however it is written; empty where it is not given."""
    for at, word in enumerate(words[1:], 1):
        if word in (short, long) or (word[:1] == "-" != word[1:2] and word[-1:] == short[1]):
            return words[at + 1] if at + 1 < len(words) else ""
        if word.startswith(f"{long}="):
            return word.partition("=")[2]
        if word.startswith(short) and not word.startswith("--") and len(word) > len(short):
            return word[len(short) :]
    return ""
