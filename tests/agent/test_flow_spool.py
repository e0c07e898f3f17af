"""Batches wait on disk until they are stored: in order, over restarts, within bounds, whatever is damaged."""

import os
import threading
from pathlib import Path

import msgspec
import pytest

from stockade.agent.flows.spool import FOLDER, Spool
from stockade.core.model.flow import Flow, FlowKey, FlowLoss, Tally, Verdict
from stockade.core.model.flow_table import FlowBatch, told
from stockade.core.model.ids import Address, HostId
from stockade.core.model.packet import Direction


def batch(number: int, flows: int = 3) -> FlowBatch:
    key = FlowKey(Address("10.0.0.1"), Address("10.0.0.2"), 6, 443, Direction.EGRESS, Verdict.ALLOWED)
    return FlowBatch(HostId("h"), "s", number, 1.0, 2.0, 2.0, told((Flow(key, Tally(1.0, 2.0, number)),) * flows))


def drained(spool: Spool) -> list[int]:
    found = []
    while (first := spool.first()) is not None:
        found.append(first[1].number)
        spool.done(first[0])
    return found


def test_what_waits_comes_in_order_and_only_what_is_done_goes(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    assert spool.first() is None
    for number in range(12):
        spool.put(batch(number))
    assert spool.first() == spool.first()
    assert drained(spool) == list(range(12))
    assert len(spool) == 0
    assert not [path for path in (tmp_path / FOLDER).iterdir() if path.name.isdigit()]


def test_another_agent_goes_on_where_one_was_killed(tmp_path: Path) -> None:
    first = Spool(tmp_path)
    for number in range(3):
        first.put(batch(number))
    (tmp_path / FOLDER / "0000000000000003.new").write_bytes(b"half of on")
    second = Spool(tmp_path)
    second.put(batch(3))
    assert drained(second) == [0, 1, 2, 3]
    assert not list((tmp_path / FOLDER).glob("*.new"))


def test_the_oldest_go_where_there_is_no_room_and_are_counted(tmp_path: Path) -> None:
    size = len(msgspec.msgpack.encode(batch(1, 10)))
    spool = Spool(tmp_path, most=size * 4 + 8)
    for number in range(10):
        spool.put(batch(number, 10))
    assert spool.dropped == 60
    assert drained(spool) == [6, 7, 8, 9]


def test_what_a_dropped_batch_would_have_told_is_to_be_told_once_more(tmp_path: Path) -> None:
    lost = FlowLoss("nflog", "decisions", 7)
    spool = Spool(tmp_path, most=1)
    spool.put(msgspec.structs.replace(batch(1), lost=(lost,)))
    assert spool.unsaid() == ()
    spool.put(batch(2))
    assert spool.unsaid() == (lost,)
    assert spool.unsaid() == ()


def test_one_that_is_larger_than_all_room_is_kept_alone(tmp_path: Path) -> None:
    spool = Spool(tmp_path, most=10)
    spool.put(batch(0))
    spool.put(batch(1))
    assert (drained(spool), spool.dropped) == ([1], 3)


@pytest.mark.parametrize("content", [b"", b"\x00", b"\xc1nonsense"])
def test_a_damaged_file_is_passed_over_removed_and_counted(tmp_path: Path, content: bytes) -> None:
    spool = Spool(tmp_path)
    spool.put(batch(0))
    spool.put(batch(1))
    (tmp_path / FOLDER / f"{0:016d}").write_bytes(content)
    assert drained(spool) == [1]
    assert spool.damaged == 1


def test_what_cannot_be_written_is_not_there_and_all_others_are(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.put(batch(0))
    (tmp_path / FOLDER / f"{1:016d}.new").mkdir()  # stands where the next is written
    with pytest.raises(OSError, match="directory"):
        spool.put(batch(1))
    assert drained(spool) == [0]


def test_one_may_put_while_another_takes(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    found: list[int] = []

    def put() -> None:
        for number in range(300):
            spool.put(batch(number))

    writer = threading.Thread(target=put)
    writer.start()
    while writer.is_alive() or len(spool):
        found += drained(spool)
    writer.join()
    assert found == list(range(300))


def test_how_long_nobody_heard_the_kernel_is_known(tmp_path: Path) -> None:
    assert Spool(tmp_path).heard() == 0.0
    mark = tmp_path / FOLDER / "heard"
    os.utime(mark, (mark.stat().st_atime, mark.stat().st_mtime - 100))
    assert Spool(tmp_path).heard() >= 100
    assert Spool(tmp_path).heard() < 50
