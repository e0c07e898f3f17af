"""An agent begins with what it kept, unless the kernel holds something that came into force later, or says nothing."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from stockade.agent import run
from stockade.agent.restoring import restore
from stockade.agent.run import Agent
from stockade.agent.state import AssignmentFile
from stockade.agent.values import HostObserved
from stockade.controller.clock import SystemClock
from stockade.core.compile.compiler import compile_snapshot
from stockade.core.compile.nft.render import render, superseded
from stockade.core.compile.nft.ruleset import Ruleset
from stockade.core.fold import fold
from stockade.core.model.ids import Revision
from stockade.core.model.intent import Intent
from stockade.core.reconcile import settled, steps, text
from stockade.seams.kernel import KernelRefused
from stockade.testing.inventories import HOST_A
from stockade.testing.kernel import FakeKernel
from stockade.testing.worlds import world_events
from stockade.wire import AgentMessage, Assignment


def intent(seed: int) -> Intent:
    return compile_snapshot(fold(world_events(seed)))[HOST_A]


OLDER, LATER = intent(3), msgspec.structs.replace(intent(4), revision=Revision(99))


class Line:
    """A line to a controller that says what it wants once it is let. ``asked``: since when it was asked."""

    def __init__(self, wanted: Intent | None = None) -> None:
        self.wanted = wanted
        self.asked: list[str] = []

    async def generation(self) -> int:
        """Nothing was ever reported."""
        return 0

    async def say(self, _message: AgentMessage) -> int:
        """Take everything."""
        return 0

    async def assignments(self, since: str) -> AsyncIterator[Assignment]:
        """Tell of what is wanted, where it is another than is known."""
        self.asked.append(since)
        if self.wanted is not None and self.wanted.fingerprint != since:
            yield Assignment(self.wanted)
        await asyncio.Event().wait()


class Mute(FakeKernel):
    """A kernel that cannot be asked for a while."""

    def __init__(self) -> None:
        super().__init__()
        self.mute = True
        self.asked = 0

    def observe(self) -> Ruleset:
        """Return our tables, once it can."""
        self.asked += 1
        if self.mute:
            raise KernelRefused("not now")
        return super().observe()


async def nothing() -> AsyncIterator[HostObserved]:
    await asyncio.Event().wait()
    yield  # type: ignore[misc]


@asynccontextmanager
async def running(folder: Path, kernel: FakeKernel, link: Line) -> AsyncIterator[Agent]:
    state = AssignmentFile(folder)
    state.write(Assignment(OLDER))
    agent = Agent(HOST_A, runtimes=(), looks=nothing, kernel=kernel, link=link, state=state, clock=SystemClock())
    task = asyncio.create_task(agent.run())
    try:
        yield agent
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not holds():
            await asyncio.sleep(0.005)


def test_what_was_kept_is_brought_into_force_where_there_is_nothing(tmp_path: Path) -> None:
    async def test() -> None:
        kernel, link = FakeKernel(), Line()
        async with running(tmp_path, kernel, link) as agent:
            await until(lambda: agent.machine.realised == OLDER)
            await until(lambda: bool(link.asked))
        assert settled(render(OLDER), kernel.observe())
        assert link.asked == [OLDER.fingerprint]

    asyncio.run(test())


def test_what_came_into_force_later_stays_until_the_controller_speaks(tmp_path: Path) -> None:
    async def test() -> None:
        kernel, link = FakeKernel(), Line()
        restore(kernel, LATER)
        written = len(kernel.batches)
        async with running(tmp_path, kernel, link) as agent:
            await until(lambda: bool(link.asked))
            await asyncio.sleep(0.1)
            assert agent.machine.realised is None
        assert link.asked == [""], "it knows of nothing that the controller need not tell again"
        assert len(kernel.batches) == written

    asyncio.run(test())


@pytest.mark.parametrize("wanted", [OLDER, LATER], ids=["the older one", "the later one"])
def test_then_it_is_as_the_controller_says(tmp_path: Path, wanted: Intent) -> None:
    async def test() -> None:
        kernel = FakeKernel()
        restore(kernel, LATER)
        async with running(tmp_path, kernel, Line(wanted)) as agent:
            await until(lambda: agent.machine.realised == wanted)
        assert settled(render(wanted), kernel.observe())
        assert AssignmentFile(tmp_path).read() == Assignment(wanted)

    asyncio.run(test())


def test_a_kernel_that_says_nothing_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "AGAIN", 0.01)
    monkeypatch.setattr(run, "STARTING", 0.05)

    async def test() -> None:
        kernel, link = Mute(), Line()
        async with running(tmp_path, kernel, link) as agent:
            await until(lambda: kernel.asked > 2 and bool(link.asked))
            assert agent.machine.realised is None
            kernel.mute = False
            await until(lambda: agent.machine.realised == OLDER)

    asyncio.run(test())


def test_tables_tell_whose_they_are_once_they_are_in_force() -> None:
    kernel = FakeKernel()
    made = [text(step) for step in steps(render(LATER), kernel.observe())]
    for batch in made[:-1]:
        kernel.commit(batch)
    assert not superseded(OLDER, kernel.observe()), "nothing is in force yet"
    kernel.commit(made[-1])
    assert superseded(OLDER, kernel.observe())
    assert not superseded(LATER, kernel.observe())
    kernel.commit("flush set inet stockade intent")
    assert superseded(LATER, kernel.observe()), "somebody took the name away"
    assert not superseded(OLDER, Ruleset())
    kernel.commit("delete set inet stockade intent")
    assert not superseded(OLDER, kernel.observe()), "a release before this one did not say, and wrote first"
