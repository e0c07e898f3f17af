"""A user's Podman: its containers are discovered, and what becomes of their traffic is as the pages say."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from test_podman_faults import listeners

from conftest import HOST
from stockade.adapters.podman.owning import owned
from stockade.core.model.ids import WorkloadId
from stockade.core.model.inventory import Attachment, WorkloadKind, WorkloadState
from stockade.seams.runtime import Gone
from stockade.testing.podman import Podman

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]

ANN = {"user": "ann"}


async def aside(call, *words, **named):
    return await asyncio.to_thread(call, *words, **named)


def test_a_user_who_comes_and_goes(rootless, follow):
    """A user's first container is noticed when it is born, without asking before; the last one's end, too."""
    podman: Podman = rootless

    async def test() -> None:
        async with follow(podman) as told:
            assert not told.now
            assert len(listeners(podman)) == 1
            id_ = await aside(podman.run, "web", "--label", "app=shop", "-p", "8081:80", **ANN)
            await told.until(lambda t: t["web"].endpoints)
            web, uid = told["web"], podman.users["ann"].uid
            assert web.id == WorkloadId(f"podman:{HOST}:{uid}/{id_}")
            assert (web.kind, web.state) == (WorkloadKind.CONTAINER, WorkloadState.RUNNING)
            assert ("app", "shop") in web.facts.labels
            assert web.facts.runtime == "podman"
            assert not told.named()["web"].published
            (mark,) = told.named()["web"].marks
            assert mark.startswith("netns:")
            assert len(listeners(podman)) == 2

            await aside(podman.run, "second", **ANN)
            await told.until(lambda t: t["second"].endpoints)
            await aside(podman.podman, "stop", "-t", "0", "web", **ANN)
            await told.until(lambda t: t["web"].state is WorkloadState.STOPPED)
            await aside(podman.remove, "web", "second", **ANN)
            await told.until(lambda t: not t.now)
            assert any(isinstance(event, Gone) for event in told.about("web"))
            assert not told.lost

    asyncio.run(test())


def test_whoever_has_no_containers_is_not_followed(rootless, follow):
    podman: Podman = rootless

    async def test() -> None:
        await aside(podman.run, "web", **ANN)
        async with follow(podman, resync=1.0) as told:
            await told.until(lambda t: t["web"].endpoints)
            await aside(podman.remove, "web", **ANN)
            await told.until(lambda t: not t.now)
            for _ in range(200):
                if len(listeners(podman)) == 1:
                    break
                await asyncio.sleep(0.1)
            assert len(listeners(podman)) == 1

    asyncio.run(test())


def test_whose_network_it_is(rootless, follow):
    """Whatever its network is called, a user's container has no place of its own on the host."""
    podman: Podman = rootless

    async def test() -> None:
        await aside(podman.podman, "network", "create", "front", **ANN)
        for name, mode in (
            ("slirp", "slirp4netns"),
            ("bridged", "front"),
            ("beside", "container:bridged"),
            ("hosted", "host"),
            ("alone", "none"),
        ):
            await aside(podman.run, name, "--network", mode, **ANN)
        await aside(podman.podman, "pod", "create", "--name", "pod", **ANN)
        await aside(podman.run, "member", "--pod", "pod", init=False, **ANN)
        async with follow(podman) as told:
            await told.until(lambda t: t["member"].owner == t["pod"].id)
            for name in ("slirp", "bridged", "pod"):
                (place,) = told[name].endpoints
                assert (place.attachment, place.addresses, place.port, place.mac) == (Attachment.OPAQUE, (), "", "")
                assert "as the host's own" in place.reason
            assert told["beside"].owner == told["bridged"].id
            assert told["hosted"].owner == WorkloadId(f"host:{HOST}")
            assert (told["alone"].owner, told["alone"].endpoints) == (None, ())
            assert told["pod"].kind is WorkloadKind.POD

    asyncio.run(test())


def test_a_user_speaks_of_nobody_elses_namespace(rootless):
    podman: Podman = rootless
    podman.run("web")
    podman.run("web", **ANN)
    uid = podman.users["ann"].uid
    own = Path(f"/proc/{podman.pid('web', 'ann')}/ns/net")
    with owned(own, uid) as path:
        assert os.stat(path).st_ino == os.stat(own).st_ino  # noqa: PTH116 - nsfs has no Path of its own
    for other in (podman.pid("web"), podman.host_pid):
        with pytest.raises(OSError, match="not a network namespace of user"):
            owned(Path(f"/proc/{other}/ns/net"), uid).__enter__()


# What becomes of its traffic

WHO = """
import socket
listening = socket.create_server(("", {port}))
listening.settimeout(60)
print("ready", flush=True)
connection, peer = listening.accept()
print(peer[0], flush=True)
"""


def peer_of(podman: Podman, enter: list[str], port: int, address: str, name: str, **user: str) -> str:
    """Connect from a container to a listener; return who that listener took it for."""
    words = [*enter, sys.executable, "-c", WHO.format(port=port)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as listening:
        assert listening.stdout.readline() == "ready\n"
        podman.exec(name, "nc", "-w", "5", address, str(port), **user)
        return listening.stdout.readline().strip()


def test_its_traffic_is_the_hosts_own(rootless):
    """Outside and at root's containers it is the host who connects, whatever the user's network is."""
    podman: Podman = rootless
    podman.run("target")
    podman.podman("network", "create", "front", **ANN)
    podman.run("slirp", **ANN)
    podman.run("bridged", "--network", "front", **ANN)
    target = podman.inspect("target")["NetworkSettings"]["Networks"]["podman"]["IPAddress"]
    within = ["nsenter", f"--net=/proc/{podman.pid('target')}/ns/net", "--"]
    for port, name in ((7001, "slirp"), (7002, "bridged")):
        assert peer_of(podman, podman.outside, port, "198.51.100.2", name, **ANN) == "198.51.100.1"
        assert peer_of(podman, within, port, target, name, **ANN) == "10.88.0.1"
    podman.run("own")
    source = podman.inspect("own")["NetworkSettings"]["Networks"]["podman"]["IPAddress"]
    assert peer_of(podman, within, 7003, target, "own") == source, "root's container is itself"


def test_between_one_users_containers_the_host_sees_nothing(rootless):
    podman: Podman = rootless
    podman.podman("network", "create", "front", **ANN)
    before = {each["ifname"] for each in json.loads(podman.on_host("ip", "-j", "link"))}
    podman.run("web", "--network", "front", command=("sh", "-c", "httpd -p 80; exec sleep 100000"), **ANN)
    podman.run("client", "--network", "front", **ANN)
    address = podman.inspect("web", "ann")["NetworkSettings"]["Networks"]["front"]["IPAddress"]
    assert podman.exec("client", "wget", "-qO-", f"http://{address}/etc/passwd", **ANN).startswith("root:")
    after = {each["ifname"] for each in json.loads(podman.on_host("ip", "-j", "link"))}
    assert after == before, "its links are in a namespace of the user's"


def test_what_it_publishes_is_a_port_of_a_process_of_the_host(rootless):
    podman: Podman = rootless
    podman.run("web", "-p", "8083:80", command=("sh", "-c", "httpd -p 80; exec sleep 100000"), **ANN)
    said = podman.on_host("ss", "-Hltnp", "sport", "=", ":8083")
    assert "rootlessport" in said or '"exe"' in said
    assert "8083" not in podman.on_host("iptables", "-t", "nat", "-S")
    fetched = subprocess.run(
        [*podman.outside, "busybox", "wget", "-qO-", "http://198.51.100.1:8083/etc/passwd"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert fetched.stdout.startswith("root:")
