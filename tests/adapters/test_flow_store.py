"""The flow store against a reading of its seam in plain Python: every filter, every grouping, every order."""

import random
import struct
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest
from tests.adapters.flow_worlds import (
    ALWAYS,
    BEGAN,
    SPAN,
    every,
    groups,
    matches,
    ordered,
    some_dimensions,
    some_filter,
    whole,
    world,
)

from stockade.adapters.clickhouse.reading import ASKED, MANY, Reader
from stockade.adapters.clickhouse.store import ClickHouseFlowStore, open_flow_store
from stockade.core.model.flow import FlowEnd, FlowLoss, StoredFlow, Tally
from stockade.core.model.flow_table import EndText, kept
from stockade.core.model.ids import HostId, Prefix, RuleId, WorkloadId
from stockade.seams.flow_store import (
    Dimension,
    EndFilter,
    FlowFilter,
    FlowGroups,
    FlowQuery,
    FlowsRefused,
    FlowStoreFailed,
    HostLoss,
    LabelCondition,
    Measure,
    Of,
    Put,
    StoredBatch,
    Test,
    dimension,
)

pytestmark = pytest.mark.real
"""A real ClickHouse, in this process or another: too slow for the inner loop."""

HOSTILE = (
    "'", '"', "\\", "\\'", "''", "`", "{p0:String}", "{{", "}", "%s", "%(p0)s", "\x00", "a\x00b", "\n\r\t", "--", "/*",
    "'; DROP TABLE flows_raw; --", "' OR 1=1 --", "名前", "é", "e\u0301", "\u202e", "\U0001f600", "\x7f\x1b[0m", "NULL",
    "\\N", "[]", "['a']", " ", "a" * 5000,
)  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ClickHouseFlowStore]:
    opened = open_flow_store(tmp_path / "flows", retention=ALWAYS)
    yield opened
    opened.close()


def pages(store: ClickHouseFlowStore, where: FlowFilter, limit: int) -> list[StoredFlow]:
    found: list[StoredFlow] = []
    after = None
    while True:
        page = store.flows(where, limit, after)
        assert len(page.flows) <= limit
        found += page.flows
        if page.after is None:
            return found
        assert len(page.flows) == limit
        after = page.after


def test_what_is_put_comes_back_newest_first(store: ClickHouseFlowStore) -> None:
    batches = world(1)
    flows = every(batches)
    assert store.put(batches) == Put(len(batches), len(flows))
    for limit in (7, 100, len(flows), len(flows) + 1):
        found = pages(store, FlowFilter(), limit)
        assert [flow.tally.first for flow in found] == sorted((each.tally.first for each in found), reverse=True)
        assert ordered(found) == ordered(flows)


@pytest.fixture(params=[0, MANY], ids=["many", "few"])
def many(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """How many ends are many: with none, each question looks at those alone that its flows name."""
    monkeypatch.setattr("stockade.adapters.clickhouse.reading.MANY", request.param)


@pytest.mark.usefixtures("many")
@pytest.mark.parametrize("seed", range(4))
def test_random_questions_have_the_plain_answer(store: ClickHouseFlowStore, seed: int) -> None:
    batches = world(seed)
    store.put(batches)
    dice = random.Random(seed)
    answered = 0
    for _ in range(60):
        query = FlowQuery(
            where=some_filter(dice, batches),
            by=some_dimensions(dice),
            order=dice.choice(list(Measure)),
            descending=dice.random() < 0.5,
            limit=dice.choice((1, 5, 10_000)),
        )
        expected = groups(every(batches), query)
        found = store.groups(query)
        assert list(found.groups) == expected[: query.limit], (seed, query)
        assert found.total == len(expected)
        answered += bool(expected)
    assert answered > 20


def test_questions_at_the_same_time_have_the_plain_answer(store: ClickHouseFlowStore) -> None:
    batches = world(7)
    store.put(batches)
    dice = random.Random(7)
    queries = [FlowQuery(some_filter(dice, batches), some_dimensions(dice), limit=10_000) for _ in range(40)]
    with ThreadPoolExecutor(4) as asking:
        answers = list(asking.map(store.groups, queries))
    for query, found in zip(queries, answers, strict=True):
        assert list(found.groups) == groups(every(batches), query), query


def test_a_question_does_not_wait_for_another(store: ClickHouseFlowStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.put(world(1))
    asked, on = threading.Event(), threading.Event()
    answer = Reader.groups

    def slowly(reader: Reader, query: FlowQuery) -> FlowGroups:
        asked.set()
        assert on.wait(60)
        return answer(reader, query)

    monkeypatch.setattr(Reader, "groups", slowly)
    with ThreadPoolExecutor(2) as asking:
        long = asking.submit(store.groups, FlowQuery())
        assert asked.wait(60)
        assert asking.submit(store.flows, FlowFilter(), 5).result(60).flows
        assert not long.done()
        on.set()
        assert long.result(60).groups


@pytest.mark.usefixtures("many")
@pytest.mark.parametrize("of", list(Of))
def test_every_dimension(store: ClickHouseFlowStore, of: Of) -> None:
    batches = world(5, 600)
    store.put(batches)
    query = FlowQuery(by=(Dimension(of, "app" if of.value.endswith("label") else ""),), limit=10_000)
    found = store.groups(query)
    assert list(found.groups) == groups(every(batches), query)
    assert len(found.groups) > 1


@pytest.mark.parametrize("seed", range(4))
def test_random_filters_find_the_same_rows(store: ClickHouseFlowStore, seed: int) -> None:
    batches = world(seed + 50, 600)
    store.put(batches)
    dice = random.Random(seed)
    for _ in range(40):
        where = some_filter(dice, batches)
        expected = [flow for flow in every(batches) if matches(flow, where)]
        assert ordered(pages(store, where, 400)) == ordered(expected), (seed, where)


def test_no_range_is_answered_otherwise_by_minutes_and_hours_than_by_the_flows(store: ClickHouseFlowStore) -> None:
    batches = world(9)
    store.put(batches)
    dice = random.Random(9)
    units = (0.000001, 1, 60, 3600)
    for _ in range(60):
        since, until = sorted(dice.randrange(SPAN + 7200) // unit * unit for unit in dice.choices(units, k=2))
        query = FlowQuery(where=FlowFilter(since=BEGAN + since, until=BEGAN + until), by=(dimension("rule"),))
        assert list(store.groups(query).groups) == groups(every(batches), query), (since, until)


def test_the_three_tables_hold_the_same_sums(store: ClickHouseFlowStore) -> None:
    store.put(world(3))
    columns = (
        "sum(connections), sum(packets), sum(bytes_out), sum(bytes_in), sum(ended), sum(lived), min(first), max(last)"
    )
    found = [
        store._client.query(f"SELECT source, destination, kind, {columns} FROM {table} WHERE put = 0 "
                            "GROUP BY source, destination, kind ORDER BY source, destination, kind").result_rows
        for table in ("flows_raw", "flows_minute", "flows_hour")
    ]  # fmt: skip
    assert found[0] == found[1] == found[2]
    assert len(found[0]) > 100


def test_one_key_of_many_batches_is_one_row_of_an_hour(store: ClickHouseFlowStore) -> None:
    one = every(world(3))[0]
    tallies = [Tally(BEGAN + number, BEGAN + 90, 1) for number in range(120)]
    same = [
        StoredBatch(one.host, "s", number, BEGAN, kept([msgspec.structs.replace(one, tally=tally)]))
        for number, tally in enumerate(tallies)
    ]
    store.put(same)
    for table in ("flows_minute", "flows_hour"):
        store._client.command(f"OPTIMIZE TABLE {table} FINAL")
    rows = {each.resolution.value: each.rows for each in store.stats().kept}
    assert rows == {"raw": 120, "minute": 2, "hour": 1}


def test_a_batch_counts_once(store: ClickHouseFlowStore, tmp_path: Path) -> None:
    batches = world(2, 600)
    flows = every(batches)
    assert store.put(batches[:2]) == Put(2, len(every(batches[:2])))
    assert store.put(batches[:2]) == Put(0, 0, (0, 1))
    assert store.put([*batches, batches[5], batches[5]]) == Put(4, len(every(batches[2:])), (0, 1, 6, 7))
    store.close()
    again = open_flow_store(tmp_path / "flows", retention=ALWAYS)
    assert again.put(batches) == Put(0, 0, tuple(range(6)))
    assert ordered(pages(again, FlowFilter(), 5000)) == ordered(flows)
    assert list(again.groups(FlowQuery()).groups) == groups(flows, FlowQuery())


def test_a_batch_is_named_by_host_stream_and_number(store: ClickHouseFlowStore) -> None:
    flow = every(world(2))[0]
    for batch in (
        StoredBatch(flow.host, "a", 1, BEGAN, kept([flow])),
        StoredBatch(flow.host, "a", 2, BEGAN, kept([flow])),
        StoredBatch(flow.host, "b", 1, BEGAN, kept([flow])),
        StoredBatch(HostId("other"), "a", 1, BEGAN, kept([flow])),
    ):
        assert store.put([batch]).batches == 1
    assert len(store.flows(FlowFilter(), 10).flows) == 4
    assert len(pages(store, FlowFilter(), 1)) == 4


def test_labels_stay_as_they_were(store: ClickHouseFlowStore) -> None:
    flow = every(world(2))[0]
    end = FlowEnd(flow.source.address, WorkloadId("w"), (("app", "old"),))
    relabelled = msgspec.structs.replace(end, labels=(("app", "new"),))
    for number, source in enumerate((end, relabelled)):
        store.put([StoredBatch(flow.host, "s", number, BEGAN, kept([msgspec.structs.replace(flow, source=source)]))])
    found = store.groups(FlowQuery(by=(dimension("source.app"),), order=Measure.GROUP))
    assert [group.values for group in found.groups] == [("old",), ("new",)]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_words_are_words(store: ClickHouseFlowStore, text: str) -> None:
    plain = every(world(2))[0]
    end = FlowEnd(plain.source.address, WorkloadId(text), tuple(sorted([(text, text), ("zone", text)])), text)
    key = msgspec.structs.replace(
        plain.key, rule=RuleId(text), process=text, service=text, source_workload=WorkloadId(text)
    )
    flow = StoredFlow(HostId(text), end, plain.destination, key, plain.tally)
    ordinary = StoredBatch(plain.host, "s", 1, BEGAN, kept([plain]))
    store.put([ordinary, StoredBatch(HostId(text), text, 1, BEGAN, kept([flow]), (FlowLoss(text, text, 7),))])
    which = EndFilter(
        labels=(
            LabelCondition(text, Test.IN, (text,)),
            LabelCondition(text, Test.EXISTS),
            LabelCondition("no" + text, Test.ABSENT),
        ),
        workloads=(WorkloadId(text),),
        networks=(text,),
    )
    where = FlowFilter(
        source=which,
        rules=(RuleId(text),),
        hosts=(HostId(text),),
        processes=(text,),
        programs=(text,),
        opened_to=(text,),
    )
    assert store.flows(where, 5).flows == (whole(flow),)
    by = (
        Dimension(Of.SOURCE_LABEL, text),
        *map(Dimension, (Of.RULE, Of.HOST, Of.PROCESS, Of.SERVICE, Of.SOURCE_WORKLOAD)),
    )
    assert [each.values for each in store.groups(FlowQuery(where, by)).groups] == [(text,) * 6]
    nothing = FlowFilter(source=EndFilter(labels=(LabelCondition(text, Test.NOT_IN, (text,)),)), hosts=(HostId(text),))
    assert store.flows(nothing, 5).flows == ()
    assert store.losses(0, BEGAN * 2) == (HostLoss(BEGAN, HostId(text), FlowLoss(text, text, 7)),)
    assert store.put([ordinary, StoredBatch(HostId(text), text, 1, BEGAN)]).repeated == 2


@pytest.mark.parametrize("text", ["10.0.0.0/33", "nobody", "10.0.0.0/8' OR 1", "", "::/129"])
def test_what_is_no_prefix_is_refused(store: ClickHouseFlowStore, text: str) -> None:
    with pytest.raises(FlowStoreFailed, match="neither an address nor a prefix"):
        store.groups(FlowQuery(FlowFilter(source=EndFilter(prefixes=(Prefix(text),)))))


@pytest.mark.parametrize("after", ["", "x", "AAAA", "'; DROP", "lc8ABg==", "é"])
def test_what_is_no_page_is_refused(store: ClickHouseFlowStore, after: str) -> None:
    with pytest.raises(FlowStoreFailed, match="no place in the flows"):
        store.flows(FlowFilter(), 5, after)


def test_half_a_character_is_refused(store: ClickHouseFlowStore) -> None:
    flow = every(world(2))[0]
    broken = msgspec.structs.replace(flow, key=msgspec.structs.replace(flow.key, rule=RuleId("\ud800")))
    with pytest.raises(FlowStoreFailed, match="half a character"):
        store.put([StoredBatch(flow.host, "s", 1, BEGAN, kept([broken]))])
    with pytest.raises(FlowStoreFailed, match="half a character"):
        store.groups(FlowQuery(FlowFilter(rules=(RuleId("\ud800"),))))
    assert store.put([StoredBatch(flow.host, "s", 1, BEGAN, kept([flow]))]).flows == 1


@pytest.mark.parametrize(
    ("of", "change"),
    [
        ("tally", {"first": -1.0}),
        ("tally", {"first": 1e18}),
        ("tally", {"last": float("nan")}),
        ("tally", {"seconds": float("inf")}),
        ("key", {"port": 65536}),
        ("key", {"protocol": 256}),
    ],
)
def test_what_cannot_be_kept_is_refused_and_nothing_of_it_stored(
    store: ClickHouseFlowStore, of: str, change: dict[str, float]
) -> None:
    good, flow = every(world(2))[:2]
    broken = msgspec.structs.replace(flow, **{of: msgspec.structs.replace(getattr(flow, of), **change)})
    with pytest.raises(FlowStoreFailed) as failed:
        store.put([StoredBatch(flow.host, "s", 1, BEGAN, kept([good, broken]))])
    assert "Nothing of this put was stored" in failed.value.kept
    assert store.flows(FlowFilter(), 5).flows == ()
    assert store.put([StoredBatch(flow.host, "s", 1, BEGAN, kept([good]))]).flows == 1


@pytest.mark.parametrize(
    ("column", "packed", "said"),
    [
        ("source", struct.pack("<II", 0, 9), "not in its batch"),
        ("destination", struct.pack("<II", 2**32 - 1, 0), "not in its batch"),
        ("kind", struct.pack("<II", 0, 2), "not in its batch"),
        ("kind", struct.pack("<I", 0), "not equally long"),
        ("packets", bytes(24), "not equally long"),
        ("bytes_in", bytes(15), "not equally long"),
        ("first", b"", "not equally long"),
        ("ended", b"", "not equally long"),
    ],
)
def test_columns_that_are_none_are_refused_and_nothing_of_them_stored(
    store: ClickHouseFlowStore, column: str, packed: bytes, said: str
) -> None:
    good = every(world(2))[:2]
    table = kept(good)
    broken = msgspec.structs.replace(table, rows=msgspec.structs.replace(table.rows, **{column: packed}))
    with pytest.raises(FlowsRefused, match=said) as failed:
        store.put([StoredBatch(good[0].host, "s", 1, BEGAN, broken)])
    assert "Nothing of this put was stored" in failed.value.kept
    assert store.put([StoredBatch(good[0].host, "s", 1, BEGAN, table)]).flows == 2


@pytest.mark.parametrize("text", [b"", b"\xc1", b"\x93\x01\x02\x03", msgspec.msgpack.encode("10.0.0.1")])
def test_an_end_that_is_none_is_refused_with_its_batch_alone(store: ClickHouseFlowStore, text: bytes) -> None:
    good = every(world(2))[:2]
    table = kept(good)
    broken = msgspec.structs.replace(table, ends=(*table.ends[:-1], EndText(text)))
    other = StoredBatch(good[0].host, "s", 2, BEGAN, table)
    with pytest.raises(FlowsRefused, match="an end is none") as failed:
        store.put([StoredBatch(good[0].host, "s", 1, BEGAN, broken), other])
    assert "Nothing of this put was stored" in failed.value.kept
    assert store.flows(FlowFilter(), 5).flows == ()
    assert store.put([other]).flows == 2


@pytest.mark.parametrize(("number", "until"), [(-1, BEGAN), (2**64, BEGAN), (1, -1.0), (1, float("nan")), (1, 1e12)])
def test_a_batch_that_cannot_be_named_is_refused(store: ClickHouseFlowStore, number: int, until: float) -> None:
    with pytest.raises(FlowStoreFailed, match="cannot be kept"):
        store.put([StoredBatch(HostId("host-a"), "s", number, until)])


def test_a_batch_of_nothing_but_losses(store: ClickHouseFlowStore) -> None:
    lost = (FlowLoss("conntrack", "events", 12), FlowLoss("nflog", "datagrams", 3))
    batch = StoredBatch(HostId("host-a"), "s", 1, BEGAN + 0.25, lost=lost)
    assert store.put([batch]) == Put(1, 0)
    assert store.put([batch]) == Put(0, 0, (0,))
    assert store.losses(BEGAN, BEGAN + 1) == tuple(HostLoss(BEGAN + 0.25, batch.host, each) for each in lost)
    assert store.losses(BEGAN + 1, BEGAN + 2) == ()


@pytest.mark.parametrize("bound", ["max_memory_usage", "max_bytes_to_read"])
def test_a_question_may_take_only_so_much(
    store: ClickHouseFlowStore, monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    store.put(world(2))
    monkeypatch.setitem(ASKED, bound, 1000)
    with pytest.raises(FlowStoreFailed) as failed:
        store.groups(FlowQuery(by=(dimension("source.name"), dimension("minute"))))
    assert failed.value.kept == "Nothing was changed."
    assert bound != "max_memory_usage" or "more memory or time than it may" in failed.value.message
    monkeypatch.undo()
    assert store.groups(FlowQuery(by=(dimension("source.name"), dimension("minute")))).total


def test_an_empty_store_answers(store: ClickHouseFlowStore) -> None:
    assert store.groups(FlowQuery()).groups == ()
    assert store.groups(FlowQuery(by=(dimension("port"),))).total == 0
    assert store.flows(FlowFilter(), 5).flows == ()
    assert [(each.rows, each.oldest) for each in store.stats().kept] == [(0, None)] * 3
    assert store.put([]) == Put()


def test_what_is_held_is_told(store: ClickHouseFlowStore) -> None:
    batches = world(2)
    store.put(batches)
    stats = store.stats()
    first = [flow.tally.first for flow in every(batches)]
    raw = stats.kept[0]
    assert (raw.rows, raw.oldest) == (len(first), min(first))
    assert sum(each.bytes for each in stats.kept) <= stats.bytes
    assert stats.where == "embedded"
    assert stats.retention == ALWAYS


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("source.app", Dimension(Of.SOURCE_LABEL, "app")),
        ("destination.label.address", Dimension(Of.DESTINATION_LABEL, "address")),
        ("destination.address", Dimension(Of.DESTINATION_ADDRESS)),
        ("source.a.b", Dimension(Of.SOURCE_LABEL, "a.b")),
        ("minute", Dimension(Of.MINUTE)),
    ],
)
def test_dimensions_are_named(text: str, expected: Dimension) -> None:
    assert dimension(text) == expected


@pytest.mark.parametrize("text", ["", "source", "source.", "colour", "source.label.", "source.label", "put", "kind"])
def test_no_dimension_of_that_name(text: str) -> None:
    with pytest.raises(FlowStoreFailed, match="cannot be grouped"):
        dimension(text)
