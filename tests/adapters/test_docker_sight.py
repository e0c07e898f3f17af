"""What a real engine answered (``captures/docker``), in our words."""

import json
from pathlib import Path

import msgspec
import pytest

from stockade.adapters.docker import proxies, sight
from stockade.adapters.docker.wire import Attached, Container, Listing, Message, Network
from stockade.core.model.ids import HostId, WorkloadId
from stockade.core.model.inventory import Attachment, Bridge, Endpoint, Published, WorkloadKind, WorkloadState
from stockade.core.model.net import Protocol
from stockade.seams.runtime import Seen

CAPTURES = Path(__file__).parent / "captures" / "docker"
SITE = sight.Site(HostId("host-a"), "host-a.example", WorkloadId("host:host-a"))


def capture(name: str) -> bytes:
    return (CAPTURES / f"{name}.json").read_bytes()


def container(name: str) -> Container:
    return msgspec.json.decode(capture(f"container-{name}"), type=Container)


NETWORKS = {network.id: network for network in msgspec.json.decode(capture("networks"), type=list[Network])}
BY_NAME = {network.name: network for network in NETWORKS.values()}
LISTINGS = {
    sight.from_listing(listing).name.removeprefix("/"): listing
    for listing in msgspec.json.decode(capture("containers"), type=list[Listing])
}
EVENTS = [
    msgspec.json.decode(line, type=Message) for line in (CAPTURES / "events.jsonl").read_bytes().splitlines() if line
]
PROXIES = {
    (proxy.transport, proxy.host_ip, proxy.host_port): proxy
    for line in (CAPTURES / "proxies.txt").read_text().splitlines()
    if (proxy := proxies.parse(line.split()))
}


def endpoints(described: Container) -> set[Endpoint | None]:
    return {sight.endpoint(SITE, NETWORKS[network], place, "veth0") for network, place in sight.joined(described)}


def test_bridges():
    back = BY_NAME["back"].id[:12]
    assert sight.bridges(SITE, NETWORKS.values()) == (
        Bridge(f"br-{back}", f"host-a/br-{back}", ("172.29.0.0/24", "fd00:99::/64")),
        Bridge("docker0", "host-a/docker0", ("172.28.0.0/16", "fd00:28::/64")),
        Bridge("stk-front", "host-a/stk-front", ("172.29.9.0/24",)),
    )


def test_a_running_container_on_two_networks():
    web = container("web")
    places = tuple(sorted((each for each in endpoints(web) if each), key=lambda each: each.realm))
    assert [place.attachment for place in places] == [Attachment.BRIDGED] * 2
    assert places[1] == Endpoint(
        Attachment.BRIDGED, ("172.29.9.2",), "veth0", "stk-front", "02:42:ac:1d:09:02", "host-a/stk-front"
    )
    assert places[0].addresses == ("172.29.0.2", "fd00:99::2")
    seen = sight.sighting(SITE, web, None, places)
    assert (seen.name, seen.kind, seen.state) == ("web", WorkloadKind.CONTAINER, WorkloadState.RUNNING)
    assert seen.id == f"docker:host-a:{web.id}"
    assert seen.endpoints == places
    assert seen.facts.runtime == "docker"
    assert seen.facts.image == "busybox:stockade"
    assert seen.facts.host_name == "host-a.example"
    assert seen.facts.labels == (("com.docker.compose.project", "shop"), ("com.docker.compose.service", "web"))
    assert seen.created == pytest.approx(web.created.timestamp())


def test_published_with_its_proxies():
    web, workload = container("web"), sight.workload_id(SITE, container("web").id)
    assert sight.published(SITE, web, NETWORKS, PROXIES) == (
        Published(Protocol.TCP, 8080, workload, "172.29.9.2", 80, "", proxied=True),
        Published(Protocol.TCP, 8080, workload, "172.29.9.2", 80, "::", proxied=True),
        Published(Protocol.UDP, 8081, workload, "172.29.9.2", 81, "127.0.0.1", proxied=True),
    )


def test_published_without_proxies_never_leads_into_an_internal_network_or_the_other_family():
    web, workload = container("web"), sight.workload_id(SITE, container("web").id)
    assert sight.published(SITE, web, NETWORKS, {}) == (
        Published(Protocol.TCP, 8080, workload, "172.29.9.2", 80),
        Published(Protocol.UDP, 8081, workload, "172.29.9.2", 81, "127.0.0.1"),
    )


def test_somebody_elses_proxy_on_the_same_port_counts_for_nothing():
    plain = container("plain")
    other = proxies.Proxy("tcp", "::1", 9090, "10.1.2.3", 90)
    (found,) = sight.published(SITE, plain, NETWORKS, {("tcp", "::1", 9090): other})
    assert (found.to_address, found.proxied) == ("fd00:28::242:ac1c:2", False)


@pytest.mark.parametrize(
    ("name", "state"),
    [
        ("plain", WorkloadState.RUNNING),
        ("paused", WorkloadState.RUNNING),
        ("ended", WorkloadState.STOPPED),
        ("idle", WorkloadState.CREATED),
    ],
)
def test_states(name, state):
    described = container(name)
    place = Endpoint(Attachment.BRIDGED, ("10.0.0.1",))
    assert sight.sighting(SITE, described, None, (place,)).state is state
    assert bool(sight.sighting(SITE, described, None, (place,)).endpoints) == (state is WorkloadState.RUNNING)


@pytest.mark.parametrize("name", ["onhost", "alone", "side", "ended", "idle"])
def test_no_place_of_its_own(name):
    assert endpoints(container(name)) <= {None}


@pytest.mark.parametrize("name", sorted(LISTINGS))
def test_a_listing_says_the_same_as_an_inspection(name):
    described, listed = container(name), sight.from_listing(LISTINGS[name])
    places = tuple(each for each in endpoints(described) if each)
    from_both = [sight.sighting(SITE, each, None, places) for each in (described, listed)]
    assert sight.with_birth_of(*[_seen(each) for each in reversed(from_both)]).sighting == from_both[0]
    assert endpoints(described) == endpoints(listed)
    assert abs((from_both[0].created or 0) - (from_both[1].created or 0)) < 1
    assert described.host_config == listed.host_config


def _seen(sighting):
    return Seen(sighting, 0)


def test_a_create_event_says_the_same_as_the_inspection_that_follows():
    created = next(each for each in EVENTS if each.action == "create" and each.actor.id == container("web").id)
    newborn = sight.newborn(SITE, created)
    later = sight.sighting(SITE, container("web"), None)
    assert newborn.facts == later.facts
    assert (newborn.id, newborn.name) == (later.id, later.name)
    assert newborn.state is WorkloadState.CREATED
    assert abs(newborn.created - later.created) < 1


def test_other_networks_are_opaque():
    macvlan = Network(id="f" * 64, name="lan", driver="macvlan")
    place = Attached(network_id="f" * 64, endpoint_id="e", mac_address="02:42:AC:00:00:01", address="10.9.0.2")
    assert sight.endpoint(SITE, macvlan, place, "veth0") == Endpoint(
        Attachment.OPAQUE, ("10.9.0.2",), "", "", "02:42:ac:00:00:01", "host-a/lan"
    )
    assert sight.bridges(SITE, [macvlan]) == ()


def test_which_network_is_the_gateway():
    def order(**places):
        networks = {
            name: Network(id=name, name=name, driver="bridge", internal=name.startswith("inner")) for name in places
        }
        raw = {
            name: {"NetworkID": name, "EndpointID": "e", "IPAddress": "10.0.0.1", **place}
            for name, place in places.items()
        }
        described = msgspec.json.decode(
            json.dumps({"Id": "c", "Name": "/c", "NetworkSettings": {"Networks": raw}}), type=Container
        )
        found = sight.gateway_place(described, networks)
        return found.network_id if found else None

    v4, both = {"Gateway": "10.0.0.254"}, {"Gateway": "10.0.0.254", "IPv6Gateway": "fd00::1"}
    assert order(b=v4, a=v4) == "a"
    assert order(b=both, a=v4) == "b"
    assert order(b=v4, a=both, c={**v4, "GwPriority": 1}) == "c"
    assert order(inner=both, z=v4) == "z"
    assert order(inner=both) is None


@pytest.mark.parametrize(
    "words",
    ["sleep 1", "docker-proxy", "docker-proxy -proto tcp -host-ip x", "vi docker-proxy -proto tcp"],
)
def test_not_a_proxy(words):
    assert proxies.parse(words.split()) is None


def test_proxies_are_read_from_processes(tmp_path):
    for pid, line in enumerate((CAPTURES / "proxies.txt").read_text().splitlines()):
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "cmdline").write_bytes("\0".join([*line.split(), ""]).encode())
    (tmp_path / "99").mkdir()  # a process that ended meanwhile
    (tmp_path / "self").mkdir()
    assert proxies.running(tmp_path) == PROXIES
    assert len(PROXIES) == 4
