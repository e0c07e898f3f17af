"""What resolvers told each local end: by which name it knows an address, and when. Bounded in every direction.

Each end has a table of its own, in which only answers to its own questions stand: what one is told names nothing for
another. For one thread.
"""

from collections.abc import Iterable
from typing import NamedTuple

from stockade.agent.flows.dns import Answer

LEAST, LONGEST = 60.0, 3600.0
"""Seconds for which a name holds, whatever it says of itself: programs keep addresses a while, and not for ever."""
SOON = 2.0
"""Seconds by which a connection may seem to have begun before the answer: both are read in heaps, neither first."""
EACH, ENDS = 512, 4096
"""Addresses that are remembered of one end, and ends; of more, what was told longest ago goes."""
EACH_ANSWER = 64


class _Told(NamedTuple):
    name: str
    since: float
    until: float


class Told:
    """Names by asker and address."""

    def __init__(self) -> None:
        self._ends: dict[bytes, dict[bytes, _Told]] = {}

    def hear(self, answers: Iterable[Answer], now: float) -> None:
        """Take in answers that came just before ``now``."""
        for each in answers:
            known = self._ends.pop(each.asker, {})
            until = now + min(max(each.ttl, LEAST), LONGEST)
            for address in each.addresses[:EACH_ANSWER]:
                before = known.pop(address, None)
                since = before.since if before and before.name == each.name and before.until >= now else now
                known[address] = _Told(each.name, since, until)
            while len(known) > EACH:
                del known[next(iter(known))]
            self._ends[each.asker] = known
        while len(self._ends) > ENDS:
            del self._ends[next(iter(self._ends))]

    def name(self, asker: bytes, address: bytes, began: float) -> str:
        """Return the name by which an end was led to an address when a connection began; empty where it was not."""
        told = self._ends.get(asker, {}).get(address)
        return told.name if told is not None and told.since - SOON <= began <= told.until else ""
