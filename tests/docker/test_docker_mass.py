"""Two hundred containers at once: each told of without a detour, and as the engine and the kernel say."""

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from stockade.core.model.inventory import WorkloadState
from stockade.seams.runtime import Gone, Listed, Seen
from stockade.testing.engine import Engine

pytestmark = pytest.mark.docker

MANY = 200


def kernel_truth(engine: Engine) -> dict[str, tuple[str, str]]:
    """MAC of a container's link → (host-side interface, its bridge), from one walk over every container's namespace."""
    script = 'for pid in "$@"; do nsenter --net=/proc/$pid/ns/net ip -j link; done'
    pids = engine.docker("inspect", "-f", "{{.State.Pid}}", *engine.docker("ps", "-q").split()).split()
    inner = [link for line in engine.on_host("sh", "-c", script, "sh", *pids).splitlines() for link in json.loads(line)]
    outer = {link["ifindex"]: link for link in json.loads(engine.on_host("ip", "-j", "link"))}
    return {
        link["address"]: (outer[link["link_index"]]["ifname"], outer[link["link_index"]]["master"])
        for link in inner
        if "link_index" in link
    }


def engine_truth(engine: Engine) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Container id → (MAC, addresses), from ``inspect``."""
    described = json.loads(engine.docker("inspect", *engine.docker("ps", "-q", "--no-trunc").split()))
    found = {}
    for each in described:
        (place,) = each["NetworkSettings"]["Networks"].values()
        addresses = sorted(filter(None, (place["IPAddress"], place["GlobalIPv6Address"])))
        found[f"docker:host-a:{each['Id']}"] = (place["MacAddress"], tuple(addresses))
    return found


def test_two_hundred_at_once(engine, follow):
    async def test() -> None:
        loop = asyncio.get_running_loop()
        networks = ("front", "back")
        for network in networks:
            await asyncio.to_thread(engine.docker, "network", "create", network)
        async with follow(engine) as told:
            with ThreadPoolExecutor(16) as threads:
                starts = [
                    loop.run_in_executor(
                        threads, engine.run, f"many-{n}", "--network", networks[n % 2], "-l", f"stockade.n={n}"
                    )
                    for n in range(MANY)
                ]
                await asyncio.gather(*starts)
            await told.until(lambda told: _complete(told) == MANY)
            await told.quiet()
            await asyncio.to_thread(_compare, engine, told)
            first, *later = told.told
            assert isinstance(first, Listed)
            assert all(isinstance(event, Seen) for event in later)
            for seen in told.now.values():
                assert seen.sighting.facts.labels == (("stockade.n", seen.sighting.name.removeprefix("many-")),)
                mine = [event.sighting for event in later if event.sighting.id == seen.sighting.id]
                running = [each for each in mine if each.state is WorkloadState.RUNNING]
                assert mine[len(mine) - len(running) :] == running, "nothing that runs is told to be anything else"
                assert len(mine) - len(running) <= 1, "told once"
                # An engine under load may say the rest only after the container was met on its network.
                assert len(running) <= 2, "told once where it is, and once more what it is"
                assert {each.endpoints for each in running} == {seen.sighting.endpoints}, "it is met where it stays"
            async with follow(engine) as again:
                assert {s.sighting for s in again.now.values()} == {s.sighting for s in told.now.values()}
            await asyncio.to_thread(engine.clear)
            await told.until(lambda told: not told.now)
            assert sum(isinstance(event, Gone) for event in told.told) == MANY

    asyncio.run(test())


def _complete(told) -> int:
    return sum(
        bool(seen.sighting.endpoints) and all(place.port for place in seen.sighting.endpoints)
        for seen in told.now.values()
    )


def _compare(engine: Engine, told) -> None:
    kernel, wanted = kernel_truth(engine), engine_truth(engine)
    assert len(kernel) == len(wanted) == MANY
    found = {}
    for seen in told.now.values():
        (place,) = seen.sighting.endpoints
        found[seen.sighting.id] = (place.mac, place.addresses)
        assert (place.port, place.bridge) == kernel[place.mac]
    assert found == wanted
