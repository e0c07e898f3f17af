"""The completeness audit: what the kernel shows against the inventory."""

import pytest
from msgspec.structs import replace

from stockade.core.completeness import Completeness, Off, assess
from stockade.core.completeness.assess import STALE
from stockade.core.model.census import (
    Around,
    Census,
    Listening,
    Neighbour,
    NotAssessed,
    Process,
    SourceTally,
    Within,
)
from stockade.core.model.ids import HostId, WorkloadId
from stockade.core.model.inventory import (
    Attachment,
    Endpoint,
    Facts,
    Host,
    Sighting,
    Workload,
    WorkloadKind,
    WorkloadState,
)
from stockade.core.model.labels import Label, Labels, LabelSource
from stockade.core.model.net import Protocol
from stockade.core.model.snapshot import Snapshot

HOST = HostId("host-a")
NOW = 1000.0
WEB_MAC, OTHER_MAC = "02:42:ac:11:00:02", "02:42:ac:11:00:09"
PLACE = Endpoint(Attachment.BRIDGED, ("172.17.0.2",), "veth1", "docker0", WEB_MAC, "host-a/docker0")
LABELLED = Labels((Label("app", "shop", LabelSource.OPERATOR, "ada"),))
SERVER = Process(4711, "nginx", "rogue.service")


def seen(name: str, *sources: str, **more: object) -> Workload:
    fields = {"host": HOST, "endpoints": (PLACE,), "sources": sources, **more}
    return Workload(Sighting(WorkloadId(name), name, WorkloadKind.NAMESPACE, **fields))


def audit(*workloads: Workload, census: Census | None = None, host: Host | None = None, **more: object) -> Completeness:
    snapshot = Snapshot(
        hosts={HOST: host or Host(HOST, WorkloadId("host:host-a"))}, workloads={each.id: each for each in workloads}
    )
    censuses = {HOST: census or Census(HOST, NOW)}
    return assess(snapshot, censuses, **{"holding": (), "now": NOW, **more})


def test_what_an_engine_tells_of_is_accounted_for() -> None:
    found = audit(seen("web", "docker", "namespaces"))
    assert found.dark == found.not_assessed == ()
    assert [(each.tally.source, each.workloads, each.only) for each in found.sources] == [
        ("docker", 1, 0),
        ("namespaces", 1, 0),
    ]


def test_what_the_kernel_alone_shows_is_dark_with_all_that_is_known_of_it() -> None:
    listening = (Listening(Protocol.TCP, 80, process=SERVER),)
    census = Census(
        HOST,
        NOW,
        Around(neighbours=(Neighbour("docker0", WEB_MAC, "veth1", ("172.17.0.2", "172.17.0.77")),)),
        (Within(WorkloadId("rogue"), SERVER, listening),),
    )
    (dark,) = audit(seen("rogue", "namespaces", created=900.0), census=census, holding=(HOST,)).dark
    assert (dark.name, dark.why, dark.workload, dark.process) == ("rogue", Off.UNREPORTED, "rogue", SERVER)
    assert (dark.port, dark.bridge, dark.macs) == ("veth1", "docker0", (WEB_MAC,))
    assert dark.addresses == ("172.17.0.2", "172.17.0.77")
    assert (dark.listening, dark.since, dark.held) == (listening, 900.0, True)


def test_whoever_is_labelled_is_accounted_for() -> None:
    assert audit(replace(seen("rogue", "namespaces"), labels=LABELLED)).dark == ()


def test_what_has_no_link_is_counted_and_not_dark() -> None:
    alone = seen("colord", "namespaces", endpoints=(), facts=Facts(labels=(("network", "none"),)))
    found = audit(alone)
    assert (found.dark, found.cut_off) == ((), ("colord",))


def test_a_nested_namespace_is_dark_and_said_to_be_nested() -> None:
    nested = seen("inner", "namespaces", endpoints=(), facts=Facts(labels=(("network", "nested"),)))
    (dark,) = audit(nested).dark
    assert (dark.port, dark.detail) == ("", "its links do not end on this host")


@pytest.mark.parametrize("labels", [Labels(), LABELLED])
def test_a_container_whose_engine_is_lost_is_dark_and_its_engine_is_not_assessed(labels: Labels) -> None:
    census = Census(HOST, NOW, sources=(SourceTally("docker", lost="it hangs"),))
    found = audit(replace(seen("web", "docker", "namespaces"), labels=labels), census=census)
    assert [(each.why, each.detail) for each in found.dark] == [(Off.LOST, "docker: it hangs")]
    assert found.not_assessed == ((HOST, NotAssessed("source docker", "it cannot be reached: it hangs")),)


def test_whoever_is_told_of_by_another_engine_as_well_is_not_lost() -> None:
    census = Census(HOST, NOW, sources=(SourceTally("docker", lost="it hangs"),))
    assert audit(seen("web", "docker", "containerd"), census=census).dark == ()


def test_what_has_stopped_is_not_dark() -> None:
    census = Census(HOST, NOW, sources=(SourceTally("docker", lost="it hangs"),))
    assert audit(seen("web", "docker", state=WorkloadState.STOPPED), census=census).dark == ()


def test_a_port_that_leads_to_nobody_known_is_dark_with_who_is_met_behind_it() -> None:
    port = Endpoint(Attachment.BRIDGED, port="tap7", bridge="docker0")
    census = Census(HOST, NOW, Around(neighbours=(Neighbour("docker0", OTHER_MAC, "tap7", ("172.17.0.9",)),)))
    host = Host(HOST, WorkloadId("host:host-a"), unknown=(port,))
    (dark,) = audit(census=census, host=host, holding=(HOST,)).dark
    assert (dark.name, dark.why, dark.port, dark.bridge) == ("tap7", Off.PORT, "tap7", "docker0")
    assert (dark.macs, dark.addresses, dark.held) == ((OTHER_MAC,), ("172.17.0.9",), True)


def behind(mac: str, *addresses: str) -> Census:
    return Census(HOST, NOW, Around(neighbours=(Neighbour("docker0", mac, "veth1", addresses),)))


def test_a_link_address_behind_somebodys_port_that_is_not_its_own_is_dark() -> None:
    (dark,) = audit(seen("web", "docker"), census=behind(OTHER_MAC, "172.17.0.9")).dark
    assert (dark.name, dark.why, dark.addresses) == (OTHER_MAC, Off.NEIGHBOUR, ("172.17.0.9",))
    assert dark.detail == "behind the port of web, whose link address it is not"


def test_an_address_with_which_somebody_answers_and_that_nobody_reported_is_dark() -> None:
    census = behind(WEB_MAC, "172.17.0.2", "172.17.0.9", "fe80::42:acff:fe11:2")
    (dark,) = audit(seen("web", "docker"), census=census).dark
    assert (dark.name, dark.addresses) == (WEB_MAC, ("172.17.0.9",))


def test_what_is_met_outside_is_not_of_this_host() -> None:
    census = Census(HOST, NOW, Around(neighbours=(Neighbour("eth0", OTHER_MAC, "", ("192.0.2.1",)),)))
    assert audit(seen("web", "docker"), census=census).dark == ()


def test_a_host_that_has_sent_nothing_is_not_assessed_and_never_clean() -> None:
    snapshot = Snapshot(hosts={HOST: Host(HOST, WorkloadId("host:host-a"))})
    found = assess(snapshot, {}, holding=(), now=NOW)
    assert found.not_assessed == ((HOST, NotAssessed("the kernel's census", "the host's agent has not sent one yet")),)


def test_an_old_census_says_nothing_of_now() -> None:
    (it,) = audit(census=Census(HOST, NOW - STALE - 1)).not_assessed
    assert it[1].why == "the newest is 121 s old: the agent is not heard"
    assert audit(census=Census(HOST, NOW - STALE)).not_assessed == ()


def test_what_an_agent_could_not_look_at_is_passed_on() -> None:
    refused = NotAssessed("process 1 (init)", "the kernel does not say")
    assert audit(census=Census(HOST, NOW, not_assessed=(refused,))).not_assessed == ((HOST, refused),)


def test_one_hosts_neighbours_are_not_anothers() -> None:
    other = HostId("host-b")
    snapshot = Snapshot(
        hosts={each: Host(each, WorkloadId(f"host:{each}")) for each in (HOST, other)},
        workloads={each.id: each for each in (seen("web", "docker"), seen("api", "docker", host=other))},
    )
    found = assess(snapshot, {HOST: behind(OTHER_MAC), other: Census(other, NOW)}, holding=(), now=NOW)
    assert [each.host for each in found.dark] == [HOST]
    assert [(each.host, each.workloads) for each in found.sources] == [(HOST, 1), (other, 1)]
