"""What controller and agent say to each other, versioned (``PROTOCOL``)."""

import msgspec

from stockade.core.model.census import Census
from stockade.core.model.event import Event
from stockade.core.model.finding import Finding, Unassessed
from stockade.core.model.flow_table import FlowBatch
from stockade.core.model.ids import HostId, Revision, RuleId, Version, WorkloadId
from stockade.core.model.intent import Intent

PROTOCOL = 1


class BirthRecord(msgspec.Struct, frozen=True):
    """One time each, in seconds since the epoch, None where it has not happened (``docs/glossary.md``).

    ``runtime`` is what the workload was started by, as its facts say.
    """

    workload: WorkloadId
    name: str
    created: float | None = None
    noticed: float | None = None
    isolated: float | None = None
    allowed: float | None = None
    realised: float | None = None
    runtime: str = ""


class Report(msgspec.Struct, frozen=True, tag="report"):
    """Agent → controller. Idempotent by (host, generation): a repeated generation is acknowledged and ignored.

    ``whole``: it tells of everything on the host; what is known of the host and not in it is gone.
    """

    host: HostId
    generation: int
    events: tuple[Event, ...]
    whole: bool = False
    protocol: int = PROTOCOL


class Assignment(msgspec.Struct, frozen=True, tag="assignment"):
    """Controller → agent: the intent to enforce from now on."""

    intent: Intent
    protocol: int = PROTOCOL


class Outcome(msgspec.Struct, frozen=True, tag="outcome"):
    """Agent → controller: what became of an assignment. ``error`` is empty where it is realised."""

    host: HostId
    revision: Revision
    version: Version
    fingerprint: str
    error: str = ""
    births: tuple[BirthRecord, ...] = ()
    protocol: int = PROTOCOL


class RuleCount(msgspec.Struct, frozen=True):
    """What one rule decided since its counter began: packets and bytes, as the kernel counted them."""

    rule: RuleId
    verdict: str
    packets: int
    bytes: int = 0


class Counters(msgspec.Struct, frozen=True, tag="counters"):
    """Agent → controller: what the host's kernel counted. ``lost`` names each source of events and its losses."""

    host: HostId
    rules: tuple[RuleCount, ...] = ()
    lost: tuple[tuple[str, int], ...] = ()
    tracked: int = 0
    tracked_limit: int = 0
    protocol: int = PROTOCOL


class Surveyed(msgspec.Struct, frozen=True, tag="surveyed"):
    """Agent → controller: what the host's kernel shows of who is there, judged by nobody yet."""

    host: HostId
    census: Census
    protocol: int = PROTOCOL


class Findings(msgspec.Struct, frozen=True, tag="findings"):
    """Agent → controller: everything that is wrong on a host now; what is not in it is cleared.

    ``passed``: what was raised and cleared since the last message that was heard.
    """

    host: HostId
    findings: tuple[Finding, ...] = ()
    unassessed: tuple[Unassessed, ...] = ()
    passed: tuple[Finding, ...] = ()
    protocol: int = PROTOCOL


class Recorded(msgspec.Struct, frozen=True, tag="recorded"):
    """Agent → controller: flows. Idempotent by the batch's host, stream and number; taken is stored."""

    batch: FlowBatch
    protocol: int = PROTOCOL

    @property
    def host(self) -> HostId:
        """Whose flows these are."""
        return self.batch.host


AgentMessage = Report | Outcome | Counters | Surveyed | Findings | Recorded
