"""What is found unusual in traffic, as values: each with its evidence, and what could not be looked for and why."""

import enum

import msgspec

from stockade.core.graph.values import Traffic


class AnomalyKind(str, enum.Enum):
    """What looks unusual."""

    FIRST_SEEN = "first-seen edge"
    """Two segments that did not talk before."""
    SCAN = "scan"
    """One source that tries many ports or many destinations, and is not answered."""
    FAN_OUT = "fan-out"
    """One source that talks to many more destinations than it did."""
    BEACON = "beacon"
    """Connections at regular intervals on an edge that is new."""
    MOVEMENT = "movement"
    """A chain of new edges, each begun by whoever the one before it reached."""


class Anomaly(msgspec.Struct, frozen=True):
    """One of them: about whom, since when until when (seconds since the epoch), in words, with what shows it.

    ``numbers`` are (what, how many), as they were compared; ``traffic`` is sorted.
    """

    kind: AnomalyKind
    subject: str
    text: str
    since: float
    until: float
    numbers: tuple[tuple[str, float], ...] = ()
    traffic: tuple[Traffic, ...] = ()


class NotLookedFor(msgspec.Struct, frozen=True, order=True):
    """A kind of anomaly that could not be looked for, and why; never the same as one that was not found."""

    kind: AnomalyKind
    why: str
