"""How far what was learnt from a sample can be trusted."""

import math

import msgspec

Z = 1.959963984540054
"""Two-sided 95 %."""


class Share(msgspec.Struct, frozen=True):
    """``count`` of ``of``, and Wilson's 95 % interval for the share behind it; (0, 1) where nothing was tried."""

    count: int
    of: int
    low: float
    high: float

    @property
    def rate(self) -> float:
        """The share itself; 0 where nothing was tried."""
        return self.count / self.of if self.of else 0.0


def share(count: int, of: int) -> Share:
    """Return a share with Wilson's score interval (1927), which holds for small samples and for none or all."""
    if not of:
        return Share(0, 0, 0.0, 1.0)
    rate, z2 = count / of, Z * Z
    middle = (rate + z2 / (2 * of)) / (1 + z2 / of)
    half = Z / (1 + z2 / of) * math.sqrt(rate * (1 - rate) / of + z2 / (4 * of * of))
    low = 0.0 if count == 0 else max(0.0, middle - half)
    return Share(count, of, low, 1.0 if count == of else min(1.0, middle + half))


class Unseen(msgspec.Struct, frozen=True):
    """What a sample says of what it does not hold.

    ``probability``: that the next connection is of a kind not yet seen (Good and Turing: the share of connections
    that are the only one of their kind). ``kinds``: how many such kinds there are at least (Chao, 1984,
    bias-corrected). Both take connections as drawn one by one from what does not change.
    """

    probability: float
    kinds: float
    seen: int
    once: int
    connections: int


def unseen(counts: list[int]) -> Unseen:
    """Estimate from how many connections of each kind were seen; of nothing, nothing is known (probability 1)."""
    counted = [each for each in counts if each]
    connections, once, twice = sum(counted), counted.count(1), counted.count(2)
    probability = once / connections if connections else 1.0
    return Unseen(probability, once * (once - 1) / (2 * (twice + 1)), len(counted), once, connections)
