"""A daemon that dies, hangs, restarts; a stream that is cut; events that never come: lost, then listed whole."""

import asyncio
import itertools
import random
import tempfile
from pathlib import Path

import msgspec
import pytest

from stockade.adapters.docker import EngineSettings
from stockade.core.model.inventory import WorkloadState
from stockade.seams.runtime import Gone, Listed, Lost, Seen
from stockade.testing.engine import Engine

pytestmark = [pytest.mark.docker, pytest.mark.fault]


def kinds(told) -> list[type]:
    """What kinds of event were told, runs of the same squashed."""
    return [kind for kind, _ in itertools.groupby(map(type, told.told))]


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_containers_that_end_with_the_daemon(engine, follow, end):
    async def test() -> None:
        await asyncio.to_thread(engine.run, "web", "-p", "8080:80")
        await asyncio.to_thread(engine.run, "other")
        await asyncio.to_thread(engine.docker, "stop", "-t", "0", "other")
        async with follow(engine) as told:
            before = told["web"]
            await asyncio.to_thread(getattr(engine, end))
            await told.until(lambda told: told.lost)
            assert str(engine.socket) in told.lost or "Docker" in told.lost
            assert {"web", "other"} == set(told.named()), "what was told stays true until it lists again"
            count = len(told.told)
            await asyncio.sleep(1.5)
            assert len(told.told) <= count + 1, "the same loss is not told again and again"
            await asyncio.to_thread(engine.start)
            await told.until(lambda told: not told.lost)
            await told.until(lambda told: told["web"].state is WorkloadState.STOPPED)
            assert told["web"] == _without_place(before)
            await asyncio.to_thread(engine.docker, "start", "web")
            await told.until(lambda told: told["web"].endpoints and told["web"].endpoints[0].port)
            assert told["web"].id == before.id
            assert kinds(told)[:1] == [Listed]
            assert Lost in kinds(told)

    asyncio.run(test())


def _without_place(sighting):
    return msgspec.structs.replace(sighting, state=WorkloadState.STOPPED, endpoints=())


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_containers_that_outlive_the_daemon(restoring, follow, end):
    async def test() -> None:
        await asyncio.to_thread(restoring.run, "web", "-p", "8080:80")
        async with follow(restoring) as told:
            before = told.named()["web"]
            assert before.published
            await asyncio.to_thread(getattr(restoring, end))
            await told.until(lambda told: told.lost)
            await asyncio.to_thread(restoring.start)
            await told.until(lambda told: not told.lost)
            after = told.named()["web"]
            assert after.sighting == before.sighting
            await asyncio.to_thread(restoring.run, "late")
            await told.until(lambda told: told["late"].endpoints)
            await told.quiet()
            assert told["web"] == before.sighting

    asyncio.run(test())


def test_a_daemon_that_hangs(engine, follow):
    async def test() -> None:
        await asyncio.to_thread(engine.run, "web")
        async with follow(engine) as told:
            engine.freeze()
            try:
                await told.until(lambda told: told.lost, 20)
                assert "did not answer within 3 s" in told.lost
                assert told["web"].state is WorkloadState.RUNNING
            finally:
                engine.thaw()
            await told.until(lambda told: not told.lost)
            assert kinds(told) == [Listed, Lost, Listed]
            assert told["web"].endpoints

    asyncio.run(test())


def test_no_engine_yet(follow, engine):
    async def test() -> None:
        with tempfile.TemporaryDirectory(prefix="stk") as folder:
            path = Path(folder) / "docker.sock"
            async with follow(engine, socket=str(path)) as told:
                assert told.lost == f"no Docker engine listens at {path}"
                path.symlink_to(engine.socket)
                await told.until(lambda told: not told.lost)
                assert kinds(told) == [Lost, Listed]

    asyncio.run(test())


def test_nothing_is_lost_while_the_stream_is_cut(engine, follow, wire):
    async def test() -> None:
        await wire.join()
        for name in ("kept", "stopped", "removed", "recreated"):
            await asyncio.to_thread(engine.run, name)
        async with follow(engine, socket=wire.path) as told:
            before = {name: told[name] for name in told.named()}
            await wire.cut()
            await told.until(lambda told: told.lost)
            await asyncio.to_thread(engine.docker, "stop", "-t", "0", "stopped")
            await asyncio.to_thread(engine.remove, "removed", "recreated")
            await asyncio.to_thread(engine.run, "recreated", "-l", "new=yes")
            await asyncio.to_thread(engine.run, "born")
            await wire.join()
            await told.until(lambda told: not told.lost)
            assert set(told.named()) == {"kept", "stopped", "recreated", "born"}
            assert told["kept"] == before["kept"]
            assert told["stopped"].state is WorkloadState.STOPPED
            assert told["recreated"].id != before["recreated"].id
            assert told["recreated"].facts.labels == (("new", "yes"),)
            assert told["born"].endpoints
        await wire.cut()

    asyncio.run(test())


def test_nothing_is_lost_in_a_storm_of_cuts(engine, follow, wire):
    """Containers come and go while every connection is dropped at random; what is told last is what there is."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")  # noqa: T201 - replays the run
    dice = random.Random(seed)

    async def churn(index: int) -> None:
        for turn in range(3):
            name = f"c{index}-{turn}"
            await asyncio.to_thread(engine.run, name, command=("sleep", "100000"))
            if dice.random() < 0.6:
                await asyncio.to_thread(engine.docker, "kill", name)
            if dice.random() < 0.6:
                await asyncio.to_thread(engine.remove, name)

    async def storm(done: asyncio.Event) -> int:
        cuts = 0
        while not done.is_set() or cuts < 5:
            await asyncio.sleep(0.1 + dice.random())
            wire.drop()
            cuts += 1
        return cuts

    async def test() -> None:
        await wire.join()
        done = asyncio.Event()
        async with follow(engine, socket=wire.path) as told:
            cutting = asyncio.create_task(storm(done))
            await asyncio.gather(*(churn(index) for index in range(4)))
            done.set()
            cuts = await cutting
            await told.until(lambda told: told.lost, 5)
            await told.until(lambda told: not told.lost)
            wanted = await asyncio.to_thread(everything, engine)
            await told.until(lambda told: state_of(told) == wanted)
            await told.quiet()
            assert state_of(told) == wanted
            assert 1 < kinds(told).count(Listed) <= cuts + 1
        await wire.cut()

    asyncio.run(test())


def everything(engine: Engine) -> dict[str, tuple[bool, tuple[str, ...]]]:
    """Name → (runs, its IPv4 addresses), as the engine says."""
    names = engine.docker("ps", "-a", "--format", "{{.Names}}").split()
    described = {name: engine.inspect(name) for name in names}
    return {
        name: (
            each["State"]["Running"],
            tuple(one["IPAddress"] for one in each["NetworkSettings"]["Networks"].values() if one["IPAddress"]),
        )
        for name, each in described.items()
    }


def state_of(told) -> dict[str, tuple[bool, tuple[str, ...]]]:
    return {
        name: (
            seen.sighting.state is WorkloadState.RUNNING,
            tuple(a for place in seen.sighting.endpoints for a in place.addresses if "." in a),
        )
        for name, seen in told.named().items()
    }


def test_events_that_never_come_are_made_up_for(engine, follow, wire):
    async def test() -> None:
        await wire.join()
        await asyncio.to_thread(engine.run, "old")
        settings = EngineSettings(resync=1, heartbeat=5)
        async with follow(engine, socket=wire.path, settings=settings) as told:
            wire.muted = True
            await asyncio.to_thread(engine.run, "silent")
            await asyncio.to_thread(engine.remove, "old")
            await told.until(lambda told: told["silent"].endpoints and "old" not in told.named())
            assert kinds(told) == [Listed, Seen, Gone] or kinds(told) == [Listed, Gone, Seen]
            await told.quiet(2)
            assert len(told.told) == 3, "listing again tells nothing twice"
        await wire.cut()

    asyncio.run(test())
