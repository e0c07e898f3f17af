"""How flows are asked for and shown: moments, sizes, lines, and files that no program takes for more than text."""

import csv
import io
from enum import Enum
from typing import Any

import msgspec
import pytest
from pyarrow import parquet

from stockade.cli.flows import flows_view, groups_view, store_view
from stockade.controller.flow_files import COLUMNS, FlowFile, flat, spreadsheet, written
from stockade.core.model.flow import Verdict, Via
from stockade.core.model.ids import Address, HostId, RuleId
from stockade.core.model.packet import Direction
from stockade.wire.amounts import size
from stockade.wire.exporters import ExporterView
from stockade.wire.flows import (
    FlowEndView,
    FlowGroupsReply,
    FlowGroupView,
    FlowLossView,
    FlowsKept,
    FlowsReply,
    FlowStoreReply,
    FlowView,
)
from stockade.wire.moments import moment

NOW = 1_000_000.0
FLOW = FlowView(
    HostId("host-a"), 0.0, 60.0, FlowEndView(Address("10.0.0.1"), "web-1", labels=(("role", "web"),)),
    FlowEndView(Address("10.0.0.2"), "10.0.0.2"), "tcp/443", Direction.EGRESS, Verdict.DENIED, RuleId("default"),
    Via.PROXY, "192.0.2.1:8443", "", 3, 4, 1500, 0, 0, 0.0,
)  # fmt: skip


def text(view) -> str:
    return "\n".join("".join(span.text for span in line) for line in view)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("30m", NOW - 1800), ("7d", NOW - 7 * 86400), ("90", NOW - 90), ("1970-01-02", 86400.0),
        ("1970-01-01T00:01", 60.0), ("1970-01-01T01:00+01:00", 0.0),
        ("1700000000.5", 1_700_000_000.5),
    ],
)  # fmt: skip
def test_a_moment_is_so_long_ago_or_a_time(written: str, meant: float) -> None:
    assert moment(written, NOW) == meant


@pytest.mark.parametrize("written", ["yesterday", "", "7 days", "2026-13-01", "nan", "-1", "١h", "9" * 400])
def test_what_is_no_moment_is_refused(written: str) -> None:
    with pytest.raises(ValueError, match="is no moment"):
        moment(written, NOW)


@pytest.mark.parametrize(
    ("octets", "shown"), [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (15_000, "15 kB"), (2_000_000_000, "2.0 GB")]
)
def test_sizes_have_their_unit(octets: int, shown: str) -> None:
    assert size(octets) == shown


def test_a_flow_is_one_line_with_its_verdict_in_form_too() -> None:
    shown = text(flows_view(FlowsReply(flows=(FLOW,))))
    assert "1970-01-01 00:01:00  ✕  web-1  10.0.0.2 (by 192.0.2.1:8443)  tcp/443  source" in shown
    assert shown.rstrip().endswith("default")


def test_what_is_left_out_is_said() -> None:
    shown = text(flows_view(FlowsReply(flows=(FLOW,), after="x", partial_before=0.0)))
    assert "There are more" in shown
    assert "only kept summed up" in shown
    assert "No flows" in text(flows_view(FlowsReply(flows=())))
    group = FlowGroupView((None, 60), 1, 2, 3, 4, 5, 6.0, 7.0, 8.0)
    shown = text(groups_view(FlowGroupsReply(by=("source.app", "minute"), groups=(group,), total=9)))
    assert "–           1970-01-01 00:01:00 UTC" in shown
    assert "The first 1 of 9" in shown


def test_the_store_says_what_is_missing() -> None:
    kept = FlowsKept("raw", 7, 3, 2000, 0.0, 60.0)
    loss = FlowLossView(60.0, HostId("host-a"), "nflog", "decisions", 12)
    skews = ((HostId("b"), -3.0),)
    reply = FlowStoreReply(
        where="embedded", version="1", kept=(kept,), bytes=2000, limit=10**9, losses=(loss,), skews=skews
    )
    shown = text(store_view(reply))
    assert "2.0 kB of 1.0 GB" in shown
    assert "12 decisions" in shown
    assert "The clock of b is 3.0 s ahead" in shown


def test_an_address_outside_is_shown_with_the_name_that_led_there() -> None:
    there = FlowEndView(Address("198.51.100.7"), "198.51.100.7", told="api.example.com")
    seen = msgspec.structs.replace(FLOW, destination=there, process="curl")
    shown = text(flows_view(FlowsReply(flows=(seen,))))
    assert "198.51.100.7 (dns:api.example.com) (by 192.0.2.1:8443)" in shown
    assert "curl" in shown
    row = row_of(seen)
    assert (row["destination_told"], row["process"]) == ("api.example.com", "curl")


def test_devices_are_listed_with_what_is_missing_of_them_and_their_flows_are_seen_by_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    device = ExporterView(Address("192.0.2.9"), 60.0, ("IPFIX", "NetFlow 9"), 9, 80, 7, 2, 100, 3.0)
    reply = FlowStoreReply(where="embedded", version="1", kept=(), bytes=0, limit=None, exporters=(device,), refused=12)
    shown = text(store_view(reply))
    (row,) = [each.split() for each in shown.splitlines() if each.startswith("192.0.2.9")]
    assert " ".join(row) == "192.0.2.9 IPFIX, NetFlow 9 1970-01-01 00:01:00 UTC 80 7 2 1 of 100"
    assert "The clock of 192.0.2.9 is 3.0 s behind" in shown
    assert "12 datagrams came from whom netflow-exporters does not name" in shown
    seen = msgspec.structs.replace(FLOW, host=HostId("netflow:192.0.2.9"), verdict=Verdict.CARRIED)
    assert "device 192.0.2.9" in text(flows_view(FlowsReply(flows=(seen,))))


@pytest.mark.parametrize("name", ["=cmd()", "+1", "-1", "@x", "\t=1", " =1", "\uff1d1", "\x00=1", "\ufeff=1"])
def test_no_name_becomes_a_spreadsheet_s_formula(name: str) -> None:
    hostile = msgspec.structs.replace(FLOW, source=FlowEndView(Address("10.0.0.1"), name))
    head, row = io.StringIO(spreadsheet((hostile,), head=True)).read().splitlines()
    at = head.split(",").index("source")
    assert row.split(",")[at].strip('"') == f"'{name}"
    assert row_of(hostile)["source"] == name


@pytest.mark.parametrize(
    ("name", "shown"), [("a;=1", "a;'=1"), ("a\t@x", "a\t'@x"), ("x-y=z", "x-y=z"), ("2001:db8::1", "2001:db8::1")]
)
def test_nor_where_a_program_begins_a_cell_in_the_middle(name: str, shown: str) -> None:
    hostile = msgspec.structs.replace(FLOW, process=name)
    row = next(csv.DictReader(io.StringIO(spreadsheet((hostile,), head=True))))
    assert row["process"] == shown


@pytest.mark.parametrize("form", FlowFile)
def test_a_file_of_several_pages_is_whole(form: FlowFile) -> None:
    pages = [(FLOW, FLOW), (), (FLOW,)]
    content = b"".join(written(pages, form))
    read = {FlowFile.CSV: _csv, FlowFile.JSON: _json, FlowFile.PARQUET: _parquet}[form](content)
    sources = [each["source"]["name"] if form is FlowFile.JSON else each["source"] for each in read]
    assert sources == ["web-1"] * 3
    assert [each["connections"] for each in read] == ["3" if form is FlowFile.CSV else 3] * 3


def test_nothing_is_a_file_too() -> None:
    assert list(written([()], FlowFile.CSV)) == [b""]
    assert _parquet(b"".join(written([()], FlowFile.PARQUET))) == []


def test_every_cell_is_below_its_name() -> None:
    row = row_of(FLOW)
    for name in COLUMNS:
        end, _, what = name.partition("_")
        if end in ("source", "destination"):
            view = getattr(FLOW, end)
            told = {"": view.name, "workload": view.workload or "", "labels": " ".join(map("=".join, view.labels))}
            assert row[name] == (told[what] if what in told else getattr(view, what)), name
        else:
            found = getattr(FLOW, name)
            assert row[name] == (found.value if isinstance(found, Enum) else found), name


def row_of(flow: FlowView) -> dict[str, Any]:
    (row,) = flat((flow,))
    return dict(zip(COLUMNS, row, strict=True))


def _csv(content: bytes) -> list[dict[str, Any]]:
    return list(csv.DictReader(io.StringIO(content.decode())))


def _json(content: bytes) -> list[dict[str, Any]]:
    return [msgspec.json.decode(line) for line in content.splitlines()]


def _parquet(content: bytes) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = parquet.read_table(io.BytesIO(content)).to_pylist()
    return found
