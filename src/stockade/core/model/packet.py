"""A packet as the oracle judges it, and the verdict it gives."""

import enum

import msgspec

from stockade.core.model.ids import Address, HostId, RuleId, WorkloadId
from stockade.core.model.net import Protocol
from stockade.core.model.policy import Where


class PacketState(str, enum.Enum):
    """What connection tracking makes of a packet."""

    NEW = "new"
    """The first packet of a connection (for TCP a SYN)."""
    ORIGINAL = "original"
    """A later packet of a live connection, in its own direction."""
    REPLY = "reply"
    """A packet of a live connection, against its direction."""
    RELATED = "related"
    """An ICMP error about a live connection."""
    MIDSTREAM = "midstream"
    """A TCP packet that is no SYN and belongs to no connection that is tracked."""
    INVALID = "invalid"
    UNTRACKED = "untracked"


class Packet(msgspec.Struct, frozen=True):
    """One packet of a connection as it reaches a host.

    ``source``, ``destination`` and ``port`` are the *connection's*: as its first packet carried them, before any
    translation; for a reply or an ICMP error they stay those of the connection it belongs to. ``port`` is the
    destination port, or for ICMP ``type * 256 + code``. ``interface`` is the host's interface by which this packet
    entered (empty: the host itself sent it), ``leaving`` the one by which it would go on (empty: the host itself takes
    it, or nobody knows). ``sender_mac`` and ``sender_address`` are what this very packet
    carries as its source; empty means the true ones of the endpoint at ``interface``. ``kept`` says that an allow
    with ``established: keep`` admitted the connection; ``older`` that it is older than tracking, so that its
    direction is not known.
    """

    host: HostId
    source: Address
    destination: Address
    protocol: Protocol
    port: int = 0
    source_port: int = 0
    state: PacketState = PacketState.NEW
    interface: str = ""
    sender_mac: str = ""
    sender_address: str = ""
    kept: bool = False
    older: bool = False
    leaving: str = ""


class Direction(str, enum.Enum):
    """At which end of a connection a judgement is made."""

    EGRESS = "egress"
    INGRESS = "ingress"


class Layer(str, enum.Enum):
    """What decided, in the order in which the layers are tried (``docs/policy.md``, 2)."""

    FORGED = "forged"
    """The frame's source is not its endpoint's own."""
    HELD = "held"
    """``births: hold`` and nobody has labelled the endpoint."""
    ESSENTIAL = "essential"
    INVALID = "invalid"
    QUARANTINE = "quarantine"
    OVERRIDE_DENY = "overrideDeny"
    ALLOW = "allow"
    KEPT = "kept"
    DENY = "deny"
    MODE = "mode"
    """No rule applied: the mode's default."""


class Judgement(msgspec.Struct, frozen=True):
    """What one end said, and why."""

    direction: Direction
    workload: WorkloadId | None
    allowed: bool
    layer: Layer
    rule: RuleId | None = None
    where: Where | None = None


class Verdict(msgspec.Struct, frozen=True):
    """A packet passes when every end that judges it says yes. ``ends`` holds each judgement, egress first."""

    allowed: bool
    ends: tuple[Judgement, ...] = ()
    source: WorkloadId | None = None
    destination: WorkloadId | None = None
