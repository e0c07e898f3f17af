"""Traffic of one snapshot, kept as long as what is stored of it is the same: told by the store's marks, never by time.

What is kept says what would be read and merged anew. The store marks a time in pieces: a piece with another mark is
read again, and what it changes is merged again. What is kept is bounded; a piece in which something came in while it
was read is read again the next time.
"""

import threading
from collections import defaultdict
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import NamedTuple

import msgspec

from stockade.controller.flow_reading import Sums, flows_of, recorded, sums
from stockade.controller.refused import Refused
from stockade.controller.whose import Whose
from stockade.core.graph.merge import Between, Telling, between, merged
from stockade.core.graph.values import Traffic
from stockade.core.model.flow import Tally
from stockade.core.model.ids import WorkloadId
from stockade.core.model.snapshot import Snapshot
from stockade.seams.flow_store import FlowFilter, FlowGroup, FlowMark, FlowPiece, FlowStore, Of, Value

ANSWERS, SUMS = 4, 300_000
"""Answers that are kept, and how many sums of flows in all of them."""
HOUR = 3600
Question = tuple[tuple[FlowFilter, ...], int]
"""What was asked of the store, and the size of the pieces in which it tells of it."""
Part = tuple[int, int]
"""A piece of time, by its number first, and which of the filters asked for it."""
Groups = Mapping[tuple[Value, ...], FlowGroup]
UNSURE = ""
"""The mark of a piece in which something came in while it was read: no piece has it."""


class Told(msgspec.Struct, frozen=True):
    """Traffic from ``since`` to ``until``: as asked, or wider. ``partial_before``: older than this not all is kept."""

    traffic: Sequence[Traffic]
    since: float
    until: float
    partial_before: float | None = None


class Meaning(NamedTuple):
    """What ends mean: a snapshot, and the workloads at whose ends some point tells."""

    snapshot: Snapshot
    telling: Container[WorkloadId]

    def same(self, other: "Meaning", id_: WorkloadId) -> bool:
        """Tell whether traffic at a workload is merged and shown as by another one."""
        one, two = (each.snapshot.workloads.get(id_) for each in (self, other))
        alike = one is two or (one and two and (one.labels, one.seen.name) == (two.labels, two.seen.name))
        return bool(alike) and (id_ in self.telling) == (id_ in other.telling)


class Piece(msgspec.Struct, frozen=True):
    """What was read of one piece of time, by ends and port, and its mark at that time."""

    text: str
    groups: Mapping[Between, Groups]


class Answer(msgspec.Struct, frozen=True):
    """What was read and merged. ``whole``: too much to be kept in pieces, so that one that changes is all of it.

    ``meaning``: by what it was merged; None where nothing was.
    """

    question: Question
    pieces: Mapping[Part, Piece]
    meaning: Meaning | None = None
    merged: Mapping[Between, tuple[Traffic, ...]] = {}
    traffic: Sequence[Traffic] = ()
    whole: bool = False

    @property
    def size(self) -> int:
        """How much there is of it."""
        return sum(len(each) for piece in self.pieces.values() for each in piece.groups.values()) + len(self.traffic)


class Heard:
    """Asks a store for the traffic of one snapshot. Safe from several threads.

    ``answers``: what was heard for another snapshot. What was read is the same, and so is what it means where its ends
    mean the same.
    """

    def __init__(self, snapshot: Snapshot, told: Telling, answers: Iterable[Answer] = ()) -> None:
        self._meaning = Meaning(snapshot, told)
        self._lock, self._reading = threading.Lock(), threading.Lock()
        self._kept = [each for each in answers if not each.whole]

    def kept(self) -> tuple[Answer, ...]:
        """Return what is kept, what was asked last at the end."""
        with self._lock:
            return tuple(self._kept)

    def traffic(
        self, store: FlowStore, since: float, until: float, filters: tuple[FlowFilter, ...], whose: Whose
    ) -> Told:
        """Return the traffic of a time that one of the filters asks for. Blocks; who asks meanwhile waits for it."""
        with self._reading:
            return self._heard(store, since, until, filters, whose)

    def _heard(
        self, store: FlowStore, since: float, until: float, filters: tuple[FlowFilter, ...], whose: Whose
    ) -> Told:
        marks = _marks(store, since, until, filters)
        wanted, question = _wanted(marks), (filters, marks[0].size)
        before = self._nearest(question, wanted)
        changed = {part for part, each in wanted.items() if _text(before, part) != each.text}
        answer = before
        if changed or before.meaning is not self._meaning or before.pieces.keys() != wanted.keys():
            answer = self._read(store, since, until, before, wanted, changed, whose)
            if changed:
                answer = _sure(answer, _wanted(_marks(store, since, until, filters)))
        self._keep(answer, before)
        return Told(
            answer.traffic,
            min([since, *(each.since for each in marks)]),
            max([until, *(each.until for each in marks)]),
            max([each.partial_before for each in marks if each.partial_before], default=None),
        )

    # What is read

    def _read(
        self,
        store: FlowStore,
        since: float,
        until: float,
        before: Answer,
        wanted: Mapping[Part, FlowPiece],
        changed: set[Part],
        whose: Whose,
    ) -> Answer:
        filters, size = before.question
        fresh = None if before.whole else _fresh(store, filters, size, wanted, changed)
        if fresh is None:
            seen = recorded(store, self._meaning.snapshot, since, until, *filters, whose=whose, timed=False)
            found = merged(seen.flows, self._meaning.telling)
            unread = {part: Piece(each.text, {}) for part, each in wanted.items()}
            return Answer(before.question, unread, self._meaning, traffic=found, whole=True)
        pieces = {
            part: Piece(each.text, fresh.get(part, {})) if part in changed else before.pieces[part]
            for part, each in sorted(wanted.items())
        }
        return self._merged(before, pieces, whose)

    def _merged(self, before: Answer, pieces: Mapping[Part, Piece], whose: Whose) -> Answer:
        """Merge what lies between two ends on a port, where any piece says, or either end means, something else now."""
        places = _changes(before.pieces, pieces) | self._changed(before)
        made = defaultdict(list)
        for each in merged(flows_of(_told(places, pieces), whose), self._meaning.telling):
            made[between(each)].append(each)
        kept = {place: each for place, each in before.merged.items() if place not in places}
        every = dict(sorted({**kept, **{place: tuple(each) for place, each in made.items()}}.items()))
        traffic = tuple(each for some in every.values() for each in some)
        return Answer(before.question, pieces, self._meaning, every, traffic)

    def _changed(self, before: Answer) -> set[Between]:
        """Return where either end means something else than when it was merged."""
        then, now = before.meaning, self._meaning
        if then is None or then is now:
            return set()
        ends = {each for place in before.merged for each in (place[1], place[3]) if each}
        others = {each for each in ends if not now.same(then, WorkloadId(each))}
        return {place for place in before.merged if place[1] in others or place[3] in others} if others else set()

    # What is kept

    def _nearest(self, question: Question, wanted: Mapping[Part, FlowPiece]) -> Answer:
        """Return the answer of which most is wanted."""
        with self._lock:
            alike = [each for each in self._kept if each.question == question]
        return max(alike, key=lambda each: len(each.pieces.keys() & wanted.keys()), default=Answer(question, {}))

    def _keep(self, answer: Answer, before: Answer) -> None:
        """Keep an answer, in place of one of which it took most over."""
        common = len(answer.pieces.keys() & before.pieces.keys())
        with self._lock:
            others = [each for each in self._kept if each is not before or 2 * common < len(before.pieces)]
            self._kept = [*others[1 - ANSWERS :], answer]
            while sum(each.size for each in self._kept) > SUMS:
                del self._kept[0]


def _marks(store: FlowStore, since: float, until: float, filters: tuple[FlowFilter, ...]) -> tuple[FlowMark, ...]:
    return tuple(store.mark(msgspec.structs.replace(each, since=since, until=until)) for each in filters)


def _wanted(marks: Sequence[FlowMark]) -> dict[Part, FlowPiece]:
    return {(each.number, which): each for which, mark in enumerate(marks) for each in mark.pieces}


def _text(answer: Answer, part: Part) -> str | None:
    piece = answer.pieces.get(part)
    return piece.text if piece is not None else None


def _sure(answer: Answer, now: Mapping[Part, FlowPiece]) -> Answer:
    """Return an answer in which a piece counts as known only where nothing came in while it was read."""
    pieces = {
        part: each if part in now and now[part].text == each.text else msgspec.structs.replace(each, text=UNSURE)
        for part, each in answer.pieces.items()
    }
    return msgspec.structs.replace(answer, pieces=pieces)


def _fresh(
    store: FlowStore,
    filters: Sequence[FlowFilter],
    size: int,
    wanted: Mapping[Part, FlowPiece],
    changed: set[Part],
) -> Mapping[Part, Mapping[Between, Groups]] | None:
    """Return what is read of the pieces that changed; None where that is too much to be kept in pieces."""
    found: dict[Part, dict[Between, dict[tuple[Value, ...], FlowGroup]]] = {part: {} for part in changed}
    count, alike = 0, dict[tuple[Value, ...], tuple[Value, ...]]()
    for run in _runs(wanted, changed):
        which = run[0][1]
        first, last = wanted[run[0]], wanted[run[-1]]
        step = None if len(run) == 1 else Of.HOUR if size % HOUR == 0 else Of.MINUTE
        try:
            read = sums(store, first.since, last.until, filters[which], step=step)
        except Refused:
            return None
        count += len(read.found)
        if count > SUMS // 2:
            return None
        for number, group in _numbered(read, size, first.number if step is None else None):
            if (number, which) in found:
                values = alike.setdefault(group.values, group.values)
                _add(found[number, which].setdefault(_place(values), {}), values, group.sums)
    return found


def _runs(wanted: Mapping[Part, FlowPiece], changed: set[Part]) -> Iterator[list[Part]]:
    """Yield pieces that one question reads: those that changed and lie one behind the other, of one filter."""
    ordered = sorted(wanted, key=lambda part: (part[1], part[0]))
    for (_, needed), run in groupby(ordered, key=lambda part: (part[1], part in changed)):
        if needed:
            yield list(run)


def _numbered(read: Sums, size: int, only: int | None) -> Iterator[tuple[int, FlowGroup]]:
    """Yield what was read with the number of its piece; what was read by steps of time is by none any more."""
    for values, group in read.found.items():
        if only is not None:
            yield only, group
        else:
            yield int(values[-1] or 0) // size, FlowGroup(values[:-1], group.sums)


def _add(groups: dict[tuple[Value, ...], FlowGroup], values: tuple[Value, ...], tally: Tally) -> None:
    before = groups.get(values)
    groups[values] = FlowGroup(values, tally if before is None else before.sums + tally)


def _place(values: Sequence[Value]) -> Between:
    source, workload, _, destination, other, _, protocol, port = values[:8]
    return str(source), str(workload or ""), str(destination), str(other or ""), int(protocol or 0), int(port or 0)


def _changes(before: Mapping[Part, Piece], pieces: Mapping[Part, Piece]) -> set[Between]:
    """Return where pieces say something else than pieces before."""
    found: set[Between] = set()
    for part in before.keys() | pieces.keys():
        old, new = ((each[part].groups if part in each else {}) for each in (before, pieces))
        if old is not new:
            found |= {place for place in old.keys() | new.keys() if old.get(place) != new.get(place)}
    return found


def _told(places: set[Between], pieces: Mapping[Part, Piece]) -> Iterator[FlowGroup]:
    """Yield all that was told of some places: of a piece that several filters ask for, each sum once."""
    found: dict[Between, dict[tuple[int, tuple[Value, ...]], FlowGroup]] = {place: {} for place in sorted(places)}
    for (number, _), piece in pieces.items():
        for place in piece.groups.keys() & places:
            found[place] |= {(number, values): group for values, group in piece.groups[place].items()}
    for each in found.values():
        yield from each.values()
