"""A shop with ``stockade up`` on its host, steady traffic through it, and an operator who does not let it rest."""

import asyncio
import contextlib
import itertools
import os
import random
import select
import signal
import time
from typing import NamedTuple

from msgspec.structs import replace

from stockade.cli.client import Refused
from stockade.cli.demo import shop_files
from stockade.cli.demo_stage import Stage
from stockade.cli.shop_lab import SHOP
from stockade.core.model.net import Protocol
from stockade.errors import StockadeError
from stockade.testing.lab import Lab, bridged
from stockade.testing.probe.values import Probe
from stockade.testing.steady import Count, Flow, Kind
from stockade.wire.api import (
    ApplyRequest,
    File,
    HistoryReply,
    LabelsRequest,
    StatusReply,
    VersionReply,
    WorkloadReply,
    WorkloadsReply,
)

TEMPORARY = "extra"
GROUND = replace(SHOP, nodes=(*SHOP.nodes, bridged(TEMPORARY, "ops", app="extra")))

HELD = (
    Flow(Kind.HOLD, "web-1", "api-1", 8080),
    Flow(Kind.HOLD, "web-1", "api-1", 8080, 6),
    Flow(Kind.HOLD, "prometheus", "db-1", 9100),
    Flow(Kind.HOLD, "payments", "web-1", 80),
    Flow(Kind.STREAM, "web-1", "api-1", 53, pause=0.02),
    Flow(Kind.OPEN, "api-1", "db-1", 5432, pause=0.05),
)
DENIED = (
    Flow(Kind.TRY, "intruder", "db-1", 7001, pause=0.004),
    Flow(Kind.TRY, "intruder", "api-1", 7002, 6, pause=0.004),
    Flow(Kind.TRY, "web-1", "db-1", 7003, pause=0.004),
    Flow(Kind.TRY, "payments", "db-1", 7004, pause=0.004),
    Flow(Kind.TRY, "db-1", "intruder", 7005, 6, pause=0.004),
)

EXTRA_RULE = """
apiVersion: stockade.dev/v1
kind: Policy
metadata: {name: comes-and-goes}
spec:
  rules:
    - name: extra
      allow: {from: app = extra, to: app = shop and role = web, on: [tcp/%d]}
"""


async def told(on: Stage) -> None:
    """Tell of everybody and wait until all are known."""
    on.tell_all()
    await on.settled(0, sum(not node.outside for node in on.lab.topology.nodes) + 1)


async def apply(on: Stage, *more: File) -> int:
    """Apply the shop's policy and more; wait until it is in force."""
    request = ApplyRequest(files=(*shop_files(), *more), note="shop", yes=True)
    reply = await asyncio.to_thread(on.client.call, "apply", VersionReply, request)
    await on.settled(reply.version.number, 0)
    return reply.version.number


def passed(counts: tuple[Count, ...]) -> list[str]:
    """Return what arrived though policy denies it."""
    return [
        f"{each.flow.source} -> {each.flow.destination} {each.flow.port}: {len(each.arrived)} arrived, at {at:.3f}"
        for each in counts
        if each.flow.kind is Kind.TRY and (each.arrived or each.lost)
        for at in (each.arrived[0] if each.arrived else 0.0,)
    ]


def lost(counts: tuple[Count, ...]) -> list[str]:
    """Return what did not pass though policy allows it."""
    return [
        f"{each.flow.kind.value} {each.flow.source} -> {each.flow.destination} {each.flow.port}: {each.lost} lost, "
        f"{each.detail}, at {each.arrived}"
        for each in counts
        if each.flow.kind is not Kind.TRY and each.lost
    ]


async def end(*pids: int) -> None:
    """Kill processes, and wait until they are no more: until then they hold what they hold."""
    pinned = []
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            pinned.append(os.pidfd_open(pid))
            os.kill(pid, signal.SIGKILL)
    for descriptor in pinned:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        ended = await asyncio.to_thread(poll.poll, 5000)
        os.close(descriptor)
        assert ended


async def there(lab: Lab) -> bool:
    """Return whether our tables are in the host's kernel."""
    return (await lab.run(lab.host_name, ["nft", "list", "table", "inet", "stockade"])).status == 0


async def judging(lab: Lab) -> bool:
    """Return whether our hooks lead somewhere: tables are there a transaction before they judge."""
    done = await lab.run(lab.host_name, ["nft", "list", "chain", "inet", "stockade", "forwarding"])
    return done.status == 0 and "judge_c" in done.stdout


async def owned(lab: Lab) -> bool:
    """Return whether the kernel refuses root, who is not the helper, to change our table; nothing is changed."""
    done = await lab.run(lab.host_name, ["nft", "--check", "delete", "table", "inet", "stockade"])
    return "not permitted" in done.stderr


class Leak(NamedTuple):
    """A packet of a newborn that arrived though policy denies it."""

    what: str
    since: float
    until: float
    """Seconds of the monotonic clock: the newborn's life."""


class Operator:
    """Changes labels and policy and lets workloads be born, as fast as the server answers; remembers what it was told.

    What the server has acknowledged must be there for ever after, whoever is killed.
    """

    def __init__(self, on: Stage, dice: random.Random) -> None:
        self.on, self._dice = on, dice
        self.versions: dict[int, str] = {}
        self.labels = {""}
        """The label that was acknowledged last, and those asked for since, without an answer: one of them is set."""
        self.revision = 0
        self.leaked: list[Leak] = []
        self.births = 0
        self.labelled = 0
        self.turn = asyncio.Lock()
        """Held by whoever wants nothing changed for a while."""
        self.patient = False
        """Whether changes may be refused, because there is no room for them."""
        self._numbers = itertools.count(1)

    async def work(self) -> None:
        """Go on until cancelled."""
        while True:
            act = self._dice.choice((self._relabel, self._relabel, self._apply, self._bear))
            try:
                async with self.turn:
                    await act()
            except Refused:
                if not self.patient:
                    raise
                await asyncio.sleep(0.02)
            except StockadeError:  # nobody answers: somebody was killed
                await asyncio.sleep(0.02)

    async def _relabel(self) -> None:
        value = f"v{next(self._numbers)}"
        self.labels.add(value)
        request = LabelsRequest(labels={"app": "extra", "team": value})
        reply = await asyncio.to_thread(self.on.client.call, "set-labels", WorkloadReply, request, workload=TEMPORARY)
        self.labels, self.revision = {value}, max(self.revision, reply.revision)
        self.labelled += 1

    async def _apply(self) -> None:
        number = next(self._numbers)
        more = File("extra.yaml", EXTRA_RULE % (20_000 + number))
        request = ApplyRequest(files=(*shop_files(), more), note=f"note {number}", yes=True, wait=0)
        reply = await asyncio.to_thread(self.on.client.call, "apply", VersionReply, request)
        self.versions[reply.version.number] = request.note

    async def _bear(self) -> None:
        """Bear a workload that sends at once what is denied to it."""
        name, began = f"born-{next(self._numbers)}", time.monotonic()
        await self.on.lab.add(bridged(name, "shop", app="shop", env="prod", role="web"))
        try:
            self.births += 1
            early = [Probe(name, "db-1", Protocol.UDP, 7101), Probe(name, "intruder", Protocol.UDP, 7102, 6)]
            results = await self.on.lab.probe(early, patience=0.1)
            self.on.teller.tell(self.on.lab.sighting(name))
            results += await self.on.lab.probe(early, patience=0.1)
            self.leaked += [
                Leak(f"{each.probe.source} -> {each.probe.destination}", began, time.monotonic())
                for each in results
                if each.delivered
            ]
        finally:
            self.on.teller.gone(self.on.lab.sighting(name).id)
            await self.on.lab.remove(name)

    async def check(self) -> None:
        """Everything acknowledged is still there."""
        status = await asyncio.to_thread(self.on.client.call, "status", StatusReply)
        assert status.revision >= self.revision
        history = await asyncio.to_thread(self.on.client.call, "history", HistoryReply, limit=100_000)
        notes = {each.number: each.note for each in history.versions}
        missing = {number: note for number, note in self.versions.items() if notes.get(number) != note}
        assert not missing, missing
        assert sorted(notes) == list(range(len(notes))), "versions are numbered without a gap"
        known = await asyncio.to_thread(self.on.client.call, "workloads", WorkloadsReply)
        extra = next(each for each in known.workloads if each.name == TEMPORARY)
        team = next((label.value for label in extra.labels if label.key == "team"), "")
        assert team in self.labels, (team, self.labels)


def seed_of(shard: int) -> int:
    """Return a shard's seed: ``STOCKADE_SEED``, or a fixed one; a failed run says which."""
    wanted = os.environ.get("STOCKADE_SEED", "4100")
    chosen = time.time_ns() % 1_000_000 if wanted == "random" else int(wanted)
    return chosen + shard
