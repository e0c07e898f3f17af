"""Recorded flows, judged by a draft: what would become of each connection that was seen, and by which rule.

Judges whom a flow was between as they are in the draft's snapshot, with the labels that they have there; who is gone,
with the labels that it had. A draft in which an end is not enforced denies nothing there.
"""

from collections.abc import Sequence

import msgspec

from stockade.core.graph.judge import Decision, Judge
from stockade.core.graph.merge import merged, telling
from stockade.core.graph.values import Traffic
from stockade.core.model.flow import StoredFlow
from stockade.core.model.snapshot import Snapshot


class Replayed(msgspec.Struct, frozen=True):
    """Traffic as it was seen, and what the draft decides."""

    traffic: Traffic
    decision: Decision


class Replay(msgspec.Struct, frozen=True):
    """All recorded traffic, sorted, by what a draft would make of it.

    ``cut``: it passed and would be denied. ``opened``: all of it was denied and would pass. ``mixed``: some of it
    passed and some was denied, so that policy or labels changed meanwhile; the draft decides it one way.
    """

    kept: tuple[Replayed, ...] = ()
    cut: tuple[Replayed, ...] = ()
    opened: tuple[Replayed, ...] = ()
    shut: tuple[Replayed, ...] = ()
    """Denied then, and by the draft."""
    mixed: tuple[Replayed, ...] = ()

    @property
    def cut_connections(self) -> int:
        """How many connections passed that the draft would deny."""
        return sum(each.traffic.seen.passed for each in (*self.cut, *self.mixed) if not each.decision.allowed)


def replay(flows: Sequence[StoredFlow], active: Snapshot, draft: Snapshot) -> Replay:
    """Judge flows that were recorded under an active policy by a draft's snapshot."""
    judge = Judge(draft)
    found: dict[str, list[Replayed]] = {}
    for traffic in merged(flows, telling(active)):
        each = Replayed(traffic, judge.of(traffic))
        if traffic.seen.connections:
            found.setdefault(_became(each), []).append(each)
    return Replay(**{name: tuple(each) for name, each in found.items()})


def _became(replayed: Replayed) -> str:
    seen, allowed = replayed.traffic.seen, replayed.decision.allowed
    if seen.passed and seen.denied:
        return "mixed"
    if seen.passed:
        return "kept" if allowed else "cut"
    return "opened" if allowed else "shut"
