"""State expanders: one hand-written scenario in many orders, all of which mean the same.

State is never history, so every variant of a scenario ends in the scenario's own state. An *object* is what an event
speaks of; two events that speak of one object keep their order, all others may change places. ``expand`` gives each
variant as batches, because a consumer may also see several events at once: its result must not depend on the grouping.
``teardowns`` adds the ways of taking everything away again.

Pure but for the ``Random`` that ``shuffled`` is seeded with; a variant's name says how to get it again.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import permutations
from random import Random
from typing import NamedTuple

from stockade.core.model.event import (
    Event,
    HostGone,
    HostSeen,
    LabelsSet,
    PolicyActivated,
    QuarantineLapsed,
    WorkloadGone,
    WorkloadSeen,
)
from stockade.core.model.ids import HostId
from stockade.core.model.policy import PolicySet

Batches = tuple[tuple[Event, ...], ...]
_FEW = 4
"""Objects whose removals are tried in every order; of more, every order in which each comes first once."""
_SHUFFLES = 5


class Variant(NamedTuple):
    """A named way of telling a scenario: events in batches, of which some may be empty."""

    name: str
    batches: Batches

    @property
    def events(self) -> tuple[Event, ...]:
        """All events, the grouping forgotten."""
        return tuple(event for batch in self.batches for event in batch)


def expand(events: Sequence[Event], seeds: Iterable[int] = range(_SHUFFLES)) -> Iterator[Variant]:
    """Yield every variant of a scenario. Folded from nothing, each gives what ``events`` give, save the revision."""
    told = _Told(events)
    yield Variant("forwards", (tuple(events),))
    yield Variant("split", _each(events))
    yield Variant("reversed", (told.ordered(lambda ready: ready[-1]),))
    yield Variant("reversed, split", _each(told.ordered(lambda ready: ready[-1])))
    yield Variant("squashed", (told.squashed(),))
    yield Variant("repeated", (tuple(event for event in events for _ in range(2)),))
    yield Variant("repeated by object", (told.ended_twice(),))
    yield Variant("with empties between", tuple(batch for event in events for batch in ((), (event,), ())))
    yield Variant("in halves", (tuple(events[: len(events) // 2]), tuple(events[len(events) // 2 :])))
    for seed in seeds:
        yield Variant(f"shuffled {seed}", _cut(told.ordered(Random(seed).choice), Random(seed)))


def teardowns(events: Sequence[Event]) -> Iterator[Variant]:
    """Yield the scenario followed by the removal of everything it made, in every order (of many objects: rotations).

    Each ends in the same empty state: no host, no workload, no operator's label, and the last policy emptied.
    """
    ends = _removals(events)
    orders = permutations(ends) if len(ends) <= _FEW else (ends[k:] + ends[:k] for k in range(len(ends)))
    for number, order in enumerate(orders):
        yield Variant(f"torn down {number}", (tuple(events), *_each(order)))
    yield Variant("torn down backwards", (tuple(events), *_each(tuple(reversed(ends)))))


def touched(event: Event, carried: dict[HostId, set[str]] | None = None) -> frozenset[tuple[str, str]]:
    """Return the objects that an event speaks of, as (kind, name).

    A host's removal speaks of every workload that was ever on it: ``carried`` names them by host.
    """
    match event:
        case WorkloadSeen(sighting=sighting):
            return frozenset({("workload", sighting.id)})
        case WorkloadGone(id=id_):
            return frozenset({("workload", id_)})
        case LabelsSet(id=id_):
            return frozenset({("labels", id_)})
        case HostSeen(host=host):
            return frozenset({("host", host.id)})
        case HostGone(id=id_):
            workloads = (carried or {}).get(id_, set())
            return frozenset({("host", id_), *(("workload", each) for each in workloads)})
        case PolicyActivated() | QuarantineLapsed():
            return frozenset({("policy", "")})


class _Told:
    """A scenario, and which of its events must keep their order."""

    def __init__(self, events: Sequence[Event]) -> None:
        self.events = tuple(events)
        carried = _carried(events)
        self.objects = [touched(event, carried) for event in events]

    def ordered(self, pick: Callable[[Sequence[int]], int]) -> tuple[Event, ...]:
        """Put the events in another order that keeps each object's: ``pick`` one of those that may come next."""
        left = list(range(len(self.events)))
        order = []
        while left:
            ready = [one for one in left if not any(self._before(other, one) for other in left)]
            chosen = pick(ready)
            order.append(self.events[chosen])
            left.remove(chosen)
        return tuple(order)

    def _before(self, one: int, other: int) -> bool:
        return one < other and bool(self.objects[one] & self.objects[other])

    def squashed(self) -> tuple[Event, ...]:
        """Drop every event that is the last of none of its objects. What lapsed belongs to the policy it was in."""
        last = {each: number for number, objects in enumerate(self.objects) for each in objects}
        kept = set(last.values()) | self._policy_and_what_lapsed()
        return tuple(event for number, event in enumerate(self.events) if number in kept)

    def _policy_and_what_lapsed(self) -> set[int]:
        versions = [event.version for event in self.events if isinstance(event, PolicyActivated)]
        newest = max(versions, default=None)
        start = next((n for n, each in enumerate(self.events) if _activates(each, newest)), len(self.events))
        lapses = {n for n, each in enumerate(self.events) if n > start and isinstance(each, QuarantineLapsed)}
        return {start, *lapses} if versions else lapses

    def ended_twice(self) -> tuple[Event, ...]:
        """Follow the events by the last one of every object, as a source does that reports everything anew."""
        last = {each: number for number, objects in enumerate(self.objects) for each in objects}
        return (*self.events, *(self.events[number] for number in sorted(set(last.values()))))


def _activates(event: Event, version: int | None) -> bool:
    return isinstance(event, PolicyActivated) and event.version == version


def _carried(events: Sequence[Event]) -> dict[HostId, set[str]]:
    carried: dict[HostId, set[str]] = {}
    for event in events:
        if isinstance(event, WorkloadSeen) and event.sighting.host is not None:
            carried.setdefault(event.sighting.host, set()).add(event.sighting.id)
    return carried


def _each(events: Sequence[Event]) -> Batches:
    return tuple((event,) for event in events)


def _cut(events: Sequence[Event], random: Random) -> Batches:
    """Cut a sequence into batches of one to four."""
    batches = []
    start = 0
    while start < len(events):
        size = random.randint(1, 4)
        batches.append(tuple(events[start : start + size]))
        start += size
    return tuple(batches)


def _removals(events: Sequence[Event]) -> tuple[Event, ...]:
    """Return one event for each object that takes it away. Removing a host takes what it carries along."""
    workloads = {event.sighting.id for event in events if isinstance(event, WorkloadSeen)}
    labelled = {event.id for event in events if isinstance(event, LabelsSet)}
    hosts = {event.host.id for event in events if isinstance(event, HostSeen)}
    versions = [event.version for event in events if isinstance(event, PolicyActivated)]
    removals: list[Event] = [HostGone(host) for host in sorted(hosts)]
    removals += [LabelsSet(id_, (), "operator") for id_ in sorted(labelled)]
    removals += [WorkloadGone(id_) for id_ in sorted(workloads)]
    if versions:
        removals.append(PolicyActivated(type(versions[0])(max(versions) + 1), PolicySet()))
    return tuple(removals)
