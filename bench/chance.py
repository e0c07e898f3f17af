"""How far a rate that was counted can be trusted: the exact interval of a Poisson rate (Garwood, 1936)."""

import math
from collections.abc import Callable

TAIL = 0.025
"""On either side: 95 % lie between."""


def rate_between(count: int, days: float) -> tuple[float, float]:
    """Return between which rates a day the one lies that gave ``count`` in so many days: with 95 %, or more."""
    low = _where(lambda mean: 1 - _at_most(count - 1, mean) - TAIL, count) if count else 0.0
    high = _where(lambda mean: TAIL - _at_most(count, mean), count)
    return low / days, high / days


def _at_most(count: int, mean: float) -> float:
    """Return how likely a Poisson variable is ``count`` or less."""
    return math.fsum(math.exp(-mean + number * math.log(mean) - math.lgamma(number + 1)) for number in range(count + 1))


def _where(rising: Callable[[float], float], count: int) -> float:
    """Return where something that rises crosses zero."""
    low, high = 1e-12, 2.0 * count + 20
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (low, middle) if rising(middle) > 0 else (middle, high)
    return high
