"""A put that is killed with SIGKILL wherever it is: put again, each batch counts once, in every table."""

import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.adapters.flow_worlds import ALWAYS, BEGAN, every, groups, world

from stockade.adapters.clickhouse.journal import Begun
from stockade.adapters.clickhouse.putting import BEFORE, Putter
from stockade.adapters.clickhouse.store import ClickHouseFlowStore, open_flow_store
from stockade.core.model.flow import FlowLoss
from stockade.seams.flow_store import FlowFilter, FlowQuery, StoredBatch, dimension

pytestmark = pytest.mark.real
"""A real ClickHouse, in this process or another: too slow for the inner loop."""

PUTTING = """
import sys
from pathlib import Path
from stockade.adapters.clickhouse.store import open_flow_store
from tests.adapters.flow_worlds import ALWAYS
from tests.adapters.test_flow_store_crash import many
store = open_flow_store(Path(sys.argv[1]), retention=ALWAYS)
batches = many(int(sys.argv[2]))
print("begin", flush=True)
for batch in batches:
    print(batch.host, batch.stream, batch.number, "of", store.put([batch]).repeated, flush=True)
"""
STRIKES = 6


def many(seed: int) -> list[StoredBatch]:
    """Batches that lie in three hours each, with a loss each."""
    return [
        StoredBatch(
            batch.host, f"{batch.stream} {again}", batch.number, batch.until, batch.flows, (FlowLoss("nflog", "x", 1),)
        )
        for again in range(8)
        for batch in world(seed, 600)
    ]


def all_as_put(store: ClickHouseFlowStore, batches: list[StoredBatch]) -> None:
    """Every table has every batch once."""
    flows = every(batches)
    rows = store._client.query(
        "SELECT stream, number, count() FROM flows_raw WHERE put = 0 GROUP BY stream, number ORDER BY stream, number"
    ).result_rows
    expected: dict[tuple[str, int], int] = {}
    for batch in batches:
        expected[batch.stream, batch.number] = expected.get((batch.stream, batch.number), 0) + len(batch.flows)
    assert {(stream, number): count for stream, number, count in rows} == expected
    for by in (("rule",), ("minute", "rule"), ("hour", "source.app")):
        query = FlowQuery(by=tuple(map(dimension, by)), limit=10_000)
        assert list(store.groups(query).groups) == groups(flows, query)
    raw = FlowQuery(FlowFilter(since=BEGAN + 0.5), by=(dimension("port"),))
    assert list(store.groups(raw).groups) == groups(flows, raw)
    assert sum(each.loss.count for each in store.losses(0, 4e9)) == len(batches)


@pytest.mark.fault
@pytest.mark.timeout(900)
def test_killed_in_the_middle_nothing_is_counted_twice_and_nothing_that_was_acknowledged_is_lost(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "flows"
    dice = random.Random(1)
    batches = many(3)
    acknowledged: set[tuple[str, ...]] = set()
    for strike in range(STRIKES):
        acknowledged |= _struck(folder, 1 + strike % 3, dice.random())
    assert len(acknowledged) >= STRIKES // 3
    store = open_flow_store(folder, retention=ALWAYS)
    done = store.put(batches)
    assert done.repeated >= len(acknowledged)
    assert done.repeated + done.batches == len(batches)
    all_as_put(store, batches)
    store.close()


def _struck(folder: Path, after: int, share: float) -> set[tuple[str, ...]]:
    """Have a process put; kill it a share of a put's time after so many were acknowledged, and return all that were.

    Those that were stored before are acknowledged at once, so that a strike falls into a put in most cases and between
    two in some.
    """
    child = subprocess.Popen(
        [sys.executable, "-c", PUTTING, str(folder), "3"], stdout=subprocess.PIPE, text=True, cwd=Path.cwd()
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "begin\n"
    lines, fresh, took = [], 0, 0.0
    while fresh < after:
        began = time.monotonic()
        lines.append(child.stdout.readline())
        took = time.monotonic() - began
        assert lines[-1], "the process ended by itself"
        fresh += lines[-1].endswith(" 0\n")
    time.sleep(took * share)
    child.send_signal(signal.SIGKILL)
    rest, _ = child.communicate()
    whole = [line for line in (*lines, *rest.splitlines(keepends=True)) if line.endswith("\n")]
    return {tuple(line.rsplit(" ", 2)[0].rsplit(" ", 2)) for line in whole}


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize(
    "reached", [(), ("raw",), ("minute",), ("hour",), ("raw", "hour"), ("minute", "hour"), ("raw", "minute", "hour")]
)
def test_whichever_tables_a_put_had_reached_the_others_are_filled(tmp_path: Path, reached: tuple[str, ...]) -> None:
    """What a kill leaves behind: the journal, and some of the tables. Views that are gone for a while make the same."""
    folder = tmp_path / "flows"
    store = open_flow_store(folder, retention=ALWAYS)
    views = {name: store._client.command(f"SHOW CREATE TABLE to_flows_{name}") for name in ("raw", "minute", "hour")}
    batches = many(5)[:6]
    store.put(many(5)[6:8])
    for name in views:
        if name not in reached:
            store._client.command(f"DROP VIEW to_flows_{name}")
    _killed_before_its_end(store, batches)
    for name, made in views.items():
        if name not in reached:
            store._client.command(str(made).replace("\\n", "\n").replace("\\'", "'"))
    store.close()
    again = open_flow_store(folder, retention=ALWAYS)
    assert list((folder / "journal").iterdir()) == []
    assert again.put(batches).repeated == len(batches)
    all_as_put(again, many(5)[:8])
    again.close()


@pytest.mark.parametrize("hours", [(0,), (1, 2), (0, 2)])
def test_hours_that_a_put_had_not_reached_are_filled(tmp_path: Path, hours: tuple[int, ...]) -> None:
    """A part for each partition, one after another: a kill leaves some of one table's."""
    folder = tmp_path / "flows"
    store = open_flow_store(folder, retention=ALWAYS)
    batches = many(6)[:6]
    _killed_before_its_end(store, batches)
    for hour in hours:
        store._client.command(f"ALTER TABLE flows_raw DROP PARTITION ID '{BEGAN // 3600 * 3600 + hour * 3600}'")
    store.close()
    again = open_flow_store(folder, retention=ALWAYS)
    assert again.put(batches).repeated == len(batches)
    all_as_put(again, batches)
    again.close()


def test_a_put_that_was_cut_short_after_its_batches_were_entered_is_over(tmp_path: Path) -> None:
    folder, kept = tmp_path / "flows", tmp_path / "kept"
    store = open_flow_store(folder, retention=ALWAYS)
    batches = many(5)[:6]
    _killed_before_its_end(store, batches)
    shutil.copytree(folder / "journal", kept)
    store.settle()
    store.close()
    shutil.copytree(kept, folder / "journal", dirs_exist_ok=True)
    again = open_flow_store(folder, retention=ALWAYS)
    assert list((folder / "journal").iterdir()) == []
    all_as_put(again, batches)
    again.close()


def test_what_was_cut_short_before_the_journal_held_it_never_was(tmp_path: Path) -> None:
    folder = tmp_path / "flows"
    store = open_flow_store(folder, retention=ALWAYS)
    (folder / "journal" / "0000000000000007.partial").write_bytes(b"half of")
    store.close()
    again = open_flow_store(folder, retention=ALWAYS)
    assert list((folder / "journal").iterdir()) == []
    assert again.put(many(5)[:1]).batches == 1
    again.close()


def test_a_put_that_failed_is_finished_by_the_next(tmp_path: Path) -> None:
    """No restart in between: the same store, whose database failed it once."""
    store = open_flow_store(tmp_path / "flows", retention=ALWAYS)
    batches = many(5)[:4]
    _killed_before_its_end(store, batches[:2])
    assert store.put(batches).repeated == 2
    all_as_put(store, batches)
    store.close()


def _killed_before_its_end(store: ClickHouseFlowStore, batches: list[StoredBatch]) -> None:
    """Put, and stop where the flows are inserted and their batches not yet entered."""

    class Stopped(Putter):
        def _enter(self, begun: Begun) -> None:  # noqa: ARG002 - a kill asks for nothing
            raise Killed

    stopped = Stopped(store._client, store._client, store._putter._journal, bytes.fromhex(_key(store)))
    with pytest.raises(Killed):
        stopped.put(batches)
    store._putter._cut_short.add(BEFORE)


def _key(store: ClickHouseFlowStore) -> str:
    return str(store._client.query("SELECT value FROM settings WHERE name = 'key'").result_rows[0][0])


def test_batches_that_several_put_at_once_count_once_also_where_some_of_the_puts_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of three puts fails with its flows inserted, and one with its batches entered, while others go on."""
    store = open_flow_store(tmp_path / "flows", retention=ALWAYS)
    batches = many(5)
    dice, lock, chosen = random.Random(2), threading.Lock(), [random.Random(n).sample(batches, 6) for n in range(14)]
    enter = Putter._enter

    def failing(self: Putter, begun: Begun) -> None:
        with lock:
            fate = dice.randrange(3)
        if fate == 0:
            raise Killed
        enter(self, begun)
        if fate == 1:
            raise Killed

    def put(some: list[StoredBatch]) -> int | None:
        try:
            return store.put(some).batches
        except Killed:
            return None

    monkeypatch.setattr(Putter, "_enter", failing)
    with ThreadPoolExecutor(6) as putting:
        told = list(putting.map(put, chosen))
    monkeypatch.undo()
    assert None in told
    assert sum(filter(None, told)) > 0
    store.put(batches)
    assert list((tmp_path / "flows" / "journal").iterdir()) == []
    all_as_put(store, batches)
    store.close()


def test_a_put_waits_for_who_is_alone_and_a_question_for_neither(tmp_path: Path) -> None:
    store = open_flow_store(tmp_path / "flows", retention=ALWAYS)
    first, *others = many(5)
    store.put([first])
    with ThreadPoolExecutor(1) as putting:
        with store._putter.alone():
            waiting = putting.submit(store.put, others)
            until = time.monotonic() + 60
            while not store._putter._under_way and time.monotonic() < until:
                time.sleep(0.01)
            assert list(store.groups(FlowQuery()).groups) == groups(every([first]), FlowQuery())
            assert store._putter._under_way
            assert not waiting.done()
        assert waiting.result(60).batches == len(others)
    all_as_put(store, [first, *others])
    store.close()
