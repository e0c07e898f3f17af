"""Flows in columns: what goes in comes out, whichever end, kind and number."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockade.core.model.flow import Flow, FlowEnd, FlowKey, StoredFlow, Tally, Verdict, Via
from stockade.core.model.flow_table import (
    CODES,
    FlowBatch,
    FlowKind,
    FlowTable,
    FlowWriter,
    ToldEnd,
    flows,
    kept,
    numbers,
    told,
)
from stockade.core.model.ids import Address, HostId, RuleId, WorkloadId
from stockade.core.model.packet import Direction
from stockade.seams.flow_store import stored

HOST = HostId("host-a")
addresses = st.sampled_from(["10.0.0.1", "10.0.0.2", "fd00::1"]).map(Address)
workloads = st.sampled_from([None, "docker:web", "docker:api"]).map(lambda name: name and WorkloadId(name))
words = st.sampled_from(["", "a", "b, c", "\u00e9\U0001f512"])
moments = st.floats(0, 4e9, allow_nan=False)
counts = st.integers(0, 2**64 - 1)
tallies = st.builds(Tally, moments, moments, counts, counts, counts, counts, counts, moments)
keys = st.builds(
    FlowKey, addresses, addresses, st.integers(0, 255), st.integers(0, 65535), st.sampled_from(Direction),
    st.sampled_from(Verdict), words.map(RuleId), workloads, workloads, st.sampled_from(Via), words, words, words,
)  # fmt: skip
some = st.lists(st.builds(Flow, keys, tallies), max_size=12)


@given(some)
def test_flows_in_columns_are_the_same_flows_in_the_same_order(given_flows: list[Flow]) -> None:
    table = told(given_flows)
    assert list(flows(table)) == given_flows
    assert len(table) == len(given_flows)
    assert len(set(table.ends)) == len(table.ends) <= 2 * len(given_flows)
    assert table.rows.even


@given(some)
def test_a_batch_is_the_same_behind_the_wire(given_flows: list[Flow]) -> None:
    batch = FlowBatch(HOST, "s", 1, 1.0, 2.0, 3.0, told(given_flows))
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(batch), type=FlowBatch) == batch


@given(st.lists(st.tuples(keys, tallies, words, words), max_size=12))
def test_stored_flows_in_columns_are_the_same_flows(given_flows: list[tuple[FlowKey, Tally, str, str]]) -> None:
    found = [
        StoredFlow(HOST, FlowEnd(key.source, key.source_workload, (("app", app),)),
                   FlowEnd(key.destination, network=network, told=key.name), key, tally)
        for key, tally, app, network in given_flows
    ]  # fmt: skip
    assert list(stored(HOST, kept(found))) == found


def test_what_is_said_often_is_said_once() -> None:
    key = FlowKey(Address("10.0.0.1"), Address("10.0.0.2"), 6, 443, Direction.EGRESS, Verdict.ALLOWED)
    table = told([Flow(key, Tally(float(at), at + 1.0, at)) for at in range(1000)])
    assert (len(table.ends), len(table.kinds), len(table)) == (2, 1, 1000)


def test_columns_are_packed_little_endian() -> None:
    key = FlowKey(Address("10.0.0.1"), Address("10.0.0.2"), 6, 443, Direction.EGRESS, Verdict.ALLOWED)
    rows = told([Flow(key, Tally(1.0, 2.0, 258))]).rows
    assert rows.destination == b"\x01\x00\x00\x00"
    assert rows.first == b"\x00\x00\x00\x00\x00\x00\xf0\x3f"
    assert rows.connections == b"\x02\x01" + bytes(6)


def test_moments_are_moved_and_nothing_else() -> None:
    key = FlowKey(Address("10.0.0.1"), Address("10.0.0.2"), 6, 443, Direction.EGRESS, Verdict.ALLOWED)
    table = told([Flow(key, Tally(10.0, 11.5, 1, 2, 3, 4, 5, 6.5))])
    (moved,) = flows(msgspec.structs.replace(table, rows=table.rows.moved(-2.5)))
    assert moved.tally == Tally(7.5, 9.0, 1, 2, 3, 4, 5, 6.5)


@pytest.mark.parametrize("name", CODES)
def test_a_column_that_is_not_as_long_as_the_others_is_seen(name: str) -> None:
    key = FlowKey(Address("10.0.0.1"), Address("10.0.0.2"), 6, 443, Direction.EGRESS, Verdict.ALLOWED)
    rows = told([Flow(key, Tally(1.0, 2.0, 1))] * 3).rows
    for packed in (b"", bytes(3), getattr(rows, name) + bytes(8)):
        assert not msgspec.structs.replace(rows, **{name: packed}).even


@pytest.mark.parametrize("number", [-1, 2**64])
def test_a_number_that_no_column_holds_is_refused(number: int) -> None:
    writer = FlowWriter[ToldEnd]()
    end, kind = (
        writer.end(ToldEnd(Address("10.0.0.1"))),
        writer.kind(FlowKind(6, 443, Direction.EGRESS, Verdict.DENIED)),
    )
    writer.add((end, end, kind, *numbers(Tally(1.0, 2.0, number))))
    with pytest.raises(OverflowError):
        writer.table()


def test_nothing_is_a_table_too() -> None:
    assert list(flows(FlowTable())) == []
    assert FlowTable().rows.even
    assert told([]) == FlowTable()
