"""Anomalies as they last: one for each kind and subject, open until it has not been seen for an hour. No I/O."""

from collections.abc import Iterable, Iterator, Sequence

from msgspec.structs import replace

from stockade.core.graph.anomaly import Anomaly, AnomalyKind
from stockade.core.graph.scans import Target, called, named, target
from stockade.core.graph.values import Traffic
from stockade.core.graph.zoom import port_text
from stockade.wire.anomalies import Evidence, EvidenceFlow

QUIET = 3600.0
"""Seconds after which what is not seen any more is resolved."""
EVIDENCE = 500
"""The most flows that are kept of one anomaly,"""
SHOWN = 20
"""and that are shown."""
PAST = 500
"""The most that are remembered once they are resolved."""
TEXTS = 3
Key = tuple[AnomalyKind, str]


class Alarms:
    """What is open, and what was."""

    def __init__(self) -> None:
        self.open: dict[Key, Anomaly] = {}
        self.past: tuple[Anomaly, ...] = ()
        self.looked: float | None = None
        """When the last hour was last looked at; None: not yet."""
        self.took = 0.0
        """Seconds that the last look took."""

    def take(self, found: Iterable[Anomaly], now: float) -> None:
        """Take what one look has found. What lasts stays one, whatever part of it can still be seen."""
        for each in _together(map(_kept, found)):
            key = self._key(each)
            known = self.open.get(key)
            self.open[key] = each if known is None else _joined(known, each)
        quiet = [key for key, each in self.open.items() if now - each.until >= QUIET]
        self.past = (*self.past, *(self.open.pop(key) for key in quiet))[-PAST:]

    def during(self, since: float, until: float) -> tuple[Anomaly, ...]:
        """Return what was seen in a time, open or not."""
        every = (*self.past, *self.open.values())
        return tuple(each for each in every if each.since < until and each.until >= since)

    def _key(self, found: Anomaly) -> Key:
        """Return whose alarm it is: the end of a chain, whose beginning is no longer seen, is that chain's."""
        key = (found.kind, found.subject)
        if found.kind is AnomalyKind.MOVEMENT and key not in self.open:
            steps = _targets(found)
            for known, each in self.open.items():
                if each.kind is AnomalyKind.MOVEMENT and steps <= _targets(each):
                    return known
        return key


def evidence(anomaly: Anomaly) -> Evidence:
    """Describe what shows it."""
    total = len(anomaly.traffic)
    flows = tuple(map(_flow, anomaly.traffic[:SHOWN]))
    return Evidence(anomaly.since, anomaly.until, anomaly.numbers, flows, total)


def _flow(each: Traffic) -> EvidenceFlow:
    one, other, seen = each.source, each.destination, each.seen
    return EvidenceFlow(
        called(one), named(one), called(other), named(other), port_text(each.protocol, each.port),
        seen.passed, seen.denied, seen.first, seen.last,
    )  # fmt: skip


def _kept(found: Anomaly) -> Anomaly:
    return replace(found, traffic=found.traffic[:EVIDENCE]) if len(found.traffic) > EVIDENCE else found


def _together(found: Iterable[Anomaly]) -> Iterator[Anomaly]:
    """Make one of all that one look says of a subject."""
    groups: dict[Key, list[Anomaly]] = {}
    for each in found:
        groups.setdefault((each.kind, each.subject), []).append(each)
    for some in groups.values():
        yield some[0] if len(some) == 1 else _summed(some)


def _summed(some: Sequence[Anomaly]) -> Anomaly:
    most = max(some, key=lambda each: len(each.traffic))
    texts = sorted({each.text for each in some})
    more = f"; and {len(texts) - TEXTS} more" if len(texts) > TEXTS else ""
    traffic = {target(each): each for one in some for each in one.traffic}
    return replace(
        most,
        text="; ".join(texts[:TEXTS]) + more,
        since=min(each.since for each in some),
        until=max(each.until for each in some),
        numbers=(*most.numbers, ("others of its kind", len(some) - 1)),
        traffic=tuple(traffic[each] for each in sorted(traffic))[:EVIDENCE],
    )


def _joined(known: Anomaly, found: Anomaly) -> Anomaly:
    """Keep the fuller account of the two, for all of their time."""
    fuller = found if len(found.traffic) >= len(known.traffic) else known
    return replace(fuller, since=min(known.since, found.since), until=max(known.until, found.until))


def _targets(found: Anomaly) -> set[Target]:
    return set(map(target, found.traffic))
