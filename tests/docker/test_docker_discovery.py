"""What a real engine runs is what is told: compared with its own ``inspect`` and with the kernel's links."""

import asyncio
import json
from collections.abc import Callable, Coroutine
from itertools import groupby
from typing import Any

import pytest

from stockade.core.model.inventory import Attachment, Endpoint, WorkloadKind, WorkloadState
from stockade.seams.runtime import Gone, Listed, Seen
from stockade.testing.engine import Engine, EngineError, EngineOptions

pytestmark = pytest.mark.docker


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(test())


async def docker(engine: Engine, *words: str) -> str:
    return await asyncio.to_thread(engine.docker, *words)


async def start(engine: Engine, name: str, *words: str) -> str:
    return await asyncio.to_thread(engine.run, name, *words)


def truth(engine: Engine, name: str) -> tuple[Endpoint, ...]:
    """A container's endpoints by what the engine and the kernel say, read the slow way."""
    found = []
    described = engine.inspect(name)
    for network, place in described["NetworkSettings"]["Networks"].items():
        about = json.loads(engine.docker("network", "inspect", network))[0]
        options = about["Options"] or {}
        bridge = options.get("com.docker.network.bridge.name", "br-" + about["Id"][:12])
        within = json.loads(
            engine.on_host("nsenter", f"--net=/proc/{described['State']['Pid']}/ns/net", "ip", "-j", "a")
        )
        link = next(link for link in within if link["address"] == place["MacAddress"])
        outer = json.loads(engine.on_host("ip", "-j", "link"))
        port = next(each for each in outer if each["ifindex"] == link["link_index"])
        assert port["master"] == bridge
        addresses = sorted(one["local"] for one in link["addr_info"] if one["scope"] == "global")
        found.append(
            Endpoint(
                attachment=Attachment.BRIDGED,
                addresses=tuple(addresses),
                port=port["ifname"],
                bridge=bridge,
                mac=link["address"],
                realm=f"host-a/{bridge}",
            )
        )
    return tuple(sorted(found, key=lambda each: (each.realm, each.mac)))


def test_one_bridge_then_another(engine, follow):
    async def test() -> None:
        await start(engine, "before", "--label", "stockade.tier=old", "--label", "com.docker.compose.project=shop")
        async with follow(engine) as told:
            listed = told.told[0]
            assert isinstance(listed, Listed)
            assert [seen.sighting.name for seen in listed.seen] == ["before"]
            before = told["before"]
            assert before.state is WorkloadState.RUNNING
            assert before.kind is WorkloadKind.CONTAINER
            assert before.host == "host-a"
            assert before.id == f"docker:host-a:{engine.inspect('before')['Id']}"
            assert before.facts.runtime == "docker"
            assert before.facts.image == engine.image
            assert before.facts.labels == (("com.docker.compose.project", "shop"), ("stockade.tier", "old"))
            assert before.endpoints == truth(engine, "before")
            assert len(before.endpoints[0].addresses) == 2

            await docker(engine, "network", "create", "back")
            await start(engine, "web", "--network", "back")
            await told.until(lambda told: told["web"].state is WorkloadState.RUNNING)
            assert told["web"].endpoints == truth(engine, "web")
            assert told["web"].endpoints[0].bridge.startswith("br-")

            await docker(engine, "network", "connect", "bridge", "web")
            await told.until(
                lambda told: len(told["web"].endpoints) == 2 and all(e.port for e in told["web"].endpoints)
            )
            assert told["web"].endpoints == truth(engine, "web")
            await docker(engine, "network", "disconnect", "back", "web")
            await told.until(lambda told: len(told["web"].endpoints) == 1)
            assert told["web"].endpoints == truth(engine, "web")

    run(test)


def test_birth_is_told_before_the_link_is_up(engine, follow):
    async def test() -> None:
        async with follow(engine) as told:
            await start(engine, "web", "--label", "stockade.role=web")
            await told.until(lambda told: told["web"].state is WorkloadState.RUNNING)
            await told.quiet()
            first, last = told.about("web")
            assert isinstance(first, Seen)
            assert isinstance(last, Seen)
            assert first.sighting.state is WorkloadState.CREATED
            assert first.sighting.endpoints == ()
            assert first.sighting.facts == last.sighting.facts
            assert first.at < last.at
            assert abs((last.sighting.created or 0) - first.at) < 5
            assert last.sighting.endpoints == truth(engine, "web")

    run(test)


def test_created_but_never_started(engine, follow):
    async def test() -> None:
        async with follow(engine) as told:
            await docker(engine, "create", "--name", "idle", "--label", "a=b", engine.image, "true")
            await told.until(lambda told: told["idle"])
            await told.quiet()
            assert told["idle"].state is WorkloadState.CREATED
            assert len(told.about("idle")) == 1
            await docker(engine, "rm", "idle")
            await told.until(lambda told: "idle" not in told.named())
            assert isinstance(told.about("idle")[-1], Gone)

    run(test)


def test_stop_start_restart_rename_pause_and_remove(engine, follow):
    async def test() -> None:
        await start(engine, "filler")
        await start(engine, "web")
        async with follow(engine) as told:
            old = told["web"].endpoints
            await docker(engine, "stop", "web")
            await told.until(lambda told: told["web"].state is WorkloadState.STOPPED)
            assert told["web"].endpoints == ()
            await docker(engine, "rm", "-f", "filler")
            await told.until(lambda told: "filler" not in told.named())

            await docker(engine, "start", "web")
            await told.until(lambda told: told["web"].endpoints and told["web"].endpoints[0].port)
            second = truth(engine, "web")
            assert told["web"].endpoints == second != old

            await docker(engine, "restart", "-t", "0", "web")
            await told.quiet()
            await told.until(lambda told: told["web"].endpoints == truth(engine, "web"))
            seen = [event.sighting for event in told.about("web") if isinstance(event, Seen)]
            # What is overtaken before anybody takes it is not told, such as that it stopped for a moment.
            places = [place for place, _ in groupby(each.endpoints for each in seen if each.endpoints)]
            assert places[-2:] == [second, truth(engine, "web")]
            assert places.count(second) == 1, "where it no longer is it is not met again"

            await docker(engine, "rename", "web", "shop-web")
            await told.until(lambda told: told["shop-web"])
            assert "web" not in told.named()
            count = len(told.told)
            for words in (["pause", "shop-web"], ["unpause", "shop-web"], ["exec", "shop-web", "true"]):
                await docker(engine, *words)
            await told.quiet()
            assert len(told.told) == count, "what changes nothing is not told"
            assert told["shop-web"].state is WorkloadState.RUNNING

            await docker(engine, "rm", "-f", "shop-web")
            await told.until(lambda told: not told.now)
            assert isinstance(told.told[-1], Gone)

    run(test)


def test_labels_change_by_recreation(engine, follow):
    async def test() -> None:
        async with follow(engine) as told:
            await start(engine, "web", "--label", "com.docker.compose.service=old")
            await told.until(lambda told: told["web"].endpoints)
            first = told["web"]
            await docker(engine, "rm", "-f", "web")
            await start(
                engine, "web", "--label", "com.docker.compose.service=new", "--label", "name=x", "-l", "image=y"
            )
            await told.until(lambda told: told["web"].endpoints and told["web"].id != first.id)
            assert dict(told["web"].facts.labels) == {"com.docker.compose.service": "new", "name": "x", "image": "y"}
            assert told["web"].facts.image == engine.image
            assert len(told.now) == 1
            await told.quiet()
            kinds = [type(event) for event in told.told if not isinstance(event, Seen)]
            assert kinds == [Listed, Gone]

    run(test)


def test_networks_of_others_and_none(engine, follow):
    async def test() -> None:
        async with follow(engine) as told:
            await start(engine, "web")
            await start(engine, "side", "--network", "container:web")
            await start(engine, "onhost", "--network", "host")
            await start(engine, "alone", "--network", "none")
            await told.until(lambda told: len(told.now) == 4 and told["side"].owner and told["onhost"].owner)
            await told.until(lambda told: all(s.sighting.state is WorkloadState.RUNNING for s in told.now.values()))
            assert told["side"].owner == told["web"].id
            assert told["onhost"].owner == "host:host-a"
            assert told["alone"].owner is None
            assert [told[name].endpoints for name in ("side", "onhost", "alone")] == [(), (), ()]
            async with follow(engine) as again:
                assert {s.sighting for s in again.now.values()} == {s.sighting for s in told.now.values()}

    run(test)


def test_namespaces_shared_through_others(engine, follow):
    async def test() -> None:
        await start(engine, "web")
        await start(engine, "onhost", "--network", "host")
        await start(engine, "second", "--network", "container:web")
        async with follow(engine) as told:
            await start(engine, "third", "--network", "container:second")
            await start(engine, "hosted", "--network", "container:onhost")
            await told.until(lambda told: told["third"].state is told["hosted"].state is WorkloadState.RUNNING)
            assert told["second"].owner == told["third"].owner == told["web"].id
            assert told["hosted"].owner == "host:host-a"
            async with follow(engine) as again:
                assert {s.sighting for s in again.now.values()} == {s.sighting for s in told.now.values()}
            await docker(engine, "rm", "-f", "second")
            await told.until(lambda told: "second" not in told.named())
            await told.quiet()
            assert told["third"].owner == told["web"].id

    run(test)


def test_traffic_that_never_crosses_the_host(engine, follow):
    try:
        engine.docker("network", "create", "-d", "macvlan", "--subnet", "10.77.0.0/24", "-o", "parent=up0", "lan")
        engine.run("probe", "--network", "lan", "--rm", command=("true",))
    except EngineError as problem:
        engine.clear()
        pytest.skip(f"this kernel has no macvlan links: {problem}")

    async def test() -> None:
        async with follow(engine) as told:
            await start(engine, "far", "--network", "lan")
            await told.until(lambda told: told["far"].state is WorkloadState.RUNNING)
            (place,) = told["far"].endpoints
            assert (place.attachment, place.port, place.bridge) == (Attachment.OPAQUE, "", "")
            assert place.addresses[0].startswith("10.77.0.")
            assert "lan" not in [bridge.name for bridge in told.runtime.bridges()]

    run(test)


def test_bridges_are_told_and_followed(engine, follow):
    async def test() -> None:
        heard = []
        async with follow(engine, bridges_changed=heard.append) as told:
            (docker0,) = told.runtime.bridges()
            assert (docker0.name, docker0.realm) == ("docker0", "host-a/docker0")
            assert docker0.subnets == ("172.28.0.0/16", "fd00:28::/64")
            option = "com.docker.network.bridge.name=stk-front"
            await docker(engine, "network", "create", "-o", option, "--subnet", "172.29.200.0/24", "front")
            await docker(engine, "network", "create", "--internal", "back")
            await _met(lambda: len(told.runtime.bridges()) == 3)
            front = next(bridge for bridge in told.runtime.bridges() if bridge.name == "stk-front")
            assert (front.realm, front.subnets) == ("host-a/stk-front", ("172.29.200.0/24",))
            await start(engine, "web", "--network", "front")
            await told.until(lambda told: told["web"].endpoints)
            assert told["web"].endpoints == truth(engine, "web")
            await docker(engine, "rm", "-f", "web")
            await docker(engine, "network", "rm", "front", "back")
            await _met(lambda: len(told.runtime.bridges()) == 1)
            assert heard[0] == heard[-1] == (docker0,)

    run(test)


async def _met(wanted: Callable[[], bool]) -> None:
    for _ in range(600):
        if wanted():
            return
        await asyncio.sleep(0.05)
    pytest.fail("not within 30 s")


SLOW = """#!/bin/sh
case " $* " in *" start "*) sleep 3; {} ;; esac
exec runc "$@"
"""
"""A runtime that makes everything and then takes its time before the first instruction."""


@pytest.mark.parametrize("comes_to_life", [True, False])
def test_who_is_being_started_is_met_before_its_first_instruction(tmp_path, follow, comes_to_life):
    """The engine is silent about it until it runs, or never will."""
    (tmp_path / "slow").write_text(SLOW.format(":" if comes_to_life else "exit 1"))
    (tmp_path / "slow").chmod(0o755)

    async def test() -> None:
        async with (
            Engine(EngineOptions(extra=("--add-runtime", f"slow={tmp_path / 'slow'}"))) as engine,
            follow(engine) as told,
        ):
            await start(engine, "before")
            await told.until(lambda told: bool(told["before"].endpoints))
            await docker(engine, "network", "create", "back")
            words = ("--runtime", "slow", "--network", "back")
            starting = asyncio.create_task(start(engine, "web", *words))
            await told.until(lambda told: told["web"].state is WorkloadState.RUNNING)
            assert await docker(engine, "ps", "-a", "--filter", "name=web", "--format", "{{.State}}") == "created"
            met = told["web"].endpoints
            (raised,) = await asyncio.gather(starting, return_exceptions=True)
            if comes_to_life:
                await told.quiet()
                assert told["web"].endpoints == met == truth(engine, "web")
            else:
                assert isinstance(raised, EngineError)
                await told.until(lambda told: told["web"].state is not WorkloadState.RUNNING)
                assert told["web"].endpoints == ()

    run(test)
