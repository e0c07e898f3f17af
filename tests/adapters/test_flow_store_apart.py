"""The flow store in a process of its own: what is stored outlives it, and its death is nobody else's."""

import os
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from stockade.adapters.clickhouse.apart import LINES, FlowStoreApart
from stockade.core.model.flow import FlowEnd, FlowKey, FlowLoss, StoredFlow, Tally, Verdict
from stockade.core.model.flow_table import kept
from stockade.core.model.ids import Address, HostId, WorkloadId
from stockade.core.model.packet import Direction
from stockade.seams.flow_store import (
    Dimension,
    FlowFilter,
    FlowQuery,
    FlowStoreFailed,
    Of,
    Retention,
    StoredBatch,
)

pytestmark = pytest.mark.real
"""A real ClickHouse, in this process or another: too slow for the inner loop."""

HOST = HostId("host-a")
NOW = float(int(time.time()) - 60)


@pytest.fixture
def store(tmp_path: Path):
    made = FlowStoreApart(tmp_path / "flows")
    yield made
    made.close()


def flow(port: int = 443) -> StoredFlow:
    key = FlowKey(Address("10.0.0.1"), Address("10.0.0.2"), 6, port, Direction.INGRESS, Verdict.ALLOWED)
    ends = (
        FlowEnd(key.source, WorkloadId("docker:web"), (("app", "shop"), ("name", "web"))),
        FlowEnd(key.destination, network="office"),
    )
    return StoredFlow(HOST, *ends, key, Tally(NOW, NOW + 1, 3, 4, bytes_out=5))


def batch(number: int, *flows: StoredFlow) -> StoredBatch:
    return StoredBatch(HOST, "s", number, NOW + 2, kept(flows), (FlowLoss("nflog", "decisions", 7),))


def test_everything_that_the_store_says_comes_through(store: FlowStoreApart) -> None:
    put = store.put([batch(1, flow(443), flow(80)), batch(2, flow(443))])
    assert (put.batches, put.flows, put.repeated) == (2, 3, 0)
    assert store.put([batch(2, flow(443))]).repeated == 1
    by_port = store.groups(FlowQuery(by=(Dimension(Of.PORT),)))
    assert {each.values: each.sums.connections for each in by_port.groups} == {(443,): 6, (80,): 3}
    page = store.flows(FlowFilter(), 2)
    assert len(page.flows) == 2
    assert page.flows[0].source.labels == (("app", "shop"), ("name", "web"))
    assert len(store.flows(FlowFilter(), 2, page.after).flows) == 1
    assert sum(each.loss.count for each in store.losses(NOW, NOW + 10)) == 14
    assert store.stats().where == "embedded"
    store.trim(NOW + 1)


def test_nothing_of_the_database_is_loaded_here(store: FlowStoreApart) -> None:
    store.stats()
    assert store.pid not in (None, os.getpid())
    loaded = Path(f"/proc/{store.pid}/maps").read_text()
    assert "_chdb" in loaded
    assert "_chdb" not in Path("/proc/self/maps").read_text() or "chdb" in sys.modules


def test_who_asked_a_process_that_died_is_told(store: FlowStoreApart) -> None:
    """Each who waited for an answer, on whichever line; who asks later asks another process."""
    store.stats()
    served = store._served
    assert served is not None
    os.kill(served.process.pid, signal.SIGSTOP)
    with ThreadPoolExecutor(LINES) as asking:
        asked = [asking.submit(store.stats) for _ in range(LINES)]
        until = time.monotonic() + 60
        while served.idle and time.monotonic() < until:
            time.sleep(0.01)
        assert not served.idle
        os.kill(served.process.pid, signal.SIGKILL)
        for each in asked:
            with pytest.raises(FlowStoreFailed, match="process"):
                each.result(60)
    assert store.stats().bytes >= 0
    assert store.pid != served.process.pid


def test_it_dies_and_is_started_anew_with_what_was_stored(store: FlowStoreApart) -> None:
    store.put([batch(1, flow())])
    first = store.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    os.waitid(os.P_PID, first, os.WEXITED | os.WNOWAIT)
    assert store.put([batch(1, flow())]).repeated == 1
    assert store.pid != first
    (group,) = store.groups(FlowQuery()).groups
    assert group.sums.connections == 3


def test_it_ends_with_whom_it_serves_and_lets_go_of_the_folder(tmp_path: Path) -> None:
    first = FlowStoreApart(tmp_path / "flows")
    first.put([batch(1, flow())])
    pid = first.pid
    assert pid is not None
    assert first._served is not None
    for line in first._served.idle:
        line.close()  # as when this process is killed
    second = FlowStoreApart(tmp_path / "flows")
    assert second.put([batch(1, flow())]).repeated == 1
    second.close()
    first.close()
    assert not Path(f"/proc/{pid}").exists()


def test_why_it_cannot_be_opened_is_said(tmp_path: Path) -> None:
    (tmp_path / "flows").write_text("a file, where a folder should be")
    store = FlowStoreApart(tmp_path / "flows")
    with pytest.raises(FlowStoreFailed) as refused:
        store.stats()
    assert refused.value.kept
    store.close()
    with pytest.raises(FlowStoreFailed, match="closed"):
        store.stats()


def test_the_retention_is_what_was_asked_for(tmp_path: Path) -> None:
    store = FlowStoreApart(tmp_path / "flows", retention=Retention(1, 2, 3, 1 << 30))
    assert store.stats().retention == Retention(1, 2, 3, 1 << 30)
    store.close()
