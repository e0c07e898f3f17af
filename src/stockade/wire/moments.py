"""Moments and spans of time as users write them, in a terminal and on a page. Pure."""

import re
from datetime import UTC, datetime

UNITS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
SHAPE = re.compile(r"(\d{1,15}(?:\.\d{1,9})?)(ms|s|m|h|)", re.ASCII)
DAYS = re.compile(r"(\d{1,6})d", re.ASCII)
AN_AGE = 1e9
"""A bare number from here on counts seconds since the epoch, as the API does; a smaller one is so long ago."""

FARTHEST = 4e9
"""Seconds since the epoch: the year 2096."""


def seconds(text: str) -> float:
    """Return a written span in seconds; ``ValueError`` where it is none."""
    found = SHAPE.fullmatch(text.strip())
    if found is None:
        raise ValueError(f'"{text}" is no span of time; write 60s, 5m or 1h')
    return float(found[1]) * UNITS[found[2]]


def moment(text: str, now: float) -> float:
    """Return a written moment, in seconds since the epoch: how long before ``now``, or a time of day in UTC.

    ``ValueError`` where it is none, or none that every clock and calendar here can say.
    """
    at = _moment(text, now)
    if not 0 <= at < FARTHEST:
        raise ValueError(f'"{text[:40]}" is no moment that a clock here can say')
    return at


def _moment(text: str, now: float) -> float:
    if days := DAYS.fullmatch(text.strip()):
        return now - int(days[1]) * 86400
    try:
        span = seconds(text)
    except ValueError:
        return _calendar(text)
    return span if span >= AN_AGE else now - span


def later(text: str, now: float) -> float:
    """Return a written moment to come: in how long, or a time of day in UTC."""
    text = text.strip()
    if "-" in text:
        return _calendar(text)
    if days := DAYS.fullmatch(text):
        return now + int(days[1]) * 86400
    span = seconds(text)
    return span if span >= AN_AGE else now + span


def _calendar(text: str) -> float:
    try:
        at = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ValueError(f'"{text}" is no moment; write 30m, 2h or 7d ago, or 2026-03-01T12:00') from None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
