"""What can be asked about policy, answered as values: a plan, an explanation, a reach. No behaviour beyond them.

Texts that name several workloads at once are *identities*: ``role=api``, ``networks(payments)``, ``unknown``. Ports
are written as a user types them (``tcp/8080``, ``tcp/9090-9100``, ``icmp``, ``any``). All tuples are sorted, so that
the same question about the same snapshot has the same bytes as its answer.
"""

import enum

import msgspec

from stockade.core.model.ids import HostId, RuleId, Version, WorkloadId
from stockade.core.model.labels import Label
from stockade.core.model.packet import Direction, Layer
from stockade.core.model.policy import Expectation, Mode, Where
from stockade.core.model.problem import Problem


class Change(str, enum.Enum):
    """What became of a document or a rule."""

    ADDED = "added"
    CHANGED = "changed"
    REMOVED = "removed"


class DocumentChange(msgspec.Struct, frozen=True, order=True):
    """One document that differs. ``where`` is its place in the draft, or in the active version if it was removed."""

    kind: str
    name: str
    change: Change
    where: Where = Where()


class RuleChange(msgspec.Struct, frozen=True, order=True):
    """One rule that differs, under the id a user types back."""

    rule: RuleId
    change: Change
    where: Where = Where()


class ConnectionChange(msgspec.Struct, frozen=True, order=True):
    """Connections between two identities that the draft gains or loses.

    ``sources`` and ``destinations`` count the workloads at each end, ``before`` and ``after`` the pairs of workloads
    that may talk. ``rule`` is what opens it (gained) or opened it (lost); None where a mode's default did.
    ``live`` counts live connections that would end; None: not assessed.
    """

    source: str
    destination: str
    on: str
    sources: int = 0
    destinations: int = 0
    before: int = 0
    after: int = 0
    rule: RuleId | None = None
    where: Where | None = None
    live: int | None = None
    pairs: tuple[tuple[str, str], ...] = ()
    """Some of the pairs by workload name, for the ``by workload`` view; at most as many as the plan was asked for."""


class HalfOpen(msgspec.Struct, frozen=True, order=True):
    """A connection that one end allows and the other does not. ``missing`` is the rule that would open it, as YAML."""

    source: str
    destination: str
    on: str
    denied: Direction
    missing: str
    rule: RuleId | None = None
    where: Where | None = None


class TestResult(msgspec.Struct, frozen=True, order=True):
    """A policy test, run on the draft. ``text`` is the test in one line."""

    __test__ = False
    policy: str
    where: Where
    text: str
    expected: Expectation
    passed: bool
    because: str = ""


class InvariantResult(msgspec.Struct, frozen=True, order=True):
    """An invariant, checked on the draft. ``counterexample`` is a connection that breaks it, in one line."""

    name: str
    where: Where
    holds: bool
    counterexample: str = ""


class PointChange(msgspec.Struct, frozen=True, order=True):
    """What would change at one enforcement point."""

    host: HostId
    programs: int = 0
    elements: int = 0


class WarningKind(str, enum.Enum):
    """What a plan warns of."""

    EMPTY = "empty"
    """A rule, mode or quarantine that selects no workload."""
    SHADOWED = "shadowed"
    """A rule that an earlier layer always decides before."""
    NO_RESOLVERS = "no-resolvers"
    """A workload goes ``full`` and may not ask its name servers."""
    HOST_NETWORK = "host-network"
    """A container on the host's network that carries policy labels: it is judged as the host."""
    UNENFORCEABLE = "unenforceable"
    """Parsed, and cannot be enforced yet or at this point: an allow with it opens nothing."""
    HOLD = "hold"
    """``births: hold`` becomes the default on a host."""
    LOCKOUT = "lockout"
    """The host itself goes ``full`` and nothing lets its administrators in."""
    ADDRESS_TAKEN = "address-taken"
    """An address that a ``Workload`` document claims is somebody's whom a source reports: it is not the document's."""
    NAME_TAKEN = "name-taken"
    """A ``Workload`` document and somebody whom a source reports have one name: selectors by name mean both."""
    NOT_JUDGED = "not-judged"
    """A mode that enforces selects workloads without an agent: it has no effect on them."""
    UNLABELLED = "unlabelled"
    """A ``Workload`` document's workload has no label: it is unknown, and no selector means it."""


class Caution(msgspec.Struct, frozen=True, order=True):
    """One warning: nothing that refuses the plan by itself. ``subject`` is a name that can be typed back."""

    kind: WarningKind
    subject: str
    text: str
    where: Where = Where()


class Plan(msgspec.Struct, frozen=True):
    """What a draft would change against the active version, at the inventory of one revision.

    ``id`` names this draft against this version (not the inventory); ``apply`` takes it back as what was approved.
    ``problems`` non-empty: the draft does not parse, nothing else is filled in.
    """

    against: Version
    id: str = ""
    documents: tuple[DocumentChange, ...] = ()
    rules: tuple[RuleChange, ...] = ()
    gained: tuple[ConnectionChange, ...] = ()
    lost: tuple[ConnectionChange, ...] = ()
    half_open: tuple[HalfOpen, ...] = ()
    tests: tuple[TestResult, ...] = ()
    invariants: tuple[InvariantResult, ...] = ()
    points: tuple[PointChange, ...] = ()
    points_total: int = 0
    warnings: tuple[Caution, ...] = ()
    problems: tuple[Problem, ...] = ()

    @property
    def empty(self) -> bool:
        """Whether the draft says what is active already."""
        return not (self.documents or self.rules or self.gained or self.lost or self.points or self.problems)

    @property
    def refused(self) -> tuple[str, ...]:
        """Why this draft must not be applied, in words; empty where it may be."""
        tests = (f"{t.where.file}:{t.where.line}: test failed: {t.text}: {t.because}" for t in failed(self))
        broken = (f"{i.where.file}:{i.where.line}: invariant {i.name} broken: {i.counterexample}" for i in breaks(self))
        problems = (f"{p.where.file}:{p.where.line}:{p.where.column}: {p.message}" for p in self.problems)
        return (*problems, *tests, *broken)

    @property
    def narrower(self) -> tuple[Caution, ...]:
        """What cannot be enforced as it is written; ``apply`` refuses it unless that is accepted."""
        return tuple(each for each in self.warnings if each.kind is WarningKind.UNENFORCEABLE)


def failed(plan: Plan) -> tuple[TestResult, ...]:
    """Return the tests that did not pass."""
    return tuple(test for test in plan.tests if not test.passed)


def breaks(plan: Plan) -> tuple[InvariantResult, ...]:
    """Return the invariants that the draft breaks."""
    return tuple(invariant for invariant in plan.invariants if not invariant.holds)


class NamedEnd(msgspec.Struct, frozen=True):
    """One end of an explained connection: a workload with what decided about it, or an address."""

    text: str
    """The name or address as it can be typed back."""
    workload: WorkloadId | None = None
    host: HostId | None = None
    address: str = ""
    labels: tuple[Label, ...] = ()
    mode: Mode | None = None
    name: str = ""
    """The workload's name, or its id where others share the name; empty where it is no workload."""
    origins: tuple[str, ...] = ()
    """Where each of ``labels`` comes from, in words, in their order."""


class EndVerdict(msgspec.Struct, frozen=True):
    """What one end said: at which host, leaving or entering, and why in one line."""

    direction: Direction
    workload: WorkloadId | None
    host: HostId | None
    allowed: bool
    layer: Layer
    because: str
    mode: Mode | None = None
    rule: RuleId | None = None
    where: Where | None = None


class NearestRule(msgspec.Struct, frozen=True):
    """The allow that came closest at the end which denied, and what it lacks (``source``, ``destination``, ``on``)."""

    rule: RuleId
    where: Where
    text: str
    lacks: tuple[str, ...]


class Flip(msgspec.Struct, frozen=True):
    """The smallest change found that would turn the verdict.

    ``text`` is a new rule, or, with ``where`` a rule's place, one field of that rule as it should read, or else what
    to do in words. ``also`` are the other pairs of workloads, or of a workload and the address asked about, that it
    would open on any port, by name: all of them up to a thousand. ``also_count`` is their exact number.
    """

    text: str
    where: Where | None = None
    also: tuple[tuple[str, str], ...] = ()
    rule: RuleId | None = None
    """The rule that it widens."""
    also_count: int = 0


class Explanation(msgspec.Struct, frozen=True):
    """A verdict, end by end. ``ends`` is empty where no enforcement point of ours judges the connection."""

    source: NamedEnd
    destination: NamedEnd
    on: str
    allowed: bool
    version: Version
    ends: tuple[EndVerdict, ...] = ()
    nearest: NearestRule | None = None
    flip: Flip | None = None
    foreign: tuple[str, ...] = ()
    """Chains of other tables that may still drop it; empty also where nobody looked."""


class Reachable(msgspec.Struct, frozen=True, order=True):
    """One permitted connection between the workload asked about and a peer. ``rule`` None: a mode's default."""

    peer: str
    on: str
    workloads: int = 0
    rule: RuleId | None = None
    where: Where | None = None


class Reach(msgspec.Struct, frozen=True):
    """Who may reach what was asked about, and what it may reach."""

    of: str
    workloads: tuple[str, ...]
    version: Version
    inbound: tuple[Reachable, ...] = ()
    outbound: tuple[Reachable, ...] = ()
    written: tuple[tuple[str, Where], ...] = ()
    """Of these workloads those that documents declare, by name, and where each stands."""
