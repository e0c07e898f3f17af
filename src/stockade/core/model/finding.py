"""Findings: what a check judged, of what, how bad it is, what was seen and what to do about it."""

import enum
import hashlib

import msgspec

from stockade.core.model.ids import CheckId, FindingId, HostId


class Severity(str, enum.Enum):
    """How bad a finding is, by what somebody could reach through it."""

    HIGH = "high"
    """Traffic can go past the judgement, or already does."""
    MEDIUM = "medium"
    """It could under conditions that cannot be seen from here."""
    LOW = "low"
    """Verdicts hold; something has changed that they rest on."""


class Finding(msgspec.Struct, frozen=True, order=True):
    """A judged fact. One check finds one object once. ``since``: seconds since the epoch, when it was first seen.

    ``about``: what it says, part by part, where ``seen`` has numbers that move; else ``seen`` is all that it says.
    """

    check: CheckId
    object: str
    severity: Severity
    seen: str
    remedy: str
    since: float = 0.0
    about: tuple[str, ...] = ()


class Waiver(msgspec.Struct, frozen=True):
    """Somebody's word that a finding may be so: whose, since when, why, until when (None: for good).

    It is of what was found then, and of no more: ``severity`` and ``about`` say what that was.
    """

    id: FindingId
    host: HostId
    check: CheckId
    object: str
    severity: Severity
    about: tuple[str, ...]
    by: str
    at: float
    why: str
    until: float | None = None

    def covers(self, finding: Finding) -> bool:
        """Tell whether the same is found still: no worse, and nothing added."""
        order = list(Severity)
        worse = order.index(finding.severity) < order.index(self.severity)
        return not worse and set(parts(finding)) <= set(self.about)


def parts(finding: Finding) -> tuple[str, ...]:
    """Return what a finding says, part by part."""
    return finding.about or (finding.seen,)


def finding_id(host: HostId, check: CheckId, object_: str) -> FindingId:
    """Return what a finding is called: short enough to be typed."""
    said = b"".join(len(text).to_bytes(4, "big") + text for text in map(str.encode, (host, check, object_)))
    return FindingId(hashlib.sha256(said).hexdigest()[:ID_LENGTH])


ID_LENGTH = 12


class Unassessed(msgspec.Struct, frozen=True, order=True):
    """A check that could not judge, and why. Never the same as one that found nothing."""

    check: CheckId
    why: str
    remedy: str = ""


class Assessment(msgspec.Struct, frozen=True):
    """What all checks said at one time; both sorted."""

    findings: tuple[Finding, ...] = ()
    unassessed: tuple[Unassessed, ...] = ()
