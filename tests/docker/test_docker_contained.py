"""A Docker host, contained: what its user asks for over the API is what real packets meet."""

import asyncio
import contextlib
import json
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from contained import HOST, OUTSIDE, Contained, addresses_of, contained
from stockade.cli.exits import Exit
from stockade.core.model.inventory import WorkloadKind
from stockade.core.model.net import Protocol
from stockade.testing.engine import HOST_ADDRESSES, Engine
from stockade.testing.probe import steadily
from stockade.testing.probe.values import Probe, Result
from stockade.wire.api import StatusReply

pytestmark = [pytest.mark.docker, pytest.mark.timeout(180)]

POLICY = """
apiVersion: stockade.dev/v1
kind: EnforcementMode
metadata: {name: shop}
spec: {select: app = shop, mode: full, priority: 10}
---
apiVersion: stockade.dev/v1
kind: NetworkSet
metadata: {name: office}
spec: {cidrs: [198.51.100.0/24, "2001:db8:51::/64"]}
---
apiVersion: stockade.dev/v1
kind: Policy
metadata: {name: shop}
spec:
  scope: app = shop
  rules:
    - name: web-to-api
      allow: {from: role = web, to: role = api, on: [tcp/8080, udp/53, ping]}
    - name: api-to-db
      allow: {from: role = api, to: role = db, on: [tcp/5432]}
    - name: office
      allow: {from: networks(office), to: role = web, on: [tcp/80]}
"""
ALLOWED = {
    ("web", "api"): {(Protocol.TCP, 8080), (Protocol.UDP, 53), (Protocol.ICMP, 0)},
    ("api", "db"): {(Protocol.TCP, 5432)},
    (OUTSIDE, "web"): {(Protocol.TCP, 80)},
}
WAYS = (
    (Protocol.TCP, 8080),
    (Protocol.TCP, 5432),
    (Protocol.TCP, 80),
    (Protocol.UDP, 53),
    (Protocol.ICMP, 0),
)


def shop(role: str) -> tuple[str, ...]:
    return ("--label", "com.docker.compose.project=shop", "--label", f"com.docker.compose.service={role}")


HOST_HAS = tuple(each.partition("/")[0] for each in HOST_ADDRESSES)
FREE = ("--label", "com.docker.compose.project=free")
ROLES = {"web-1": "web", "web-2": "web", "api-1": "api", "db-1": "db"}


def meant(probe: Probe, roles: dict[str, str]) -> bool:
    """What the policy means: the shop denies what it does not allow, and nobody else denies anything."""
    ends = roles.get(probe.source, probe.source), roles.get(probe.destination, probe.destination)
    if not {"web", "api", "db"} & set(ends):
        return True
    return (probe.protocol, probe.port) in ALLOWED.get(ends, ())


def wrong(results: list[Result], roles: dict[str, str]) -> list[str]:
    """Return what packets did otherwise."""
    return [
        f"{each.probe}: {each.outcome.value}, delivered {each.delivered}, meant {meant(each.probe, roles)}"
        for each in results
        if (each.answered, each.delivered) != (meant(each.probe, roles),) * 2
    ]


def every_pair(names: list[str]) -> list[Probe]:
    return [
        Probe(one, other, protocol, port, family)
        for one in names
        for other in names
        if one != other
        for protocol, port in WAYS
        for family in (4, 6)
    ]


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """Where Stockade keeps what it knows."""
    return tmp_path


async def shop_of(on: Contained, *more: str) -> list[str]:
    """Start the shop on one bridge, and somebody else; wait until they are known and can be probed."""
    for name, role in ROLES.items():
        await asyncio.to_thread(on.engine.run, name, *shop(role), *more)
    await asyncio.to_thread(on.engine.run, "other", *more)
    names = [*ROLES, "other"]
    await on.known(names)
    await on.man(*names)
    return names


def test_containers_of_one_bridge(engine, state):
    async def run() -> None:
        async with contained(engine, state) as on:
            names = await shop_of(on)
            probes = every_pair(names)
            before = await on.probe(probes)
            assert all(each.answered for each in before), "nothing is dropped before it was asked for"
            await on.apply(POLICY)
            after = await on.probe(probes)
            assert not wrong(after, ROLES)
            assert sum(not each.delivered for each in after) > len(after) // 3
            assert "Traceback" not in on.said()

    asyncio.run(run())


def test_a_container_between_two_networks(engine, state):
    """The engine keeps its networks apart; what stands in both is judged in both."""

    async def run() -> None:
        async with contained(engine, state) as on:
            for name, subnet in (("front", "fd00:31::/64"), ("back", "fd00:32::/64")):
                engine.docker("network", "create", "--ipv6", "--subnet", subnet, name)
            engine.run("web-1", *shop("web"), "--network", "front")
            engine.run("api-1", *shop("api"), "--network", "front")
            engine.docker("network", "connect", "back", "api-1")
            engine.run("db-1", *shop("db"), "--network", "back")
            await on.known(["web-1", "api-1", "db-1"])
            await on.until(lambda: len(on.workloads()["api-1"].addresses) == 4)
            await on.man("web-1", "api-1", "db-1")
            await on.apply(POLICY)
            probes = [
                Probe(one, other, protocol, port, address=addresses_of(engine, other, network)[family])
                for one, other, network in (
                    ("web-1", "api-1", "front"),
                    ("api-1", "web-1", "front"),
                    ("api-1", "db-1", "back"),
                    ("db-1", "api-1", "back"),
                )
                for protocol, port in WAYS
                for family in (4, 6)
            ]
            assert not wrong(await on.probe(probes), ROLES)
            engine.docker("network", "disconnect", "front", "api-1")
            await on.until(lambda: len(on.workloads()["api-1"].addresses) == 2 and on.in_force())
            assert not wrong(
                await on.probe([each for each in probes if "web-1" not in (each.source, each.destination)]), ROLES
            )

    asyncio.run(run())


@pytest.mark.parametrize("proxied", [True, False])
def test_published_ports(engine, bare, state, proxied):
    """Who reaches a workload by its published port reaches it as whoever they are: from everywhere."""
    chosen = engine if proxied else bare

    async def run() -> None:
        async with contained(chosen, state) as on:
            chosen.docker("network", "create", "--ipv6", "--subnet", "fd00:33::/64", "apart")
            chosen.run("web-1", *shop("web"), "-p", "18080:80")
            chosen.run("api-1", *shop("api"), "-p", "18081:8080", "-p", "15353:53/udp")
            chosen.run("db-1", *shop("db"), "-p", "15432:5432")
            chosen.run("web-2", *shop("web"))
            chosen.run("other", "--network", "apart")
            names = ["web-1", "api-1", "db-1", "web-2", "other"]
            await on.known(names)
            await on.man(*names)
            for name, ports in (
                ("web-1", [(6, 80, "")]),
                ("api-1", [(6, 8080, ""), (17, 53, "")]),
                ("db-1", [(6, 5432, "")]),
            ):
                await on.posts.listen(name, ports)
            targets = (
                ("web-1", Protocol.TCP, 18080, 80),
                ("api-1", Protocol.TCP, 18081, 8080),
                ("api-1", Protocol.UDP, 15353, 53),
                ("db-1", Protocol.TCP, 15432, 5432),
            )
            cases = [
                (Probe(source, name, protocol, port, address=address), Probe(source, name, protocol, meant_port))
                for source in (HOST, OUTSIDE, "web-2", "api-1", "db-1", "other")
                for name, protocol, port, meant_port in targets
                for address in HOST_HAS
                if source != name
            ]
            before = await on.posts.probe([asked for asked, _ in cases], listen=False)
            assert sum(each.reached for each in before) > len(before) // 2, "not all ways are open in Docker itself"
            await on.apply(POLICY)
            # The host first: when a proxy was let through, so is the host, for ten seconds and to that port.
            after = await on.posts.probe([asked for asked, _ in cases if asked.source == HOST], listen=False)
            after += await on.posts.probe([asked for asked, _ in cases if asked.source != HOST], listen=False)
            bad = []
            for each, (_, what), earlier in zip(after, cases, before, strict=True):
                allowed = meant(what, ROLES)
                if each.reached != (earlier.reached and allowed) or (each.delivered and not allowed):
                    bad.append(f"{each.probe}: {each.outcome.value} {each.detail}, {each.delivered}, meant {allowed}")
            assert not bad, "\n".join(bad)

    asyncio.run(run())


def test_restart_rename_and_recreation_with_other_labels(engine, state):
    async def run() -> None:
        async with contained(engine, state) as on:
            names = await shop_of(on)
            await on.apply(POLICY)
            engine.docker("restart", "-t", "0", "api-1")
            await on.man("api-1")
            await on.until(lambda: on.in_force() and on.workloads()["api-1"].addresses)
            assert not wrong(await on.probe(every_pair(names)), ROLES)

            engine.docker("rename", "db-1", "data-1")
            await on.known(["data-1"], gone=["db-1"])
            roles = {**ROLES, "data-1": "db"}
            names = ["web-1", "web-2", "api-1", "data-1"]
            await on.posts.leave("db-1")
            await on.man("data-1")
            assert not wrong(await on.probe(every_pair(names)), roles)

            before = addresses_of(engine, "web-2")[4]
            engine.remove("web-2")
            engine.run("web-2", *shop("api"))
            assert addresses_of(engine, "web-2")[4] == before, "the address is used again"
            await on.man("web-2")
            await on.until(lambda: on.in_force() and ("role", "api") in labels(on, "web-2"))
            assert not wrong(await on.probe(every_pair(names)), {**roles, "web-2": "api"})

    asyncio.run(run())


def labels(on: Contained, name: str) -> list[tuple[str, str]]:
    found = on.workloads().get(name)
    return [(each.key, each.value) for each in found.labels] if found else []


def test_host_network_none_and_a_shared_namespace(engine, state):
    async def run() -> None:
        async with contained(engine, state) as on:
            names = await shop_of(on)
            engine.run("on-host", *shop("web"), "--network", "host")
            engine.run("alone", *shop("db"), "--network", "none")
            engine.run("beside", *shop("db"), "--network", "container:web-1")
            await on.known(["on-host", "alone", "beside"])
            found = on.workloads()
            host = next(each for each in found.values() if each.kind is WorkloadKind.HOST)
            assert found["on-host"].owner == host.id
            assert found["beside"].owner == found["web-1"].id
            assert found["alone"].addresses == ()
            await on.apply(POLICY)
            await on.man("on-host", "beside")
            # One on the host's network is judged as the host, whatever its labels; one in web-1's as web-1.
            roles = {**ROLES, "on-host": HOST, "beside": "web"}
            asking = [
                Probe(one, other, *way, family)
                for one in ("on-host", "beside")
                for other in ("api-1", "db-1")
                for way in WAYS
                for family in (4, 6)
            ]
            assert not wrong(await on.probe(asking), roles)
            assert not wrong(await on.probe(every_pair(names)), ROLES)

    asyncio.run(run())


@pytest.mark.timeout(600)
def test_two_hundred_at_once_are_judged_right(engine, state):
    async def run() -> None:
        async with contained(engine, state) as on:
            await on.apply(POLICY)
            dice = random.Random(7)
            roles = {f"c{number:03}": dice.choice(("web", "api", "db", "none")) for number in range(200)}
            gate = asyncio.Semaphore(8)

            async def start(name: str, role: str) -> None:
                async with gate:
                    await asyncio.to_thread(engine.run, name, *(shop(role) if role != "none" else FREE))

            async def man(name: str) -> None:
                async with gate:
                    await on.man(name)

            await asyncio.gather(*(start(*each) for each in roles.items()))
            await on.known(roles)
            await asyncio.gather(*map(man, roles))
            names = list(roles)
            # Each asks the next one only: the kernel has room for so many neighbours, of all namespaces together.
            ring = [(name, names[(place + 1) % len(names)]) for place, name in enumerate(names)]
            assert len({(roles[one], roles[other]) for one, other in ring}) == 16, "every two roles meet"
            probes = [Probe(*two, *way, family) for two in ring for way in WAYS for family in (4, 6)]
            results = await on.probe(probes)
            assert not wrong(results, roles)
            assert {True, False} == {each.delivered for each in results}

    asyncio.run(run())


def test_nothing_of_the_newborn_passes_before_its_policy(engine, state):
    """Births hold: from their first packet on, twenty containers send what is denied to them, and ask what is not."""

    async def run() -> None:
        async with contained(engine, state) as on:
            await shop_of(on)
            await on.apply(POLICY)
            db, api = addresses_of(engine, "db-1"), addresses_of(engine, "api-1")
            await on.posts.listen("api-1", [(6, 8080, "")])
            with arrivals(engine, "db-1", 7102) as arrived:
                send = "-n -q 1 -f 20 -m 20 -w 1 -p 7101"  # one datagram, to the port after this one
                script = (
                    f"(while :; do traceroute {send} {db[4]}; traceroute6 {send} {db[6]}; done) >/dev/null 2>&1 & "
                    f"until nc -w 1 {api[4]} 8080 </dev/null; do :; done; echo reached; sleep 1000"
                )
                born = [f"born-{number}" for number in range(20)]
                for name in born:
                    await asyncio.to_thread(engine.run, name, *shop("web"), command=("sh", "-c", script))
                await on.known(born)
                for name in born:
                    await on.until(lambda name=name: "reached" in engine.docker("logs", name))
                assert arrived() == 0
                await on.apply()
                await on.until(arrived)  # they do send

    asyncio.run(run())


@contextlib.contextmanager
def arrivals(engine: Engine, name: str, port: int) -> Iterator[Callable[[], int]]:
    """Count what arrives at a UDP port of a container, by a server in its namespace; what it says itself, not us."""
    jobs = json.dumps([{"do": "serve", "port": port}])
    argv = [*engine.within(name), sys.executable, "-I", "-S", steadily.__file__, jobs]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin
        assert server.stdout
        assert server.stdout.readline() == "ready\n"

        def arrived() -> int:
            assert server.stdin
            assert server.stdout
            server.stdin.write("?\n")
            server.stdin.flush()
            return int(json.loads(server.stdout.readline())["jobs"][0]["done"])

        send = f"import socket; socket.socket(2, 2).sendto(b'x', ('127.0.0.1', {port}))"
        subprocess.run([*engine.within(name), sys.executable, "-c", send], check=True, timeout=10)
        time.sleep(0.1)
        assert arrived() == 1, "it hears"
        yield arrived
        server.stdin.close()


def test_nothing_passes_of_a_container_without_labels_until_it_has_some(engine, state):
    async def run() -> None:
        async with contained(engine, state) as on:
            for name in ("one", "two"):
                engine.run(name, *FREE)
            await on.known(["one", "two"])
            await on.apply(POLICY)  # from here on this host enforces, and holds whom nobody has described
            engine.run("web-1", *shop("web"))
            engine.run("stranger")
            await on.known(["web-1", "stranger"])
            await on.man("one", "two", "stranger")
            meeting = [Probe(*ends, *way, family) for ends in MEETING for way in WAYS for family in (4, 6)]
            for each in await on.probe(meeting):
                assert each.delivered == ("stranger" not in (each.probe.source, each.probe.destination)), each
            assert on.workloads()["stranger"].held
            done = await asyncio.to_thread(on.cli, "labels", "set", "stranger", "app=free")
            assert done.returncode == 0, done.stderr
            await on.until(on.in_force)
            assert all(each.answered for each in await on.probe(meeting))

    asyncio.run(run())


MEETING = (("one", "two"), ("stranger", "one"), ("two", "stranger"))


def test_interrupted_it_leaves_in_force_what_is_and_adopts_it_again(engine, state):
    async def run() -> None:
        async with contained(engine, state) as on:
            names = await shop_of(on)
            await on.apply(POLICY)
            allowed = [Probe("web-1", "api-1", Protocol.TCP, 8080, family) for family in (4, 6)]
            flows = await on.posts.open(allowed)
            await on.interrupt()
            assert "What was enforced stays in force; to open everything: stockade off" in on.said()
            assert not wrong(await on.probe(every_pair(names)), ROLES)
            on.start()
            await on.answering()
            await on.until(on.in_force)
            assert not wrong(await on.probe(every_pair(names)), ROLES)
            assert all(each.alive for each in await on.posts.send(flows))

    asyncio.run(run())


def test_apply_returns_unless_it_is_confirmed_and_off_opens(engine, state):
    async def run() -> None:
        async with contained(engine, state) as on:
            names = await shop_of(on)
            policy = state / "policy.yaml"
            policy.write_text(POLICY)
            done = await asyncio.to_thread(on.cli, "apply", str(policy), "--yes", "--confirm", "2s")
            assert done.returncode == Exit.LOOK, "it waits to be confirmed"
            denied = [Probe("web-1", "db-1", Protocol.TCP, 5432, family) for family in (4, 6)]
            assert not any(each.delivered for each in await on.probe(denied))
            await on.until(lambda: on.client.call("status", StatusReply).pending is None and on.in_force())
            assert all(each.answered for each in await on.probe(denied)), "it returned"

            done = await asyncio.to_thread(on.cli, "apply", str(policy), "--yes", "--confirm", "60s")
            assert done.returncode == Exit.LOOK
            done = await asyncio.to_thread(on.cli, "confirm")
            assert done.returncode == 0, done.stderr
            assert not any(each.delivered for each in await on.probe(denied))

            done = await asyncio.to_thread(on.cli, "off", "--note", "drill")
            assert done.returncode == 0, done.stderr
            assert all(each.answered for each in await on.probe(every_pair(names)))
            done = await asyncio.to_thread(on.cli, "history")
            assert "drill" in done.stdout

    asyncio.run(run())


@pytest.mark.parametrize("end", ["kill", "stop"])
def test_a_daemon_that_goes_and_comes_back(restoring, state, end):
    """Its containers live on; they are judged as before, and who is born once it is back is held and judged."""

    async def run() -> None:
        async with contained(restoring, state) as on:
            names = await shop_of(on)
            await on.apply(POLICY)
            await asyncio.to_thread(getattr(restoring, end))
            await on.until(lambda: "source-lost" in on.said())
            assert not wrong(await on.probe(every_pair(names)), ROLES)
            await asyncio.to_thread(restoring.start)
            await asyncio.to_thread(restoring.run, "web-3", *shop("web"))
            await on.known([*names, "web-3"])
            await on.man("web-3")
            assert not wrong(await on.probe(every_pair([*names, "web-3"])), {**ROLES, "web-3": "web"})

    asyncio.run(run())
