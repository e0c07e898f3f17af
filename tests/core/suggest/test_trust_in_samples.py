"""Wilson's interval and Good-Turing's estimate, against known values and against what samples really leave unseen."""

from random import Random

import pytest

from stockade.core.suggest.statistics import share, unseen


@pytest.mark.parametrize(
    ("count", "of", "low", "high"),
    [
        (0, 10, 0.0, 0.2775),
        (1, 10, 0.0179, 0.4042),
        (5, 10, 0.2366, 0.7634),
        (10, 10, 0.7225, 1.0),
        (81, 263, 0.2553, 0.3662),
    ],
)
def test_wilsons_interval(count: int, of: int, low: float, high: float) -> None:
    """The last is Newcombe's (1998) example."""
    found = share(count, of)
    assert (found.low, found.high) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))
    assert found.rate == count / of


def test_nothing_tried_is_nothing_known() -> None:
    assert (share(0, 0).low, share(0, 0).high, share(0, 0).rate) == (0.0, 1.0, 0.0)
    assert (unseen([]).probability, unseen([]).kinds) == (1.0, 0.0)


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    random, held = Random(1), 0
    for _ in range(1000):
        true = random.random() * 0.2
        found = share(sum(random.random() < true for _ in range(80)), 80)
        held += found.low <= true <= found.high
    assert 930 <= held <= 975


def test_the_estimate_is_near_what_is_really_unseen() -> None:
    """Kinds with Zipf's frequencies: the mean error of the estimate over many samples is small."""
    weights = [1 / (rank + 1) for rank in range(300)]
    whole, errors = sum(weights), []
    for seed in range(200):
        drawn = Random(seed).choices(range(300), weights, k=400)
        counts = [drawn.count(kind) for kind in set(drawn)]
        really = sum(weights[kind] for kind in range(300) if kind not in drawn) / whole
        found = unseen(counts)
        errors.append(found.probability - really)
        assert found.kinds <= 300
    assert abs(sum(errors) / len(errors)) < 0.01
