"""What the graph is made of, as values: traffic merged from both its ends, nodes, edges and their three strands."""

import enum
from collections.abc import Iterable

import msgspec

from stockade.core.model.flow import FlowEnd, Verdict, Via
from stockade.core.model.ids import HostId, RuleId
from stockade.core.model.packet import Direction
from stockade.core.plan.cells import ELSEWHERE
from stockade.core.plan.portset import NOTHING, PortSet

INTERNET = "internet"
"""What addresses in no network set are called where they are everybody's; others are ``elsewhere``."""
NETWORK = "network"
"""The one dimension of a network's node."""
WORKLOAD, PROCESS = "workload", "process"
"""Dimensions of a zoom that are no labels: a workload's own name, and the program or service at the end."""


class Seen(msgspec.Struct, frozen=True, gc=False):
    """What was seen, each connection once: by what became of it, and what ended ones carried.

    ``missing`` passed their source's end, and the point at their destination's end told of none of them: they are on
    the way, were dropped by somebody else, or that point lost them. They are not among ``connections``. Seconds since
    the epoch; bytes of the IP layer, ``bytes_out`` from the source.
    """

    first: float
    last: float
    allowed: int = 0
    denied: int = 0
    would_deny: int = 0
    missing: int = 0
    ended: int = 0
    packets: int = 0
    bytes_out: int = 0
    bytes_in: int = 0
    seconds: float = 0.0

    @property
    def connections(self) -> int:
        """All of them, each once."""
        return self.allowed + self.denied + self.would_deny

    @property
    def passed(self) -> int:
        """Those that nobody dropped."""
        return self.allowed + self.would_deny

    @property
    def verdict(self) -> Verdict:
        """The worst that became of any; ``CARRIED`` where only ended ones are known."""
        if self.denied:
            return Verdict.DENIED
        if self.would_deny:
            return Verdict.WOULD_DENY
        return Verdict.ALLOWED if self.allowed else Verdict.CARRIED

    def __add__(self, other: "Seen") -> "Seen":
        return Seen(
            min(self.first, other.first),
            max(self.last, other.last),
            self.allowed + other.allowed,
            self.denied + other.denied,
            self.would_deny + other.would_deny,
            self.missing + other.missing,
            self.ended + other.ended,
            self.packets + other.packets,
            self.bytes_out + other.bytes_out,
            self.bytes_in + other.bytes_in,
            self.seconds + other.seconds,
        )


def total(found: Iterable[Seen]) -> Seen:
    """Return the sum of at least one."""
    every = iter(found)
    result = next(every)
    for each in every:
        result += each
    return result


class Said(msgspec.Struct, frozen=True, gc=False, order=True):
    """What one end said of some connections and by which rule. Both ends speak, so that these do not add up."""

    end: Direction
    verdict: Verdict
    rule: RuleId
    connections: int = 0


class Traffic(msgspec.Struct, frozen=True, gc=False):
    """All that was seen between two ends on one port, from every point that told of it.

    ``said`` and ``processes`` are sorted: who decided, and which programs were met at which end.
    """

    source: FlowEnd
    destination: FlowEnd
    protocol: int
    port: int
    seen: Seen
    said: tuple[Said, ...] = ()
    processes: tuple[tuple[Direction, str], ...] = ()
    via: tuple[Via, ...] = ()
    services: tuple[str, ...] = ()
    """``address:port`` that connections were opened to, where that is not their destination."""
    hosts: tuple[HostId, ...] = ()
    """The points that told of it."""


class NodeKind(str, enum.Enum):
    """What a node stands for."""

    WORKLOADS = "workloads"
    UNKNOWN = "unknown"
    """Somebody in the inventory whom nobody has labelled."""
    NETWORK = "network"
    """Addresses outside the inventory."""


class Node(msgspec.Struct, frozen=True, order=True, cache_hash=True):
    """Ends that a zoom does not tell apart.

    ``values`` are (dimension, value) in the zoom's order, empty where absent; of a network its name alone.
    """

    kind: NodeKind
    values: tuple[tuple[str, str], ...] = ()

    @property
    def text(self) -> str:
        """What it is called: ``app=shop role=web``, ``networks(payments)``, ``internet``, ``unknown``."""
        told = [f"{key}={value}" if value else f"no {key}" for key, value in self.values]
        if self.kind is NodeKind.NETWORK:
            name = self.values[0][1]
            return name if name in (INTERNET, ELSEWHERE) else f"networks({name})"
        return " ".join([*(["unknown"] if self.kind is NodeKind.UNKNOWN else []), *told]) or "all"


class PortUse(msgspec.Struct, frozen=True, gc=False):
    """What was seen on one port; ``service`` is policy's name for it, empty where it has none."""

    protocol: int
    port: int
    service: str
    seen: Seen


class Observed(msgspec.Struct, frozen=True, gc=False):
    """The first strand: what was seen between two nodes. ``said`` and ``processes`` as for traffic."""

    seen: Seen
    ports: tuple[PortUse, ...] = ()
    said: tuple[Said, ...] = ()
    processes: tuple[tuple[Direction, str], ...] = ()
    via: tuple[Via, ...] = ()
    pairs: int = 0
    """How many pairs of ends it was seen between."""


class Permitted(msgspec.Struct, frozen=True):
    """What a policy permits between two nodes: the services on which any pair of their ends may talk.

    ``pairs`` of ``of`` pairs of ends may talk on some service; a network counts as one end. ``rules`` open it; empty
    where modes do.
    """

    on: PortSet = NOTHING
    pairs: int = 0
    of: int = 0
    rules: tuple[RuleId, ...] = ()


class Pending(str, enum.Enum):
    """What a draft would decide about observed connections that passed."""

    ALLOWED = "allowed"
    SOME = "some potentially blocked"
    BLOCKED = "potentially blocked"
    NONE = "nothing passed"
    """There was nothing to decide about."""


class Edge(msgspec.Struct, frozen=True):
    """Two nodes and the three strands between them; None: that strand was not asked for, or not assessed."""

    source: Node
    destination: Node
    observed: Observed | None = None
    permitted: Permitted | None = None
    needed: Permitted | None = None
    pending: Pending | None = None
