"""Which resolution answers which part of a time range, so that the whole is exact and as coarse as can be.

Moments are whole microseconds since the epoch; ``ENDLESS`` is later than every flow.
"""

import msgspec

from stockade.seams.flow_store import Resolution

MINUTE = 60 * 1_000_000
HOUR = 60 * MINUTE
ENDLESS = (1 << 52) // HOUR * HOUR


class Segment(msgspec.Struct, frozen=True):
    """Flows from ``since`` to before ``until``, out of one resolution."""

    resolution: Resolution
    since: int
    until: int


class Floors(msgspec.Struct, frozen=True):
    """Before these moments a resolution keeps nothing, or not all."""

    raw: int = 0
    minute: int = 0
    hour: int = 0


class Ranges(msgspec.Struct, frozen=True):
    """What is read, and what that answers: what was asked, or wider."""

    segments: tuple[Segment, ...]
    since: int
    until: int
    partial_before: int | None


PIECES = 64
FINE = 2 * HOUR
SIZES = tuple(each * MINUTE for each in (1, 2, 60, 180, 360, 1440, 10_080, 43_200))
"""What a time is cut into pieces of: the smallest of these that makes at most so many. Longer times by whole hours."""


def piece_of(read: Ranges, floors: Floors) -> int:
    """Return the size of the pieces of a range; whole minutes only where they tell all of it."""
    minutes = read.until - read.since <= FINE and _floor(read.since, HOUR) >= floors.minute
    fitting = (each for each in SIZES if (read.until - read.since) // each < PIECES and (minutes or each >= HOUR))
    return next(fitting, SIZES[-1])


def ranges(since: int, until: int, floors: Floors, *, hours: bool = True) -> Ranges:
    """Split a range. ``hours``: whether a sum over an hour answers, or minutes are the coarsest that do."""
    if since >= until:
        return Ranges((), since, until, None)
    since = _widened(since, floors, hours, up=False)
    until = _widened(until, floors, hours, up=True)
    coarsest = floors.hour if hours else floors.minute
    found = tuple(each for each in _split(since, until, hours) if each.since < each.until)
    return Ranges(found, since, until, coarsest if since < coarsest else None)


def _widened(moment: int, floors: Floors, hours: bool, *, up: bool) -> int:
    """Move an end of the range outward to where something is kept that can tell it."""
    if moment % MINUTE and _floor(moment, MINUTE) < floors.raw:
        moment = _floor(moment, MINUTE) + (MINUTE if up else 0)
    if hours and moment % HOUR and _floor(moment, HOUR) < floors.minute:
        moment = _floor(moment, HOUR) + (HOUR if up else 0)
    return moment


def _split(since: int, until: int, hours: bool) -> tuple[Segment, ...]:
    first, last = _ceiling(since, MINUTE), _floor(until, MINUTE)
    if first >= last:
        return (Segment(Resolution.RAW, since, until),)
    ragged = Segment(Resolution.RAW, since, first), Segment(Resolution.RAW, last, until)
    opening, closing = _ceiling(first, HOUR), _floor(last, HOUR)
    if not hours or opening >= closing:
        return (ragged[0], Segment(Resolution.MINUTE, first, last), ragged[1])
    return (
        ragged[0],
        Segment(Resolution.MINUTE, first, opening),
        Segment(Resolution.HOUR, opening, closing),
        Segment(Resolution.MINUTE, closing, last),
        ragged[1],
    )


def _floor(moment: int, unit: int) -> int:
    return moment // unit * unit


def _ceiling(moment: int, unit: int) -> int:
    return -(-moment // unit) * unit
