"""What a real engine runs is what is told: compared with its own ``inspect`` and with the kernel's links."""

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from stockade.core.model.inventory import Attachment, Endpoint, Published, WorkloadKind, WorkloadState
from stockade.core.model.net import Protocol
from stockade.seams.runtime import Gone, Listed, Seen
from stockade.testing.engine import Engine

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
