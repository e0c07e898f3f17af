"""Findings: what a check judged, of what, how bad it is, what was seen and what to do about it."""

import enum

import msgspec

from stockade.core.model.ids import CheckId


class Severity(str, enum.Enum):
    """How bad a finding is, by what somebody could reach through it."""

    HIGH = "high"
    """Traffic can go past the judgement, or already does."""
    MEDIUM = "medium"
    """It could under conditions that cannot be seen from here."""
    LOW = "low"
    """Verdicts hold; something has changed that they rest on."""


class Finding(msgspec.Struct, frozen=True, order=True):
    """A judged fact. One check finds one object once. ``since``: seconds since the epoch, when it was first seen."""

    check: CheckId
    object: str
    severity: Severity
    seen: str
    remedy: str
    since: float = 0.0


class Unassessed(msgspec.Struct, frozen=True, order=True):
    """A check that could not judge, and why. Never the same as one that found nothing."""

    check: CheckId
    why: str
    remedy: str = ""


class Assessment(msgspec.Struct, frozen=True):
    """What all checks said at one time; both sorted."""

    findings: tuple[Finding, ...] = ()
    unassessed: tuple[Unassessed, ...] = ()
