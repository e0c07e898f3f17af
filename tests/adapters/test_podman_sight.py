"""What Podman says, in our words: pure, no Podman needed."""

import asyncio
import contextlib
from pathlib import Path

import msgspec
import pytest

from stockade.adapters.podman import accounts, sight, using
from stockade.adapters.podman.asking import Account
from stockade.adapters.podman.outbox import Outbox
from stockade.adapters.podman.wire import Container, Event
from stockade.core.model.ids import HostId, Realm, WorkloadId
from stockade.core.model.inventory import Attachment, Endpoint, Sighting, WorkloadKind, WorkloadState
from stockade.seams.places import Place
from stockade.seams.runtime import Gone, Listed, Lost, RuntimeEvent, Seen

SITE = sight.Site(HostId("host-a"), "a.example", WorkloadId("host:host-a"))
USERS = msgspec.structs.replace(SITE, uid=1000)
WEB = {
    "Id": "aa",
    "Name": "web",
    "Created": "2026-01-02T03:04:05.123456789Z",
    "ImageName": "shop/web",
    "State": {"Status": "running", "Pid": 7},
    "Config": {"Labels": {"app": "shop"}},
    "HostConfig": {"NetworkMode": "bridge"},
    "NetworkSettings": {
        "Networks": {
            "front": {
                "MacAddress": "92:AA:00:00:00:01",
                "IPAddress": "10.89.0.2",
                "GlobalIPv6Address": "fd00:0::2",
                "SecondaryIPAddresses": [{"Addr": "10.89.0.9", "PrefixLength": 24}],
            }
        },
        "Ports": {"80/tcp": [{"HostIp": "", "HostPort": "8080"}], "81/tcp": None, "9/unknown": [{"HostPort": "9"}]},
    },
}
FOUND = Endpoint(Attachment.BRIDGED, ("10.9.9.9",), "veth0", "podman1", "92:aa:00:00:00:01", Realm("host-a/podman1"))


def container(**changes: object) -> Container:
    return msgspec.convert({**WEB, **changes}, Container)


def seen(name: str, uid: int = 0) -> Seen:
    site = msgspec.structs.replace(SITE, uid=uid)
    return Seen(Sighting(sight.workload_id(site, name), name, WorkloadKind.CONTAINER), 1.0)


def test_a_container_of_roots() -> None:
    place = Place("netns:1", (FOUND,))
    said = sight.sighting(SITE, container(), {}, None, sight.endpoints(SITE, container(), place))
    assert (said.id, said.name, said.state) == ("podman:host-a:aa", "web", WorkloadState.RUNNING)
    assert said.created == pytest.approx(1767323045.123456)
    assert said.facts.labels == (("app", "shop"),)
    (endpoint,) = said.endpoints
    assert endpoint.addresses == ("10.89.0.2", "10.89.0.9", "fd00::2"), "what it gave itself inside is not its own"
    assert (endpoint.port, endpoint.bridge, endpoint.realm) == ("veth0", "podman1", "host-a/podman1")


def test_a_link_that_is_not_found_yet_is_asked_about_again() -> None:
    (endpoint,) = sight.endpoints(SITE, container(), Place(""))
    assert endpoint.port == ""
    assert sight.incomplete(Seen(sight.sighting(SITE, container(), {}, None, (endpoint,)), 0.0))
    assert not sight.incomplete(Seen(sight.sighting(SITE, container(), {}, None, (FOUND,)), 0.0))


@pytest.mark.parametrize("mode", ["bridge", "slirp4netns", "pasta:-I,eth0", "ns:/run/netns/x"])
def test_a_users_container_has_no_place_whatever_it_says(mode: str) -> None:
    its = container(HostConfig={"NetworkMode": mode})
    (endpoint,) = sight.endpoints(USERS, its, Place("netns:1", (FOUND,)))
    assert (endpoint.attachment, endpoint.addresses, endpoint.port) == (Attachment.OPAQUE, (), "")
    assert endpoint.reason == sight.BY_PROCESS
    assert sight.published(USERS, its) == ()
    assert sight.named(USERS, "aa") == ()
    assert sight.workload_id(USERS, "aa") == "podman:host-a:1000/aa"


def test_whose_network_it_is() -> None:
    for mode, owner in (("host", "host:host-a"), ("container:bb", "podman:host-a:bb"), ("bridge", None)):
        assert sight.owner(SITE, container(HostConfig={"NetworkMode": mode})) == owner
    assert sight.endpoints(USERS, container(HostConfig={"NetworkMode": "none"}), Place("netns:1")) == ()


def test_a_port_is_published_once_for_each_family_that_is_translated() -> None:
    both = [(each.to_address, each.address) for each in sight.published(SITE, container())]
    assert both == [("10.89.0.2", ""), ("fd00::2", "")]
    for host_ip, expected in (
        ("127.0.0.1", [("10.89.0.2", "127.0.0.1")]),
        ("0.0.0.0", [("10.89.0.2", "")]),
        ("::", [("fd00::2", "")]),
        ("2001:db8:0::1", [("fd00::2", "2001:db8::1")]),
    ):
        settings = {**WEB["NetworkSettings"], "Ports": {"80/tcp": [{"HostIp": host_ip, "HostPort": "8080"}]}}
        found = sight.published(SITE, container(NetworkSettings=settings))
        assert [(each.to_address, each.address) for each in found] == expected


def test_a_pod_bears_its_own_name() -> None:
    infra = container(Name="p-infra", Pod="p", IsInfra=True)
    assert sight.sighting(SITE, infra, {"p": "shop"}, None, ()).name == "shop"
    assert sight.sighting(SITE, infra, {}, None, ()).name == "p-infra"
    assert sight.sighting(SITE, infra, {}, None, ()).kind is WorkloadKind.POD


def test_events_of_older_and_newer_spelling() -> None:
    older = msgspec.json.decode(
        '{"ID":"a","Type":"container","Status":"create","Time":"2026-01-02T03:04:05.5Z"}', type=Event
    )
    newer = msgspec.json.decode(
        '{"ID":"a","Type":"container","Status":"create","timeNano":1767323045500000000}', type=Event
    )
    assert older.at == newer.at == 1767323045.5


# What is said, and when


async def taken(outbox: Outbox) -> list[RuntimeEvent]:
    found = []
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0.05):
            while True:
                found.append(await outbox.take())
    return found


def test_nothing_is_said_before_everybody_who_was_found_has_answered() -> None:
    async def test() -> None:
        outbox = Outbox()
        outbox.expect([0, 1000])
        outbox.seen(0, seen("early"))
        outbox.listed(0, [seen("web")])
        assert await taken(outbox) == []
        outbox.lost(1000, "1000 is lost")
        assert await taken(outbox) == [Listed((seen("web"),)), Lost("1000 is lost")]
        outbox.listed(1000, [seen("web", 1000)])
        assert await taken(outbox) == [Listed((seen("web", 1000), seen("web")))]

    asyncio.run(test())


def test_a_loss_of_one_stays_when_another_lists() -> None:
    async def test() -> None:
        outbox = Outbox()
        outbox.lost(0, "root's is lost")
        assert await taken(outbox) == [Lost("root's is lost")]
        outbox.lost(0, "root's is lost")
        assert await taken(outbox) == [], "said once"
        outbox.listed(0, [seen("web")])
        outbox.lost(0, "again")
        outbox.listed(1000, [seen("its", 1000)])
        first, second = await taken(outbox)
        assert isinstance(first, Listed)
        assert {each.sighting.name for each in first.seen} == {"web", "its"}
        assert second == Lost("again")
        outbox.lost(1000, "1000 too")
        assert await taken(outbox) == [Lost("again; 1000 too")]

    asyncio.run(test())


def test_what_is_newer_replaces_what_waits() -> None:
    async def test() -> None:
        outbox = Outbox()
        outbox.listed(0, [])
        outbox.seen(0, seen("a"))
        outbox.seen(0, seen("b"))
        outbox.gone(0, seen("a").sighting.id, 2.0)
        assert await taken(outbox) == [Listed(()), seen("b"), Gone(seen("a").sighting.id, 2.0)]
        outbox.listed(1000, [seen("its", 1000)])
        assert not outbox.done(1000)
        outbox.left(1000)
        assert await taken(outbox) == [Listed((seen("b"),))]

    asyncio.run(test())


# Who runs containers


def process(folder: Path, pid: int, comm: str, uid: int, namespace: str = "pid:[1]", network: str = "net:[1]") -> None:
    own = folder / str(pid)
    (own / "ns").mkdir(parents=True)
    (own / "comm").write_text(f"{comm}\n")
    (own / "status").write_text(
        f"Name:\t{comm}\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\nGid:\t{uid}\t{uid}\t0\t0\nGroups:\t5 4 \n"
    )
    (own / "environ").write_text(f"HOME=/home/{uid}\0XDG_RUNTIME_DIR=/run/user/{uid}\0")
    (own / "ns" / "pid").symlink_to(namespace)
    (own / "ns" / "net").symlink_to(network)


def test_users_are_found_by_who_watches_over_their_containers(tmp_path: Path) -> None:
    (tmp_path / "self" / "ns").mkdir(parents=True)
    (tmp_path / "self" / "ns" / "pid").symlink_to("pid:[1]")
    (tmp_path / "self" / "ns" / "net").symlink_to("net:[1]")
    process(tmp_path, 10, "conmon", 0)
    process(tmp_path, 11, "conmon", 1001)
    process(tmp_path, 12, "conmon", 1000)
    process(tmp_path, 13, "conmon", 1000)
    process(tmp_path, 14, "bash", 1002)
    process(tmp_path, 15, "conmon", 100000, "pid:[2]")  # in somebody's container
    process(tmp_path, 17, "conmon", 1003, network="net:[2]")  # of another host on this machine
    (tmp_path / "16").mkdir()  # it ended meanwhile
    assert accounts(tmp_path, tmp_path / "self") == (
        Account(1000, 1000, (4, 5), "/home/1000", "/run/user/1000"),
        Account(1001, 1001, (4, 5), "/home/1001", "/run/user/1001"),
    )


@pytest.mark.parametrize(
    "trace", ["run/podman/podman.sock", "run/libpod/x", "var/lib/containers/storage/overlay-containers/a/userdata/x"]
)
def test_podman_is_used_where_it_has_left_a_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trace: str) -> None:
    (tmp_path / "proc" / "self" / "ns").mkdir(parents=True)
    (tmp_path / "proc" / "self" / "ns" / "pid").symlink_to("pid:[1]")
    (tmp_path / "proc" / "self" / "ns" / "net").symlink_to("net:[1]")
    monkeypatch.setattr(using, "program", lambda: "/usr/bin/podman")
    assert not using.used(tmp_path)
    (tmp_path / trace).parent.mkdir(parents=True)
    (tmp_path / trace).touch()
    assert using.used(tmp_path)
    monkeypatch.setattr(using, "program", lambda: "")
    assert not using.used(tmp_path)
