"""A ClickHouse server by URL: the same SQL and answers, over HTTP. Tried against chDB behind a server's interface."""

import random
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from tests.adapters.clickhouse_server import PASSWORD, USER, Server, serving
from tests.adapters.flow_worlds import ALWAYS, BEGAN, every, groups, matches, some_dimensions, some_filter, world

from stockade.adapters.clickhouse.store import ClickHouseFlowStore, open_flow_store
from stockade.core.model.flow import FlowLoss
from stockade.core.model.flow_table import kept
from stockade.core.model.ids import HostId
from stockade.seams.flow_store import (
    EndFilter,
    FlowFilter,
    FlowQuery,
    FlowStoreFailed,
    LabelCondition,
    Measure,
    Put,
    StoredBatch,
    Test,
)

pytestmark = pytest.mark.real
"""A real ClickHouse, in this process or another: too slow for the inner loop."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with serving(tmp_path / "server") as running:
        yield running


def url(server: Server, database: str = "flows", password: str = PASSWORD) -> str:
    return f"http://{USER}:{quote(password)}@127.0.0.1:{server.server_port}/{database}"


@pytest.fixture
def store(server: Server, tmp_path: Path) -> Iterator[ClickHouseFlowStore]:
    opened = open_flow_store(url(server), retention=ALWAYS, journal=tmp_path / "journal")
    yield opened
    opened.close()


def test_the_same_questions_have_the_same_answers(store: ClickHouseFlowStore, server: Server) -> None:
    batches = world(21, 600)
    assert store.put(batches).flows == len(every(batches))
    dice = random.Random(21)
    for _ in range(25):
        query = FlowQuery(
            some_filter(dice, batches), some_dimensions(dice), dice.choice(list(Measure)), dice.random() < 0.5, 10_000
        )
        assert list(store.groups(query).groups) == groups(every(batches), query), query
        found = store.flows(query.where, 1000).flows
        assert len(found) == sum(matches(flow, query.where) for flow in every(batches))
    assert len(server.requests) > 50


def test_a_batch_counts_once_over_http_too(store: ClickHouseFlowStore, server: Server, tmp_path: Path) -> None:
    batches = world(22, 600)
    store.put(batches[:3])
    store.close()
    again = open_flow_store(url(server), retention=ALWAYS, journal=tmp_path / "journal")
    assert again.put(batches) == Put(3, len(every(batches[3:])), (0, 1, 2))
    assert list(again.groups(FlowQuery()).groups) == groups(every(batches), FlowQuery())
    again.close()


@pytest.mark.parametrize("failing", range(1, 6))
def test_a_network_that_breaks_anywhere_in_a_put_is_told_and_the_put_is_finished_later(
    store: ClickHouseFlowStore, server: Server, failing: int
) -> None:
    """The request of that number is taken, with the client's own repetitions of it."""
    batches = world(23, 300)
    run, asked = server.RequestHandlerClass._run, 0  # type: ignore[attr-defined]

    def breaking(self: object, *given: object) -> bytes:
        nonlocal asked
        asked += 1
        if asked >= failing:
            message = "Code: 210. DB::NetException: Connection reset (NETWORK_ERROR)"
            raise RuntimeError(message)
        return bytes(run(self, *given))

    server.RequestHandlerClass._run = breaking  # type: ignore[attr-defined]
    try:
        with pytest.raises(FlowStoreFailed) as failed:
            store.put(batches)
        assert "whole or not at all" in failed.value.kept
    finally:
        server.RequestHandlerClass._run = run  # type: ignore[attr-defined]
    done = store.put(batches)
    assert done.batches + done.repeated == len(batches)
    query = FlowQuery(by=some_dimensions(random.Random(3)), limit=10_000)
    assert list(store.groups(query).groups) == groups(every(batches), query)


@pytest.mark.parametrize("table", ["flows_in", "`ends`", "`kinds`", "`losses`", "`batches`"])
def test_what_a_server_did_and_could_not_say_is_not_done_twice(
    store: ClickHouseFlowStore, server: Server, table: str
) -> None:
    batches = world(25, 300)
    lost = StoredBatch(HostId("host-a"), "lost", 1, BEGAN, lost=(FlowLoss("nflog", "x", 1),))
    server.unanswered = f"INSERT INTO {table}"
    with pytest.raises(FlowStoreFailed):
        store.put([*batches, lost])
    server.unanswered = ""
    store.put([*batches, lost])
    assert list(store.groups(FlowQuery()).groups) == groups(every(batches), FlowQuery())
    assert len(store.flows(FlowFilter(), 1000).flows) == len(every(batches))
    assert len(store.losses(0, 4e9)) == 1


def test_connections_that_are_cut_are_told(store: ClickHouseFlowStore, server: Server) -> None:
    server.failing = 10
    with pytest.raises(FlowStoreFailed):
        store.groups(FlowQuery())
    server.failing = 0
    assert store.groups(FlowQuery()).groups == ()


@pytest.mark.parametrize(
    "text", ["'", "\\", "\\'", "{p0:String}", "\x00", "\n\t", "é名", "'; DROP TABLE flows_raw", "&a=b", "%27", "+", "#"]
)
def test_hostile_words_are_words_in_a_url_too(store: ClickHouseFlowStore, text: str) -> None:
    flow = every(world(24, 60))[0]
    host = HostId(text)
    batch = StoredBatch(host, text, 1, BEGAN, kept([flow]), (FlowLoss(text, text, 1),))
    store.put([batch])
    assert store.put([batch]).repeated == 1
    absent = EndFilter(labels=(LabelCondition(text, Test.ABSENT), LabelCondition(text, Test.NOT_IN, (text,))))
    assert store.flows(FlowFilter(hosts=(host,), source=absent), 5).flows == tuple(every([batch]))
    assert store.losses(0, 4e9)[0].loss.what == text


def test_a_wrong_password_is_told(server: Server, tmp_path: Path) -> None:
    with pytest.raises(FlowStoreFailed, match="refuses us") as failed:
        open_flow_store(url(server, password="wrong"), journal=tmp_path / "journal")
    assert "wrong" not in failed.value.message


def test_it_says_which_server_it_is(store: ClickHouseFlowStore, server: Server) -> None:
    assert store.stats().where == f"127.0.0.1:{server.server_port}"


def test_a_server_needs_a_folder_for_puts_in_progress(server: Server) -> None:
    with pytest.raises(FlowStoreFailed, match="puts in progress"):
        open_flow_store(url(server))
