"""Published ports: told as the kernel translates them and as docker-proxy forwards them, and truly reachable."""

import asyncio
import re
import subprocess
import time
from collections.abc import Callable

import pytest

from stockade.core.model.inventory import Published
from stockade.core.model.net import Protocol
from stockade.testing.engine import Engine

pytestmark = pytest.mark.docker

SERVE = ("sh", "-c", "httpd -p 80; exec sleep 100000")


def nat_targets(engine: Engine) -> set[tuple[str, int, str, int]]:
    """(transport, host port, target, target port) of each port that the kernel translates."""
    rules = "\n".join(engine.on_host(tool, "-t", "nat", "-S", "DOCKER") for tool in ("iptables", "ip6tables"))
    shape = r"-p (\w+) .*--dport (\d+) -j DNAT --to-destination \[?([0-9a-f.:]+?)\]?:(\d+)$"
    return {
        (transport, int(port), target, int(to_port))
        for transport, port, target, to_port in re.findall(shape, rules, re.MULTILINE)
    }


def told_targets(published: tuple[Published, ...]) -> set[tuple[str, int, str, int]]:
    return {(each.protocol.name.lower(), each.port, each.to_address, each.to_port) for each in published}


def test_proxied(engine, follow):
    async def test() -> None:
        async with follow(engine) as told:
            published = ("-p", "8080:80", "-p", "127.0.0.1:8081:81/udp", "-p", "[::1]:8082:82")
            await asyncio.to_thread(engine.run, "web", *published, command=SERVE)
            await told.until(lambda told: told.named()["web"].published)
            web = told["web"]
            (v4, v6) = web.endpoints[0].addresses
            if ":" in v4:
                v4, v6 = v6, v4
            expected = {
                Published(Protocol.TCP, 8080, web.id, v4, 80, proxied=True),
                Published(Protocol.TCP, 8080, web.id, v6, 80, proxied=True),
                Published(Protocol.UDP, 8081, web.id, v4, 81, "127.0.0.1", proxied=True),
                Published(Protocol.TCP, 8082, web.id, v6, 82, "::1", proxied=True),
            }
            assert set(told.named()["web"].published) == expected
            assert nat_targets(engine) <= told_targets(told.named()["web"].published)
            for address in ("198.51.100.1", "[2001:db8:51::1]"):
                reached = ["busybox", "wget", "-qO-", f"http://{address}:8080/bin/busybox"]
                done = subprocess.run([*engine.outside, *reached], capture_output=True, timeout=20, check=False)
                assert len(done.stdout) > 100_000, (address, done.stderr)

    asyncio.run(test())


def test_not_proxied(bare, follow):
    async def test() -> None:
        async with follow(bare) as told:
            await asyncio.to_thread(bare.run, "web", "-p", "8080:80", "-p", "127.0.0.1:8081:81/udp", command=SERVE)
            await told.until(lambda told: told.named()["web"].published)
            found = told.named()["web"].published
            assert not any(each.proxied for each in found)
            assert {(each.port, each.address) for each in found} == {(8080, ""), (8081, "127.0.0.1")}
            assert told_targets(found) == nat_targets(bare)
            await asyncio.to_thread(bare.docker, "stop", "-t", "0", "web")
            await told.until(lambda told: told.named()["web"].published == ())

    asyncio.run(test())


PATIENCE = 40.0
NETWORKS = {
    "alpha": (),
    "beta": (),
    "dual": ("--ipv6", "--subnet", "fd00:77::/64"),
    "inner": ("--internal",),
}


@pytest.mark.parametrize("first", ["alpha", "beta", "inner"])
@pytest.mark.parametrize("proxied", [True, False])
def test_on_several_networks_ports_lead_to_one_of_them(engine, bare, follow, proxied, first):
    chosen = engine if proxied else bare

    async def test() -> None:
        for name, words in NETWORKS.items():
            await asyncio.to_thread(chosen.docker, "network", "create", *words, name)
        async with follow(chosen) as told:
            await asyncio.to_thread(chosen.run, "web", "-p", "8080:80", "--network", first)
            for joined in (name for name in ("beta", "alpha", "inner", "dual") if name != first):
                await asyncio.to_thread(chosen.docker, "network", "connect", joined, "web")
                await _met(lambda wanted=joined: wanted in _networks(chosen) and _agree(told, chosen))
            await asyncio.to_thread(chosen.docker, "network", "disconnect", "dual", "web")
            await _met(lambda: len(told["web"].endpoints) == 3 and _agree(told, chosen))
            assert told.named()["web"].published

    asyncio.run(test())


async def _met(wanted: Callable[[], bool]) -> None:
    """Wait for what the kernel says too, which no event announces."""
    deadline = time.monotonic() + PATIENCE
    while not await asyncio.to_thread(wanted):
        if time.monotonic() > deadline:
            pytest.fail(f"not within {PATIENCE:.0f} s")
        await asyncio.sleep(0.1)


def _networks(engine: Engine) -> list[str]:
    return list(engine.inspect("web")["NetworkSettings"]["Networks"])


def _agree(told, engine: Engine) -> bool:
    seen = told.named()["web"]
    ours = {each for each in told_targets(seen.published) if not _other_family(each, seen.published)}
    return len(seen.sighting.endpoints) == len(_networks(engine)) and ours == nat_targets(engine)


def _other_family(target: tuple[str, int, str, int], published: tuple[Published, ...]) -> bool:
    """A docker-proxy alone, without the kernel, leads from IPv6 to an IPv4 target."""
    return all(each.address == "::" for each in published if each.to_address == target[2])


def test_a_port_without_an_address_of_its_family(engine, follow):
    """Docker listens on ``::`` and its proxy leads to IPv4: told with that address, as no kernel rule is behind."""

    async def test() -> None:
        await asyncio.to_thread(engine.docker, "network", "create", "four")
        async with follow(engine) as told:
            await asyncio.to_thread(engine.run, "web", "-p", "8080:80", "--network", "four", command=SERVE)
            await told.until(lambda told: told.named()["web"].published)
            web = told["web"]
            (v4,) = web.endpoints[0].addresses
            assert set(told.named()["web"].published) == {
                Published(Protocol.TCP, 8080, web.id, v4, 80, proxied=True),
                Published(Protocol.TCP, 8080, web.id, v4, 80, "::", proxied=True),
            }

    asyncio.run(test())
