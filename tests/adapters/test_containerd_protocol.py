"""The adapter against a containerd that misbehaves: every fault is told as ``Lost`` with its reason, and healed."""

import asyncio
import contextlib
import os
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from stockade.adapters.containerd import ContainerdRuntime, ContainerdSettings
from stockade.adapters.containerd.wire import CONTAINERS, EVENTS, NAMESPACES, TASKS, Key, Status, Task
from stockade.core.model.ids import HostId
from stockade.core.model.inventory import Attachment, Endpoint, WorkloadKind, WorkloadState
from stockade.seams.places import Place
from stockade.seams.runtime import Gone, Listed, Lost, RuntimeEvent, Seen
from stockade.testing.fake_containerd import FakeContainer, FakeContainerd

pytestmark = pytest.mark.long

QUICK = ContainerdSettings(
    connect=5, answer=2, heartbeat=0.1, settle=0.2, resync=0.5, patience=0.05, first_retry=0.01, last_retry=0.05
)
NOW = 1_700_000_000.0
PLACE = Place("netns:7", (Endpoint(Attachment.BRIDGED, ("10.0.0.7",), "veth1", "cni0", "02:42:ac:1d:09:02"),))
WEB = FakeContainer(Key("default", "web"), "localhost/web:1", {"tier": "front", "a": "b"}, NOW + 0.25)
MINE = os.getpid()
CREATED, RUNNING, STOPPED = WorkloadState.CREATED, WorkloadState.RUNNING, WorkloadState.STOPPED


class StillClock:
    def now(self) -> float:
        return NOW

    def monotonic(self) -> float:
        return 0.0


@pytest.fixture
def path() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="stk") as folder:
        yield Path(folder) / "containerd.sock"


Next = Callable[[], "asyncio.Future[RuntimeEvent]"]


@contextlib.asynccontextmanager
async def told_by(path: Path, **more: object) -> AsyncIterator[Next]:
    """Yield ``next``: the runtime's next event, or a failure when none comes. No process is on the host's network."""
    words = {"settings": QUICK, "places": lambda _: PLACE, "jitter": lambda: 0.5, "host_network": "/nowhere", **more}
    runtime = ContainerdRuntime(HostId("h"), socket=str(path), clock=StillClock(), **words)
    events = runtime.events()

    async def following() -> RuntimeEvent:
        async with asyncio.timeout(10):
            return await anext(events)

    try:
        yield following
    finally:
        await events.aclose()


def run(test) -> None:
    asyncio.run(test())


def names(listed: RuntimeEvent) -> list[str]:
    assert isinstance(listed, Listed), listed
    return sorted(seen.sighting.name for seen in listed.seen)


async def until(told: Next, wanted: Callable[[RuntimeEvent], bool]) -> RuntimeEvent:
    while not wanted(event := await told()):
        pass
    return event


# The way it should go


def test_what_there_is_is_listed_whole(path):
    async def test() -> None:
        async with FakeContainerd(path) as containerd:
            containerd.create(replace(WEB, spec=b"x" * (1 << 20)))
            containerd.create(replace(WEB, key=Key("moby", "web")))
            containerd.run(WEB.key, MINE)
            async with told_by(path) as told:
                listed = await told()
                assert names(listed) == ["web", "web"]
                web, idle = listed.seen
                assert web.sighting.id == "containerd:h:default/web"
                assert web.sighting.state is RUNNING
                assert web.sighting.created == NOW + 0.25
                assert web.sighting.endpoints == PLACE.endpoints
                assert web.sighting.facts.image == "localhost/web:1"
                assert web.sighting.facts.labels == (("a", "b"), ("tier", "front"))
                assert web.marks == ("container:web", "netns:7")
                assert idle.sighting.id == "containerd:h:moby/web"
                assert idle.sighting.facts.namespace == "moby"
                assert idle.sighting.state is CREATED
                assert idle.marks == ("container:web",)

    run(test)


def test_more_than_any_window_holds(path):
    async def test() -> None:
        async with FakeContainerd(path) as containerd:
            for number in range(600):
                containerd.create(replace(WEB, key=Key("default", f"c{number:04}"), spec=b"x" * 16384))
            settings = replace(QUICK, answer=20, heartbeat=20, settle=20)
            async with told_by(path, settings=settings) as told:
                assert len(names(await told())) == 600

    run(test)


def test_a_life(path):
    async def test() -> None:
        async with FakeContainerd(path) as containerd, told_by(path) as told:
            assert names(await told()) == []
            containerd.create(WEB)
            first = await told()
            assert isinstance(first, Seen)
            assert first.sighting.state is CREATED
            assert first.sighting.facts.labels
            containerd.run(WEB.key, MINE)
            await until(told, lambda event: isinstance(event, Seen) and event.sighting.state is RUNNING)
            containerd.exit(WEB.key, process="exec-1")
            containerd.exit(WEB.key)
            ended = await until(told, lambda event: isinstance(event, Seen) and event.sighting.state is STOPPED)
            assert ended.sighting.endpoints == ()
            assert ended.marks == ("container:web",)
            containerd.delete(WEB.key)
            assert isinstance(await told(), Gone)

    run(test)


def test_pods_of_either_containerd(path):
    sandbox = FakeContainer(
        Key("k8s.io", "box"),
        labels={
            "io.cri-containerd.kind": "sandbox",
            "io.kubernetes.pod.name": "shop",
            "io.kubernetes.pod.namespace": "p",
        },
        created=NOW,
    )
    newer = FakeContainer(Key("k8s.io", "new"), created=NOW - 5, sandbox="box")
    older = FakeContainer(Key("k8s.io", "old"), created=NOW - 5, extension=b'{"Metadata": {"SandboxID": "box"}}')
    broken = FakeContainer(Key("k8s.io", "odd"), created=NOW - 5, extension=b"{")

    async def test() -> None:
        async with FakeContainerd(path) as containerd:
            for each in (sandbox, newer, older, broken):
                containerd.create(each)
            containerd.run(sandbox.key, MINE)
            async with told_by(path) as told:
                found = {seen.sighting.id.rpartition("/")[2]: seen.sighting for seen in (await told()).seen}
                assert (found["box"].kind, found["box"].name, found["box"].owner) == (WorkloadKind.POD, "shop", None)
                assert found["box"].facts.namespace == "p"
                assert found["box"].endpoints == PLACE.endpoints
                assert found["new"].owner == found["old"].owner == found["box"].id
                assert found["odd"].owner is None

    run(test)


# What goes wrong


def test_nobody_is_there_and_then_somebody_is(path):
    async def test() -> None:
        async with told_by(path) as told:
            assert await told() == Lost(f"no containerd listens at {path}")
            async with FakeContainerd(path):
                assert names(await told()) == []
            assert isinstance(await told(), Lost)

    run(test)


@pytest.mark.parametrize("says", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\0" * 9])
def test_what_speaks_no_grpc(path, says):
    async def hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(says)
        await writer.drain()
        writer.close()

    async def test() -> None:
        server = await asyncio.start_unix_server(hang_up, str(path))
        async with server, told_by(path) as told:
            event = await told()
            assert isinstance(event, Lost)
            assert event.reason.startswith("containerd is gone: ")

    run(test)


@pytest.mark.parametrize(
    ("method", "raw", "reason"),
    [
        (f"{NAMESPACES}/List", b"\0\0\0\0\1\x0a", "containerd's answer is not what its API says"),
        (f"{NAMESPACES}/List", b"\0\xff\xff\xff\xff", "a message that is too large, or compressed"),
        (f"{NAMESPACES}/List", b"\1\0\0\0\0", "a message that is too large, or compressed"),
        (f"{NAMESPACES}/List", b"", "was answered by 0 messages"),
        (f"{CONTAINERS}/ListStream", b"\0\0\0\0\2\x0a\x7f", "containerd's answer is not what its API says"),
    ],
)
def test_an_answer_that_is_none_is_told_and_healed(path, method, raw, reason):
    async def test() -> None:
        async with FakeContainerd(path) as containerd:
            containerd.create(WEB)
            containerd.raw[method] = raw
            async with told_by(path) as told:
                event = await told()
                assert isinstance(event, Lost)
                assert reason in event.reason
                containerd.raw.clear()
                assert names(await told()) == ["web"]

    run(test)


def test_one_that_hangs(path):
    async def test() -> None:
        async with FakeContainerd(path) as containerd:
            containerd.create(WEB)
            async with told_by(path) as told:
                assert names(await told()) == ["web"]
                containerd.hangs = True
                assert await told() == Lost("containerd did not answer within 2 s")
                containerd.hangs = False
                assert names(await told()) == ["web"]

    run(test)


@pytest.mark.parametrize("fault", ["go_away", "break_off", "cut"])
def test_a_connection_that_ends_is_told_once_and_made_anew(path, fault):
    async def test() -> None:
        async with FakeContainerd(path) as containerd:
            containerd.create(WEB)
            async with told_by(path) as told:
                assert names(await told()) == ["web"]
                if fault == "cut":
                    containerd.close()
                    await containerd.open()
                elif fault == "go_away":
                    containerd.go_away()
                else:
                    containerd.break_off(f"{EVENTS}/Subscribe")
                containerd.containers[Key("later", "x")] = replace(WEB, key=Key("later", "x"))
                assert isinstance(await told(), Lost)
                listed = await until(told, lambda event: isinstance(event, Listed))
                assert names(listed) == ["web", "x"]

    run(test)


def test_a_shim_that_hangs_holds_up_nobody_and_changes_nothing(path):
    other = replace(WEB, key=Key("default", "other"))

    async def test() -> None:
        async with FakeContainerd(path) as containerd:
            for each in (WEB, other):
                containerd.create(each)
                containerd.run(each.key, MINE)
            containerd.silent.add(WEB.key)
            async with told_by(path) as told:
                found = {seen.sighting.name: seen.sighting for seen in (await told()).seen}
                assert found["other"].state is RUNNING
                assert found["web"].state is CREATED, "nothing is known of it"
                containerd.silent.clear()
                event = await until(told, lambda event: isinstance(event, Seen) and event.sighting.name == "web")
                assert event.sighting.state is RUNNING
                containerd.silent.add(WEB.key)
                containerd.go_away()
                listed = await until(told, lambda event: isinstance(event, Listed))
                assert [seen.sighting.state for seen in listed.seen] == [RUNNING, RUNNING], "it is what it was"

    run(test)


def ended() -> int:
    """The pid of a process that is no more."""
    child = subprocess.Popen(["true"])
    child.wait()
    return child.pid


@pytest.mark.parametrize("by_now", ["ended", "another", "none"])
def test_a_pid_is_not_taken_on_trust(path, by_now):
    """Between the answer and the look the process has ended, and its number may be anybody's: here, ours."""
    looked: list[str] = []

    def places(namespace: str) -> Place:
        looked.append(namespace)
        return PLACE

    async def test() -> None:
        async with FakeContainerd(path) as containerd:
            containerd.create(WEB)
            containerd.run(WEB.key, MINE)
            asked = 0

            def meanwhile() -> None:
                nonlocal asked
                asked += 1
                if asked == 2:
                    gone = {"ended": Task(MINE, Status.STOPPED), "another": Task(ended(), Status.RUNNING)}
                    containerd.tasks.pop(WEB.key)
                    if by_now in gone:
                        containerd.tasks[WEB.key] = gone[by_now]

            containerd.before[f"{TASKS}/Get"] = meanwhile
            async with told_by(path, places=places) as told:
                (web,) = (await told()).seen
                assert looked, "it was there to be looked at"
                assert web.marks == ("container:web",)
                assert web.sighting.endpoints == ()
                assert web.sighting.state is {"ended": STOPPED, "another": RUNNING, "none": CREATED}[by_now]

    run(test)


def test_a_place_that_comes_late(path):
    found = [Place("netns:7"), Place("netns:7", (replace(PLACE.endpoints[0], addresses=()),)), PLACE]

    def places(_: str) -> Place:
        return found.pop(0) if len(found) > 1 else found[0]

    async def test() -> None:
        async with FakeContainerd(path) as containerd, told_by(path, places=places) as told:
            assert names(await told()) == []
            containerd.create(WEB)
            containerd.run(WEB.key, MINE)
            event = await until(told, lambda event: event.sighting.endpoints == PLACE.endpoints)
            assert event.marks == ("container:web", "netns:7")

    run(test)


def test_a_place_that_cannot_be_looked_into_now(path):
    failures = [OSError("links change faster than they can be listed")] * 3

    def places(_: str) -> Place:
        if failures:
            raise failures.pop()
        return PLACE

    async def test() -> None:
        async with FakeContainerd(path) as containerd:
            containerd.create(WEB)
            containerd.run(WEB.key, MINE)
            async with told_by(path, places=places) as told:
                (web,) = (await told()).seen
                assert web.sighting.state is RUNNING
                assert web.sighting.endpoints == ()
                assert (await told()).sighting.endpoints == PLACE.endpoints

    run(test)


def test_what_was_missed_is_made_up_for(path):
    async def test() -> None:
        async with FakeContainerd(path) as containerd:
            containerd.create(WEB)
            async with told_by(path) as told:
                assert names(await told()) == ["web"]
                containerd.containers[Key("new", "silent")] = replace(WEB, key=Key("new", "silent"))
                containerd.tasks[WEB.key] = Task(MINE, Status.PAUSED)
                seen = {event.sighting.name: event.sighting for event in (await told(), await told())}
                assert set(seen) == {"web", "silent"}
                assert seen["web"].state is RUNNING
                containerd.containers.pop(WEB.key)
                assert isinstance(await told(), Gone)

    run(test)
