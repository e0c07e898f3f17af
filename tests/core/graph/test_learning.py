"""Learnt window by window is learnt at once; what is new stays new for a while, and nothing grows for ever."""

from random import Random

import pytest

from ordinary import HOUR, Estate, regularly, seen, walk
from stockade.core.graph.anomalies import anomalies, uncounted
from stockade.core.graph.anomaly import AnomalyKind
from stockade.core.graph.baseline import learn
from stockade.core.graph.learning import Learning
from stockade.core.model.flow import StoredFlow

FIRST = 470_000
"""A window's number, of a time that is long after the epoch."""


def hours(estate: Estate, count: int) -> list[list[StoredFlow]]:
    return [estate.hour(FIRST + number) for number in range(count)]


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("settle", [0, 3])
def test_window_by_window_is_all_at_once(seed: int, settle: int) -> None:
    """The law: what is learnt piecemeal is the baseline of every window that has settled."""
    every = hours(Estate(seed), 9)
    # every window begins with a flow at its very start, so that both cut the time at the same places
    first = [flow for number in range(9) for flow in seen(*Estate(99).dns, 53, (FIRST + number) * HOUR, 1)]
    windows = [[*flows, *first[number * 3 : number * 3 + 3]] for number, flows in enumerate(every)]
    windows = [[each for each in some if each.tally.first // HOUR == FIRST + n] for n, some in enumerate(windows)]
    learning = Learning(settle=settle)
    for number, some in enumerate(windows):
        learning.hear(FIRST + number, some)
    found = learning.baseline()
    wanted = learn([each for some in windows[: 9 - settle] for each in some])
    assert found is not None
    assert wanted is not None
    for what in ("segments", "ways", "habits", "widest", "once", "occurrences", "window", "by"):
        assert getattr(found, what) == getattr(wanted, what), what
    assert found.answered >= wanted.answered


def test_nothing_is_ordinary_before_it_has_settled() -> None:
    learning, estate = Learning(settle=3), Estate(1, steady=True)
    for number, some in enumerate(hours(estate, 3)):
        learning.hear(FIRST + number, some)
        assert learning.baseline() is None
    learning.hear(FIRST + 3, [])
    assert learning.baseline() is not None


@pytest.mark.long
def test_an_attack_is_new_for_as_long_as_is_said_and_then_no_more() -> None:
    estate = Estate(1, steady=True)
    learning = Learning(settle=24)
    for number in range(30):
        learning.hear(FIRST + number, estate.hour(FIRST + number))
    chain = [estate.pick("wiki", "web"), estate.pick("mail", "api"), estate.pick("bank", "db")]
    for number in range(30, 60):
        baseline = learning.baseline()
        assert baseline is not None
        window = [*estate.hour(FIRST + number), *walk(chain, (FIRST + number) * HOUR + 9)]
        kinds = {each.kind for each in anomalies(window, baseline).anomalies}
        assert (AnomalyKind.MOVEMENT in kinds) == (number < 55), number
        learning.hear(FIRST + number, window)


def test_what_is_not_met_for_long_is_forgotten() -> None:
    estate = Estate(1, steady=True)
    learning = Learning(settle=0, keep=5)
    learning.hear(FIRST, list(walk([estate.pick("wiki", "web"), estate.pick("bank", "db")], FIRST * HOUR)))
    once = learning.baseline()
    assert once is not None
    for number in range(1, 5):
        learning.hear(FIRST + number, estate.hour(FIRST + number))
    kept = learning.baseline()
    assert kept is not None
    assert once.ways <= kept.ways
    learning.hear(FIRST + 5, estate.hour(FIRST + 5))
    later = learning.baseline()
    assert later is not None
    assert not once.ways & later.ways


def test_a_pause_forgets_as_much_as_the_time_that_passed() -> None:
    learning = Learning(settle=0, keep=5)
    learning.hear(FIRST, Estate(1).hour(FIRST))
    learning.hear(FIRST + 10_000_000, [])
    assert learning.baseline() is None


def test_no_more_is_remembered_than_is_said_and_the_rest_is_counted() -> None:
    estate = Estate(1)
    learning = Learning(settle=0, most=50)
    for number in range(6):
        learning.hear(FIRST + number, estate.hour(FIRST + number))
    baseline = learning.baseline()
    assert baseline is not None
    assert max(len(baseline.answered), len(baseline.ways), len(baseline.habits)) <= 50
    assert learning.forgot > 0


def test_what_is_told_of_several_at_once_is_asked_for_singly() -> None:
    """A beacon of five seconds lies in minutes of twelve: by its minutes it is none, by its flows it is one."""
    estate = Estate(1, steady=True)
    learning = Learning(settle=0)
    learning.hear(FIRST, estate.hour(FIRST))
    baseline = learning.baseline()
    assert baseline is not None
    source, to = estate.pick("mail", "api"), estate.pick("bank", "queue")
    random, since = Random(4), (FIRST + 1) * HOUR
    singly = [
        row for at in range(0, 600, 5) for row in seen(source, to, 8443, since + at + random.uniform(-0.2, 0.2), 1)
    ]
    summed = [row for at in range(0, 600, 60) for row in seen(source, to, 8443, since + at, 12)]
    ordinary = estate.hour(FIRST + 1)
    (asked,) = uncounted([*ordinary, *summed], baseline)
    assert (asked.source, asked.destination, asked.port) == (source, to, 8443)
    assert not uncounted([*ordinary, *singly], baseline)
    assert not uncounted([*ordinary, *summed], None)
    kinds = [{each.kind for each in anomalies([*ordinary, *rows], baseline).anomalies} for rows in (summed, singly)]
    assert AnomalyKind.BEACON not in kinds[0]
    assert AnomalyKind.BEACON in kinds[1]


def test_a_release_is_told_of_and_is_no_attack() -> None:
    """What is new is asked, asks for names and is scraped, all at once: first-seen edges, and nothing worse."""
    estate = Estate(1, steady=True)
    learning = Learning(settle=0)
    for number in range(6):
        learning.hear(FIRST + number, estate.hour(FIRST + number))
    since, released, random = (FIRST + 6) * HOUR, estate.new("shop", "search"), Random(4)
    api = estate.replicas["shop", "api"]
    rows = [
        *(row for at, each in enumerate(api) for row in seen(each, released, 9200, since + 60 * at, 7)),
        *(row for at in range(5) for row in seen(released, estate.dns[0], 53, since + 100 + 60 * at, 2, protocol=17)),
        *regularly(random, estate.prometheus, released, 9100, since, 60.0),
    ]
    found = anomalies([*estate.hour(FIRST + 6), *rows], learning.baseline()).anomalies
    assert {each.kind for each in found} == {AnomalyKind.FIRST_SEEN}
    assert len(found) == 3
