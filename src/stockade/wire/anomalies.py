"""What shows an anomaly, over the HTTP API. Times are seconds since the epoch (UTC)."""

import msgspec


class EvidenceFlow(msgspec.Struct, frozen=True):
    """All that was seen between two ends on one port. ``on`` is as policy writes it.

    ``source`` and ``destination`` are ids of workloads, or addresses: what flows may be asked for by.
    """

    source: str
    source_name: str
    destination: str
    destination_name: str
    on: str
    passed: int
    denied: int
    first: float
    last: float


class Evidence(msgspec.Struct, frozen=True):
    """From when until when, the numbers that were compared, and the first of ``total`` flows behind it."""

    since: float
    until: float
    numbers: tuple[tuple[str, float], ...] = ()
    flows: tuple[EvidenceFlow, ...] = ()
    total: int = 0
