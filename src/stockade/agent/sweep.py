"""Connections that no packet asks about: entries to end after a change, and those older than tracking."""

from collections.abc import Iterable

from stockade.core.compile.judge import Judge
from stockade.core.compile.nft.marks import MARKS
from stockade.core.model.intent import Intent
from stockade.core.model.net import PORTED, Protocol
from stockade.seams.kernel import Connection, Tracking

ICMP = (Protocol.ICMP, Protocol.ICMPV6)


def look_ahead(tracking: Tracking, intent: Intent) -> int:
    """Before an intent comes into force, mark connections of unknown direction that it allows in reverse only.

    The mark lets them live on; it is taken from those that it no longer allows. Returns how many were marked.
    """
    judge = Judge(intent)
    kept = 0
    for each in _of_unknown_direction(tracking):
        backwards = not _allowed(judge, each) and _allowed_backwards(judge, each)
        wanted = each.mark | MARKS.reverse if backwards else each.mark & ~MARKS.reverse
        if wanted != each.mark:
            tracking.mark(each, wanted)
        kept += backwards
    return kept


def sweep(tracking: Tracking, intent: Intent) -> int:
    """End every entry that the intent, now in force, does not allow. Returns how many were ended.

    Their packets are refused already; what goes here is what might still be related to them.
    """
    judge = Judge(intent)
    return sum(tracking.end(each) for each in tracking.connections() if not _lives(judge, each))


def _lives(judge: Judge, each: Connection) -> bool:
    if not judge.judged(each.source, each.reply_source) or each.mark & (MARKS.living | MARKS.proxied):
        return True
    return _allowed(judge, each)


def _of_unknown_direction(tracking: Tracking) -> Iterable[Connection]:
    return list(tracking.connections(MARKS.older, MARKS.older))


def _allowed(judge: Judge, each: Connection) -> bool:
    """Judge a connection between its real ends: after destination, before source translation."""
    port = each.icmp if each.protocol in ICMP else each.reply_source_port if each.protocol in PORTED else 0
    return judge.allowed(each.source, each.reply_source, each.protocol, port)


def _allowed_backwards(judge: Judge, each: Connection) -> bool:
    return judge.allowed(each.reply_source, each.source, each.protocol, each.source_port)
