"""What is suggested, as values: rules with their evidence, what is left out and why, and how far to trust it."""

import enum

import msgspec

from stockade.core.graph.judge import Decision
from stockade.core.graph.values import Traffic
from stockade.core.model.policy import PolicySet, Rule
from stockade.core.suggest.statistics import Share, Unseen


class Reason(str, enum.Enum):
    """Why something that was seen is not suggested."""

    DENIED = "a rule denies it"
    UNKNOWN = "nobody has labelled one end"
    UNVOUCHED = "nobody vouches for its sender"
    STRAY = "it belongs to no connection"
    SCAN = "part of a scan"
    DARK = "no network set holds the address"
    UNSPEAKABLE = "policy has no word for its protocol or port"
    ALIKE = "nothing tells it apart from what is left out"
    NOTHING = "no connection passed"


class Refused(msgspec.Struct, frozen=True):
    """Traffic that was seen and is not suggested. ``open``: something else in the draft allows it all the same."""

    traffic: Traffic
    reason: Reason
    detail: str = ""
    open: bool = False


class Evidence(msgspec.Struct, frozen=True):
    """What a rule rests on: ``flows`` are pairs of ends on a port. Seconds since the epoch."""

    flows: int
    connections: int
    first: float
    last: float
    sources: int
    destinations: int
    processes: tuple[str, ...] = ()


class Opens(msgspec.Struct, frozen=True):
    """What a rule means besides what was seen: workloads by name that did not talk, and ports that were not used.

    A network set's other addresses are not listed; ``networks`` names the sets.
    """

    sources: tuple[str, ...] = ()
    destinations: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    on: str = ""


class SuggestedRule(msgspec.Struct, frozen=True):
    """One rule, what it rests on, and what else it would open."""

    rule: Rule
    evidence: Evidence
    opens: Opens = Opens()


class HoldOut(msgspec.Struct, frozen=True):
    """Rules learnt from what was seen until ``until``, tried on what was seen later: how much they would wrongly deny.

    ``flows`` counts pairs of ends on a port, ``connections`` all of theirs.
    """

    until: float
    flows: Share
    connections: Share


class Coverage(msgspec.Struct, frozen=True):
    """How much of what was seen at the selected ends the suggestion allows."""

    flows: int
    of_flows: int
    connections: int
    of_connections: int


class Unmet(msgspec.Struct, frozen=True):
    """Traffic that the suggestion would allow and something else in the draft denies."""

    traffic: Traffic
    decision: Decision


class Suggestion(msgspec.Struct, frozen=True):
    """A draft: documents as values and as the text of a file, with all that is to be said of it.

    ``held_out`` is None where nothing was seen later than what the rules were learnt from.
    """

    policy: PolicySet
    text: str
    rules: tuple[SuggestedRule, ...]
    refused: tuple[Refused, ...]
    coverage: Coverage
    unseen: Unseen
    held_out: HoldOut | None = None
    unmet: tuple[Unmet, ...] = ()
