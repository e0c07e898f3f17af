"""Batches that come at the same time: each stored once, each told what became of it, many by one put."""

import threading
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from stockade.controller import together
from stockade.controller.together import Together
from stockade.core.model.flow import FlowEnd, FlowKey, StoredFlow, Tally, Verdict
from stockade.core.model.flow_table import kept
from stockade.core.model.ids import Address, HostId
from stockade.core.model.packet import Direction
from stockade.seams.flow_store import FlowsRefused, FlowStoreFailed, Put, StoredBatch

HOST = HostId("host-a")
KEY = FlowKey(Address("10.0.0.1"), Address("10.0.0.2"), 6, 443, Direction.EGRESS, Verdict.ALLOWED)
FLOW = StoredFlow(HOST, FlowEnd(KEY.source), FlowEnd(KEY.destination), KEY, Tally(1.0, 2.0, 1))
PATIENCE = 60


def batch(number: int, flows: int = 1) -> StoredBatch:
    return StoredBatch(HOST, "s", number, 2.0, kept([FLOW] * flows))


class Store:
    """Lets nobody's put begin until it may; keeps the numbers that each put brought."""

    def __init__(self) -> None:
        self.puts: list[list[int]] = []
        self.may, self.began = threading.Event(), threading.Event()
        self.failing: dict[int, Exception] = {}
        self.stored: set[int] = set()

    def put(self, batches: list[StoredBatch]) -> Put:
        self.puts.append([each.number for each in batches])
        self.began.set()
        assert self.may.wait(PATIENCE)
        for each in batches:
            if each.number in self.failing:
                raise self.failing[each.number]
        known = tuple(place for place, each in enumerate(batches) if each.number in self.stored)
        self.stored |= {each.number for each in batches}
        return Put(len(batches) - len(known), 0, known)


@pytest.fixture
def store() -> Store:
    return Store()


def waiting(store: Store, *batches: StoredBatch) -> list["Future[bool]"]:
    """The first is being put; then the others have come, in their order; then all may go on."""
    all_of_them, pool = Together(store.put), ThreadPoolExecutor(len(batches))
    found = []
    for place, each in enumerate(batches):
        found.append(pool.submit(all_of_them.put, each))
        assert store.began.wait(PATIENCE)
        while len(all_of_them._waiting) < place:
            threading.Event().wait(0.001)
    store.may.set()
    pool.shutdown(wait=True)
    return found


def test_what_comes_during_a_put_is_put_together_in_its_order(store: Store) -> None:
    answers = waiting(store, *map(batch, range(6)))
    assert store.puts == [[0], [1, 2, 3, 4, 5]]
    assert [each.result() for each in answers] == [True] * 6


def test_one_that_was_there_already_is_not_new(store: Store) -> None:
    answers = waiting(store, batch(0), batch(1), batch(0), batch(2))
    assert store.puts == [[0], [1, 0, 2]]
    assert [each.result() for each in answers] == [True, True, False, True]


def test_one_at_fault_keeps_nobody_else_s_from_being_stored(store: Store) -> None:
    store.failing[2] = FlowsRefused("no flow", kept="nothing")
    answers = waiting(store, *map(batch, range(4)))
    assert store.puts == [[0], [1, 2, 3], [1], [2], [3]]
    assert [each.exception() for each in answers] == [None, None, store.failing[2], None]
    assert store.stored == {0, 1, 3}


@pytest.mark.parametrize("problem", [FlowStoreFailed("no room", kept="what was"), RuntimeError("unforeseen")])
def test_a_store_that_fails_is_told_to_everybody_and_acknowledged_to_none(store: Store, problem: Exception) -> None:
    store.failing[1] = problem
    answers = waiting(store, *map(batch, range(4)))
    assert store.puts == [[0], [1, 2, 3]]
    assert [each.exception() for each in answers] == [None, problem, problem, problem]


def test_one_put_is_bounded(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(together, "MOST", 5)
    answers = waiting(store, batch(0), batch(1, 3), batch(2, 2), batch(3, 9), batch(4, 1))
    assert store.puts == [[0], [1, 2], [3], [4]]
    assert all(each.result() for each in answers)


def test_much_that_waits_is_put_beside_what_is_being_put_and_no_third_beside_them(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(together, "BESIDE", 5)
    all_of_them = Together(store.put)
    with ThreadPoolExecutor(8) as pool:
        answers = []
        for number, (flows, waiting) in enumerate([(9, 0), (2, 1), (2, 2), (1, 0), (9, 1), (9, 2)]):
            answers.append(pool.submit(all_of_them.put, batch(number, flows)))
            while len(all_of_them._waiting) != waiting or number >= sum(map(len, store.puts)) + waiting:
                threading.Event().wait(0.001)
        assert store.puts == [[0], [1, 2, 3]]
        store.may.set()
        assert [each.result(PATIENCE) for each in answers] == [True] * 6
    assert sorted(number for each in store.puts for number in each) == list(range(6))
