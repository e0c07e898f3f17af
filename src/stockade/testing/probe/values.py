"""What can be probed, and what came of it. For those who ask; the servers in the namespaces never load this."""

import enum

import msgspec

from stockade.core.model.net import Protocol

ECHO4, ECHO6 = 8 * 256, 128 * 256


class Outcome(str, enum.Enum):
    """What became of one probe, as the asking end saw it."""

    REACHED = "reached"
    """There and back: the question was answered."""
    REFUSED = "refused"
    """The other end said that nobody listens: a reset, ICMP port unreachable, or an ABORT."""
    RESET = "reset"
    """The connection was there and was reset or closed."""
    TIMED_OUT = "timed out"
    """Silence."""
    ICMP_ERROR = "icmp error"
    """Any other ICMP error; the detail says which (``icmp 3/13``: type 3, code 13)."""
    NOT_SENT = "not sent"
    """The sender's own kernel refused to send it; the detail says why (``EPERM``: its packet filter)."""


class Probe(msgspec.Struct, frozen=True):
    """One connection to try: from a node to a node, both by name (the lab's host has a name too).

    ``port`` is the destination port, or for ICMP ``type * 256 + code`` (0 is an echo request). ``family`` picks among
    the destination's addresses, unless ``address`` says which address is tried; ``destination`` is then where it
    should turn up. ``source_address`` and ``source_port`` are chosen where they are not given. ``size`` makes an ICMP
    query at least that long.
    """

    source: str
    destination: str
    protocol: Protocol
    port: int = 0
    family: int = 4
    address: str = ""
    source_address: str = ""
    source_port: int = 0
    ttl: int = 0
    size: int = 0


class Observed(msgspec.Struct, frozen=True, array_like=True):
    """A frame as it arrived. ``vlan`` -1 is untagged; ``source_port`` is the identifier of an ICMP query.

    In the host only what came through its packet filter is observed, without Ethernet's part.
    """

    ethertype: int = 0
    vlan: int = -1
    source_mac: str = ""
    destination_mac: str = ""
    protocol: int = 0
    source: str = ""
    destination: str = ""
    source_port: int = 0
    port: int = 0
    flags: int = 0
    ttl: int = 0
    fragment: int = 0
    nonce: str = ""
    length: int = 0


class Result(msgspec.Struct, frozen=True):
    """What became of a probe.

    ``delivered`` is ground truth from the destination's own namespace: whether any packet of it arrived there, whether
    or not an answer found its way back. ``elapsed`` is milliseconds to the outcome, 0 for silence.
    """

    probe: Probe
    outcome: Outcome
    detail: str
    delivered: bool
    source_port: int
    elapsed: float

    @property
    def reached(self) -> bool:
        """Whether it got there and back."""
        return self.outcome is Outcome.REACHED

    @property
    def answered(self) -> bool:
        """Whether the other end said anything at all, be it a refusal: policy let both directions pass."""
        return self.outcome in (Outcome.REACHED, Outcome.REFUSED)


class Flow(msgspec.Struct, frozen=True):
    """A connection that is kept open, by what opened it."""

    key: str
    probe: Probe
    source_port: int
    opened: Outcome
    detail: str = ""


class Heard(msgspec.Struct, frozen=True):
    """What became of a question along a flow. ``delivered``: it arrived at the other end, answered or not."""

    flow: Flow
    outcome: Outcome
    detail: str
    delivered: bool

    @property
    def alive(self) -> bool:
        """Whether packets still pass, there and back."""
        return self.outcome is Outcome.REACHED
