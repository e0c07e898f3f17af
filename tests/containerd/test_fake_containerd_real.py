"""The fake is honest: asked the same, it answers as the real ones do."""

import asyncio
import tempfile
import time
from pathlib import Path

import pytest

from stockade.adapters.containerd import wire
from stockade.adapters.containerd.grpc import CallFailed, Channel
from stockade.adapters.containerd.protobuf import encode
from stockade.adapters.containerd.session import FILTERS
from stockade.adapters.containerd.wire import CONTAINERS, EVENTS, NAMESPACES, TASKS, VERSION, Key
from stockade.testing.fake_containerd import FakeContainer, FakeContainerd

pytestmark = pytest.mark.real

WITHIN = {"containerd-namespace": "default"}
QUESTIONS = (
    (f"{VERSION}/Version", {}, {}),
    (f"{NAMESPACES}/List", {}, {}),
    (f"{CONTAINERS}/Get", {1: "idle"}, WITHIN),
    (f"{CONTAINERS}/Get", {1: "nobody"}, WITHIN),
    (f"{CONTAINERS}/Get", {1: "idle"}, {}),
    (f"{CONTAINERS}/Get", {1: "idle"}, {"containerd-namespace": "elsewhere"}),
    (f"{CONTAINERS}/ListStream", {}, WITHIN),
    (f"{CONTAINERS}/ListStream", {}, {"containerd-namespace": "elsewhere"}),
    (f"{TASKS}/Get", {1: "idle"}, WITHIN),
    (f"{TASKS}/Get", {1: "nobody"}, WITHIN),
    (f"{TASKS}/Get", {1: "idle"}, {}),
    (f"{TASKS}/List", {}, WITHIN),
    (f"{CONTAINERS}/NoSuch", {}, WITHIN),
    ("containerd.services.nothing.v1.Nothing/Get", {}, WITHIN),
)


async def outcome(channel: Channel, method: str, fields, headers) -> str:
    """A code, or how many messages came in answer."""
    try:
        async with channel.stream(method, encode(fields), headers) as answers:
            return f"{len([each async for each in answers])} messages"
    except CallFailed as problem:
        return f"code {problem.code}"


async def outcomes(path: Path) -> list[str]:
    channel = await Channel.open(str(path))
    try:
        return [await outcome(channel, *question) for question in QUESTIONS]
    finally:
        channel.close()


def test_the_same_questions_have_the_same_answers(containerd):
    containerd.create("idle", "--label", "a=b")

    async def test() -> None:
        with tempfile.TemporaryDirectory(prefix="stk") as folder:
            async with FakeContainerd(Path(folder) / "fake.sock") as fake:
                fake.create(FakeContainer(Key("default", "idle"), labels={"a": "b"}))
                assert await outcomes(fake.path) == await outcomes(containerd.socket)

    asyncio.run(test())


LIFE = 6
"""Events of a short one: created, a task made and started, an exec's end, its own end, removed."""


async def life_of(path: Path, live) -> list[tuple[str, str, bool]]:
    """What is told of a life, sorted: a shim's word may come after containerd's own."""
    channel = await Channel.open(str(path))
    found = []
    async with channel.stream(f"{EVENTS}/Subscribe", encode({1: list(FILTERS)})) as stream:
        await channel.call(f"{VERSION}/Version", b"")
        await asyncio.to_thread(live)
        while len(found) < LIFE:
            async with asyncio.timeout(20):
                event = wire.happened(await anext(stream))
            if event.topic != "/tasks/delete":  # the fake forgets a task with its container
                found.append((event.topic, event.key.id, bool(event.process)))
    channel.close()
    return sorted(found)


def test_the_same_life_is_told_by_the_same_events(containerd):
    def really() -> None:
        containerd.run("web")
        containerd.exec("web", "true")
        containerd.ctr("tasks", "kill", "--signal", "SIGKILL", "web")
        while "STOPPED" not in containerd.ctr("tasks", "list"):
            time.sleep(0.05)
        containerd.remove("web")

    async def test() -> None:
        loop = asyncio.get_running_loop()
        with tempfile.TemporaryDirectory(prefix="stk") as folder:
            async with FakeContainerd(Path(folder) / "fake.sock") as fake:

                def live() -> None:
                    key = Key("default", "web")
                    steps = (
                        lambda: fake.create(FakeContainer(key)),
                        lambda: fake.run(key, 1),
                        lambda: fake.exit(key, process="exec-1"),
                        lambda: fake.exit(key),
                        lambda: fake.delete(key),
                    )
                    for step in steps:
                        loop.call_soon_threadsafe(step)

                assert await life_of(fake.path, live) == await life_of(containerd.socket, really)

    asyncio.run(test())
