"""The kernel's census against real namespaces, processes, mounts and sockets."""

import asyncio
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from stockade.adapters.namespaces import Sockets, listening
from stockade.adapters.namespaces.census import Census, Home
from stockade.adapters.namespaces.diag import Unavailable
from stockade.adapters.namespaces.mounts import mounted
from stockade.adapters.namespaces.processes import look, namespace_of, number, pids
from stockade.adapters.namespaces.runtime import Allowance
from stockade.core.model.net import Protocol
from stockade.seams.places import Place
from stockade.seams.runtime import Gone, Listed, RuntimeEvent, Seen
from stockade.testing.bare_host import BareHost, bare_host, why_not

MOUNTINFO = r"""22 28 0:20 / /sys rw,nosuid shared:7 - sysfs sysfs rw
122 121 0:4 net:[4026532321] /run/netns/web rw shared:35 - nsfs nsfs rw
123 121 0:4 net:[4026532321] /run/docker/netns/1f2e rw shared:36 - nsfs nsfs rw
124 121 0:4 mnt:[4026532399] /run/snapd/ns/some.mnt rw shared:37 - nsfs nsfs rw
125 121 0:4 net:[4026532393] /run/netns/with\040space rw shared:38 - nsfs nsfs rw
"""


def test_mounted_namespaces_by_inode(tmp_path: Path) -> None:
    (tmp_path / "mountinfo").write_text(MOUNTINFO, encoding="utf-8")
    assert mounted(tmp_path / "mountinfo") == {
        4026532321: ("/run/docker/netns/1f2e", "/run/netns/web"),
        4026532393: ("/run/netns/with space",),
    }


def test_some_may_be_spent_at_once_and_no_more_than_a_share_in_the_end() -> None:
    allowance = Allowance(0.25, 0.05)
    assert [allowance.spend(0.01, now / 1000) for now in range(5)] == [0.0] * 5
    assert allowance.spend(0.04, 0.01) == pytest.approx((0.09 - 0.0025 - 0.05) / 0.25)
    assert allowance.spend(0.01, 10.0) == 0.0, "what was not spent meanwhile is there again, and no more than that"
    now = spent = 0.0
    steady = Allowance(0.25, 0.05)
    while now < 100:
        spent += 0.003
        now += 0.003 + steady.spend(0.003, now)
    assert spent <= 0.25 * now + 0.06
    assert spent >= 0.24 * now


@pytest.mark.parametrize(("many", "least", "most"), [(1, 300, 300), (2_000, 2_000, 1e9)])
def test_where_many_are_known_each_is_looked_into_the_more_seldom(many: int, least: float, most: float) -> None:
    """A look that takes two milliseconds and more, of one in so many that have been there for long."""

    def slowly(_path: str) -> Place:
        time.sleep(0.002)
        return Place("here")

    census = Census(slowly)
    home = Home(census.own, 0, Place("here"), 0.0, 0.0, None, ("/proc/self/ns/net",))
    census.homes = {census.own: home, **dict.fromkeys(range(many - 1), home)}
    now = 1e9
    for _ in range(50):
        census.look_into({census.own}, now)
    assert least <= home.due - now <= most


def test_what_a_link_names() -> None:
    assert number("net:[4026531840]") == 4026531840
    assert number("mnt:[4026531840]") == number("/dev/null") == 0


GROUPS = {
    "docker-{}.scope": "docker-{}.scope",
    "kubepods.slice/cri-containerd-{}.scope": "cri-containerd-{}.scope",
    "docker/{}": "",
    "system.slice/shop.service": "shop.service",
    "user.slice/user-1000.slice/session-1.scope": "session-1.scope",
}


def processes(folder: Path, group: str, parents_group: str, nspid: str) -> Path:
    """Write a process and its parent as /proc shows them."""
    for pid, parent, its, ids in ((70, 60, group, nspid), (60, 1, parents_group, "60")):
        (folder / str(pid)).mkdir()
        stat = f"{pid} (a) b) S {parent} " + " ".join("0" for _ in range(17)) + " 500 0 0\n"
        (folder / str(pid) / "stat").write_text(stat, encoding="utf-8")
        (folder / str(pid) / "cgroup").write_text(f"0::/{its}\n", encoding="utf-8")
        (folder / str(pid) / "status").write_text(f"Name:\ta\nNSpid:\t{ids}\n", encoding="utf-8")
    (folder / "stat").write_text("cpu 1\nbtime 1000\n", encoding="ascii")
    return folder


@pytest.mark.parametrize(("group", "unit"), GROUPS.items())
def test_a_process_its_start_its_unit_and_its_container(tmp_path: Path, group: str, unit: str) -> None:
    id_ = "ab" * 32
    found = look(70, processes(tmp_path, group.format(id_), "system.slice/engine.service", "70\t1"))
    assert found is not None
    assert (found.name, found.began, found.unit) == ("a) b", 1000 + 500 / os.sysconf("SC_CLK_TCK"), unit.format(id_))
    assert found.container == (id_ if "{}" in group else "")


@pytest.mark.parametrize(
    ("parents_group", "nspid"),
    [("docker/" + "ab" * 32, "70\t1"), ("engine.service", "70\t5"), ("engine.service", "70\t9\t1"), ("engine", "70")],
)
def test_what_is_begun_within_a_container_is_not_the_container(tmp_path: Path, parents_group: str, nspid: str) -> None:
    found = look(70, processes(tmp_path, "docker/" + "ab" * 32, parents_group, nspid))
    assert found is not None
    assert found.container == ""


def test_a_process_that_is_gone_is_not_there(tmp_path: Path) -> None:
    assert look(70, tmp_path) is None
    assert namespace_of(70, tmp_path) == 0
    assert os.getpid() in pids()


@pytest.mark.parametrize(
    ("family", "address", "shown"),
    [
        (socket.AF_INET, "127.0.0.1", "127.0.0.1"),
        (socket.AF_INET, "0.0.0.0", ""),
        (socket.AF_INET6, "::1", "::1"),
        (socket.AF_INET6, "::", ""),
    ],
)
def test_what_this_process_listens_on(family: socket.AddressFamily, address: str, shown: str) -> None:
    sockets, own = Sockets(), (os.getpid(),)
    with socket.socket(family, socket.SOCK_STREAM) as tcp, socket.socket(family, socket.SOCK_DGRAM) as udp:
        for each in (tcp, udp):
            each.bind((address, 0))
        assert tcp.getsockname()[1] not in ports(sockets.listening(os.getpid(), own), Protocol.TCP)
        tcp.listen()
        found = sockets.listening(os.getpid(), own)
        for each, protocol in ((tcp, Protocol.TCP), (udp, Protocol.UDP)):
            (it,) = [one for one in found if (one.protocol, one.port) == (protocol, each.getsockname()[1])]
            assert it.address == shown
            assert it.process is not None
            assert it.process.pid == os.getpid()
        port = tcp.getsockname()[1]
    assert port not in ports(sockets.listening(os.getpid(), own), Protocol.TCP)


def test_where_the_kernel_cannot_be_asked_its_tables_say_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: str) -> None:
        raise Unavailable

    with socket.create_server(("127.0.0.1", 0)), socket.create_server(("::1", 0), family=socket.AF_INET6):
        asked = Sockets().listening(os.getpid(), (os.getpid(),))
        monkeypatch.setattr(listening, "listed", refuse)
        tables = Sockets().listening(os.getpid(), (os.getpid(),))
    own = [[each for each in found if each.process] for found in (asked, tables)]
    assert own[0] == own[1] != []


def ports(found: tuple[object, ...], protocol: Protocol) -> set[int]:
    return {each.port for each in found if each.protocol is protocol}  # type: ignore[attr-defined]


def test_a_socket_whose_holder_is_not_among_the_processes_is_nobodys() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        found = Sockets().listening(os.getpid(), ())
        (it,) = [each for each in found if each.port == server.getsockname()[1]]
        assert it.process is None


def test_an_sctp_endpoint_as_the_kernel_writes_it(tmp_path: Path) -> None:
    folder = tmp_path / "5" / "net"
    (folder / "sctp").mkdir(parents=True)
    (tmp_path / "5/ns").mkdir()
    (tmp_path / "5/ns/net").symlink_to("/proc/self/ns/net")
    head = " ENDPT     SOCK   STY SST HBKT LPORT   UID INODE LADDRS\n"
    rows = "ffff8 ffff9 2   10  29   36412   0 1234 192.0.2.1 192.0.2.2\nffffa ffffb 2   7   30   9   0 1235 0.0.0.0\n"
    (folder / "sctp/eps").write_text(head + rows, encoding="ascii")
    found = [each for each in Sockets(tmp_path).listening(5, ()) if each.protocol is Protocol.SCTP]
    assert [(each.protocol, each.port, each.address) for each in found] == [
        (Protocol.SCTP, 36412, "192.0.2.1"),
        (Protocol.SCTP, 36412, "192.0.2.2"),
    ]


# Real namespaces

FOLLOW = """
import asyncio, sys
import msgspec
from stockade.adapters.namespaces import NamespacesRuntime
from stockade.adapters.netlink import HostWatch, LinkPlaces, stirs
from stockade.controller.clock import SystemClock
from stockade.core.model.ids import HostId

def tell(event):
    sys.stdout.buffer.write(msgspec.json.encode(event) + b"\\n")
    sys.stdout.flush()

async def follow():
    host = HostId("h")
    runtime = NamespacesRuntime(host, places=LinkPlaces(host), stirs=stirs, clock=SystemClock(), uplinks=("up0",))
    watch = HostWatch(host, uplinks=("up0",), heard=runtime.heed)

    async def looks():
        async for look, _ in watch.looks(lambda: (), asyncio.Event()):
            runtime.heed_strangers(each.port for each in look.unknown)

    looking = asyncio.create_task(looks())
    async for event in runtime.events():
        tell(event)

asyncio.run(follow())
"""


class Followed:
    """What the census tells of a bare host."""

    def __init__(self, host: BareHost, process: asyncio.subprocess.Process) -> None:
        self.host, self.process = host, process
        self.there: dict[str, Seen] = {}
        self.told: list[RuntimeEvent] = []

    async def until(self, happens: Callable[[dict[str, Seen]], object]) -> None:
        """Take what is told until something is so."""
        assert self.process.stdout is not None
        async with asyncio.timeout(60):
            while not happens(self.there):
                line = await self.process.stdout.readline()
                assert line, "the follower ended"
                self._take(msgspec.json.decode(line, type=RuntimeEvent))

    def _take(self, event: RuntimeEvent) -> None:
        self.told.append(event)
        match event:
            case Listed(seen=seen):
                self.there = {each.sighting.id: each for each in seen}
            case Seen(sighting=sighting):
                self.there[sighting.id] = event
            case Gone(id=gone):
                assert self.there.pop(gone, None) is not None

    def named(self, name: str) -> list[Seen]:
        return [each for each in self.there.values() if each.sighting.name == name]


def following(scenario: Callable[[Followed], object], before: str = "") -> None:
    if reason := why_not():
        pytest.skip(f"this machine: {reason}")
    with bare_host() as host:
        host.run(before or "true")

        async def run() -> None:
            process = await asyncio.create_subprocess_exec(
                *host.words, sys.executable, "-c", FOLLOW, stdout=asyncio.subprocess.PIPE
            )
            followed = Followed(host, process)
            try:
                await followed.until(lambda _: followed.told)
                await scenario(followed)  # type: ignore[misc]
            finally:
                process.kill()
                await process.wait()

        asyncio.run(run())


@pytest.mark.real
@pytest.mark.timeout(120)
def test_a_bare_namespace_is_told_of_with_its_place_and_when_it_goes() -> None:
    async def scenario(on: Followed) -> None:
        on.host.plug("rogue", 7)
        await on.until(lambda _: on.named("rogue") and on.named("rogue")[0].sighting.endpoints)
        (seen,) = on.named("rogue")
        (endpoint,) = seen.sighting.endpoints
        assert (endpoint.port, endpoint.bridge, endpoint.addresses) == ("rogue", "br0", ("10.99.0.7",))
        assert seen.sighting.id == f"netns:h:{seen.marks[0].partition(':')[2]}"
        on.host.run("ip -n rogue addr add 10.99.0.8/24 dev eth0; ip link set rogue down; ip link set rogue up")
        await on.until(lambda _: "10.99.0.8" in on.named("rogue")[0].sighting.endpoints[0].addresses)
        on.host.run("ip netns del rogue")
        await on.until(lambda _: not on.named("rogue"))

    following(scenario)


@pytest.mark.real
@pytest.mark.timeout(120)
def test_an_address_that_is_given_within_is_heard_of_there() -> None:
    """The host's kernel says no word of it."""

    async def scenario(on: Followed) -> None:
        on.host.run("ip netns add late; ip link add late type veth peer name eth0 netns late")
        on.host.run("ip link set late master br0 up; ip -n late link set eth0 up")
        await on.until(lambda _: on.named("late") and on.named("late")[0].sighting.endpoints)
        on.host.run("ip -n late address add 10.99.0.9/24 dev eth0")
        await on.until(lambda _: on.named("late")[0].sighting.endpoints[0].addresses == ("10.99.0.9",))
        on.host.run("ip netns del late")
        await on.until(lambda _: not on.named("late"))

    following(scenario)


@pytest.mark.real
@pytest.mark.timeout(120)
def test_what_was_there_before_is_listed() -> None:
    async def scenario(on: Followed) -> None:
        assert isinstance(on.told[0], Listed)
        assert [each.sighting.name for each in on.there.values()] == ["old"]

    following(
        scenario,
        "ip netns add old; ip link add old type veth peer name eth0 netns old; ip link set old master br0 up;"
        "ip -n old link set eth0 up",
    )


@pytest.mark.real
@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("script", "network"),
    [("exec sleep 99", "none"), ("ip link add v0 type veth peer name v1; exec sleep 99", "nested")],
)
def test_a_namespace_of_a_process_alone_has_no_place_here(script: str, network: str) -> None:
    async def scenario(on: Followed) -> None:
        process = on.host.start("sh", "-c", f"unshare -n sh -c '{script}' & wait")
        try:
            await on.until(lambda there: [each for each in there.values() if is_of(each, "sleep")])
            (seen,) = on.there.values()
            assert seen.sighting.endpoints == ()
            await on.until(lambda there: [e for e in there.values() if ("network", network) in e.sighting.facts.labels])
        finally:
            on.host.run(f"kill $(cat /proc/{process.pid}/task/{process.pid}/children)")
            process.wait(60)
        await on.until(lambda there: not there)

    following(scenario)


def is_of(seen: Seen, process: str) -> bool:
    return ("process", process) in seen.sighting.facts.labels


@pytest.mark.real
@pytest.mark.timeout(120)
def test_what_an_open_file_alone_keeps_is_found_by_its_link() -> None:
    async def scenario(on: Followed) -> None:
        waits = "until test -e /run/netns/go; do sleep 0.05; done"
        script = f"{waits}; exec 9< /run/netns/kept; touch /run/netns/held; exec sleep 99"
        keeper = on.host.start("sh", "-c", script)
        try:
            on.host.plug("kept", 7)
            on.host.run("touch /run/netns/go")
            await on.until(lambda _: on.named("kept"))
            on.host.run("until test -e /run/netns/held; do sleep 0.05; done; ip netns del kept")
            await on.until(lambda there: [e for e in there.values() if e.sighting.name != "kept"])
            (seen,) = on.there.values()
            assert [each.port for each in seen.sighting.endpoints] == ["kept"]
        finally:
            keeper.kill()
            keeper.wait()
        await on.until(lambda there: not there)

    following(scenario)


@pytest.mark.real
@pytest.mark.timeout(120)
def test_an_inode_that_is_given_out_again_confuses_nobody() -> None:
    """Each namespace of many, made and removed one after the other, has an id of its own."""

    async def scenario(on: Followed) -> None:
        for each in range(12):
            on.host.plug(f"n{each}", 10 + each)
            await on.until(lambda _, name=f"n{each}": on.named(name))
            on.host.run(f"ip netns del n{each}; ip netns add m{each}; ip netns del m{each}")
        await on.until(lambda there: not there)
        ids = [each.sighting.id for each in on.told if isinstance(each, Seen)]
        assert len(set(ids)) == 12

    following(scenario)


@pytest.mark.real
@pytest.mark.timeout(120)
def test_what_is_beyond_an_uplink_is_outside() -> None:
    async def scenario(on: Followed) -> None:
        on.host.run("ip netns add out; ip link add up0 type veth peer name eth0 netns out; ip link set up0 up")
        on.host.plug("rogue", 7)
        await on.until(lambda _: on.named("rogue"))
        assert not on.named("out")

    following(scenario)


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    before = set(Path("/run/netns").iterdir()) if Path("/run/netns").is_dir() else set()
    yield
    after = set(Path("/run/netns").iterdir()) if Path("/run/netns").is_dir() else set()
    assert {each for each in after - before if each.name in ("rogue", "old", "kept", "out")} == set()
