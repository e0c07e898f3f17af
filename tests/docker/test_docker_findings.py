"""A real engine's own rules, networks and published ports are no finding; a stranger's beside them is."""

import asyncio
from pathlib import Path

import pytest
from test_docker_contained import POLICY, shop

from contained import contained
from stockade.wire.api import FindingsReply

pytestmark = [pytest.mark.docker, pytest.mark.timeout(180)]
ELSEWHERE = ("file-modes", "bpf-netfilter", "bpf-sockets")
"""What may be found of the machine that the tests run on."""


def test_what_the_engine_does_is_no_finding(engine, tmp_path: Path) -> None:
    async def run() -> None:
        async with contained(engine, tmp_path) as on:
            engine.docker("network", "create", "--ipv6", "--subnet", "fd00:33::/64", "front")
            engine.run("web-1", *shop("web"), "-p", "8080:80", "--network", "front")
            engine.run("api-1", *shop("api"), "-p", "127.0.0.1:8081:8080/udp")
            await on.known(["web-1", "api-1"])
            await on.apply(POLICY)

            def looked() -> bool:
                return "" not in {each.check for each in on.client.call("findings", FindingsReply).unassessed}

            def found() -> set[str]:
                found = {each.check for each in on.client.call("findings", FindingsReply).findings}
                return found - set(ELSEWHERE)

            await on.until(looked)
            rules = engine.on_host("iptables-save")
            assert "DNAT" in rules
            assert "MASQUERADE" in rules
            assert found() == set()
            stranger = "add chain ip stranger c { type filter hook prerouting priority -400; }"
            engine.on_host("nft", f"add table ip stranger; {stranger}; add rule ip stranger c ip saddr set 192.0.2.9")
            await on.until(lambda: found() == {"rewritten-packets"})
            engine.on_host("nft", "delete", "table", "ip", "stranger")
            await on.until(lambda: found() == set())

    asyncio.run(run())
