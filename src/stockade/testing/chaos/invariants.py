"""What must hold through every fault (I1 to I6), judged from outside: packets, the kernel, the API, the audit log."""

import asyncio
import contextlib
import errno
import math
import re
import time
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import msgspec

from stockade.adapters.nft.helper import Helper
from stockade.adapters.nft.listing import Torn, parse
from stockade.agent.state import AssignmentFile
from stockade.core.compile.nft.render import render
from stockade.core.model.ids import Version
from stockade.core.reconcile import steps
from stockade.errors import StockadeError
from stockade.testing.chaos.fault import Fault
from stockade.testing.chaos.ground import SOON, Ground
from stockade.testing.lab.backlog import dropped
from stockade.testing.probe.steadily import PATIENCE
from stockade.testing.steady import Count, Flow, Kind, Steady
from stockade.wire.api import AuditReply, HistoryReply, WorkloadsReply

READ_LATE = 0.3
"""Seconds by which a busy machine may read late what has arrived."""
COUNTED = 20.0
"""Seconds in which a loss must be shown."""
Violations = list[str]


class Leak(Protocol):
    """A packet of a newborn that arrived though policy denies it; times of the monotonic clock."""

    @property
    def what(self) -> str:
        """From where to where."""
        ...

    @property
    def since(self) -> float:
        """When it was born."""
        ...

    @property
    def until(self) -> float:
        """When it was gone."""
        ...


class Worker(Protocol):
    """Whoever changes policy and labels and bears workloads all the time, and remembers what was acknowledged."""

    turn: asyncio.Lock
    patient: bool
    versions: dict[int, str]
    labelled: int
    leaked: list[Leak]

    async def work(self) -> None:
        """Go on until cancelled."""
        ...

    async def check(self) -> None:
        """What was acknowledged is there; ``AssertionError`` where it is not."""
        ...


class Span(NamedTuple):
    """Moments of the monotonic clock in which nobody held the tables."""

    since: float
    until: float


class Holder(Helper):
    """The helper that is there. Whoever judges starts none: it would outlive the lab."""

    def _start(self) -> dict[str, Any]:
        raise FileNotFoundError(errno.ENOENT, "nobody holds the tables", str(self.path))


class Judge:
    """Remembers what was seen before, since versions and counts only go forwards."""

    def __init__(self, on: Ground, steady: Steady, worker: Worker) -> None:
        self._on, self._steady, self._worker = on, steady, worker
        self._open: list[Span] = []
        self._standing: set[Flow] = set()
        self._version = Version(0)
        self._realised = 0
        self._dropped = dropped()
        self._entry = 0
        self._lost: tuple[int, dict[str, int]] = (0, {})

    async def judge(self, fault: Fault, began: float, log_before: int) -> Violations:
        """Return what does not hold, once everything has healed."""
        alike = await self._kernel_is_compiled()
        if fault.opens:
            self._open.append(Span(began, time.monotonic() + READ_LATE))
        await asyncio.sleep(0.1)
        counts = [*await self._steady.told(), *await self._going()]
        return [
            *self._denied(counts),
            *self._allowed(counts, fault),
            *alike,
            *self._came_true(log_before),
            *await self._versions(),
            *await self._counted(fault),
            *self._said(fault, log_before),
            *await self._audited(),
        ]

    async def _going(self) -> list[Count]:
        """Wait until every flow goes on. One that is cut says so after ``PATIENCE``: before the next fault strikes."""
        found: list[Count] = []
        deadline, standing = time.monotonic() + PATIENCE + SOON, set(self._steady.flows)
        while standing and time.monotonic() < deadline:
            await asyncio.sleep(0.1)
            counts = await self._steady.told()
            found += counts
            standing -= {each.flow for each in counts if each.done}
        self._standing = standing
        return found

    # I1

    def _denied(self, counts: list[Count]) -> Iterator[str]:
        for each in counts:
            late = [at for at in each.arrived if not self._excused(at, at)]
            if each.flow.kind is Kind.TRY and late:
                yield f"I1 {_named(each)}: {len(late)} denied packets arrived, the first at {late[0]:.3f}"
        for leak in self._worker.leaked:
            if not self._excused(leak.since, leak.until):
                yield f"I1 a newborn's denied packet arrived: {leak.what}, born at {leak.since:.3f}"
        self._worker.leaked.clear()
        for found in self._on.found:
            yield f"I1 {found}"
        self._on.found.clear()

    def _excused(self, since: float, until: float) -> bool:
        return any(span.since <= until and since <= span.until for span in self._open)

    # I2

    def _allowed(self, counts: list[Count], fault: Fault) -> Iterator[str]:
        """What a full backlog costs is the machine's affair. A datagram is lost when a hundred later ones have come."""
        gone, self._dropped = dropped() - self._dropped, dropped()
        for each in counts:
            excused = each.flow.kind in fault.cuts or (each.flow.kind is Kind.STREAM and each.lost <= gone)
            if each.flow.kind is not Kind.TRY and each.lost and not excused:
                yield f"I2 {_named(each)}: {each.lost} lost ({each.detail}), at {each.arrived[:3]}"
        for flow in sorted(self._standing, key=repr):
            yield f"I2 {flow.kind.value} {flow.source} -> {flow.destination} {flow.port} stands still"

    # I3

    async def _kernel_is_compiled(self) -> Violations:
        """Compare our tables with what the intent that the host was given last compiles to."""
        deadline, differs = time.monotonic() + SOON, "nothing was compared"
        while time.monotonic() < deadline:
            differs = await asyncio.to_thread(self._difference)
            if not differs:
                return []
            await asyncio.sleep(0.1)
        return [f"I3 the kernel is not what was compiled: {differs}"]

    def _difference(self) -> str:
        kept = AssignmentFile(self._on.state).read()
        if kept is None:
            return "no assignment is kept"
        helper = Holder(self._on.state / "nft.sock")
        try:
            held = parse(helper.call(do="list", families=["inet", "bridge"])["text"])
        except (OSError, Torn) as problem:
            return repr(problem)
        finally:
            helper.close()
        found = steps(render(kept.intent), held)
        return f"{len(found)} steps lead there, {str(found[0])[:300]}" if found else ""

    # I4

    def _came_true(self, log_before: int) -> Violations:
        """No host says that it enforces a version after it has said so of a later one, be it for a moment."""
        found = []
        for said in records(self._on.log()[log_before:]):
            if "outcome" not in said or said.get("error"):
                continue
            if said["version"] < self._realised:
                found.append(
                    f"I4 version {said['version']} came into force after {self._realised}, at {said['timestamp']}"
                )
            self._realised = max(self._realised, said["version"])
        return found

    async def _versions(self) -> Violations:
        status = await asyncio.to_thread(self._on.status)
        history = await asyncio.to_thread(self._on.on.client.call, "history", HistoryReply, limit=100_000)
        notes = {each.number: each.note for each in history.versions}
        found = [f"I4 version {n} was acknowledged and is not there" for n, note in self._worker.versions.items()
                 if notes.get(Version(n)) != note]  # fmt: skip
        realised = min((host.realised or Version(0) for host in status.hosts), default=Version(0))
        if status.version < self._version or realised < self._version:
            found.append(f"I4 version {status.version}, {realised} in force, after {self._version} was")
        self._version = max(self._version, realised)
        if missing := [name for name in self._expected() if name not in await self._known()]:
            found.append(f"I4 the snapshot lacks {missing}")
        return found

    def _expected(self) -> list[str]:
        return [node.name for node in self._on.lab.topology.nodes if not node.outside]

    async def _known(self) -> set[str]:
        reply = await asyncio.to_thread(self._on.on.client.call, "workloads", WorkloadsReply)
        return {each.name for each in reply.workloads}

    # I5

    async def _counted(self, fault: Fault) -> Violations:
        """A process's counts never go back, and a fault that loses events is among them."""
        deadline = time.monotonic() + (COUNTED if fault.counts else 0)
        while True:
            status = await asyncio.to_thread(self._on.status)
            now = {source: count for host in status.hosts for source, count in host.lost}
            before = self._lost[1] if self._lost[0] == status.pid else {}
            if not fault.counts or now.get(fault.counts, 0) > before.get(fault.counts, 0):
                break
            if time.monotonic() > deadline:
                return [f"I5 {fault.counts}: a loss is not shown: {now} after {before}"]
            await asyncio.sleep(0.2)
        self._lost = (status.pid, {**before, **now})
        back = [name for name, count in before.items() if now.get(name, math.inf) < count]
        return [f"I5 the losses of {name} went back" for name in back]

    def _said(self, fault: Fault, log_before: int) -> Iterator[str]:
        said = self._on.log()[log_before:]
        if fault.says and fault.says not in said:
            yield f"I5 the log says nothing of {fault.says}"
        if "Traceback" in said:
            yield f"I5 a bug shows itself in the log: {said[said.index('Traceback') :][-600:]}"

    # I6

    async def _audited(self) -> Violations:
        """Entries are numbered without a gap, and what was acknowledged is among them."""
        try:
            await self._worker.check()
        except AssertionError as problem:
            return [f"I6 {problem}"]
        reply = await asyncio.to_thread(self._on.on.client.call, "audit", AuditReply, last=100_000)
        numbers = sorted(each.number for each in reply.entries)
        targets = {each.target for each in reply.entries}
        absent = [n for n in self._worker.versions if f"version {n}" not in targets]
        found = [f"I6 version {n} is not in the audit log" for n in absent]
        if numbers != list(range(numbers[0], numbers[0] + len(numbers))) or numbers[-1] < self._entry:
            found.append("I6 entries of the audit log are missing")
        self._entry = numbers[-1]
        labelled = sum(each.action == "labels" for each in reply.entries)
        if labelled < self._worker.labelled:
            found.append(f"I6 {self._worker.labelled} labels were set, {labelled} are in the audit log")
        return found


def records(log: str) -> Iterator[dict[str, Any]]:
    """Return what a log's lines say. Whoever is killed, or finds no room, leaves half a line: another follows on it."""
    for line in log.splitlines():
        for start in re.finditer(r'\{"', line):
            with contextlib.suppress(msgspec.DecodeError):
                yield msgspec.json.decode(line[start.start() :])
                break


def _named(count: Count) -> str:
    flow = count.flow
    return f"{flow.kind.value} {flow.source} -> {flow.destination} {flow.port}/{flow.family}"


async def healed(on: Ground) -> Violations:
    """Have everything whole again; what never is, is a violation like any other."""
    try:
        await on.whole()
    except (StockadeError, AssertionError, TimeoutError) as problem:
        return [f"I3 it does not heal: {problem}; {getattr(problem, 'remedy', '')}"]
    return []
