"""Percentiles, by nearest rank. Pure."""

from collections.abc import Sequence


def percentile(ordered: Sequence[float], share: float) -> float | None:
    """Return the value below which ``share`` (0 to 1) of sorted values lie; None of nothing."""
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else None
