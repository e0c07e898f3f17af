"""Flows: connections as an enforcement point saw them, aggregated on it, and as they are stored.

One connection is judged at each of its ends that a point enforces, and told of once for each of them: a flow says at
which ``end``. What it carried is told when it ends, by conntrack, which knows of no rule: ``Verdict.CARRIED``.
"""

import enum

import msgspec

from stockade.core.model.ids import Address, HostId, RuleId, WorkloadId
from stockade.core.model.packet import Direction

EXPORTER = "netflow:"
"""What the name of a host begins with that is no host: a device without an agent, which tells what it saw pass by."""
BY_EXPORTER = RuleId("exporter")
"""The rule of what a device says that it denied."""
TOGETHER = ", "
"""What stands between two programs of one flow, and is never within a program's name."""


class Verdict(str, enum.Enum):
    """What became of connections."""

    ALLOWED = "allowed"
    DENIED = "denied"
    WOULD_DENY = "would be denied"
    """Nothing is enforced at that end; with ``mode: full`` it would not have passed."""
    CARRIED = "carried"
    """No verdict: what ended connections carried. Counts ``ended``, bytes, packets and duration, no connections."""


class Via(str, enum.Enum):
    """How a connection came to its destination."""

    DIRECT = "direct"
    TRANSLATED = "translated"
    """Its destination was translated: ``service`` is what it was opened to."""
    PROXY = "proxy"
    """A local proxy carries it: it is one connection from the real source to the workload behind ``service``."""


class FlowKey(msgspec.Struct, frozen=True, order=True, gc=False):
    """What flows are aggregated by on a point.

    ``source`` and ``destination`` are the connection's real ends; ``protocol`` is IANA's number; ``port`` is the
    destination's (ICMP: ``type * 256 + code``; 0 where a protocol has none). ``end`` is which end judged. ``rule`` is
    ``policy/rule``, or what Stockade itself decides by: ``default``, ``held``, ``forged``, ``midstream``, ``invalid``;
    ``exporter`` where another device decided; empty where carried.
    ``source_workload`` and ``destination_workload`` are the point's own ends, None where an end is elsewhere.
    ``process`` is the program at the judging end, its unit or container with it, or those that were met there with
    ``TOGETHER`` between them, sorted; empty where none is known. ``name`` is the name by which a resolver led the
    source to the destination; empty where none is known, and where the destination is one of the point's own.
    """

    source: Address
    destination: Address
    protocol: int
    port: int
    end: Direction
    verdict: Verdict
    rule: RuleId = RuleId("")
    source_workload: WorkloadId | None = None
    destination_workload: WorkloadId | None = None
    via: Via = Via.DIRECT
    service: str = ""
    """``address:port`` that the connection was opened to, where that is not its destination."""
    process: str = ""
    name: str = ""


class Tally(msgspec.Struct, frozen=True, gc=False):
    """What was seen of one key. Bytes and packets of the IP layer; seconds since the epoch.

    ``connections`` were judged in this time: a repeated SYN is the same one. ``packets`` were judged by NFLOG's word
    where there is a verdict, or carried either way. ``seconds`` is the sum of how long ended ones lived.
    """

    first: float
    last: float
    connections: int = 0
    packets: int = 0
    bytes_out: int = 0
    """From the source."""
    bytes_in: int = 0
    """To the source."""
    ended: int = 0
    seconds: float = 0.0

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(
            min(self.first, other.first),
            max(self.last, other.last),
            self.connections + other.connections,
            self.packets + other.packets,
            self.bytes_out + other.bytes_out,
            self.bytes_in + other.bytes_in,
            self.ended + other.ended,
            self.seconds + other.seconds,
        )


class Flow(msgspec.Struct, frozen=True, gc=False):
    """One key's tally in one batch."""

    key: FlowKey
    tally: Tally


class FlowLoss(msgspec.Struct, frozen=True, order=True, gc=False):
    """Something that was not recorded: where (``nflog``, ``conntrack``, ``table``, ``disk``) and how many of what."""

    where: str
    what: str
    count: int


class FlowEnd(msgspec.Struct, frozen=True, gc=False):
    """One end of a stored flow, as it was known when the flow was stored.

    ``workload`` is None where nobody known has the address; ``labels`` are in force then, sorted by key, each
    ``(key, value)``, the workload's ``name`` among them; ``network`` is the narrowest network set that an unknown
    address lies in, empty where there is none; ``told`` is the name by which a resolver led the other end to an unknown
    address: nobody vouches for it, and it is no label.
    """

    address: Address
    workload: WorkloadId | None = None
    labels: tuple[tuple[str, str], ...] = ()
    network: str = ""
    told: str = ""


class StoredFlow(msgspec.Struct, frozen=True, gc=False):
    """A flow as it is kept: with both ends' labels as they were at the time."""

    host: HostId
    source: FlowEnd
    destination: FlowEnd
    key: FlowKey
    tally: Tally
