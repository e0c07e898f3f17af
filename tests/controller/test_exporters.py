"""What devices export becomes connections that somebody began, under the device's name and no rule; losses are told."""

import ipaddress
import itertools
import random
import socket
import struct
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stockade.adapters.netflow import Ear, Exported
from stockade.controller.clock import SystemClock
from stockade.controller.exporters.counted import families
from stockade.controller.exporters.exporters import LISTENER, LONGEST, MOST_EXPORTERS, Exporters
from stockade.controller.exporters.hearing import UNSTORED, Devices, Hearing
from stockade.controller.exporters.pairing import Connection, Ends, Pairing
from stockade.controller.flows import FlowIntake
from stockade.core.fold import fold
from stockade.core.graph.merge import merged
from stockade.core.model.event import PolicyActivated
from stockade.core.model.flow import FlowEnd, FlowKey, FlowLoss, StoredFlow, Tally, Verdict
from stockade.core.model.flow_table import FlowBatch, flows
from stockade.core.model.ids import Address, HostId, RuleId, Version, WorkloadId
from stockade.core.model.packet import Direction
from stockade.core.model.policy import PolicySet
from stockade.core.policy import complete
from stockade.errors import StockadeError
from stockade.seams.flow_store import FlowStoreFailed, Put, stored

pytestmark = pytest.mark.long

ONE, TWO = Address("192.0.2.1"), Address("198.51.100.7")
CLIENT, SERVER = Ends(6, ONE, 40_000, TWO, 443), Ends(6, TWO, 443, ONE, 40_000)
SYN, ACK, RST = 0x02, 0x10, 0x04
NOW = 1_700_000_000.0
DEVICE = "203.0.113.1"
HERE = fold([PolicyActivated(Version(1), complete(PolicySet()))])


def told(ends: Ends, at: float = 100.0, *, flags: int = 0, **more: object) -> Exported:
    made = Exported(
        DEVICE, ends.source, ends.destination, ends.protocol, ends.source_port, ends.port, at, at + 1, 2, 80
    )
    return type(made)(**{name: getattr(made, name) for name in made.__struct_fields__} | {"flags": flags} | more)


def paired(*records: Exported, pairing: Pairing | None = None) -> list[Connection]:
    pairing = pairing or Pairing()
    for each in records:
        pairing.add(each, each.first, each.last)
    return pairing.take(everything=True)


@pytest.mark.parametrize("order", [1, -1])
def test_both_directions_are_one_connection_whichever_is_told_first(order: int) -> None:
    (found,) = paired(*[told(CLIENT), told(SERVER, 100.5, packets=3, octets=900)][::order])
    assert found == Connection(CLIENT, 100.0, 101.5, 5, 80, 900, denied=False)


def test_a_half_waits_for_its_other_half_and_no_longer() -> None:
    pairing = Pairing()
    pairing.add(told(SERVER), 100.0, 101.0)
    assert pairing.take() == []
    pairing.add(told(CLIENT), 100.0, 101.0)
    (found,) = pairing.take()
    assert (found.ends, found.packets) == (CLIENT, 4)
    pairing.add(told(SERVER), 102.0, 103.0)
    assert [each.ends for each in (*pairing.take(), *pairing.take())] == [CLIENT]
    assert pairing.take() == []


HIGH = Ends(6, ONE, 40_000, TWO, 8080)


@pytest.mark.parametrize(
    ("records", "began"),
    [
        ([told(SERVER)], CLIENT),  # a port below 1024 serves
        ([told(HIGH)], HIGH),  # the lower port does
        ([told(HIGH.mirrored)], HIGH),
        ([told(HIGH.mirrored, 99.0), told(HIGH, 100.0)], HIGH.mirrored),  # who began earlier, before the lower port
        ([told(HIGH.mirrored, flags=SYN)], HIGH.mirrored),  # a SYN that nobody answered, before everything
        ([told(SERVER, flags=SYN)], SERVER),
        ([told(SERVER, flags=SYN | ACK)], CLIENT),
        ([told(SERVER, flags=RST | ACK)], CLIENT),
        ([told(HIGH.mirrored, reply_packets=2, reply_octets=3)], HIGH.mirrored),  # the device told of both
        ([told(Ends(1, ONE, 0, TWO, 8 << 8))], Ends(1, ONE, 0, TWO, 8 << 8)),
        ([told(Ends(1, TWO, 0, ONE, 0)), told(Ends(1, ONE, 0, TWO, 8 << 8))], Ends(1, ONE, 0, TWO, 8 << 8)),
        ([told(Ends(1, TWO, 0, ONE, 0))], Ends(1, ONE, 0, TWO, 8 << 8)),  # an answer alone
        ([told(Ends(58, TWO, 0, ONE, 129 << 8))], Ends(58, ONE, 0, TWO, 128 << 8)),
        ([told(Ends(47, TWO, 0, ONE, 0))], Ends(47, TWO, 0, ONE, 0)),
    ],
)
def test_who_began(records: list[Exported], began: Ends) -> None:
    (found,) = paired(*records)
    assert found.ends == began


def test_a_server_that_was_met_before_is_one_still() -> None:
    """Parts of a connection that lives long begin in either direction's turn."""
    pairing, low = Pairing(), Ends(6, ONE, 7000, TWO, 9000)
    assert paired(told(low, flags=SYN), pairing=pairing)[0].ends == low
    assert paired(told(low.mirrored, 99.0), told(low, 100.0), pairing=pairing)[0].ends == low


def test_what_a_sampling_device_tells_is_multiplied() -> None:
    (found,) = paired(told(CLIENT, sampled=100), told(SERVER, sampled=100, packets=1, octets=5))
    assert (found.packets, found.bytes_out, found.bytes_in) == (300, 8000, 500)


# Batches

ALLOWED = (ipaddress.ip_network(DEVICE), ipaddress.ip_network("2001:db8::/64"))
SEQUENCES = itertools.count()


def v5(*records: tuple[Ends, int], sent: float = NOW, sequence: int = 0, sampling: int = 0) -> bytes:
    """A datagram: each record's connection and TCP flags; seen from two seconds to one second before it was sent."""
    data = struct.pack("!HHIIIIBBH", 5, len(records), 60_000, int(sent), 0, sequence, 0, 0, sampling)
    for ends, flags in records:
        data += socket.inet_aton(ends.source) + socket.inet_aton(ends.destination) + bytes(8)
        data += struct.pack("!IIIIHHxBB9x", 2, 80, 58_000, 59_000, ends.source_port, ends.port, flags, ends.protocol)
    return data


def batches(exporters: Exporters, now: float = NOW) -> list[FlowBatch]:
    return list(exporters.take(now, everything=True))


def test_a_device_s_flows_are_what_was_carried_under_no_rule_and_its_own_name() -> None:
    exporters = Exporters(ALLOWED)
    another = Ends(6, ONE, 40_001, TWO, 443)
    exporters.hear(v5((CLIENT, 0), (SERVER, 0), (another, 0)), DEVICE, NOW)
    (batch,) = batches(exporters)
    (flow,) = flows(batch.flows)
    assert batch.host == "netflow:203.0.113.1"
    assert (flow.key.verdict, flow.key.rule, flow.key.process) == (Verdict.CARRIED, "", "")
    assert (flow.key.source, flow.key.destination, flow.key.port) == (ONE, TWO, 443)
    assert flow.tally == Tally(NOW - 2, NOW - 1, 0, 6, 160, 80, 2, 2.0)
    assert batch.since <= flow.tally.first
    assert batches(exporters) == []


def test_what_a_device_says_that_it_denied_is_denied_by_it_and_not_by_a_policy() -> None:
    fields = ((8, 4), (12, 4), (4, 1), (7, 2), (11, 2), (233, 1))
    template = struct.pack("!HH", 300, len(fields)) + b"".join(struct.pack("!HH", *each) for each in fields)
    record = socket.inet_aton(ONE) + socket.inet_aton(TWO) + struct.pack("!BHHB", 6, 40_000, 443, 3)
    sets = struct.pack("!HH", 2, 4 + len(template)) + template + struct.pack("!HH", 300, 4 + len(record)) + record
    exporters = Exporters(ALLOWED)
    exporters.hear(struct.pack("!HHIII", 10, 16 + len(sets), int(NOW), 0, 0) + sets, DEVICE, NOW)
    (batch,) = batches(exporters)
    (flow,) = flows(batch.flows)
    assert (flow.key.verdict, flow.key.rule, flow.key.end) == (Verdict.DENIED, "exporter", Direction.EGRESS)
    assert (flow.tally.connections, flow.tally.ended) == (1, 0)


def test_who_is_not_on_the_list_is_counted_and_not_read() -> None:
    exporters = Exporters(ALLOWED)
    for sender in ("203.0.113.2", "2001:db8:1::1", "2001:db8::9"):
        exporters.hear(v5((CLIENT, 0)), sender, NOW)
    assert exporters.refused == 2
    told_of = {each.host: each for each in batches(exporters)}
    assert told_of.keys() == {"netflow:2001:db8::9", LISTENER}
    assert told_of[LISTENER].lost == (FlowLoss("netflow", "datagrams of exporters that are not on the list", 2),)
    assert [each.address for each in exporters.views()] == ["2001:db8::9"]


def test_no_more_devices_are_remembered_than_there_is_room_for() -> None:
    exporters = Exporters([ipaddress.ip_network("10.0.0.0/8")])
    for number in range(MOST_EXPORTERS + 10):
        exporters.hear(b"", str(ipaddress.ip_address("10.0.0.0") + number), NOW)
    assert (len(exporters.views()), exporters.refused) == (MOST_EXPORTERS, 10)


def test_gaps_in_a_device_s_numbers_are_losses_told_once() -> None:
    exporters = Exporters(ALLOWED)
    exporters.hear(v5((CLIENT, 0), sequence=10), DEVICE, NOW)
    exporters.hear(v5((CLIENT, 0), sequence=18), DEVICE, NOW)
    exporters.hear(b"\x00\x09garbage", DEVICE, NOW)
    (batch,) = batches(exporters)
    assert batch.lost == (
        FlowLoss("netflow", "datagrams that mean nothing", 1),
        FlowLoss("netflow", "records or datagrams on their way", 7),
    )
    assert batches(exporters) == []
    (view,) = exporters.views()
    assert (view.lost, view.unread, view.records, view.datagrams, view.versions) == (7, 1, 2, 3, ("NetFlow 5",))


def test_metrics_have_a_series_for_each_device_and_one_for_all_others() -> None:
    exporters = Exporters(ALLOWED)
    exporters.hear(v5((CLIENT, 0), sequence=10), DEVICE, NOW)
    exporters.hear(v5((CLIENT, 0), sequence=18), DEVICE, NOW)
    exporters.hear(b"\x00\x09garbage", DEVICE, NOW)
    exporters.hear(v5((CLIENT, 0)), "203.0.113.2", NOW)
    exporters.hear(v5((CLIENT, 0)), "203.0.113.3", NOW)
    batches(exporters)
    samples = {
        (sample.name, sample.labels.get("exporter")): sample.value
        for family in families(exporters)
        for sample in family.samples
    }
    assert samples == {
        ("stockade_exporter_datagrams_total", DEVICE): 3,
        ("stockade_exporter_records_total", DEVICE): 2,
        ("stockade_exporter_flows_total", DEVICE): 1,
        ("stockade_exporter_unread_total", DEVICE): 1,
        ("stockade_exporter_heard_seconds", DEVICE): NOW,
        ("stockade_exporter_lost", DEVICE): 7,
        ("stockade_exporter_refused_total", None): 2,
    }, "strangers make no series, however many they are"


@pytest.mark.parametrize("wrong", [0.0, 0.4, -86_400.0, 40_000.0])
def test_times_are_the_controller_s_whatever_the_device_s_clock(wrong: float) -> None:
    exporters = Exporters(ALLOWED)
    exporters.hear(v5((CLIENT, 0), sent=NOW + wrong), DEVICE, NOW)
    (batch,) = batches(exporters)
    (flow,) = flows(batch.flows)
    assert (flow.tally.first, flow.tally.last) == (NOW - 2, NOW - 1)
    assert exporters.views()[0].behind == (-wrong if abs(wrong) > 1 else 0.0)


def test_sampling_is_respected_and_said() -> None:
    exporters = Exporters(ALLOWED)
    exporters.hear(v5((CLIENT, 0), sampling=1 << 14 | 50), DEVICE, NOW)
    assert next(flows(batches(exporters)[0].flows)).tally.packets == 100
    assert exporters.views()[0].sampling == 50


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1)), max_size=5))
def test_no_time_that_a_device_tells_leaves_the_last_hour(times: list[tuple[int, int, int]]) -> None:
    exporters = Exporters(ALLOWED)
    for sent, first, last in times:
        data = bytearray(v5((CLIENT, 0), sent=sent))
        data[24 + 24 : 24 + 32] = struct.pack("!II", first, last)
        exporters.hear(bytes(data), DEVICE, NOW)
    for batch in batches(exporters):
        for flow in flows(batch.flows):
            assert NOW - LONGEST <= flow.tally.first <= flow.tally.last <= NOW


def test_the_same_records_give_the_same_flows_in_whatever_order_they_come() -> None:
    dice = random.Random(3)
    made = [Ends(6, ONE, 40_000 + number % 50, TWO, 80 + number % 7) for number in range(200)]
    records = [each if dice.random() < 0.5 else each.mirrored for each in made]
    answers = []
    for _ in range(3):
        dice.shuffle(records)
        exporters = Exporters(ALLOWED)
        for each in records:
            exporters.hear(v5((each, 0)), DEVICE, NOW)
        answers.append([batch.flows for batch in batches(exporters)])
    assert answers[0] == answers[1] == answers[2]


def test_what_an_agent_told_is_not_counted_again() -> None:
    """The graph's numbers are the agent's; where no agent told anything, they are the device's, and no connections."""
    ends = FlowEnd(ONE, WorkloadId("a")), FlowEnd(TWO, WorkloadId("b"))

    def stored(host: str, verdict: Verdict, tally: Tally, **more: object) -> StoredFlow:
        rule = RuleId("p/r" if verdict is Verdict.ALLOWED else "")
        key = FlowKey(ONE, TWO, 6, 443, Direction.EGRESS, verdict, rule, **more)
        return StoredFlow(HostId(host), *ends, key, tally)

    device = stored("netflow:203.0.113.1", Verdict.CARRIED, Tally(1.0, 9.0, 0, 50, 5000, 9000, 2, 5.0))
    allowed = stored("host-a", Verdict.ALLOWED, Tally(1.0, 2.0, 1, 1, 60))
    carried = stored(
        "host-a", Verdict.CARRIED, Tally(1.0, 2.0, 0, 5, 500, 900, 1, 1.0), source_workload=WorkloadId("a")
    )
    (both,) = merged([device, allowed, carried])
    assert (both.seen.connections, both.seen.ended, both.seen.bytes_in) == (1, 1, 900)
    (alone,) = merged([device])
    assert (alone.seen.connections, alone.seen.ended, alone.seen.verdict) == (0, 2, Verdict.CARRIED)


# Heard over a socket


class Store:
    """Takes batches, unless it is told not to."""

    def __init__(self) -> None:
        self.batches: list[FlowBatch] = []
        self.failing = False

    def put(self, batches):
        if self.failing:
            raise FlowStoreFailed("no room", kept="nothing", remedy="wait")
        self.batches += batches
        return Put(len(batches), sum(len(each.flows) for each in batches))


def until(happened) -> None:
    deadline = time.monotonic() + 30
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def store() -> Store:
    return Store()


def hearing(store: Store) -> tuple[Hearing, Ear]:
    ear = Ear.at("127.0.0.1", 0)
    devices = Devices(ear, (ipaddress.ip_network("127.0.0.1"),))
    return Hearing(devices, FlowIntake(store, SystemClock()), lambda: HERE, SystemClock()), ear


def test_what_was_heard_is_stored_at_the_end_at_the_latest(store: Store) -> None:
    made, ear = hearing(store)
    thread = threading.Thread(target=made.run)
    thread.start()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as device:
        device.sendto(v5((CLIENT, 0), sent=time.time()), ("127.0.0.1", ear.port))
        until(made.exporters.views)
    made.stop()
    thread.join(30)
    made.close()
    (batch,) = store.batches
    assert next(stored(batch.host, batch.flows)).source.address == ONE


def test_what_the_store_does_not_take_is_kept_within_bounds_and_the_rest_counted(store: Store) -> None:
    made, _ = hearing(store)
    store.failing = True
    for number in range(UNSTORED + 5):
        made.exporters.hear(v5((Ends(6, ONE, 40_000, TWO, number + 1), 0), sequence=number), "127.0.0.1", time.time())
        made._store(everything=True)
        assert len(made._unstored) <= UNSTORED + 1
    store.failing = False
    made._store(everything=True)
    made._store(everything=True)
    lost = sum(each.count for batch in store.batches for each in batch.lost)
    stored = sum(len(batch.flows) for batch in store.batches)
    assert lost > 0
    assert stored + lost == UNSTORED + 5
    made.close()


def test_what_the_kernel_had_no_room_for_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    from stockade.adapters.netflow import ear as module

    monkeypatch.setattr(module, "ROOM", 4096)
    ear = Ear.at("127.0.0.1", 0)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as device:
        for _ in range(200):
            device.sendto(bytes(500), ("127.0.0.1", ear.port))
        heard = len(ear.read(1.0))
        device.sendto(b"last", ("127.0.0.1", ear.port))
        heard += len(ear.read(1.0))
    assert ear.dropped
    assert heard + ear.dropped == 201
    ear.close()


def test_a_port_that_is_taken_is_said() -> None:
    ear = Ear.at("127.0.0.1", 0)
    with pytest.raises(StockadeError, match="cannot listen for NetFlow"):
        Ear.at("127.0.0.1", ear.port)
    ear.close()


def test_an_ipv4_device_heard_by_a_socket_for_both_is_known_by_its_own_address() -> None:
    ear = Ear.at("::", 0)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as device:
        device.sendto(b"x", ("127.0.0.1", ear.port))
        assert ear.read(5.0) == [(b"x", "127.0.0.1")]
    ear.close()
