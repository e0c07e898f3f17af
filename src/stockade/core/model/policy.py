"""Policy documents as values (``docs/policy.md``). Every kind carries where it was written."""

import enum
from datetime import datetime

import msgspec

from stockade.core.model.ids import Address, Prefix, RuleId
from stockade.core.model.inventory import WorkloadKind
from stockade.core.model.labels import LabelSource
from stockade.core.model.net import Ports, Protocol
from stockade.core.model.selector import ALL, Selector


class Where(msgspec.Struct, frozen=True, gc=False, order=True):
    """A place in a file: 1-based line and column. ``file`` is ``built-in`` for what Stockade brings."""

    file: str = "built-in"
    line: int = 0
    column: int = 0


class Selected(msgspec.Struct, frozen=True, gc=False, tag="selected"):
    """An end of a rule that selects workloads; ``anywhere`` is ``any(…)``: it may lie outside the scope."""

    selector: Selector
    anywhere: bool = False


class Networks(msgspec.Struct, frozen=True, gc=False, tag="networks"):
    """An end of a rule outside the inventory: ``networks(a, b)``, the names of network sets."""

    names: tuple[str, ...]


End = Selected | Networks

ServiceRef = Ports | str
"""Ports written out, or the name of a ``Service``."""


class Action(str, enum.Enum):
    """What a rule does, in the order in which they are tried."""

    OVERRIDE_DENY = "overrideDeny"
    ALLOW = "allow"
    DENY = "deny"


class Rule(msgspec.Struct, frozen=True, gc=False):
    """One line of a policy. An empty ``on`` means any protocol and port.

    ``keep`` is ``established: keep``: an allow's connections outlive its removal, a deny spares those that exist.
    """

    id: RuleId
    action: Action
    source: End
    destination: End
    on: tuple[ServiceRef, ...] = ()
    keep: bool = False
    where: Where = Where()


class Expectation(str, enum.Enum):
    """What a policy test expects."""

    ALLOW = "allow"
    DENY = "deny"


class TestEnd(msgspec.Struct, frozen=True):
    """One end of a policy test: a workload with exactly these labels, or an address outside the inventory."""

    __test__ = False
    labels: tuple[tuple[str, str], ...] = ()
    address: Address | None = None


class PolicyTest(msgspec.Struct, frozen=True):
    """``{from, to, on, expect}``: run on plan and apply. ``on`` is a single service point."""

    source: TestEnd
    destination: TestEnd
    on: ServiceRef
    expect: Expectation
    where: Where = Where()


class Policy(msgspec.Struct, frozen=True):
    """A named set of rules within a scope. A scope of ``all`` is no scope: every workload lies inside."""

    name: str
    rules: tuple[Rule, ...] = ()
    scope: Selector = ALL
    tests: tuple[PolicyTest, ...] = ()
    where: Where = Where()


class Service(msgspec.Struct, frozen=True):
    """A named set of ports; ``process`` and ``unit`` bind it to a program (parsed, not enforced yet)."""

    name: str
    ports: tuple[Ports, ...]
    process: str | None = None
    unit: str | None = None
    where: Where = Where()


class NetworkSet(msgspec.Struct, frozen=True):
    """Named CIDRs less exceptions, and FQDNs (parsed, not enforced yet). ``resolvers`` differs by host."""

    name: str
    cidrs: tuple[Prefix, ...] = ()
    excepted: tuple[Prefix, ...] = ()
    fqdns: tuple[str, ...] = ()
    where: Where = Where()


class LabelRule(msgspec.Struct, frozen=True):
    """Facts → labels. ``conditions`` must all hold; each is (fact key, wanted value; ``*`` and ``?`` are wildcards).

    Fact keys: ``runtime``, ``kind``, ``image``, ``namespace``, ``host``, ``name``, ``cidr``, ``label:KEY``,
    ``tag:KEY``. ``set`` holds (label key, template); a template's ``{fact}`` that is absent sets nothing.
    ``{label:stockade.*}`` as a key sets one label for each match of the star.
    """

    name: str
    set: tuple[tuple[str, str], ...]
    conditions: tuple[tuple[str, str], ...] = ()
    source: LabelSource = LabelSource.RULE
    where: Where = Where()


class Mode(str, enum.Enum):
    """Enforcement modes, least strict first."""

    IDLE = "idle"
    VISIBILITY = "visibility"
    SELECTIVE = "selective"
    FULL = "full"


class Births(str, enum.Enum):
    """What a host does to an endpoint that nobody has labelled yet."""

    HOLD = "hold"
    PASS = "pass"


class EnforcementMode(msgspec.Struct, frozen=True):
    """Selector → mode. Higher priority wins, then the stricter mode; ``default`` comes last whatever its priority."""

    name: str
    select: Selector
    mode: Mode
    priority: int = 0
    births: Births | None = None
    where: Where = Where()


class Only(msgspec.Struct, frozen=True, tag="only"):
    """ "Only X reaches Y on P"."""

    source: Selector
    destination: Selector
    on: tuple[ServiceRef, ...] = ()


class Never(msgspec.Struct, frozen=True, tag="never"):
    """ "No path from X to Y" (on P)."""

    source: Selector
    destination: Selector
    on: tuple[ServiceRef, ...] = ()


class Invariant(msgspec.Struct, frozen=True):
    """What must hold whatever the rules say; checked at plan, at apply and against drift."""

    name: str
    holds: Only | Never
    where: Where = Where()


class QuarantineException(msgspec.Struct, frozen=True):
    """What a quarantine spares: connections from ``source`` (or, where None, to ``destination``) on ``on``."""

    source: End | None = None
    destination: End | None = None
    on: tuple[ServiceRef, ...] = ()


class Quarantine(msgspec.Struct, frozen=True):
    """Selector → cut off, save what is named; lapses at ``until`` (UTC)."""

    name: str
    select: Selector
    excepted: tuple[QuarantineException, ...] = ()
    reason: str = ""
    until: datetime | None = None
    where: Where = Where()


class UnmanagedWorkload(msgspec.Struct, frozen=True):
    """A workload without an agent: what it is called, its addresses in the realm that hosts share, its labels.

    ``addresses`` and ``labels`` are sorted; ``host`` is a fact that label rules may read, no host of ours.
    """

    name: str
    addresses: tuple[Address, ...]
    labels: tuple[tuple[str, str], ...] = ()
    host: str = ""
    kind: WorkloadKind = WorkloadKind.UNMANAGED
    description: str = ""
    where: Where = Where()


class PolicySet(msgspec.Struct, frozen=True):
    """All documents of one version, each tuple sorted by name.

    The set in a snapshot is complete: built-in documents are in it where nothing of the same name replaced them.
    """

    policies: tuple[Policy, ...] = ()
    services: tuple[Service, ...] = ()
    network_sets: tuple[NetworkSet, ...] = ()
    label_rules: tuple[LabelRule, ...] = ()
    modes: tuple[EnforcementMode, ...] = ()
    invariants: tuple[Invariant, ...] = ()
    quarantines: tuple[Quarantine, ...] = ()
    workloads: tuple[UnmanagedWorkload, ...] = ()


PER_HOST_SET = "resolvers"
"""The network set whose content is each host's own name servers (``Host.resolvers``) unless a document replaces it."""

METADATA_SET = "metadata"
"""The network set whose addresses only its own name matches."""

DEFAULT_MODE = "default"

ICMP_FAMILY = (Protocol.ICMP, Protocol.ICMPV6)
