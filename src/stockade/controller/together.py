"""Batches that come at the same time are put together: what a put costs beside its flows is paid once for all."""

import threading
from collections import deque
from collections.abc import Callable

from stockade.seams.flow_store import FlowsRefused, Put, StoredBatch

MOST = 500_000
"""Flows of one put; a batch that has more is one of its own. What is put at once need not be merged by the store."""
BESIDE = 250_000
"""Flows that wait and are worth a put of their own beside the one that goes on: while the store inserts what one of
them brought, it makes ready the other's. Fewer wait, since a put costs something beside its flows."""
TURNS = 2
"""Puts that go on at once."""


class _Waiting:
    """A batch that somebody waits for; ``told`` is set once it is known what became of it."""

    def __init__(self, batch: StoredBatch) -> None:
        self.batch = batch
        self.taken = False
        self.told = threading.Event()
        self.new = False
        self.problem: Exception | None = None


class Together:
    """``store`` puts batches. Safe from any number of threads, each of which waits for its own batch alone.

    Whoever has a turn puts what waits, in the order in which it came; the others find theirs taken. Alone, a batch is
    put at once.
    """

    def __init__(self, store: Callable[[list[StoredBatch]], Put]) -> None:
        self._store = store
        self._changed = threading.Condition()
        self._waiting: deque[_Waiting] = deque()
        self._flows = 0
        """How many wait."""
        self._going = 0

    def put(self, batch: StoredBatch) -> bool:
        """Store a batch; tell whether it was new. Raises what the store says of this batch, or of all."""
        mine = _Waiting(batch)
        with self._changed:
            self._waiting.append(mine)
            self._flows += len(batch.flows)
        while some := self._taken(mine):
            try:
                self._put(some)
            finally:
                with self._changed:
                    self._going -= 1
                    self._changed.notify_all()
        mine.told.wait()
        if mine.problem is not None:
            raise mine.problem
        return mine.new

    def _taken(self, mine: _Waiting) -> list[_Waiting]:
        """Wait for a turn, and take what has waited longest; nothing once somebody has taken ``mine``."""
        with self._changed:
            self._changed.wait_for(lambda: mine.taken or self._turn)
            if mine.taken:
                return []
            found, size = list[_Waiting](), 0
            while self._waiting and (not found or size + len(self._waiting[0].batch.flows) <= MOST):
                found.append(self._waiting.popleft())
                found[-1].taken = True
                size += len(found[-1].batch.flows)
            self._flows -= size
            self._going += 1
            self._changed.notify_all()  # theirs is taken
        return found

    @property
    def _turn(self) -> bool:
        return not self._going or (self._going < TURNS and self._flows >= BESIDE)

    def _put(self, some: list[_Waiting]) -> None:
        """Put batches; where one is at fault, each by itself, so that the others are stored."""
        try:
            known = frozenset(self._store([each.batch for each in some]).known)
        except FlowsRefused as problem:
            if len(some) > 1:
                for each in some:
                    self._put([each])
                return
            some[0].problem = problem
        except Exception as problem:  # noqa: BLE001 - raised where each is waited for
            for each in some:
                each.problem = problem
        else:
            for place, each in enumerate(some):
                each.new = place not in known
        finally:
            for each in some:
                each.told.set()
