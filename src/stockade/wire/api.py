"""The HTTP API as values: every request and every reply. ``routes`` has the table of them.

Each message carries ``schema``; a server refuses another number than its own. Times are seconds since the epoch
(UTC). JSON throughout, but for ``/metrics`` and the ``watch`` stream (one JSON object a line).
"""

import enum
from typing import Literal

import msgspec

from stockade.core.completeness.values import Completeness
from stockade.core.model.census import Interface, Listening, Neighbour, NotAssessed, Process
from stockade.core.model.census import Route as Way
from stockade.core.model.event import Event
from stockade.core.model.finding import Severity
from stockade.core.model.ids import Address, CheckId, FindingId, HostId, Revision, RuleId, Version, WorkloadId
from stockade.core.model.inventory import Endpoint, WorkloadKind, WorkloadState
from stockade.core.model.labels import Label, LabelSource
from stockade.core.model.policy import Births, Mode, Where
from stockade.core.model.problem import Problem
from stockade.core.model.snapshot import Contest
from stockade.core.plan.values import Explanation, Plan, Reach
from stockade.wire import AgentMessage, Assignment
from stockade.wire.anomalies import Evidence
from stockade.wire.replay import ReplayView

SCHEMA = 1


class Role(enum.IntEnum):
    """What a caller may do. Each role may do what the ones before it may."""

    NOBODY = 0
    READ = 1
    APPLY = 2


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """What every request and reply carries."""

    schema: Literal[1] = 1


class ErrorReply(Message, frozen=True, kw_only=True):
    """What happened, what was kept, what to do next; ``problems`` where documents were refused."""

    error: str
    kept: str = ""
    remedy: str = ""
    problems: tuple[Problem, ...] = ()


# --- what is there ---


class HostView(msgspec.Struct, frozen=True):
    """One host. ``realised`` is the version in force there; ``wanted`` the one it should have; None: none yet.

    ``confirmed``: the host has said so since this controller started; until then it is what was last known.
    ``current``: what it enforces is what the newest snapshot asks for.
    """

    id: HostId
    wanted: Version | None = None
    realised: Version | None = None
    revision: Revision | None = None
    confirmed: bool = False
    current: bool = False
    realised_at: float | None = None
    error: str = ""
    births: Births | None = None
    workloads: int = 0
    unknown: int = 0
    tracked: int | None = None
    tracked_limit: int | None = None
    lost: tuple[tuple[str, int], ...] = ()


class Setting(msgspec.Struct, frozen=True):
    """A setting in force and where it came from (flag, variable, file, default)."""

    name: str
    value: str
    origin: str


class Pending(msgspec.Struct, frozen=True):
    """A version that waits to be confirmed, and when the earlier one returns if nobody does."""

    version: Version
    returns_to: Version
    deadline: float


class Caller(msgspec.Struct, frozen=True):
    """Who asks, as the kernel names the peer of the socket."""

    name: str
    uid: int
    role: Role


class StatusReply(Message, frozen=True, kw_only=True):
    """The whole installation at a glance."""

    product: str
    version: Version
    revision: Revision
    note: str = ""
    author: str = ""
    applied_at: float | None = None
    started: float
    pid: int
    you: Caller
    hosts: tuple[HostView, ...] = ()
    workloads: int = 0
    unknown: int = 0
    modes: tuple[tuple[Mode, int], ...] = ()
    quarantines: tuple[str, ...] = ()
    contests: tuple[Contest, ...] = ()
    """Addresses that documents claim and that are somebody else's."""
    pending: Pending | None = None
    settings: tuple[Setting, ...] = ()
    stalled: str = ""
    """Why the newest snapshot could not be compiled; every host keeps what it enforces. Empty: it could."""
    unstored: str = ""
    """Why the last change could not be stored, and so did not happen. Empty: it could."""
    findings: tuple[tuple[Severity, int], ...] = ()
    """How many findings there are of each severity that nobody accepts,"""
    accepted: int = 0
    """and how many that somebody does."""
    unassessed: int = 0
    """How many checks could not judge."""


class WorkloadView(msgspec.Struct, frozen=True):
    """One workload as a user sees it. ``mode`` is None where nothing of ours judges it."""

    id: WorkloadId
    name: str
    kind: WorkloadKind
    state: WorkloadState
    host: HostId | None = None
    addresses: tuple[Address, ...] = ()
    labels: tuple[Label, ...] = ()
    conflicts: tuple[Label, ...] = ()
    mode: Mode | None = None
    held: bool = False
    quarantined: bool = False
    owner: WorkloadId | None = None
    image: str = ""
    runtime: str = ""
    created: float | None = None
    written: Where | None = None
    """Where its document stands; None where no document declares it."""


class WorkloadsReply(Message, frozen=True, kw_only=True):
    """All workloads, by name and id."""

    revision: Revision
    workloads: tuple[WorkloadView, ...]


class WorkloadDetail(Message, frozen=True, kw_only=True):
    """One workload, with what its host's kernel shows of it.

    ``looked_at``: when that was, in seconds since the epoch; None: not assessed yet. ``heard``: how many seconds each
    source took to tell of it. ``interfaces``, ``routes`` and ``neighbours`` are a host's, ``refused`` is what could not
    be looked at there.
    """

    revision: Revision
    workload: WorkloadView
    sources: tuple[str, ...] = ()
    endpoints: tuple[Endpoint, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
    looked_at: float | None = None
    process: Process | None = None
    listening: tuple[Listening, ...] = ()
    heard: tuple[tuple[str, float | None], ...] = ()
    interfaces: tuple[Interface, ...] = ()
    routes: tuple[Way, ...] = ()
    neighbours: tuple[Neighbour, ...] = ()
    refused: tuple[NotAssessed, ...] = ()


class CompletenessReply(Message, frozen=True, kw_only=True):
    """What the kernels show and nobody tells of; ``lost``: (host, source, events that were lost)."""

    revision: Revision
    found: Completeness
    lost: tuple[tuple[HostId, str, int], ...] = ()


class Seen(msgspec.Struct, frozen=True, tag="seen"):
    """A line of the watch: a workload is there, or something about it changed."""

    revision: Revision
    workload: WorkloadView


class Gone(msgspec.Struct, frozen=True, tag="gone"):
    """A line of the watch: a workload is no more."""

    revision: Revision
    id: WorkloadId
    name: str


class InSync(msgspec.Struct, frozen=True, tag="in-sync"):
    """A line of the watch: everything that was there has been listed; changes follow."""

    revision: Revision


WatchLine = Seen | Gone | InSync


class LabelUse(msgspec.Struct, frozen=True, order=True):
    """A label in use: by how many workloads, on whose word."""

    key: str
    value: str
    source: LabelSource
    workloads: int


class LabelsReply(Message, frozen=True, kw_only=True):
    """Every label in use."""

    labels: tuple[LabelUse, ...]


class LabelsRequest(Message, frozen=True, kw_only=True):
    """All labels that operators set on a workload; what is not in it is taken back."""

    labels: dict[str, str]


class WorkloadReply(Message, frozen=True, kw_only=True):
    """One workload."""

    revision: Revision
    workload: WorkloadView


# --- policy ---


class File(msgspec.Struct, frozen=True, order=True):
    """One policy file: the name that errors show, and its text."""

    name: str
    text: str


class PlanRequest(Message, frozen=True, kw_only=True):
    """A whole draft: every file of it. ``pairs`` bounds how many pairs of workloads each connection lists.

    ``replay``: judge also what was recorded in so many seconds until now.
    """

    files: tuple[File, ...]
    pairs: int = 20
    replay: float | None = None


class PlanReply(Message, frozen=True, kw_only=True):
    """What the draft would change, and where that was asked for, what it would have made of what was recorded."""

    plan: Plan
    replay: ReplayView | None = None


class ApplyRequest(Message, frozen=True, kw_only=True):
    """A draft to make active. Either ``expect`` is the plan's id that was seen, or ``yes`` says: whatever it is.

    ``confirm``: seconds within which ``/v1/confirm`` must follow, or the earlier version returns. ``wait``: seconds to
    wait until every host has it in force before replying.
    """

    files: tuple[File, ...]
    note: str = ""
    expect: str = ""
    yes: bool = False
    confirm: float | None = None
    accept_narrower: bool = False
    wait: float = 5.0


class ConfirmRequest(Message, frozen=True, kw_only=True):
    """Keep the version that waits; ``version`` guards against confirming another one than was meant."""

    version: Version | None = None


class VersionView(msgspec.Struct, frozen=True):
    """One policy version. ``restores`` is the version whose content it brought back, if it did."""

    number: Version
    author: str
    note: str
    at: float
    hash: str
    policies: int
    rules: int
    active: bool = False
    restores: Version | None = None


class VersionReply(Message, frozen=True, kw_only=True):
    """A version was made active, or kept. ``realised``: in force on every host; else ``waiting`` names those without.

    ``unchanged``: the draft says what is active already, no version was made.
    """

    version: VersionView
    plan: Plan | None = None
    pending: Pending | None = None
    realised: bool = False
    waiting: tuple[HostId, ...] = ()
    unchanged: bool = False


class HistoryReply(Message, frozen=True, kw_only=True):
    """Every version, newest first."""

    versions: tuple[VersionView, ...]


class PolicyReply(Message, frozen=True, kw_only=True):
    """One version: the files as they were written, and the canonical form of every document in force with it."""

    version: VersionView
    files: tuple[File, ...]
    canonical: str


class RollbackRequest(Message, frozen=True, kw_only=True):
    """Make the content of ``version`` active again, as a new version."""

    version: Version
    note: str = ""
    confirm: float | None = None
    wait: float = 5.0


class ModeRequest(Message, frozen=True, kw_only=True):
    """Put what ``select`` selects into ``mode``. Without a ``priority`` it goes above every mode there is."""

    select: str
    mode: Mode
    births: Births | None = None
    priority: int | None = None
    note: str = ""
    confirm: float | None = None
    accept_narrower: bool = False
    wait: float = 5.0


class OffRequest(Message, frozen=True, kw_only=True):
    """Open everything: every mode ``visibility``, no quarantine, births pass."""

    note: str = ""
    wait: float = 5.0


# --- answers ---


class ExplainReply(Message, frozen=True, kw_only=True):
    """A verdict, explained. ``realised``: the version in force at each host that judges it."""

    explanation: Explanation
    realised: tuple[tuple[HostId, Version | None], ...] = ()


class ReachReply(Message, frozen=True, kw_only=True):
    """Who reaches it, and what it reaches."""

    reach: Reach


class RuleText(msgspec.Struct, frozen=True):
    """One compiled rule beside the policy line it comes from; ``rule`` None: part of the skeleton."""

    table: str
    chain: str
    text: str
    rule: RuleId | None = None
    where: Where | None = None
    packets: int | None = None


class RulesReply(Message, frozen=True, kw_only=True):
    """What one host should hold: the whole text, and its rules one by one."""

    host: HostId
    version: Version
    revision: Revision
    text: str
    rules: tuple[RuleText, ...]


class BirthView(msgspec.Struct, frozen=True):
    """One birth: moments in seconds since the epoch, None where it has not happened.

    ``leak``: seconds in which it could send what policy denies; ``dead``: seconds in which it could not send what
    policy allows; None: not known (yet).
    """

    workload: WorkloadId
    name: str
    host: HostId
    created: float | None = None
    noticed: float | None = None
    isolated: float | None = None
    allowed: float | None = None
    realised: float | None = None
    leak: float | None = None
    dead: float | None = None
    labels: tuple[Label, ...] = ()
    held: bool = False
    runtime: str = ""


class RuntimeBirths(msgspec.Struct, frozen=True):
    """What became of the births of one runtime, among the newest thousand (or ``last``, where that is more).

    ``leaked``: not isolated from the start; ``waiting``: not allowed anything yet. Percentiles in seconds from the
    creation, None where there was none.
    """

    runtime: str
    births: int
    leaked: int = 0
    waiting: int = 0
    noticed_p50: float | None = None
    noticed_p99: float | None = None
    dead_p50: float | None = None
    dead_p99: float | None = None


class BirthsReply(Message, frozen=True, kw_only=True):
    """Births, newest first, or slowest first; ``runtimes`` sums all of them up."""

    births: tuple[BirthView, ...]
    runtimes: tuple[RuntimeBirths, ...] = ()


class AuditEntry(msgspec.Struct, frozen=True):
    """Who did what, when, and what came of it. Entries are only ever added."""

    number: int
    at: float
    who: str
    uid: int | None
    action: str
    target: str
    outcome: str
    detail: str = ""


class AuditReply(Message, frozen=True, kw_only=True):
    """Audit entries, newest first."""

    entries: tuple[AuditEntry, ...]


class HostFinding(msgspec.Struct, frozen=True):
    """A finding and the host that it is of. ``since``: seconds since the epoch."""

    host: HostId
    check: CheckId
    object: str
    severity: Severity
    seen: str
    remedy: str
    since: float
    evidence: Evidence | None = None
    """What shows it, where it is of traffic; ``host`` is then ``*``."""
    id: FindingId = FindingId("")
    """What it is accepted by."""


class HostUnassessed(msgspec.Struct, frozen=True):
    """A check that could not judge a host, and why; ``check`` empty: none of them could, or has yet."""

    host: HostId
    check: CheckId
    why: str
    remedy: str = ""


class AcceptedFinding(msgspec.Struct, frozen=True):
    """A finding that somebody accepts: who, since when, why, until when (None: for good).

    ``finding``: how it is found now; None: it is not found just now, and is accepted should it come again.
    """

    id: FindingId
    host: HostId
    check: CheckId
    object: str
    severity: Severity
    by: str
    at: float
    why: str
    until: float | None = None
    finding: HostFinding | None = None


class FindingsReply(Message, frozen=True, kw_only=True):
    """Everything that is wrong now and not accepted, worst first; what could not be assessed; what is accepted."""

    findings: tuple[HostFinding, ...] = ()
    unassessed: tuple[HostUnassessed, ...] = ()
    accepted: tuple[AcceptedFinding, ...] = ()


class AcceptRequest(Message, frozen=True, kw_only=True):
    """Accept an open finding. ``why`` is for whoever reads it; ``until``: seconds since the epoch, None: for good."""

    id: FindingId
    why: str
    until: float | None = None


class ReopenRequest(Message, frozen=True, kw_only=True):
    """Accept a finding no more."""

    id: FindingId
    why: str = ""


class AcceptedReply(Message, frozen=True, kw_only=True):
    """An acceptance as it was made, or as it was when it ended."""

    accepted: AcceptedFinding


class Judged(str, enum.Enum):
    """How a check came out."""

    GOOD = "good"
    WARNING = "warning"
    PROBLEM = "problem"
    NOT_ASSESSED = "not-assessed"


class Check(msgspec.Struct, frozen=True):
    """One check of ``doctor``: what was looked at, what was found, what to do."""

    name: str
    judged: Judged
    found: str
    remedy: str = ""


class DoctorReply(Message, frozen=True, kw_only=True):
    """What works here, what will not, and why."""

    checks: tuple[Check, ...]


class ConsoleLinkRequest(Message, frozen=True, kw_only=True):
    """Ask for a one-time link into the web console; ``read_only``: one who may look and not apply."""

    read_only: bool = False


class ConsoleLinkReply(Message, frozen=True, kw_only=True):
    """A link that may be used once, within so many ``seconds``, and who its user will be there."""

    link: str
    user: Caller
    seconds: float


# --- between controller and agent ---


class StoredEvent(msgspec.Struct, frozen=True):
    """An event as it is stored."""

    revision: Revision
    at: float
    event: Event


class EventsReply(Message, frozen=True, kw_only=True):
    """Events after a revision, oldest first; ask again from the last one until there are none."""

    revision: Revision
    events: tuple[StoredEvent, ...]


class ReportRequest(Message, frozen=True, kw_only=True):
    """What an agent says: a ``Report``, an ``Outcome``, ``Counters`` or ``Findings``."""

    message: AgentMessage


class ReportReply(Message, frozen=True, kw_only=True):
    """Taken. ``generation`` is the last one stored of that host: the agent resends what is newer."""

    revision: Revision
    generation: int


class AssignmentReply(Message, frozen=True, kw_only=True):
    """The newest assignment of a host; None where it is not newer than ``since`` after the wait."""

    assignment: Assignment | None = None
