"""Diagnostics as values."""

import msgspec

from stockade.core.model.policy import Where


class Problem(msgspec.Struct, frozen=True):
    """One mistake in what a user wrote: where, what, what was expected, the nearest valid spelling, the line itself."""

    where: Where
    message: str
    expected: str = ""
    nearest: str = ""
    excerpt: str = ""
    length: int = 1
    """How many characters of ``excerpt``, from ``where.column`` on, are the mistake."""
