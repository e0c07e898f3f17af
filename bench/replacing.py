"""Policy is replaced, over and over, under traffic: nothing denied may pass, nothing allowed may be lost.

The real way: events are folded, compiled, handed to a real agent, reconciled with what the kernel holds and committed
by the real helper, in a lab of real namespaces. Three replacements in four are another policy, with other programs for
every end of the traffic; the fourth moves a workload, that talks meanwhile, to another identity by its labels.
"""

import asyncio
import contextlib
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from bench.figures import Figure, at_least, at_most, percentile
from bench.hosts import bring_about, host_kernel
from bench.shop import DENIED, GROUND, HELD, inventory, shop_policy
from stockade.adapters.nft import NftKernel
from stockade.agent.run import Agent
from stockade.agent.state import AssignmentFile
from stockade.agent.values import HostObserved
from stockade.controller.clock import SystemClock
from stockade.controller.compiling import Compiling
from stockade.core.compile.compiler import affected
from stockade.core.compile.nft.render import render
from stockade.core.compile.nft.ruleset import Ruleset
from stockade.core.fold import Folding
from stockade.core.model.event import Event, LabelsSet, PolicyActivated
from stockade.core.model.ids import HostId, Version
from stockade.core.model.intent import Intent
from stockade.core.model.snapshot import Snapshot
from stockade.core.reconcile import settled
from stockade.errors import StockadeError
from stockade.testing.lab import Lab, workload_id
from stockade.testing.steady import Count, Kind, Steady
from stockade.wire import AgentMessage, Assignment, Outcome

RELABELLED = ("web-1", "api-1", "db-1")
ASK_EVERY = 50
LINGER = 3.0
PATIENCE = 60.0


async def replacing(count: int) -> list[Figure]:
    """Replace policy so many times; return what came of it."""
    async with Lab(GROUND) as lab:
        with host_kernel(lab) as kernel:
            world = World(lab)
            async with handed_to_an_agent(lab, kernel) as line:
                await line.realise(world.intent)
                async with Steady(lab, (*HELD, *DENIED)) as steady:
                    await asyncio.sleep(LINGER / 3)
                    tally = Tally()
                    await steady.told()  # what came before the last of it had begun
                    for number in range(1, count + 1):
                        intent = world.change(number)
                        tally.took.append(await line.realise(intent))
                        if number % ASK_EVERY == 0:
                            tally.add(await steady.told())
                    await asyncio.sleep(LINGER)
                    tally.add(await steady.told())
                    await line.stop()
                    if not settled(render(world.intent), kernel.observe()):
                        raise StockadeError("the kernel does not hold what was compiled last")
                    bring_about(kernel, Ruleset())
                    await asyncio.sleep(LINGER / 3)
                    without = await steady.told()
    return list(_figures(tally, without, count))


def _figures(tally: "Tally", without: tuple[Count, ...], count: int) -> Iterator[Figure]:
    told = f"{count:,} replacements"
    yield at_most(f"{told}: denied packets passed", tally.passed, "packets", 0, f"{tally.tried:,} tried")
    yield at_most(f"{told}: allowed lost", tally.lost, "exchanges", 0, f"{tally.done:,} done")
    arrive = sum(bool(each.arrived) for each in without if each.flow.kind is Kind.TRY)
    name = "denied flows that arrive once policy is gone"
    yield at_least(name, arrive, "flows", len(DENIED), "the control: all would")
    took = [each * 1000 for each in tally.took]
    for share in (0.5, 0.99):
        yield Figure(f"one replacement, handed over to realised, p{share * 100:.0f}", percentile(took, share), "ms")


class Tally:
    """What came of the traffic, and how long replacements took (seconds)."""

    def __init__(self) -> None:
        self.took: list[float] = []
        self.passed = self.tried = self.lost = self.done = 0

    def add(self, counts: tuple[Count, ...]) -> None:
        """Add what was told since the last time; say at once what should not have been."""
        for each in counts:
            if each.flow.kind is Kind.TRY:
                self.tried += each.done
                self.passed += max(len(each.arrived), each.lost)
            else:
                self.done += each.done
                self.lost += each.lost


class World:
    """The shop's inventory and policy, folded and compiled step by step as a controller does."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._host = HostId(lab.host_name)
        self._folding = Folding(Snapshot())
        self._compile = Compiling(b"")
        self._version = 0
        for event in inventory(lab):
            self._folding.apply(event)
        self._folding.apply(self._activated(0))
        self.intent: Intent = self._compile(self._folding.snapshot, (), ())[self._host]

    def change(self, number: int) -> Intent:
        """Make the next change; return what the host shall enforce after it."""
        event = self._relabelled(number // 4) if number % 4 == 0 else self._activated(number)
        before = self._folding.snapshot
        workloads, hosts = affected(event, before)
        self._folding.apply(event)
        self.intent = self._compile(self._folding.snapshot, workloads, hosts)[self._host]
        return self.intent

    def _activated(self, number: int) -> Event:
        self._version += 1
        return PolicyActivated(Version(self._version), shop_policy(number))

    def _relabelled(self, number: int) -> Event:
        name = RELABELLED[number % len(RELABELLED)]
        team = "odd" if number // len(RELABELLED) % 2 else "even"
        return LabelsSet(workload_id(self._lab.topology, name), (("team", team),), "bench")


class Line:
    """A controller's end of the line to an agent that runs here: hands over one intent after the other."""

    def __init__(self) -> None:
        self._handing: asyncio.Queue[Assignment] = asyncio.Queue()
        self._outcome: asyncio.Future[Outcome] | None = None
        self._agent: asyncio.Task[None] | None = None

    def attach(self, agent: Agent) -> None:
        """Let the agent run."""
        self._agent = asyncio.create_task(agent.run())

    async def realise(self, intent: Intent) -> float:
        """Have an intent enforced; return the seconds until the agent said so."""
        self._outcome = asyncio.get_running_loop().create_future()
        began = time.perf_counter()
        self._handing.put_nowait(Assignment(intent))
        outcome = await asyncio.wait_for(self._outcome, PATIENCE)
        if outcome.error:
            raise StockadeError(f"a replacement was refused: {outcome.error}")
        return time.perf_counter() - began

    async def stop(self) -> None:
        """End the agent; what is enforced stays."""
        if self._agent is not None:
            self._agent.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._agent
            self._agent = None

    # stockade.seams.link.ControllerLink

    async def generation(self) -> int:
        """Nothing was ever reported."""
        return 0

    async def say(self, message: AgentMessage) -> int:
        """Take an outcome."""
        if isinstance(message, Outcome) and self._outcome is not None and not self._outcome.done():
            self._outcome.set_result(message)
        return 0

    async def assignments(self, since: str) -> AsyncIterator[Assignment]:  # noqa: ARG002 - the seam's
        """Yield what is handed over."""
        while True:
            yield await self._handing.get()


@contextlib.asynccontextmanager
async def handed_to_an_agent(lab: Lab, kernel: NftKernel) -> AsyncIterator[Line]:
    """Run a real agent on a lab's host, with nothing to discover, at the other end of a line."""
    line = Line()
    with tempfile.TemporaryDirectory(prefix="stockade-bench-") as folder:
        agent = Agent(
            HostId(lab.host_name),
            runtimes=(),
            looks=_never,
            kernel=kernel,
            link=line,
            state=AssignmentFile(Path(folder)),
            clock=SystemClock(),
            changes=kernel.ruleset_changes,
            holder=kernel.holder,
        )
        line.attach(agent)
        try:
            yield line
        finally:
            await line.stop()


async def _never() -> AsyncIterator[HostObserved]:
    await asyncio.Event().wait()
    return
    yield
