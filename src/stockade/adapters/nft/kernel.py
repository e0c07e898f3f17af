"""``seams.kernel.Kernel`` on the real kernel: tables through the helper, counters by netlink, connections by whoever
tracks them. No logic: what to commit is decided elsewhere.
"""

import contextlib
import errno
import time
from collections.abc import Iterable
from pathlib import Path

from stockade.adapters.nft.helper import Helper
from stockade.adapters.nft.listing import Torn, parse
from stockade.adapters.nft.netlink import Changes, Readings
from stockade.core.compile.nft.ruleset import Ruleset
from stockade.core.model.ids import Address
from stockade.seams.kernel import Connection, Fill, KernelRefused, Tracking

READINGS, SETTLING = 20, 0.05
"""How often, and after how many seconds, sets are read again that the kernel was still putting in order."""


class NftKernel:
    """Implements ``seams.kernel.Kernel``. Blocking, within ``deadline`` seconds a call; safe from several threads.

    ``socket`` is where the helper listens; it is started when it is first needed, in the network namespace ``netns``
    (a file) or else in ours, and goes on when this process ends.
    """

    def __init__(self, socket: Path, tracking: Tracking, *, netns: str | None = None, deadline: float = 30.0) -> None:
        self.helper = Helper(socket, netns=netns, deadline=deadline)
        self._tracking = tracking
        self._netns = netns
        self._readings = Readings(netns)

    def observe(self) -> Ruleset:
        """Return our tables as they are now. Dynamic sets come without elements."""
        for _ in range(READINGS):
            with contextlib.suppress(Torn):
                return parse(self.helper.call(do="list", families=["inet", "bridge"])["text"])
            time.sleep(SETTLING)
        raise TimeoutError(errno.ETIMEDOUT, "the kernel's sets change faster than they can be read")

    def commit(self, batch: str) -> None:
        """Carry out one transaction of nft commands, all or nothing. Raises ``KernelRefused``.

        After an ``OSError`` it is unknown whether it was carried out: observe.
        """
        if refused := self.helper.call(do="commit", text=batch).get("refused"):
            raise KernelRefused(refused)

    def counters(self) -> dict[str, tuple[int, int]]:
        """Return (packets, bytes) by counter name, of the inet and bridge tables together."""
        return self._readings.counters()

    def counter(self, name: str) -> int | None:
        """Return how many packets one counter counted, of the inet and bridge tables together; None: there is none."""
        return self._readings.counter(name)

    def generation(self) -> int:
        """Return the number of the namespace's ruleset, which every transaction changes."""
        return self._readings.generation()

    def connections(self, mark: int = 0, mask: int = 0) -> Iterable[Connection]:
        """Walk the tracked connections whose ``mark & mask == mark``."""
        return self._tracking.connections(mark, mask)

    def midway(self) -> Iterable[Connection]:
        """Walk the tracked connections that the kernel did not see begin."""
        return self._tracking.midway()

    def mark(self, connection: Connection, mark: int) -> bool:
        """Set a connection's mark; False where it is gone."""
        return self._tracking.mark(connection, mark)

    def end(self, connection: Connection) -> bool:
        """Delete one connection's entry; False where it is gone already."""
        return self._tracking.end(connection)

    def forget(self, addresses: Iterable[Address]) -> int:
        """Delete every entry that has one of these addresses at either end; return how many."""
        return self._tracking.forget(addresses)

    def fill(self) -> Fill:
        """Return how full the table of tracked connections is."""
        return self._tracking.fill()

    def owned(self) -> dict[str, bool]:
        """Tell, for each family whose table is there, whether it is owned: other processes cannot touch it."""
        found: dict[str, bool] = self.helper.ping()["owned"]
        return found

    def holder(self) -> int:
        """Return a descriptor that becomes readable when whoever holds our tables has ended; theirs to close."""
        return self.helper.pinned()

    def ruleset_changes(self) -> Changes:
        """Subscribe to changes that others make to our tables. Where they are owned there are none."""
        self.helper.ping()
        return Changes(self.helper.is_port, self._netns)

    def close(self) -> None:
        """Let go of the helper, which goes on."""
        self.helper.close()
        self._readings.close()
