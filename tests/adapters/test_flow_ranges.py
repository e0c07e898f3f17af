"""How a time range is split: all of it, nothing twice, as coarse as can be; wider only where nothing finer is kept."""

import itertools
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockade.adapters.clickhouse.ranges import (
    ENDLESS,
    HOUR,
    MINUTE,
    PIECES,
    SIZES,
    Floors,
    Ranges,
    Segment,
    piece_of,
    ranges,
)
from stockade.seams.flow_store import Resolution

UNITS = {Resolution.RAW: 1, Resolution.MINUTE: MINUTE, Resolution.HOUR: HOUR}
MOMENTS = st.one_of(
    st.integers(0, 50 * HOUR),
    st.integers(0, 3000).map(lambda n: n * MINUTE),
    st.integers(0, 50).map(lambda n: n * HOUR),
)


def joined(found: Ranges) -> tuple[int, int]:
    for one, other in itertools.pairwise(found.segments):
        assert one.until == other.since
    return found.segments[0].since, found.segments[-1].until


@given(MOMENTS, MOMENTS, st.booleans())
def test_where_all_is_kept_the_range_is_answered_as_asked(one: int, other: int, hours: bool) -> None:
    since, until = sorted((one, other))
    found = ranges(since, until, Floors(), hours=hours)
    if since == until:
        assert found.segments == ()
        return
    assert joined(found) == (found.since, found.until) == (since, until)
    assert found.partial_before is None
    for each in found.segments:
        unit = UNITS[each.resolution]
        assert each.since % unit == each.until % unit == 0
        assert hours or each.resolution is not Resolution.HOUR
        coarser = {1: MINUTE, MINUTE: HOUR if hours else ENDLESS, HOUR: ENDLESS}[unit]
        assert -(-each.since // coarser) >= each.until // coarser, "a coarser one answers part of it"


@given(MOMENTS, MOMENTS, st.integers(0, 60), st.integers(0, 2), st.booleans())
def test_nothing_is_read_where_it_is_no_longer_kept(one: int, other: int, raw: int, day: int, hours: bool) -> None:
    since, until = sorted((one, other))
    floors = Floors(raw * HOUR, day * 24 * HOUR)
    found = ranges(since, until, floors, hours=hours)
    if since == until:
        return
    assert joined(found) == (found.since, found.until)
    assert found.since <= since
    assert found.until >= until
    for each in found.segments:
        if each.resolution is Resolution.RAW:
            assert each.since >= floors.raw
        if each.resolution is Resolution.MINUTE and hours:
            assert each.since >= floors.minute
    if since >= max(floors.raw, floors.minute):
        assert (found.since, found.until) == (since, until)


def test_all_time_is_hours_alone() -> None:
    found = ranges(0, ENDLESS, Floors(raw=20 * HOUR, minute=HOUR))
    assert [each.resolution for each in found.segments] == [Resolution.HOUR]


@pytest.mark.parametrize(("hours", "expected"), [(True, 3 * HOUR), (False, 5 * HOUR)])
def test_what_is_older_than_all_that_is_kept_is_said(hours: bool, expected: int) -> None:
    floors = Floors(raw=7 * HOUR, minute=5 * HOUR, hour=3 * HOUR)
    assert ranges(HOUR, 9 * HOUR, floors, hours=hours).partial_before == expected
    assert ranges(6 * HOUR, 9 * HOUR, floors, hours=hours).partial_before is None


@given(MOMENTS, st.integers(1, 60 * HOUR), st.integers(0, 60), st.integers(0, 2))
def test_what_is_read_of_pieces_is_what_is_read_of_the_whole(one: int, long: int, raw: int, day: int) -> None:
    floors = Floors(raw * HOUR + 7 * MINUTE, day * 24 * HOUR + 13 * MINUTE)
    whole = ranges(one, one + long, floors)
    size = piece_of(whole, floors)
    if size % HOUR:
        whole = ranges(one, one + long, floors, hours=False)
    assert size in SIZES
    numbers = range(whole.since // size, -(-whole.until // size))
    assert len(numbers) <= PIECES + 1
    cuts = [(max(each * size, whole.since), min((each + 1) * size, whole.until)) for each in numbers]
    pieces = [ranges(*cut, floors) for cut in cuts]
    assert [(each.since, each.until) for each in pieces] == cuts, "a piece is answered wider than it is"
    assert [each for piece in pieces for each in piece.segments] == list(_cut(whole, size))


def _cut(whole: Ranges, size: int) -> Iterator[Segment]:
    for each in whole.segments:
        at = each.since
        while at < each.until:
            end = min(each.until, (at // size + 1) * size)
            yield Segment(each.resolution, at, end)
            at = end
