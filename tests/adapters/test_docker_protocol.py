"""The adapter against an engine that misbehaves: every fault is told as ``Lost`` with its reason, and healed."""

import asyncio
import contextlib
import json
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from stockade.adapters.docker import DockerRuntime, EngineSettings, engine_socket
from stockade.core.model.ids import HostId, WorkloadId
from stockade.core.model.inventory import Attachment, Endpoint, Sighting, WorkloadKind, WorkloadState
from stockade.errors import StockadeError
from stockade.seams.following import Outbox
from stockade.seams.places import Place
from stockade.seams.runtime import Gone, Listed, Lost, RuntimeEvent, Seen
from stockade.testing.fake_docker import FakeDocker

CAPTURES = Path(__file__).parent / "captures" / "docker"
QUICK = EngineSettings(connect=1, answer=0.3, heartbeat=0.1, patience=0.05, first_retry=0.01, last_retry=0.05)
NOW = 1_900_000_000.0
WEBS_PLACE = Place("netns:7", (Endpoint(Attachment.BRIDGED, port="veth1", mac="02:42:ac:1d:09:02"),))


class StillClock:
    def now(self) -> float:
        return NOW

    def monotonic(self) -> float:
        return 0.0


def load(name: str):
    return json.loads((CAPTURES / f"{name}.json").read_text())


def listing_of(name: str):
    return next(each for each in load("containers") if f"/{name}" in each["Names"])


def hold(docker: FakeDocker, *names: str) -> list[str]:
    for name in names:
        docker.hold(listing_of(name), load(f"container-{name}"))
    return [listing_of(name)["Id"] for name in names]


def message(action: str, container: str, at: float = NOW + 1, kind: str = "container", **attributes: str):
    return {
        "Type": kind,
        "Action": action,
        "Actor": {"ID": container, "Attributes": attributes},
        "timeNano": int(at * 1e9),
    }


@pytest.fixture
def path() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="stk") as folder:
        yield Path(folder) / "docker.sock"


@contextlib.asynccontextmanager
async def told_by(path: Path, **more: object) -> AsyncIterator[Callable[[], asyncio.Future[RuntimeEvent]]]:
    """Yield ``next``: the runtime's next event, or a failure when none comes."""
    words = {"settings": QUICK, "places": lambda _: WEBS_PLACE, "jitter": lambda: 0.5, **more}
    runtime = DockerRuntime(HostId("h"), socket=str(path), clock=StillClock(), running_proxies=dict, **words)
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


async def heard(docker: FakeDocker, count: int = 1) -> None:
    for _ in range(500):
        if docker.listeners == count:
            return
        await asyncio.sleep(0.01)
    pytest.fail("nobody listens")


# The way it should go


def test_it_asks_in_the_version_that_both_speak(path):
    async def test() -> None:
        for offered, spoken in (("1.41", "1.41"), ("1.48", "1.48"), ("1.99", "1.52")):
            async with FakeDocker(path, version=offered, networks=load("networks")) as docker, told_by(path) as told:
                first = await told()
                asked = {target.split("/")[1] for target in docker.asked} - {"_ping"}
                assert asked == {f"v{spoken}"}
                assert isinstance(first, Listed | Lost)

    run(test)


def test_list_then_create_die_destroy(path):
    async def test() -> None:
        async with FakeDocker(path, networks=load("networks")) as docker:
            (web, side) = hold(docker, "web", "side")
            async with told_by(path) as told:
                listed = await told()
                assert names(listed) == ["side", "web"]
                seen = {each.sighting.name: each for each in listed.seen}
                assert seen["side"].sighting.owner == f"docker:h:{web}"
                assert seen["side"].published == ()
                assert [place.port for place in seen["web"].sighting.endpoints] == ["", "veth1"]
                assert len(seen["web"].published) == 2
                assert seen["web"].marks == (f"container:{web}", "netns:7")
                assert seen["side"].marks == (f"container:{side}",), "the namespace is web's"

                docker.faults[f"/containers/{web}"] = _never
                docker.say(message("die", web))
                stopped = await told()
                assert (stopped.sighting.name, stopped.sighting.state) == ("web", WorkloadState.STOPPED)
                assert stopped.sighting.endpoints == ()
                docker.drop(side)
                docker.say(message("destroy", side))
                assert await told() == Gone(WorkloadId(f"docker:h:{side}"), NOW + 1)

                docker.say(message("create", "f" * 64, name="late", image="busybox", a="b"))
                late = await told()
                assert late.sighting.state is WorkloadState.CREATED
                assert late.sighting.facts.labels == (("a", "b"),)

    run(test)


async def _never(writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(3600)


def test_a_namespace_shared_by_name_or_with_somebody_who_is_gone(path):
    async def test() -> None:
        async with FakeDocker(path, networks=load("networks")) as docker:
            (web, side) = hold(docker, "web", "side")
            for described in (docker.containers[side], docker.listings[side]):
                described["HostConfig"]["NetworkMode"] = "container:web"
            async with told_by(path) as told:
                listed = await told()
                assert _owners(listed) == {"side": f"docker:h:{web}", "web": None}
                docker.drop(web)
                docker.hang_up()
                assert isinstance(await told(), Lost)
                assert _owners(await told()) == {"side": "docker:h:web"}

    run(test)


def _owners(listed: RuntimeEvent) -> dict[str, str | None]:
    assert isinstance(listed, Listed)
    return {each.sighting.name: each.sighting.owner for each in listed.seen}


def test_a_container_that_is_gone_before_it_is_asked_about(path):
    async def test() -> None:
        async with FakeDocker(path, networks=load("networks")) as docker:
            (web,) = hold(docker, "web")
            async with told_by(path) as told:
                assert names(await told()) == ["web"]
                docker.drop(web)
                docker.say(message("start", web))
                assert isinstance(await told(), Gone)
                docker.say(message("start", "e" * 64))
                docker.say(message("create", "f" * 64, name="late"))
                assert (await told()).sighting.name == "late"
                assert isinstance(await told(), Gone), "its inspection found nobody"

    run(test)


def test_what_vanishes_while_it_is_listed_is_not_listed(path):
    async def test() -> None:
        async with FakeDocker(path, networks=load("networks")) as docker:
            (_, side) = hold(docker, "web", "side")
            docker.containers.pop(side)
            async with told_by(path) as told:
                assert names(await told()) == ["web"]

    run(test)


def test_old_events_of_the_overlap_tell_nothing_old(path):
    async def test() -> None:
        async with FakeDocker(path, networks=load("networks")) as docker:
            (web,) = hold(docker, "web")
            async with told_by(path) as told:
                assert names(await told()) == ["web"]
                for action in ("create", "die", "destroy"):
                    docker.say(message(action, web, at=NOW - 1, name="old"))
                docker.say(message("create", "f" * 64, name="late"))
                assert (await told()).sighting.name == "late"

    run(test)


def test_a_container_that_is_locked_holds_up_nobody(path):
    """One that is being started does not answer; it is listed by what the listing says, and asked again."""

    async def test() -> None:
        async with FakeDocker(path, networks=load("networks")) as docker:
            (web, ended) = hold(docker, "web", "ended")
            docker.faults[f"/containers/{ended}"] = _never
            async with told_by(path) as told:
                assert names(await told()) == ["ended", "web"]
                docker.faults[f"/containers/{web}"] = _never
                docker.say(message("start", web))
                docker.say(message("create", "f" * 64, name="late"))
                assert (await told()).sighting.name == "late"
                docker.faults.clear()
                docker.containers[web]["Name"] = "/renamed"
                later = [await told(), await told()]
                assert {type(event) for event in later} == {Seen, Gone}, "late is nowhere to be found"
                assert [event.sighting.name for event in later if isinstance(event, Seen)] == ["renamed"]

    run(test)


# The ways it can go wrong


async def _garbage(writer: asyncio.StreamWriter) -> None:
    writer.write(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
    writer.close()


async def _half(writer: asyncio.StreamWriter) -> None:
    writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n[{"Id": "ab')
    writer.close()


async def _slam(writer: asyncio.StreamWriter) -> None:
    writer.close()


def _saying(status: int, body: bytes) -> Callable[[asyncio.StreamWriter], object]:
    async def say(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 %d Whatever\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body))

    return say


@pytest.mark.parametrize(
    ("where", "fault", "reason"),
    [
        ("/_ping", _garbage, "answered in no HTTP"),
        ("/_ping", _slam, "closed the connection"),
        ("/_ping", _never, "did not answer within 0.3 s"),
        ("/_ping", _saying(200, b"OK"), "speaks API 0.0; Stockade needs 1.41"),
        ("/events", _never, "did not answer within 0.3 s"),
        ("/events", _garbage, "answered in no HTTP"),
        ("/events", _saying(500, b'{"message": "out of cheese"}'), "refused /v1.41/events with 500: out of cheese"),
        ("/events", _saying(404, b'{"message": "page not found"}'), "page not found"),
        ("/networks", _half, "connection to Docker broke"),
        ("/networks", _saying(200, b'{"Id": 7}'), "not what its API says"),
        ("/networks", _saying(403, b"\xff\xfe<html>"), "refused /v1.41/networks with 403"),
        ("/containers/json", _saying(200, b"["), "not what its API says"),
        ("/containers/json", _slam, "closed the connection"),
        ("/containers/json", _never, "did not answer within 0.3 s"),
    ],
)
def test_it_is_lost_with_the_reason_then_heals(path, where, fault, reason):
    async def test() -> None:
        async with FakeDocker(path, networks=load("networks")) as docker:
            hold(docker, "web")
            docker.faults[where] = fault
            async with told_by(path) as told:
                lost = await told()
                assert isinstance(lost, Lost)
                assert reason in lost.reason
                docker.faults.clear()
                event = await told()
                while isinstance(event, Lost):
                    event = await told()
                assert names(event) == ["web"]

    run(test)


def test_too_old(path):
    async def test() -> None:
        async with FakeDocker(path, version="1.40"), told_by(path) as told:
            assert await told() == Lost("Docker speaks API 1.40; Stockade needs 1.41 (Docker 20.10)")

    run(test)


@pytest.mark.parametrize(
    ("bytes_said", "reason"),
    [
        (b"this is no JSON\n", "an event that is not what its API says"),
        (b'{"Type": 5}\n', "an event that is not what its API says"),
        (b"x" * 300_000, "larger than any"),
    ],
)
def test_a_stream_that_makes_no_sense(path, bytes_said, reason):
    async def test() -> None:
        settings = EngineSettings(answer=1, largest_event=200_000, first_retry=0.01)
        async with FakeDocker(path, networks=load("networks")) as docker, told_by(path, settings=settings) as told:
            assert names(await told()) == []
            docker.say(bytes_said)
            lost = await told()
            assert isinstance(lost, Lost)
            assert reason in lost.reason
            assert names(await told()) == []

    run(test)


def test_a_stream_that_ends_and_events_in_pieces(path):
    async def test() -> None:
        async with FakeDocker(path, networks=load("networks")) as docker, told_by(path) as told:
            assert names(await told()) == []
            line = json.dumps(message("create", "f" * 64, name="late")).encode() + b"\n\n"
            for index in range(0, len(line), 7):
                docker.say(line[index : index + 7])
            assert (await told()).sighting.name == "late"
            assert isinstance(await told(), Gone)
            docker.hang_up()
            assert isinstance(await told(), Lost)
            assert names(await told()) == []
            await heard(docker)

    run(test)


def test_a_silent_engine_is_noticed(path):
    async def test() -> None:
        async with FakeDocker(path, networks=load("networks")) as docker, told_by(path) as told:
            assert names(await told()) == []
            docker.faults["/_ping"] = _never
            lost = await told()
            assert isinstance(lost, Lost)
            assert "did not answer" in lost.reason
            docker.faults.clear()
            assert names(await told()) == []

    run(test)


def test_the_same_loss_is_told_once_and_tries_grow_apart(path):
    async def test() -> None:
        dice = []

        def jitter() -> float:
            dice.append(len(dice))
            return 1.0

        settings = EngineSettings(first_retry=0.01, last_retry=0.04)
        async with told_by(path, jitter=jitter, settings=settings) as told:
            assert await told() == Lost(f"no Docker engine listens at {path}")
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3):
                    await told()
        assert 5 < len(dice) < 30

    run(test)


def test_closing_leaves_no_task_and_no_connection(path):
    async def test() -> None:
        async with FakeDocker(path, networks=load("networks")) as docker:
            before = asyncio.all_tasks()
            async with told_by(path) as told:
                assert names(await told()) == []
                await heard(docker)
            await heard(docker, 0)
            serving = {task for task in asyncio.all_tasks() - before if "FakeDocker" not in repr(task)}
            assert serving == set()

    run(test)


# Where the engine is


def test_docker_host():
    assert engine_socket({}) == "/var/run/docker.sock"
    assert engine_socket({"DOCKER_HOST": "unix:///run/other.sock"}) == "/run/other.sock"


@pytest.mark.parametrize("address", ["tcp://10.0.0.1:2375", "ssh://host", "unix://", "nonsense"])
def test_docker_host_elsewhere_is_refused(address):
    with pytest.raises(StockadeError) as refused:
        engine_socket({"DOCKER_HOST": address})
    assert address in refused.value.message
    assert "unix:///var/run/docker.sock" in refused.value.remedy


# What nobody has taken yet


def sighted(name: str, state: WorkloadState = WorkloadState.RUNNING) -> Seen:
    return Seen(Sighting(WorkloadId(name), name, WorkloadKind.CONTAINER, state=state), 0)


def test_a_slow_taker_gets_what_is_true_now():
    async def test() -> None:
        box = Outbox()
        for _ in range(1000):
            box.put(sighted("a"))
            box.put(sighted("b"))
        box.put(sighted("a", WorkloadState.STOPPED))
        box.put(Gone(WorkloadId("b"), 1))
        assert [await box.take(), await box.take()] == [
            sighted("a", WorkloadState.STOPPED),
            Gone(WorkloadId("b"), 1),
        ]
        box.put(sighted("a"))
        box.put(Lost("x"))
        box.put(Listed(()))
        assert await box.take() == Listed(())
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await box.take()

    run(test)
