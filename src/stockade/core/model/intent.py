"""What one enforcement point shall do, in no vendor's words. Compiled from a snapshot; a target renders it."""

import enum

import msgspec

from stockade.core.model.ids import Address, HostId, Prefix, ProgramId, Revision, RuleId, Version, WorkloadId
from stockade.core.model.inventory import Attachment, Bridge, Failsafe
from stockade.core.model.net import Ports, Protocol
from stockade.core.model.policy import Births, Mode, Where


class Tier(enum.IntEnum):
    """The order in which the lines of a program are tried (``docs/policy.md``, 2)."""

    CUT = 0
    """Quarantine that nothing spares."""
    SPARED = 1
    """A quarantine's exception."""
    CUT_REST = 2
    """The quarantine itself."""
    OVERRIDE_DENY = 3
    ALLOW = 4
    DENY = 5


class Peers(msgspec.Struct, frozen=True, gc=False, order=True):
    """The workloads of a line, by the name of an address set; ``networks`` where it is a network set instead.

    An empty ``name`` means anybody, known or not.
    """

    name: str = ""
    networks: bool = False


ANYBODY = Peers()


class Line(msgspec.Struct, frozen=True, gc=False, order=True):
    """One line of a program: peers on ports. Empty ``ports`` means everything. Sorted by tier, then rule."""

    tier: Tier
    rule: RuleId
    peers: Peers
    ports: tuple[Ports, ...] = ()
    keep: bool = False
    """An allow whose connections outlive it; a deny that spares established ones."""


class Program(msgspec.Struct, frozen=True):
    """What an identity may send (``egress``) and receive (``ingress``). Equal content, equal id."""

    id: ProgramId
    mode: Mode
    quarantined: bool = False
    egress: tuple[Line, ...] = ()
    ingress: tuple[Line, ...] = ()


class LocalEnd(msgspec.Struct, frozen=True, gc=False):
    """An endpoint on this host. ``addresses`` include its EUI-64 link-local one. No program: it is unknown.

    ``asks``: it asks its link for its address, by DHCP, as a virtual machine on a bridge does.
    """

    workload: WorkloadId | None
    name: str
    attachment: Attachment
    addresses: tuple[Address, ...]
    port: str = ""
    bridge: str = ""
    mac: str = ""
    program: ProgramId | None = None
    asks: bool = False


class PublishedPort(msgspec.Struct, frozen=True):
    """A port of this host behind which a local proxy forwards to ``to_address``:``to_port``.

    ``program`` judges at the real endpoint; ``senders`` are the addresses of local endpoints whose own end lets them
    reach it. Where it is not ``proxied``, destination translation alone leads there.
    """

    protocol: Protocol
    port: int
    addresses: tuple[Address, ...]
    to_address: Address
    to_port: int
    program: ProgramId | None
    senders: tuple[Address, ...] = ()
    proxied: bool = True
    held: bool = False
    """Nobody has labelled the endpoint behind it, and this host holds births."""


class AddressSet(msgspec.Struct, frozen=True, gc=False):
    """Exact addresses under a name: the workloads a selector means, as this host meets them."""

    name: str
    addresses: tuple[Address, ...]


class PrefixSet(msgspec.Struct, frozen=True):
    """Disjoint prefixes under a name: a network set less its exceptions, as this host sees it."""

    name: str
    prefixes: tuple[Prefix, ...]


class Intent(msgspec.Struct, frozen=True):
    """Everything one host needs in order to enforce one revision, and nothing else. All tuples are sorted.

    ``births_where`` is where policy says what becomes of births. ``inventory`` are workload addresses that lie inside
    some used network set, which therefore never match one; ``inside`` are the subnets of local bridges, whose
    addresses are workloads' or nobody's. ``rules`` tells where each rule id was written.
    """

    host: HostId
    revision: Revision
    version: Version
    births: Births
    births_where: Where = Where()
    ends: tuple[LocalEnd, ...] = ()
    programs: tuple[Program, ...] = ()
    peers: tuple[AddressSet, ...] = ()
    networks: tuple[PrefixSet, ...] = ()
    inventory: tuple[Address, ...] = ()
    inside: tuple[Prefix, ...] = ()
    interfaces: tuple[str, ...] = ()
    bridges: tuple[Bridge, ...] = ()
    published: tuple[PublishedPort, ...] = ()
    failsafe: tuple[Failsafe, ...] = ()
    rules: tuple[tuple[RuleId, Where], ...] = ()
    fingerprint: str = ""
    """Changes when, and only when, anything above but revision and version does."""
