"""How long flows are kept and how much of them: what goes, in which order, and what is said of it."""

import random
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from tests.adapters.flow_worlds import ALWAYS, BEGAN, HOSTS, SPAN, ends, every, groups, world

from stockade.adapters.clickhouse.store import ClickHouseFlowStore, open_flow_store
from stockade.core.model.flow import StoredFlow
from stockade.core.model.flow_table import kept
from stockade.core.model.ids import HostId
from stockade.seams.flow_store import (
    FlowFilter,
    FlowQuery,
    FlowStoreFailed,
    Measure,
    Put,
    Resolution,
    Retention,
    StoredBatch,
    dimension,
    stored,
)

pytestmark = pytest.mark.real
"""A real ClickHouse, in this process or another: too slow for the inner loop."""

DAY = 86_400
MIDNIGHT = 1_699_920_000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "flows"


@pytest.fixture
def store(folder: Path) -> Iterator[ClickHouseFlowStore]:
    opened = open_flow_store(folder, retention=ALWAYS)
    yield opened
    opened.close()


def days(count: int) -> list[StoredBatch]:
    """A hundred flows of each host on each of some days."""
    return [
        StoredBatch(host, "days", day, MIDNIGHT + day * DAY, kept(_moved(flow, day) for flow in _hundred(host)))
        for day in range(count)
        for host in HOSTS
    ]


def _hundred(host: HostId) -> tuple[StoredFlow, ...]:
    return next(tuple(stored(host, batch.flows)) for batch in world(4, 600) if batch.host == host)


def _moved(flow: StoredFlow, day: int) -> StoredFlow:
    by = MIDNIGHT + day * DAY - BEGAN
    tally = msgspec.structs.replace(flow.tally, first=flow.tally.first + by, last=flow.tally.last + by)
    return msgspec.structs.replace(flow, tally=tally)


def rows(store: ClickHouseFlowStore) -> dict[Resolution, int]:
    return {each.resolution: each.rows for each in store.stats().kept}


def test_what_is_older_than_its_retention_is_forgotten_finest_first(folder: Path) -> None:
    store = open_flow_store(folder, retention=Retention(raw=2, minute=5, hour=400))
    try:
        _tables_do_not_forget_by_themselves(store)
        store.put(days(10))
        whole = rows(store)
        assert store.trim(MIDNIGHT + 10 * DAY) == ()
        left = rows(store)
        assert left[Resolution.RAW] == len(every([each for each in days(10) if each.number >= 8]))
        assert 0.4 < left[Resolution.MINUTE] / whole[Resolution.MINUTE] < 0.6
        assert left[Resolution.HOUR] == whole[Resolution.HOUR]
        assert store.losses(0, MIDNIGHT * 2) == ()
        query = FlowQuery(by=(dimension("source.app"),))
        assert list(store.groups(query).groups) == groups(every(days(10)), query)
    finally:
        store.close()


def test_a_range_in_the_middle_of_an_hour_that_is_no_longer_kept_finely_is_widened_and_that_is_said(
    folder: Path,
) -> None:
    store = open_flow_store(folder, retention=Retention(raw=2, minute=5, hour=400))
    try:
        _tables_do_not_forget_by_themselves(store)
        store.put(days(10))
        store.trim(MIDNIGHT + 10 * DAY)
        since, until = MIDNIGHT + 1800.5, MIDNIGHT + DAY * 9
        found = store.groups(FlowQuery(FlowFilter(since=since, until=until)))
        assert (found.since, found.until, found.partial_before) == (MIDNIGHT, until, None)
        assert list(found.groups) == groups(every(days(10)), FlowQuery(FlowFilter(since=MIDNIGHT, until=until)))
        assert store.flows(FlowFilter(), 5).partial_before == MIDNIGHT + 8 * DAY - 21 * 3600
        by_minute = store.groups(FlowQuery(by=(dimension("minute"),)))
        assert by_minute.partial_before is not None
    finally:
        store.close()


def _tables_do_not_forget_by_themselves(store: ClickHouseFlowStore) -> None:
    """Their own clock is today's, these flows are not."""
    for table in ("flows_raw", "flows_minute", "flows_hour", "batches", "losses", "ends", "kinds"):
        store._client.command(f"ALTER TABLE {table} REMOVE TTL")


def test_tables_forget_by_themselves_where_nobody_trims(folder: Path) -> None:
    store = open_flow_store(folder, retention=Retention(raw=1, minute=1, hour=1))
    try:
        store.put(days(1))
        for table in ("flows_raw", "flows_minute", "flows_hour"):
            store._client.command(f"OPTIMIZE TABLE {table} FINAL")
        assert set(rows(store).values()) == {0}
    finally:
        store.close()


def test_retention_may_be_changed(folder: Path) -> None:
    store = open_flow_store(folder, retention=ALWAYS)
    store.put(days(2))
    store.close()
    store = open_flow_store(folder, retention=Retention(raw=1, minute=20, hour=10_000))
    try:
        assert "toIntervalDay(2)" in str(store._client.command("SHOW CREATE TABLE flows_raw"))
        assert "toIntervalDay(22)" in str(store._client.command("SHOW CREATE TABLE flows_minute"))
    finally:
        store.close()


@pytest.mark.parametrize("retention", [Retention(raw=0), Retention(minute=-1), Retention(hour=10_001)])
def test_a_retention_that_is_none_is_refused(folder: Path, retention: Retention) -> None:
    with pytest.raises(FlowStoreFailed, match="cannot be kept for"):
        open_flow_store(folder, retention=retention)


def test_the_bound_drops_the_oldest_and_counts_it(folder: Path, store: ClickHouseFlowStore) -> None:
    batches = days(8)
    store.put(batches)
    held = store.stats()
    raw = held.kept[0]
    store.close()
    bounded = open_flow_store(folder, retention=msgspec.structs.replace(ALWAYS, bytes=held.bytes - raw.bytes // 2))
    try:
        now = MIDNIGHT + 8 * DAY
        lost = bounded.trim(now)
        assert bounded.stats().bytes <= held.bytes
        left = every(batches)
        oldest = min(flow.tally.first for flow in bounded.flows(FlowFilter(), 10_000).flows)
        gone = [flow for flow in left if flow.tally.first < oldest]
        assert 0 < len(gone) < len(left)
        assert sum(each.loss.count for each in lost) == len(gone)
        for host in HOSTS:
            assert sum(each.loss.count for each in lost if each.host == host) == sum(flow.host == host for flow in gone)
        assert {(each.loss.where, each.loss.what) for each in lost} == {("disk", "flows")}
        assert sorted(bounded.losses(now, now + 1)) == sorted(lost)
        query = FlowQuery(by=(dimension("rule"),), order=Measure.PACKETS)
        assert list(bounded.groups(query).groups) == groups(left, query)
        assert bounded.trim(now) == ()
    finally:
        bounded.close()


def test_a_bound_below_everything_leaves_nothing_and_says_so(folder: Path) -> None:
    store = open_flow_store(folder, retention=msgspec.structs.replace(ALWAYS, bytes=1))
    try:
        batches = days(2)
        store.put(batches)
        lost = store.trim(MIDNIGHT + 2 * DAY)
        assert {each.loss.what for each in lost} == {"flows", "minutes of flows", "hours of flows"}
        assert set(rows(store).values()) == {0}
        found = store.groups(FlowQuery())
        assert found.groups == ()
        assert found.partial_before is not None
        assert store.put(batches) == Put(0, 0, tuple(range(len(batches))))
    finally:
        store.close()


def test_what_ends_were_outlives_the_day_on_which_they_were_first_met(store: ClickHouseFlowStore) -> None:
    known = ends(random.Random(1), 2)
    flow = _hundred(HOSTS[0])[0]
    for day in (0, 5):
        later = msgspec.structs.replace(_moved(flow, day), source=known[0])
        store.put([StoredBatch(flow.host, "s", day, MIDNIGHT, kept([later]))])
    found = store._client.query("SELECT max(day) - min(day) FROM ends WHERE address = {a:String}",
                                parameters={"a": known[0].address}).result_rows  # fmt: skip
    store._client.command("OPTIMIZE TABLE ends FINAL")
    newest = store._client.query("SELECT toUnixTimestamp(toDateTime(max(day), 'UTC')) FROM ends").result_rows
    assert found[0][0] in (0, 5)
    assert newest == [(MIDNIGHT + 5 * DAY,)]
    assert SPAN < DAY
