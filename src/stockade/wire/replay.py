"""Recorded flows under a draft, as a plan shows them."""

import msgspec


class ReplayedView(msgspec.Struct, frozen=True):
    """Recorded traffic that a draft would decide otherwise. ``by``: the rule that would decide, or ``default``."""

    source: str
    destination: str
    on: str
    connections: int
    by: str


class ReplayView(msgspec.Struct, frozen=True):
    """Recorded connections under a draft. ``cut`` passed and would be denied, ``opened`` were denied and would pass:
    counted, and the most numerous listed. ``kept`` pass then as now, ``shut`` are denied then as now.
    """

    since: float
    until: float
    kept: int = 0
    shut: int = 0
    cut: int = 0
    opened: int = 0
    cut_list: tuple[ReplayedView, ...] = ()
    opened_list: tuple[ReplayedView, ...] = ()
    partial_before: float | None = None
