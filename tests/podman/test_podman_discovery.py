"""Root's Podman, discovered: whoever is there and whatever happens is told as it is."""

import asyncio
import itertools
import json
import time

import pytest

from conftest import HOST
from stockade.core.model.ids import WorkloadId
from stockade.core.model.inventory import Attachment, WorkloadKind, WorkloadState
from stockade.core.model.net import Protocol
from stockade.seams.runtime import Gone, Listed, Seen
from stockade.testing.following import Follower
from stockade.testing.podman import Podman

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]

MANY = 30


async def aside(call, *words, **named):
    return await asyncio.to_thread(call, *words, **named)


def running(told: Follower, *names: str) -> bool:
    """Whether these run, and each has a place that has been found, or an owner."""
    found = [told[name] for name in names]
    return all(
        each.state is WorkloadState.RUNNING and (each.owner or all(one.port for one in each.endpoints))
        for each in found
    )


def links(podman: Podman, name: str) -> dict[str, tuple[str, set[str]]]:
    """What the kernel says of a container's links: by MAC, the host's port and the addresses."""
    pid = podman.pid(name)
    words = ["nsenter", f"--net=/proc/{pid}/ns/net", "--", "ip", "-j", "address"]
    inner = json.loads(podman.on_host(*words))
    outer = {each["ifindex"]: each["ifname"] for each in json.loads(podman.on_host("ip", "-j", "link"))}
    return {
        each["address"]: (
            outer.get(each.get("link_index", 0), ""),
            {one["local"] for one in each["addr_info"] if one["scope"] == "global"},
        )
        for each in inner
        if each["ifname"] != "lo" and each.get("address")
    }


def test_one_life(podman, follow):
    """Create, start, pause, rename, stop, start, restart, remove: each is told, in order and with everything."""

    async def test() -> None:
        async with follow(podman) as told:
            assert isinstance(told.told[0], Listed)
            before = time.time()
            id_ = await aside(
                podman.podman, "create", "--init", "--name", "web", "--label", "app=shop", podman.image, "sleep", "9999"
            )
            await told.until(lambda t: t["web"])
            web = told["web"]
            assert web.id == WorkloadId(f"podman:{HOST}:{id_}")
            assert (web.kind, web.state, web.endpoints) == (WorkloadKind.CONTAINER, WorkloadState.CREATED, ())
            assert web.facts.runtime == "podman"
            assert web.facts.image == podman.image
            assert ("app", "shop") in web.facts.labels
            assert before < web.created < time.time()
            assert web.created % 1, "to the part of a second"
            assert f"container:{id_}" in told.named()["web"].marks

            await aside(podman.podman, "start", "web")
            await told.until(lambda t: running(t, "web"))
            (place,) = told["web"].endpoints
            assert {place.mac: (place.port, set(place.addresses))} == links(podman, "web")
            assert (place.attachment, place.bridge, place.realm) == (Attachment.BRIDGED, "podman0", f"{HOST}/podman0")
            assert any(mark.startswith("netns:") for mark in told.named()["web"].marks)

            await aside(podman.podman, "pause", "web")
            await aside(podman.podman, "unpause", "web")
            await aside(podman.podman, "rename", "web", "shop")
            await told.until(lambda t: running(t, "shop"))
            await aside(podman.podman, "stop", "-t", "0", "shop")
            await told.until(lambda t: t["shop"].state is WorkloadState.STOPPED and not t["shop"].endpoints)
            await aside(podman.podman, "start", "shop")
            await told.until(lambda t: running(t, "shop"))
            first = told.named()["shop"].marks
            await aside(podman.podman, "restart", "-t", "0", "shop")
            await told.until(lambda t: running(t, "shop") and t.named()["shop"].marks != first)
            (place,) = told["shop"].endpoints
            assert {place.mac: (place.port, set(place.addresses))} == links(podman, "shop")

            await aside(podman.remove, "shop")
            await told.until(lambda t: web.id not in t.now)
            states = [event.sighting.state for event in told.about("web") if isinstance(event, Seen)]
            assert [each for each, _ in itertools.groupby(states)][:2] == [WorkloadState.CREATED, WorkloadState.RUNNING]
            assert isinstance(told.about("shop")[-1], Gone)
            assert not told.lost

    asyncio.run(test())


def test_a_process_that_ends_by_itself(podman, follow):
    async def test() -> None:
        async with follow(podman) as told:
            await aside(podman.run, "job", command=("sleep", "2"))
            await told.until(lambda t: running(t, "job"))
            await told.until(lambda t: t["job"].state is WorkloadState.STOPPED)
            await aside(podman.run, "brief", "--rm", command=("true",))
            await told.until(lambda t: any(isinstance(each, Gone) for each in t.about("brief")))

    asyncio.run(test())


def test_whose_network_it_is(podman, follow):
    """A network namespace is told once, by its owner; traffic that passes the host by is opaque."""

    async def test() -> None:
        for words in (
            ("one",),
            ("two", "--ipv6"),
            ("lan", "-d", "macvlan", "-o", "parent=up0", "--subnet", "10.66.0.0/24"),
        ):
            await aside(podman.podman, "network", "create", *words[1:], words[0])
        await aside(podman.run, "both", "--network", "one,two")
        await aside(podman.run, "beside", "--network", "container:both")
        await aside(podman.run, "hosted", "--network", "host")
        await aside(podman.run, "alone", "--network", "none")
        await aside(podman.run, "lan", "--network", "lan")
        await aside(podman.run, "carried", "--network", "slirp4netns")
        async with follow(podman) as told:
            await told.until(lambda t: running(t, "both", "beside", "hosted"))
            both = told["both"]
            assert {each.mac: (each.port, set(each.addresses)) for each in both.endpoints} == links(podman, "both")
            assert sorted(len(each.addresses) for each in both.endpoints) == [1, 2]
            assert told["beside"].owner == both.id
            assert told["hosted"].owner == WorkloadId(f"host:{HOST}")
            for name in ("beside", "hosted"):
                assert not told[name].endpoints
                assert not [mark for mark in told.named()[name].marks if mark.startswith("netns:")]
            assert (told["alone"].owner, told["alone"].endpoints) == (None, ())
            (lan,) = told["lan"].endpoints
            assert (lan.attachment, lan.port, lan.reason) == (Attachment.OPAQUE, "", "")
            assert lan.mac in links(podman, "lan")
            (carried,) = told["carried"].endpoints
            assert (carried.attachment, carried.addresses) == (Attachment.OPAQUE, ())
            assert "a process of the host" in carried.reason

            await aside(podman.podman, "network", "connect", "podman", "both")
            await told.until(lambda t: len(t["both"].endpoints) == 3 and running(t, "both"))
            assert {each.mac: (each.port, set(each.addresses)) for each in told["both"].endpoints} == links(
                podman, "both"
            )
            await aside(podman.podman, "network", "disconnect", "one", "both")
            await told.until(lambda t: len(t["both"].endpoints) == 2)

    asyncio.run(test())


def test_a_pod_is_its_infra_container(podman, follow):
    async def test() -> None:
        async with follow(podman) as told:
            await aside(podman.podman, "pod", "create", "--name", "shop", "--label", "app=shop", "-p", "9090:80")
            await aside(podman.run, "web", "--pod", "shop", init=False)
            await aside(podman.run, "db", "--pod", "shop", init=False)
            await told.until(lambda t: running(t, "shop", "web", "db"))
            pod = told["shop"]
            assert pod.kind is WorkloadKind.POD
            assert ("app", "shop") in pod.facts.labels
            assert [told[name].owner for name in ("web", "db")] == [pod.id, pod.id]
            infra = json.loads(podman.podman("pod", "inspect", "shop"))["InfraContainerID"]
            assert pod.id == f"podman:{HOST}:{infra}"
            (port,) = told.named()["shop"].published
            assert (port.workload, port.port, port.to_port) == (pod.id, 9090, 80)
            assert not told.named()["web"].published
        async with follow(podman) as anew:
            assert anew["shop"] == pod
            await aside(podman.podman, "pod", "rm", "-f", "-t", "0", "shop")
            await anew.until(lambda t: not t.now)

    asyncio.run(test())


def translations(podman: Podman) -> set[tuple[str, str, str, str]]:
    """What the kernel translates: protocol, host address (empty: any), host port, target."""
    found = set()
    for program in ("iptables", "ip6tables"):
        for line in podman.on_host(program, "-t", "nat", "-S").splitlines():
            words = line.split()
            if "--to-destination" in words:
                value = dict(itertools.pairwise(words))
                at = value.get("-d", "").partition("/")[0]
                found.add((value["-p"], at, value["--dport"], value["--to-destination"]))
    return found


@pytest.mark.parametrize("network", ["podman", "two"])
def test_published_ports_are_those_that_the_kernel_translates(podman, follow, network):
    async def test() -> None:
        if network == "two":
            await aside(podman.podman, "network", "create", "--ipv6", "two")
        words = ("-p", "8080:80", "-p", "127.0.0.1:5353:53/udp", "-p", "198.51.100.1:99:99/sctp")
        await aside(podman.run, "web", "--network", network, *words)
        async with follow(podman) as told:
            await told.until(lambda t: running(t, "web"))
            ports = told.named()["web"].published
            names = {Protocol.TCP: "tcp", Protocol.UDP: "udp", Protocol.SCTP: "sctp"}
            said = {
                (
                    names[each.protocol],
                    each.address,
                    str(each.port),
                    f"[{each.to_address}]:{each.to_port}"
                    if ":" in each.to_address
                    else f"{each.to_address}:{each.to_port}",
                )
                for each in ports
            }
            assert said == translations(podman)
            assert not any(each.proxied for each in ports)
            assert {each.workload for each in ports} == {told["web"].id}
            await aside(podman.podman, "stop", "-t", "0", "web")
            await told.until(lambda t: not t.named()["web"].published)

    asyncio.run(test())


def test_many_at_once(podman, follow):
    """Every one of many that start together is told, with its own place, and every one that goes."""

    async def test() -> None:
        free = asyncio.Semaphore(5)

        async def start(number: int) -> None:
            async with free:
                await aside(podman.run, f"m{number}", "--label", f"n={number}")

        names = [f"m{number}" for number in range(MANY)]
        async with follow(podman) as told:
            await asyncio.gather(*map(start, range(MANY)))
            await told.until(lambda t: running(t, *names), within=120)
            places = {(each.port, each.mac, each.addresses) for name in names for each in told[name].endpoints}
            assert len({port for port, _, _ in places}) == MANY
            assert dict.fromkeys(places, 1) == {
                (port, mac, tuple(sorted(addresses))): 1
                for name in names
                for mac, (port, addresses) in links(podman, name).items()
            }
            assert {dict(told[name].facts.labels)["n"] for name in names} == set(map(str, range(MANY)))
            await aside(podman.remove, *names)
            await told.until(lambda t: not t.now, within=120)

    asyncio.run(test())
