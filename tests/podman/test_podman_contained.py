"""A Podman host, contained: what its user asks for over the API is what real packets meet."""

import asyncio
import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from contained import HOST, OUTSIDE, Contained, addresses_of, contained
from stockade.core.model.net import Protocol
from stockade.testing.engine_host import HOST_ADDRESSES, EngineError
from stockade.testing.podman import Podman
from stockade.testing.probe import steadily
from stockade.testing.probe.values import Probe, Result

pytestmark = [pytest.mark.real, pytest.mark.timeout(400)]

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
    - name: office
      allow: {from: networks(office), to: role = web, on: [tcp/80]}
"""
ALLOWED = {
    ("web", "api"): {(Protocol.TCP, 8080), (Protocol.UDP, 53), (Protocol.ICMP, 0)},
    (OUTSIDE, "web"): {(Protocol.TCP, 80)},
}
WAYS = ((Protocol.TCP, 8080), (Protocol.TCP, 80), (Protocol.UDP, 53), (Protocol.ICMP, 0))
BORN = 5


def shop(role: str) -> tuple[str, ...]:
    labels = (f"com.docker.compose.service={role}", "com.docker.compose.project=shop")
    return ("--network", "front", *(word for label in labels for word in ("--label", label)))


def every_pair(names: list[str]) -> list[Probe]:
    ends = [(one, other) for one in names for other in names if one != other]
    return [Probe(*pair, *way, family) for pair in ends for way in WAYS for family in (4, 6)]


def meant(probe: Probe) -> bool:
    """What the policy means: the shop denies what it does not allow, and nobody else denies anything."""
    shops = {"web", "api"} & {probe.source, probe.destination}
    return not shops or (probe.protocol, probe.port) in ALLOWED.get((probe.source, probe.destination), ())


def wrong(results: list[Result]) -> list[str]:
    """Return what packets did otherwise."""
    return [
        f"{each.probe}: {each.outcome.value}, delivered {each.delivered}, meant {meant(each.probe)}"
        for each in results
        if (each.answered, each.delivered) != (meant(each.probe),) * 2
    ]


async def aside(call, *words, **named):
    return await asyncio.to_thread(call, *words, **named)


async def shop_of(on: Contained, podman: Podman) -> list[str]:
    """Start two that know each other and one that does not, on one bridge; wait until they can be probed."""
    await aside(podman.podman, "network", "create", "--ipv6", "--disable-dns", "front")
    for role in ("web", "api"):
        await aside(podman.run, role, *shop(role))
    await aside(podman.run, "other", "--network", "front")
    names = ["web", "api", "other"]
    await on.known(names)
    await on.man(*names)
    return names


def test_containers_of_one_bridge(podman, tmp_path):
    async def run() -> None:
        async with contained(podman, tmp_path, "--podman") as on:
            names = await shop_of(on, podman)
            probes = every_pair(names) + [Probe(OUTSIDE, "web", *way, 4) for way in WAYS if way[1] != 8080]
            before = await on.probe(every_pair(names))
            assert all(each.answered for each in before), "nothing is dropped before it was asked for"
            await on.apply(POLICY)
            after = await on.probe(every_pair(names))
            assert not wrong(after)
            assert sum(not each.delivered for each in after) > len(probes) // 3
            view = on.workloads()["web"]
            assert {each.key: each.value for each in view.labels}["role"] == "web"
            assert "Traceback" not in on.said()

    asyncio.run(run())


def test_published_ports(podman, tmp_path):
    """Who reaches a workload by its published port reaches it as whoever they are: from everywhere."""

    async def run() -> None:
        async with contained(podman, tmp_path, "--podman") as on:
            await aside(podman.podman, "network", "create", "--ipv6", "--disable-dns", "front")
            await aside(podman.run, "web", *shop("web"), "-p", "18080:80")
            await aside(podman.run, "api", *shop("api"), "-p", "18081:8080", "-p", "15353:53/udp")
            await aside(podman.run, "other", "--network", "front")
            names = ["web", "api", "other"]
            await on.known(names)
            await on.man(*names)
            await on.posts.listen("web", [(6, 80, "")])
            await on.posts.listen("api", [(6, 8080, ""), (17, 53, "")])
            targets = (
                ("web", Protocol.TCP, 18080, 80),
                ("api", Protocol.TCP, 18081, 8080),
                ("api", Protocol.UDP, 15353, 53),
            )
            cases = [
                (Probe(source, name, protocol, port, address=address), Probe(source, name, protocol, inner))
                for source in (HOST, OUTSIDE, *names)
                for name, protocol, port, inner in targets
                for address in (each.partition("/")[0] for each in HOST_ADDRESSES)
                if source != name
            ]
            before = await on.posts.probe([asked for asked, _ in cases], listen=False)
            assert sum(each.reached for each in before) > len(before) // 2, "not all ways are open in Podman itself"
            await on.apply(POLICY)
            after = await on.posts.probe([asked for asked, _ in cases], listen=False)
            bad = [
                f"{each.probe}: {each.outcome.value} {each.detail}, {each.delivered}, meant {meant(what)}"
                for each, (_, what), earlier in zip(after, cases, before, strict=True)
                if each.reached != (earlier.reached and meant(what)) or (each.delivered and not meant(what))
            ]
            assert not bad, "\n".join(bad)
            assert any(each.reached for each in after)

    asyncio.run(run())


NAMES = """
---
apiVersion: stockade.dev/v1
kind: Policy
metadata: {name: names}
spec:
  scope: app = shop
  rules:
    - name: names
      allow: {from: all, to: any(has host), on: [dns]}
"""


def test_names_are_asked_of_the_host(podman, tmp_path):
    """Podman's name server listens on the bridge's own address: whoever goes full must be allowed to ask the host."""

    async def run() -> None:
        async with contained(podman, tmp_path, "--podman") as on:
            await aside(podman.podman, "network", "create", "front")
            for role in ("web", "api"):
                await aside(podman.run, role, *shop(role))
            await on.known(["web", "api"])
            assert "Address" in await aside(podman.exec, "web", "nslookup", "api.dns.podman")
            await on.apply(POLICY)
            with pytest.raises(EngineError):
                await aside(podman.exec, "web", "timeout", "3", "nslookup", "api.dns.podman")
            await on.apply(POLICY + NAMES)
            assert "Address" in await aside(podman.exec, "web", "nslookup", "api.dns.podman")

    asyncio.run(run())


def test_nothing_of_the_newborn_passes_before_its_policy(podman, tmp_path):
    """Births hold: from their first packet on, containers send what is denied to them, and ask what is not."""

    async def run() -> None:
        async with contained(podman, tmp_path, "--podman") as on:
            await shop_of(on, podman)
            await on.apply(POLICY)
            other, api = addresses_of(podman, "other"), addresses_of(podman, "api")
            await on.posts.listen("api", [(6, 8080, "")])
            with arrivals(podman, "other", 7102) as arrived:
                send = "-n -q 1 -f 20 -m 20 -w 1 -p 7101"  # one datagram, to the port after this one
                script = (
                    f"(while :; do traceroute {send} {other[4]}; traceroute6 {send} {other[6]}; done)"
                    " >/dev/null 2>&1 & "
                    f"until nc -w 1 {api[4]} 8080 </dev/null; do :; done; echo reached; sleep 1000"
                )
                born = [f"born-{number}" for number in range(BORN)]
                words = (*shop("web"), "--cap-add", "NET_RAW")
                for name in born:
                    await aside(podman.run, name, *words, command=("sh", "-c", script))
                await on.known(born)
                for name in born:
                    await on.until(lambda name=name: "reached" in podman.podman("logs", name))
                assert arrived() == 0
                await on.apply()
                await on.until(arrived)  # they do send

    asyncio.run(run())


@contextlib.contextmanager
def arrivals(podman: Podman, name: str, port: int) -> Iterator[Callable[[], int]]:
    """Count what arrives at a UDP port of a container, by a server in its namespace; what it says itself, not us."""
    jobs = json.dumps([{"do": "serve", "port": port}])
    argv = [*podman.within(name), sys.executable, "-I", "-S", steadily.__file__, jobs]
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
        subprocess.run([*podman.within(name), sys.executable, "-c", send], check=True, timeout=10)
        time.sleep(0.1)
        assert arrived() == 1, "it hears"
        yield arrived
        server.stdin.close()


def test_a_users_container_is_refused_full_with_the_reason(rootless, tmp_path):
    """It is in the inventory, with its labels; what cannot be enforced is said, and accepted only by name."""
    podman: Podman = rootless

    async def run() -> None:
        async with contained(podman, tmp_path, "--podman") as on:
            await aside(podman.run, "web", *shop("web")[2:], user="ann")
            await on.known(["web"])
            policy = Path(tmp_path) / "policy.yaml"
            policy.write_text(POLICY)
            done = await aside(on.cli, "plan", str(policy))
            assert "cannot be full: a process of the host carries its traffic" in " ".join(done.stdout.split())
            done = await aside(on.cli, "apply", str(policy), "--yes")
            assert done.returncode == 1, done.stdout
            assert "a process of the host carries its traffic" in " ".join((done.stdout + done.stderr).split())
            done = await aside(on.cli, "apply", str(policy), "--yes", "--accept-narrower")
            assert done.returncode == 0, done.stderr

    asyncio.run(run())


def test_doctor_says_what_can_be_enforced(rootless, tmp_path):
    podman: Podman = rootless

    async def run() -> None:
        async with contained(podman, tmp_path, "--podman") as on:
            await aside(podman.run, "web")
            done = await aside(on.cli, "doctor")
            assert "root's is followed (events: file)" in " ".join(done.stdout.split())
            await aside(podman.run, "web", user="ann")
            done = await aside(on.cli, "doctor")
            assert "leave as the host's own" in " ".join(done.stdout.split())

    asyncio.run(run())
