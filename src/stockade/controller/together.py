"""Batches that come at the same time are put together: what a put costs beside its flows is paid once for all."""

import threading
from collections import deque
from collections.abc import Callable

from stockade.seams.flow_store import FlowsRefused, Put, StoredBatch

MOST = 500_000
"""Flows of one put; a batch that has more is one of its own. What is put at once need not be merged by the store."""


TURNS = 2
"""Puts that go on at once: while the store inserts what one of them brought, it makes ready the other's."""


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

    Whoever has a turn puts what waits, in the order in which it came; the others find theirs taken when they have one.
    While there is a turn that nobody has, a batch is put at once, alone.
    """

    def __init__(self, store: Callable[[list[StoredBatch]], Put], turns: int = TURNS) -> None:
        self._store = store
        self._turns = threading.Semaphore(turns)
        self._taking = threading.Lock()
        self._waiting: deque[_Waiting] = deque()

    def put(self, batch: StoredBatch) -> bool:
        """Store a batch; tell whether it was new. Raises what the store says of this batch, or of all."""
        mine = _Waiting(batch)
        self._waiting.append(mine)
        with self._turns:
            while some := self._next(mine):
                self._put(some)
        mine.told.wait()
        if mine.problem is not None:
            raise mine.problem
        return mine.new

    def _next(self, mine: _Waiting) -> list[_Waiting]:
        """Take what has waited longest; nothing once somebody has taken ``mine``."""
        with self._taking:
            if mine.taken:
                return []
            found = [self._waiting.popleft()]
            size = len(found[0].batch.flows)
            while self._waiting and (size := size + len(self._waiting[0].batch.flows)) <= MOST:
                found.append(self._waiting.popleft())
            for each in found:
                each.taken = True
        return found

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
