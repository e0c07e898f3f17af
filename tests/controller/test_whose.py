"""Whose the ends of flows are, with the labels in force, and when they were by the controller's clock."""

import msgspec
import pytest

from stockade.controller.flows import LOOKED_UP_FOR, FlowIntake
from stockade.controller.whose import Whose
from stockade.core.fold import fold
from stockade.core.model.event import LabelsSet, PolicyActivated, WorkloadSeen
from stockade.core.model.flow import Flow, FlowEnd, FlowKey, FlowLoss, StoredFlow, Tally, Verdict
from stockade.core.model.flow_table import FlowBatch, FlowTable, told
from stockade.core.model.ids import Address, HostId, Prefix, Realm, Version, WorkloadId
from stockade.core.model.inventory import Attachment, Endpoint, Sighting, WorkloadKind
from stockade.core.model.packet import Direction
from stockade.core.model.policy import NetworkSet, PolicySet
from stockade.core.model.snapshot import Snapshot
from stockade.core.policy import complete
from stockade.seams.flow_store import FlowsRefused, Put, StoredBatch, stored

HOST = HostId("host-a")
OFFICE = NetworkSet("office", (Prefix("198.51.100.0/24"),), (Prefix("198.51.100.128/25"),))
DESK = NetworkSet("desk", (Prefix("198.51.100.7/32"),))


def seen(name: str, *addresses: str, realm: str = "") -> WorkloadSeen:
    place = Endpoint(Attachment.BRIDGED, tuple(map(Address, addresses)), realm=Realm(realm))
    return WorkloadSeen(Sighting(WorkloadId(f"docker:{name}"), name, WorkloadKind.CONTAINER, HOST, endpoints=(place,)))


def known(*events):
    policy = PolicyActivated(Version(1), complete(PolicySet(network_sets=(DESK, OFFICE))))
    return fold([*events, policy])


WEB = known(seen("web", "10.0.0.1"), LabelsSet(WorkloadId("docker:web"), (("role", "web"), ("app", "shop")), "test"))


def flow(source: str = "10.0.0.1", to: str = "198.51.100.7", **more) -> Flow:
    key = FlowKey(Address(source), Address(to), 6, 443, Direction.EGRESS, Verdict.ALLOWED, **more)
    return Flow(key, Tally(100.0, 101.0, 1))


def one(snapshot: Snapshot, flow: Flow) -> StoredFlow:
    """A flow as it is kept."""
    table = told([flow])
    (found,) = stored(HOST, FlowTable(tuple(map(Whose(snapshot).kept, table.ends)), table.kinds, table.rows))
    return found


def test_an_end_is_a_workload_with_its_labels_and_its_name() -> None:
    end = Whose(WEB).end(Address("10.0.0.1"))
    assert end == FlowEnd(
        Address("10.0.0.1"), WorkloadId("docker:web"), (("app", "shop"), ("name", "web"), ("role", "web"))
    )


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("198.51.100.7", "desk"),
        ("198.51.100.8", "office"),
        ("198.51.100.129", ""),
        ("203.0.113.1", ""),
        ("fd00::1", "private"),
    ],
)
def test_an_address_that_nobody_has_lies_in_the_narrowest_network(address: str, network: str) -> None:
    assert Whose(WEB).end(Address(address)) == FlowEnd(Address(address), network=network)


def test_a_name_that_a_resolver_told_is_an_unknown_destination_s_alone_and_no_label() -> None:
    named = one(WEB, flow(name="api.example.com"))
    assert named.destination == FlowEnd(Address("198.51.100.7"), network="desk", told="api.example.com")
    assert named.key.name == "api.example.com"
    inside = one(WEB, flow("198.51.100.7", "10.0.0.1", name="web.example.com"))
    assert (inside.destination.told, inside.key.name) == ("", "")
    assert inside.destination.workload == "docker:web"


@pytest.mark.parametrize(
    "name", ["<script>", "a b", "\x1b[2J", "a..b", ".", "API.example", "é.example", "a" * 64, "x'--"]
)
def test_what_a_host_tells_to_be_a_name_and_is_none_is_left_out(name: str) -> None:
    stored = one(WEB, flow(name=name))
    assert (stored.destination.told, stored.key.name) == ("", "")
    assert stored.destination.network == "desk"


def test_the_host_s_own_word_counts_where_an_address_means_another_elsewhere() -> None:
    snapshot = known(
        seen("one", "172.17.0.2", realm="host-a/docker0"), seen("two", "172.17.0.2", realm="host-b/docker0")
    )
    assert Whose(snapshot).end(Address("172.17.0.2")).workload is None
    stored = one(snapshot, flow("172.17.0.2", source_workload=WorkloadId("docker:two")))
    assert (stored.host, stored.source.workload, dict(stored.source.labels)["name"]) == (HOST, "docker:two", "two")


def test_an_address_of_two_is_nobody_s() -> None:
    assert Whose(known(seen("one", "10.0.0.1"), seen("two", "10.0.0.1"))).end(Address("10.0.0.1")).workload is None


def test_a_workload_that_is_gone_is_named_all_the_same_without_labels() -> None:
    stored = one(WEB, flow("10.0.0.9", source_workload=WorkloadId("docker:gone")))
    assert stored.source == FlowEnd(Address("10.0.0.9"), WorkloadId("docker:gone"))


class Store:
    """Keeps what is put."""

    def __init__(self) -> None:
        self.batches: list[StoredBatch] = []

    def flows(self, batch: int) -> list[StoredFlow]:
        return list(stored(self.batches[batch].host, self.batches[batch].flows))

    def put(self, batches):
        self.batches += batches
        return Put(len(batches), sum(len(each.flows) for each in batches))


class Time:
    def __init__(self) -> None:
        self.at = 1000.0

    def now(self) -> float:
        return self.at

    def monotonic(self) -> float:
        return self.at


def batch(at: float, *flows: Flow) -> FlowBatch:
    return FlowBatch(HOST, "s", 1, at - 2, at - 1, at, told(flows), (FlowLoss("nflog", "decisions", 3),))


@pytest.mark.parametrize(("clock", "shift"), [(1000.0, 0.0), (999.8, 0.0), (940.0, 60.0), (1060.0, -60.0)])
def test_times_are_the_controller_s(clock: float, shift: float) -> None:
    store, time = Store(), Time()
    intake = FlowIntake(store, time)
    intake.take(batch(clock, flow()), WEB)
    (put,) = store.batches
    assert (put.host, put.stream, put.number, put.until) == (HOST, "s", 1, clock - 1 + shift)
    assert put.lost == (FlowLoss("nflog", "decisions", 3),)
    (found,) = store.flows(0)
    assert (found.tally.first, found.tally.last) == (100.0 + shift, 101.0 + shift)
    assert intake.skews[HOST] == shift
    assert intake.taken == 1


@pytest.mark.parametrize("clock", [1000.0, 940.0])
@pytest.mark.parametrize("column", ["first", "last", "kind", "seconds"])
def test_a_batch_whose_columns_are_not_equally_long_is_refused(column: str, clock: float) -> None:
    store, time = Store(), Time()
    good = batch(clock, flow())
    rows = msgspec.structs.replace(good.flows.rows, **{column: bytes(3)})
    broken = msgspec.structs.replace(good, flows=msgspec.structs.replace(good.flows, rows=rows))
    with pytest.raises(FlowsRefused, match="not equally long"):
        FlowIntake(store, time).take(broken, WEB)
    assert not store.batches


def test_labels_are_those_of_now_though_addresses_are_not_looked_up_each_time() -> None:
    store, time = Store(), Time()
    intake = FlowIntake(store, time)
    intake.take(batch(time.at, flow()), WEB)
    relabelled = known(
        seen("web", "10.0.0.1"),
        seen("new", "10.0.0.2"),
        LabelsSet(WorkloadId("docker:web"), (("role", "api"),), "test"),
    )
    for later in (0.1, LOOKED_UP_FOR + 1):
        time.at += later
        intake.take(batch(time.at, flow(), flow("10.0.0.2")), relabelled)
    roles = [dict(store.flows(batch)[0].source.labels).get("role") for batch in range(3)]
    assert roles == ["web", "api", "api"]
    assert store.flows(1)[1].source.workload is None, "not looked up again within a moment"
    assert store.flows(2)[1].source.workload == "docker:new"
