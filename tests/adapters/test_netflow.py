"""NetFlow and IPFIX: what a real exporter says of known packets, what standards say, and bytes that mean nothing."""

import shutil
import socket
import struct
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exported_traffic import SEEN, TRAFFIC, captured
from stockade.adapters.netflow import Collector, Exported, Losses
from stockade.adapters.netflow.decode import MOST_TEMPLATES

EXPORTER = "192.0.2.1"
SENT = 1_700_000_000
THEN, NTP = 1_500_000_000, 2_208_988_800


# A real exporter


@pytest.mark.real
@pytest.mark.parametrize("version", ["5", "9", "10"])
def test_a_real_exporter_s_words_are_what_was_sent(tmp_path: Path, version: str) -> None:
    if not (softflowd := shutil.which("softflowd")):
        pytest.skip("this machine: softflowd not installed (make setup)")
    captured(tmp_path / "traffic.pcap", TRAFFIC)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ear:
        ear.bind(("127.0.0.1", 0))
        ear.settimeout(5)
        words = [softflowd, "-r", str(tmp_path / "traffic.pcap"), "-n", f"127.0.0.1:{ear.getsockname()[1]}"]
        files = ["-p", str(tmp_path / "pid"), "-c", "none"]
        words += ["-v", version, "-d", *files]  # a control socket of a long name keeps it from ending
        silent = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        subprocess.run(words, check=True, timeout=30, **silent)
        ear.setblocking(False)
        told = list(datagrams(ear))
    collector = Collector()
    found = [flow for data in told for flow in collector.read(data, EXPORTER)]
    assert collector.losses == Losses()
    expected = {key: counts for key, counts in SEEN.items() if version != "5" or ":" not in key[0]}
    assert counts(found) == expected
    for each in found:
        assert 0 <= each.last - each.first < 0.1
        assert each.exporter == EXPORTER


def datagrams(ear: socket.socket) -> Iterator[bytes]:
    while True:
        try:
            yield ear.recv(1 << 16)
        except BlockingIOError:
            return


def counts(found: Iterable[Exported]) -> dict[tuple[object, ...], tuple[int, int]]:
    """Add up; a bidirectional record is two."""
    added: dict[tuple[object, ...], tuple[int, int]] = {}
    for each in found:
        there = (each.source, each.destination, each.protocol, each.source_port, each.port)
        back = (each.destination, each.source, each.protocol, each.port, each.source_port)
        for key, packets, octets in ((there, each.packets, each.octets), (back, each.reply_packets, each.reply_octets)):
            if packets:
                before = added.get(key, (0, 0))
                added[key] = before[0] + packets, before[1] + octets
    return added


# What the standards say, datagram by datagram


def v9(*sets: bytes, sequence: int = 0, source: int = 0) -> bytes:
    return struct.pack("!HHIIII", 9, len(sets), 60_000, SENT, sequence, source) + b"".join(sets)


def ipfix(*sets: bytes, sequence: int = 0, domain: int = 0) -> bytes:
    body = b"".join(sets)
    return struct.pack("!HHIII", 10, 16 + len(body), SENT, sequence, domain) + body


def a_set(number: int, body: bytes) -> bytes:
    return struct.pack("!HH", number, 4 + len(body)) + body


def template(number: int, *fields: tuple[int, int]) -> bytes:
    return struct.pack("!HH", number, len(fields)) + b"".join(struct.pack("!HH", *each) for each in fields)


FIELDS = ((8, 4), (12, 4), (4, 1), (7, 2), (11, 2), (2, 4), (1, 4))
RECORD = struct.pack("!4s4sBHHII", socket.inet_aton("10.0.0.1"), socket.inet_aton("10.0.0.2"), 6, 40000, 443, 7, 900)
FLOW = Exported(EXPORTER, "10.0.0.1", "10.0.0.2", 6, 40000, 443, SENT, SENT, 7, 900)


def test_records_are_read_by_the_template_that_came_before() -> None:
    for message, templates in ((v9, 0), (ipfix, 2)):
        collector = Collector()
        assert collector.read(message(a_set(templates, template(300, *FIELDS))), EXPORTER) == ()
        told = collector.read(message(a_set(300, RECORD * 2 + bytes(3)), sequence=int(message is v9)), EXPORTER)
        assert told == (FLOW, FLOW)
        assert collector.losses == Losses()


def test_templates_are_each_exporter_s_and_each_domain_s_own() -> None:
    collector = Collector()
    collector.read(ipfix(a_set(2, template(300, *FIELDS))), EXPORTER)
    assert collector.read(ipfix(a_set(300, RECORD)), "192.0.2.9") == ()
    assert collector.read(ipfix(a_set(300, RECORD), domain=1), EXPORTER) == ()
    assert collector.losses == Losses(unknown=2)


def test_a_template_that_is_withdrawn_or_replaced_is_read_by_no_more() -> None:
    collector = Collector()
    collector.read(ipfix(a_set(2, template(300, *FIELDS))), EXPORTER)
    collector.read(ipfix(a_set(2, template(300, *FIELDS[:2]))), EXPORTER)
    (flow,) = collector.read(ipfix(a_set(300, RECORD[:8])), EXPORTER)
    assert (flow.source, flow.protocol) == ("10.0.0.1", 0)
    collector.read(ipfix(a_set(2, template(300))), EXPORTER)
    assert collector.read(ipfix(a_set(300, RECORD)), EXPORTER) == ()
    assert collector.losses.unknown == 1


def test_fields_of_any_length_and_of_a_vendor_are_passed_over() -> None:
    words = struct.pack("!HHHHIHHHH", 300, 4, 0x8000 | 77, 0xFFFF, 9999, 8, 4, 12, 4) + struct.pack("!HH", 82, 0xFFFF)
    record = bytes([3]) + b"abc" + RECORD[:8] + bytes([0xFF]) + struct.pack("!H", 300) + bytes(300)
    collector = Collector()
    (flow,) = collector.read(ipfix(a_set(2, words), a_set(300, record)), EXPORTER)
    assert (flow.source, flow.destination) == ("10.0.0.1", "10.0.0.2")
    assert collector.losses == Losses()


def test_both_directions_of_a_biflow_are_one_record() -> None:
    reverse = struct.pack("!HHI", 0x8000 | 2, 4, 29305) + struct.pack("!HHI", 0x8000 | 1, 4, 29305)
    words = struct.pack("!HH", 300, 4) + struct.pack("!HHHH", 8, 4, 12, 4) + reverse
    collector = Collector()
    (flow,) = collector.read(ipfix(a_set(2, words), a_set(300, RECORD[:8] + struct.pack("!II", 5, 600))), EXPORTER)
    assert (flow.packets, flow.reply_packets, flow.reply_octets) == (0, 5, 600)


def test_what_a_device_says_of_its_sampling_counts_for_what_follows() -> None:
    options = struct.pack("!HHHHHHH", 301, 4, 4, 1, 4, 34, 4)  # scope: the system; then the interval
    collector = Collector()
    collector.read(v9(a_set(0, template(300, *FIELDS)), a_set(1, options)), EXPORTER)
    collector.read(v9(a_set(301, struct.pack("!II", 0, 100)), sequence=1), EXPORTER)
    (flow,) = collector.read(v9(a_set(300, RECORD), sequence=2), EXPORTER)
    assert flow.sampled == 100
    assert collector.losses == Losses()


@pytest.mark.parametrize(
    ("fields", "values", "first", "last"),
    [
        (((152, 8), (153, 8)), struct.pack("!QQ", 1_500_000_000_250, 1_500_000_001_500), THEN + 0.25, THEN + 1.5),
        (((150, 4), (151, 4)), struct.pack("!II", THEN, THEN + 1), THEN, THEN + 1),
        (((154, 8), (155, 8)), struct.pack("!IIII", NTP + THEN, 1 << 31, NTP + THEN + 1, 0), THEN + 0.5, THEN + 1),
        (((22, 4), (21, 4)), struct.pack("!II", 10_000, 20_000), SENT - 50, SENT - 40),
        ((), b"", SENT, SENT),
    ],
)  # fmt: skip
def test_times_are_read_in_every_way_of_telling_them(
    fields: tuple[tuple[int, int], ...], values: bytes, first: float, last: float
) -> None:
    collector = Collector()
    told = v9(a_set(0, template(300, *FIELDS[:2], *fields)), a_set(300, RECORD[:8] + values))
    (flow,) = collector.read(told, EXPORTER)
    assert (flow.first, flow.last) == (first, last)


def test_a_device_may_say_once_since_when_it_runs() -> None:
    options = struct.pack("!HHH", 301, 2, 1) + struct.pack("!HHHH", 149, 4, 160, 8)
    collector = Collector()
    collector.read(ipfix(a_set(3, options), a_set(301, struct.pack("!IQ", 0, THEN * 1000))), EXPORTER)
    told = (
        a_set(2, template(300, *FIELDS[:2], (22, 4), (21, 4))),
        a_set(300, RECORD[:8] + struct.pack("!II", 500, 1500)),
    )
    (flow,) = collector.read(ipfix(*told, sequence=1), EXPORTER)
    assert (flow.first, flow.last) == (THEN + 0.5, THEN + 1.5)
    assert collector.losses == Losses()


def test_what_was_lost_on_the_way_is_counted_and_a_late_one_is_found_again() -> None:
    collector = Collector()
    collector.read(v9(a_set(0, template(300, *FIELDS)), sequence=10), EXPORTER)
    collector.read(v9(a_set(300, RECORD), sequence=14), EXPORTER)
    assert collector.losses.lost == 3
    collector.read(v9(a_set(300, RECORD), sequence=12), EXPORTER)
    assert collector.losses.lost == 2
    collector.read(v9(a_set(300, RECORD), sequence=15), EXPORTER)
    assert collector.losses.lost == 2
    collector.read(v9(a_set(300, RECORD), sequence=0), EXPORTER)  # it began anew, or is from long ago
    collector.read(v9(a_set(300, RECORD), sequence=900_000), EXPORTER)
    assert collector.losses.lost <= 2


def test_records_are_counted_by_the_number_of_records_in_ipfix() -> None:
    collector = Collector()
    collector.read(ipfix(a_set(2, template(300, *FIELDS)), a_set(300, RECORD * 2), sequence=100), EXPORTER)
    collector.read(ipfix(a_set(300, RECORD), sequence=107), EXPORTER)
    assert collector.losses == Losses(lost=5)


def test_nobody_makes_us_remember_without_end() -> None:
    collector = Collector()
    for number in range(MOST_TEMPLATES + 10):
        collector.read(ipfix(a_set(2, template(256 + number, *FIELDS))), EXPORTER)
    assert collector.losses.refused == 10
    collector.read(ipfix(a_set(2, template(300, (8, 0), (12, 0)))), EXPORTER)
    assert collector.losses.refused == 11, "records without a byte would be without end"
    assert collector.read(ipfix(a_set(300, RECORD)), EXPORTER) == (FLOW,)


WHOLE = (
    v9(a_set(0, template(300, *FIELDS)), a_set(300, RECORD * 3)),
    ipfix(a_set(2, template(300, *FIELDS, (82, 0xFFFF))), a_set(300, (RECORD + b"\x02ab") * 3)),
    struct.pack("!HHIIIIBBH", 5, 2, 1000, SENT, 0, 0, 0, 0, 0) + bytes(96),
)


@settings(max_examples=120, deadline=None)
@given(st.lists(st.one_of(st.binary(max_size=200), st.sampled_from(WHOLE)), max_size=6), st.data())
def test_bytes_that_mean_nothing_raise_nothing(told: list[bytes], data: st.DataObject) -> None:
    """Whole datagrams too, with bytes changed and cut off anywhere."""
    collector = Collector()
    for each in told:
        bent = bytearray(each)
        for _ in range(data.draw(st.integers(0, 4))):
            if bent:
                bent[data.draw(st.integers(0, len(bent) - 1))] = data.draw(st.integers(0, 255))
        for flow in collector.read(bytes(bent[: data.draw(st.integers(0, len(bent)))]), EXPORTER):
            assert flow.exporter == EXPORTER
            assert flow.first <= flow.last


def test_what_stood_before_the_nonsense_is_kept() -> None:
    collector = Collector()
    told = v9(a_set(0, template(300, *FIELDS)), a_set(300, RECORD), b"\x01\x2c\xff\xff")
    assert collector.read(told, EXPORTER) == (FLOW,)
    assert collector.losses == Losses(nonsense=1)
