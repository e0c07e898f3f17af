"""What a real containerd runs is what is told: compared with what it says of itself and with the kernel's links."""

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from stockade.core.model.inventory import Attachment, Endpoint, WorkloadKind, WorkloadState
from stockade.seams.runtime import Gone, Listed, Seen
from stockade.testing.containerd import BRIDGE, FOREVER, IMAGE, KUBERNETES, PAUSE_IMAGE, Containerd

pytestmark = pytest.mark.real

CREATED, RUNNING, STOPPED = WorkloadState.CREATED, WorkloadState.RUNNING, WorkloadState.STOPPED


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(test())


aside = asyncio.to_thread


def truth(containerd: Containerd, pid: int) -> tuple[Endpoint, ...]:
    """A process's endpoints by what the kernel says, read the slow way."""
    within = json.loads(containerd.on_host(*containerd.within(pid), "ip", "-j", "address"))
    link = next(each for each in within if each["ifname"] == "eth0")
    outer = json.loads(containerd.on_host("ip", "-j", "link"))
    port = next(each for each in outer if each["ifindex"] == link["link_index"])
    assert port["master"] == BRIDGE
    return (
        Endpoint(
            attachment=Attachment.BRIDGED,
            addresses=tuple(sorted(one["local"] for one in link["addr_info"] if one["scope"] == "global")),
            port=port["ifname"],
            bridge=BRIDGE,
            mac=link["address"],
            realm=f"host-a/{BRIDGE}",
        ),
    )


def states(told, name: str) -> list[WorkloadState | None]:
    """The states that were told of a workload, runs of the same squashed; None where it was gone."""
    found = [event.sighting.state if isinstance(event, Seen) else None for event in told.about(name)]
    return [each for index, each in enumerate(found) if index == 0 or found[index - 1] != each]


def test_what_is_there_is_listed_whole(containerd, follow):
    async def test() -> None:
        pid = await aside(containerd.run, "web", "--label", "stockade.role=web", "--label", "tier=front")
        await aside(containerd.create, "idle")
        async with follow(containerd) as told:
            listed = told.told[0]
            assert isinstance(listed, Listed)
            assert [seen.sighting.name for seen in listed.seen] == ["idle", "web"]
            web = told.named()["web"]
            assert web.sighting.id == "containerd:host-a:default/web"
            assert web.sighting.kind is WorkloadKind.CONTAINER
            assert web.sighting.host == "host-a"
            assert web.sighting.state is RUNNING
            assert web.sighting.owner is None
            assert web.sighting.endpoints == truth(containerd, pid)
            assert len(web.sighting.endpoints[0].addresses) == 2
            facts = web.sighting.facts
            assert (facts.runtime, facts.image, facts.namespace) == ("containerd", IMAGE, "default")
            assert {("stockade.role", "web"), ("tier", "front")} <= set(facts.labels)
            mark, named = sorted(web.marks, reverse=True)
            assert named == "container:web"
            assert mark.startswith("netns:")
            described = json.loads(await aside(containerd.ctr, "containers", "info", "web"))
            assert described["CreatedAt"][:19] == _utc(web.sighting.created)[:19]
            assert web.sighting.created % 1, "to the fraction of a second"
            assert told["idle"].state is CREATED
            assert told["idle"].endpoints == ()
            assert told.named()["idle"].marks == ("container:idle",)

    run(test)


def _utc(seconds: float) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(seconds, UTC).isoformat()


def test_a_life_is_told_as_it_happens(containerd, follow):
    async def test() -> None:
        async with follow(containerd) as told:
            await aside(containerd.create, "idle", "--label", "a=b")
            await told.until(lambda told: told["idle"].facts.labels)
            assert told["idle"].state is CREATED
            pid = await aside(containerd.run, "web")
            there = truth(containerd, pid)
            await told.until(lambda told: told["web"].state is RUNNING and told["web"].endpoints == there)
            await aside(containerd.ctr, "tasks", "pause", "web")
            await told.quiet()
            assert told["web"].state is RUNNING
            assert told["web"].endpoints
            await aside(containerd.ctr, "tasks", "resume", "web")
            await aside(containerd.ctr, "containers", "label", "web", "later=yes")
            await told.until(lambda told: ("later", "yes") in told["web"].facts.labels)
            await aside(containerd.ctr, "tasks", "kill", "--signal", "SIGKILL", "web")
            await told.until(lambda told: told["web"].state is STOPPED)
            assert told["web"].endpoints == ()
            assert told.named()["web"].marks == ("container:web",)
            await aside(containerd.ctr, "tasks", "delete", "web")
            await told.quiet()
            assert told["web"].state is STOPPED, "it has lived, though it has no task any more"
            await aside(containerd.remove, "web", "idle")
            await told.until(lambda told: not told.named())
            assert states(told, "web") == [CREATED, RUNNING, STOPPED, None]
            assert states(told, "idle") == [CREATED, None]
            assert isinstance(told.about("web")[-1], Gone)

    run(test)


def test_one_that_is_started_again_has_its_new_place(containerd, follow):
    async def test() -> None:
        await aside(containerd.run, "web")
        async with follow(containerd) as told:
            before = told.named()["web"]
            await aside(containerd.ctr, "tasks", "delete", "--force", "web")
            await told.until(lambda told: told["web"].state is STOPPED)
            await aside(containerd.ctr, "tasks", "start", "--detach", "web")
            await told.until(lambda told: told["web"].state is RUNNING)
            after = told.named()["web"]
            assert after.sighting.id == before.sighting.id
            assert after.marks[-1].startswith("netns:")
            assert after.marks != before.marks, "a namespace of its own, which was never another's"

    run(test)


def test_every_namespace_is_seen_and_the_same_name_twice_is_two(containerd, follow):
    async def test() -> None:
        pids = {}
        for namespace in ("default", "moby"):
            pids[namespace] = await aside(lambda name=namespace: containerd.run("web", namespace=name))
        async with follow(containerd) as told:
            assert {each.sighting.facts.namespace for each in told.now.values()} == {"default", "moby"}
            pids["later"] = await aside(lambda: containerd.run("web", namespace="later"))
            there = {f"containerd:host-a:{name}/web": truth(containerd, pid) for name, pid in pids.items()}
            await told.until(lambda told: {id_: each.sighting.endpoints for id_, each in told.now.items()} == there)
            assert len({mark for each in told.now.values() for mark in each.marks}) == 4
            await aside(lambda: containerd.remove("web", namespace="moby"))
            await told.until(lambda told: len(told.now) == 2)
            assert "containerd:host-a:moby/web" not in told.now

    run(test)


def test_a_shared_network_namespace_is_the_first_ones(containerd, follow):
    async def test() -> None:
        pid = await aside(containerd.run, "first")
        await aside(lambda: containerd.run("second", "--with-ns", f"network:/proc/{pid}/ns/net", cni=False))
        async with follow(containerd) as told:
            await aside(lambda: containerd.run("third", "--with-ns", f"network:/proc/{pid}/ns/net", cni=False))
            await told.until(lambda told: told["third"].state is RUNNING)
            first = told.named()["first"]
            assert first.sighting.owner is None
            for name in ("second", "third"):
                assert told[name].owner == first.sighting.id
                assert told[name].endpoints == ()
                assert told.named()[name].marks == (f"container:{name}",)
            await aside(containerd.remove, "first")
            await told.until(lambda told: told["third"].owner == "containerd:host-a:default/second")
            second = told.named()["second"]
            assert second.sighting.owner is None
            assert second.marks[1:] == first.marks[1:]
            assert second.sighting.endpoints == first.sighting.endpoints

    run(test)


def test_one_on_the_hosts_network_is_the_hosts(containerd, follow):
    async def test() -> None:
        async with follow(containerd) as told:
            await aside(lambda: containerd.run("onhost", "--net-host", cni=False))
            await aside(lambda: containerd.run("alone", cni=False))
            await told.until(lambda told: told["onhost"].state is RUNNING and told["alone"].state is RUNNING)
            await told.quiet()
            assert told["onhost"].owner == "host:host-a"
            assert told["onhost"].endpoints == ()
            assert told.named()["onhost"].marks == ("container:onhost",)
            assert told["alone"].owner is None
            assert told["alone"].endpoints == ()
            assert len(told.named()["alone"].marks) == 2

    run(test)


def test_a_pod_owns_its_network_and_its_containers_share_it(containerd, follow):
    async def test() -> None:
        pods = containerd.pods
        async with follow(containerd) as told:
            pod = await aside(lambda: pods.run("shop", namespace="prod", labels={"app": "shop", "tier": "front"}))
            there = truth(containerd, await aside(containerd.pid, pod, KUBERNETES))
            await told.until(lambda told: told["shop"].endpoints == there)
            main = await aside(lambda: pods.create(pod, "main", IMAGE, FOREVER, labels={"part": "main"}))
            await told.until(lambda told: told["main"])
            sandbox = told.named()["shop"].sighting
            assert sandbox.id == f"containerd:host-a:{KUBERNETES}/{pod}"
            assert sandbox.kind is WorkloadKind.POD
            assert sandbox.owner is None
            assert sandbox.facts.namespace == "prod"
            assert sandbox.facts.image == PAUSE_IMAGE
            assert {("app", "shop"), ("tier", "front")} <= set(sandbox.facts.labels)
            assert sandbox.endpoints == there
            assert told["main"].state is CREATED
            assert told["main"].owner == sandbox.id, "before it has a process"

            await aside(pods.start, main)
            await told.until(lambda told: told["main"].state is RUNNING)
            seen = told.named()["main"]
            assert seen.sighting.kind is WorkloadKind.CONTAINER
            assert seen.sighting.owner == sandbox.id
            assert seen.sighting.endpoints == ()
            assert seen.sighting.facts.namespace == "prod"
            assert ("part", "main") in seen.sighting.facts.labels
            assert seen.marks == (f"container:{main}",)

            await aside(pods.stop, main)
            await told.until(lambda told: told["main"].state is STOPPED)
            assert told["main"].owner == sandbox.id
            await aside(pods.stop_pod, pod)
            await told.until(lambda told: told["shop"].state is STOPPED)
            await aside(pods.remove_pod, pod)
            await told.until(lambda told: not told.now)
            assert states(told, "shop") in ([CREATED, RUNNING, STOPPED, None], [RUNNING, STOPPED, None])

    run(test)


def test_a_pod_on_the_hosts_network(containerd, follow):
    async def test() -> None:
        pods = containerd.pods
        async with follow(containerd) as told:
            pod = await aside(lambda: pods.run("agent", host_network=True))
            main = await aside(lambda: pods.create(pod, "main", IMAGE, FOREVER))
            await told.until(lambda told: told["main"] and told["main"].owner == told["agent"].owner == "host:host-a")
            await aside(pods.start, main)
            await told.until(lambda told: told["main"].state is RUNNING)
            assert told["main"].owner == "host:host-a"

    run(test)


def test_an_exec_is_nobodys_death(containerd, follow):
    async def test() -> None:
        await aside(containerd.run, "web")
        async with follow(containerd) as told:
            await aside(containerd.exec, "web", "true")
            await told.quiet()
            assert told["web"].state is RUNNING
            assert told["web"].endpoints
            assert [type(event) for event in told.told] == [Listed]

    run(test)
