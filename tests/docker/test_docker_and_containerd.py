"""A Docker engine and its containerd, both followed: each container is one workload, and Docker's word counts."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator

import pytest

from stockade.adapters.containerd import ContainerdRuntime
from stockade.adapters.docker import DockerRuntime
from stockade.adapters.netlink import LinkPlaces, Namespace
from stockade.agent.inventory import Inventory
from stockade.controller.clock import SystemClock
from stockade.core.model.ids import HostId
from stockade.core.model.inventory import Sighting, WorkloadState
from stockade.seams.places import Place
from stockade.testing.engine import Engine

pytestmark = pytest.mark.docker


class Both:
    """What the two have told, merged."""

    def __init__(self) -> None:
        self.inventory = Inventory()
        self._changed = asyncio.Event()

    def __getitem__(self, name: str) -> Sighting:
        (found,) = (each for each in self.inventory.sightings() if each.name == name)
        return found

    async def keep(self, runtime: DockerRuntime | ContainerdRuntime) -> None:
        async for event in runtime.events():
            self.inventory.hear(runtime.name, event)
            self._changed.set()

    async def until(self, wanted) -> None:
        async with asyncio.timeout(30):
            while not wanted(self):
                self._changed.clear()
                await self._changed.wait()


@contextlib.asynccontextmanager
async def both(engine: Engine) -> AsyncIterator[Both]:
    path = f"/proc/{engine.host_pid}/ns/net"
    with Namespace.at(path) as host:

        def places(namespace: str) -> Place:
            return host.call(lambda: LinkPlaces(HostId("h"))(namespace))

        common = {"places": places, "clock": SystemClock(), "jitter": random.Random(7).random}
        below = str(engine.root / "exec/containerd/containerd.sock")
        runtimes = (
            DockerRuntime(HostId("h"), socket=str(engine.socket), **common),
            ContainerdRuntime(HostId("h"), socket=below, host_network=path, **common),
        )
        told = Both()
        keeping = [asyncio.create_task(told.keep(each)) for each in runtimes]
        try:
            yield told
        finally:
            for each in keeping:
                each.cancel()
            await asyncio.gather(*keeping, return_exceptions=True)


def seen_by_both(told: Both, *names: str) -> bool:
    found = {each.name: each for each in told.inventory.sightings()}
    return set(found) == set(names) and all(each.sources == ("docker", "containerd") for each in found.values())


def test_each_is_one_workload_however_it_is_attached(engine):
    async def test() -> None:
        async with both(engine) as told:
            await asyncio.to_thread(engine.run, "web", "--label", "tier=front")
            await asyncio.to_thread(engine.run, "side", "--network", "container:web")
            await asyncio.to_thread(engine.run, "onhost", "--network", "host")
            await told.until(lambda told: seen_by_both(told, "web", "side", "onhost"))
            web = told["web"]
            assert web.id.startswith("docker:h:")
            assert web.state is WorkloadState.RUNNING
            assert web.facts.labels == (("tier", "front"),)
            assert [each.bridge for each in web.endpoints] == ["docker0"]
            assert told["side"].owner == web.id
            assert told["onhost"].owner == "host:h"
            await asyncio.to_thread(engine.remove, "side", "onhost")
            await told.until(lambda told: seen_by_both(told, "web"))

    asyncio.run(test())
