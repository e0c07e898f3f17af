"""Connections that no packet asks about: entries to end after a change, and those older than tracking."""

from collections.abc import Iterator
from itertools import islice

from stockade.core.compile.judge import Judge
from stockade.core.compile.nft.judging import MET
from stockade.core.compile.nft.marks import MARKS
from stockade.core.compile.nft.ruleset import Ruleset
from stockade.core.model.intent import Intent
from stockade.core.model.net import PORTED, Protocol
from stockade.seams.kernel import Connection, Kernel, Tracking

ICMP = (Protocol.ICMP, Protocol.ICMPV6)
SLICE = 5000
"""Entries that are judged before somebody else may use the kernel."""
TABLES = 2
"""The tables of a host in which hooks lead somewhere: one of connections, one of frames."""
ENOUGH = 2
"""Looks in a row that found nobody: then nobody is there."""


class Ahead:
    """Looks ahead before each switch, and spares itself the walk where it would find nobody.

    The rules mark and count whom they meet in the middle. Where that count has not moved since two looks in a row found
    nobody, nobody is there. Two, because a connection is counted a moment before it can be found. Tracking begins a
    moment before the rules do, and with others' rules long before: whom it met in the middle until then it alone tells,
    to who looks through all that it has, and that is done until two looks in a row found nobody whom the rules missed.
    """

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._found_nobody: tuple[int | None, int] = (None, 0)
        """At which count, and how often in a row."""
        self._missed_nobody = 0
        """How often in a row."""

    def look(self, intent: Intent) -> int:
        """Do what ``look_ahead`` does; return how many it says were marked."""
        met = self._kernel.counter(MET)
        at, times = self._found_nobody
        if met is not None and met == at and times >= ENOUGH:
            return 0
        older = self._older(there=met is not None)
        again = times + 1 if met == at else 1
        self._found_nobody = (None, 0) if older or met is None else (met, again)
        return _marked(self._kernel, intent, older)

    def doubt(self, found: Ruleset) -> None:
        """Our tables were read: they may have been made anew, and count from the beginning, or lead nowhere yet."""
        self._found_nobody = (None, 0)
        if not _judges(found):
            self._missed_nobody = 0

    def _older(self, *, there: bool) -> list[Connection]:
        if self._missed_nobody >= ENOUGH:
            return _marked_older(self._kernel)
        older = _of_unknown_direction(self._kernel)
        missed = not there or any(not each.mark & MARKS.older for each in older)
        self._missed_nobody = 0 if missed else self._missed_nobody + 1
        return older


def look_ahead(tracking: Tracking, intent: Intent) -> int:
    """Before an intent comes into force, mark connections of unknown direction.

    Those that it allows in reverse only get a mark more, by which they live on; it is taken from those that it no
    longer allows. Returns how many live on by it.
    """
    return _marked(tracking, intent, _of_unknown_direction(tracking))


def _marked(tracking: Tracking, intent: Intent, older: list[Connection]) -> int:
    if not older:
        return 0
    judge = Judge(intent)
    kept = 0
    for each in older:
        backwards = not _allowed(judge, each) and _allowed_backwards(judge, each)
        seen = each.mark | MARKS.older
        wanted = seen | MARKS.reverse if backwards else seen & ~MARKS.reverse
        if wanted != each.mark:
            tracking.mark(each, wanted)
        kept += backwards
    return kept


def sweep(tracking: Tracking, intent: Intent) -> int:
    """End every entry that the intent, now in force, does not allow. Returns how many were ended.

    Their packets are refused already; what goes here is what might still be related to them.
    """
    return sum(slices(tracking, intent))


def slices(tracking: Tracking, intent: Intent) -> Iterator[int]:
    """Sweep in slices, yielding after each how many entries were ended in it."""
    judge = Judge(intent)
    entries = iter(tracking.connections())
    while some := list(islice(entries, SLICE)):
        yield sum(tracking.end(each) for each in some if not _lives(judge, each))


def _lives(judge: Judge, each: Connection) -> bool:
    """What the rules let live on is left to them: they see its next packet, and this does not know all they know."""
    if not judge.judged(each.source, each.reply_source) or each.mark & MARKS.proxied:
        return True
    living = bool(each.mark & MARKS.living)
    if _allowed(judge, each, living=living):
        return True
    return bool(each.mark & MARKS.older) and _allowed_backwards(judge, each)


def _of_unknown_direction(tracking: Tracking) -> list[Connection]:
    """Return whom the rules met in the middle, and whom the kernel did before there were rules."""
    return [*_marked_older(tracking), *(each for each in tracking.midway() if not each.mark & MARKS.older)]


def _marked_older(tracking: Tracking) -> list[Connection]:
    return list(tracking.connections(MARKS.older, MARKS.older))


def _judges(found: Ruleset) -> bool:
    """Tell whether both tables' hooks lead somewhere."""
    leading = [table for table in found.tables if any(each.hook and each.rules for each in table.chains.values())]
    return len(leading) == TABLES


def _allowed(judge: Judge, each: Connection, *, living: bool = False) -> bool:
    """Judge a connection between its real ends: after destination, before source translation."""
    port = each.icmp if each.protocol in ICMP else each.reply_source_port if each.protocol in PORTED else 0
    return judge.allowed(each.source, each.reply_source, each.protocol, port, begun=True, living=living)


def _allowed_backwards(judge: Judge, each: Connection) -> bool:
    return judge.allowed(each.reply_source, each.source, each.protocol, each.source_port, begun=True)
