"""Why the controller did not do what was asked, as errors that the API can tell apart."""

import enum
from collections.abc import Sequence

from stockade.core.model.problem import Problem
from stockade.errors import StockadeError


class Why(enum.IntEnum):
    """The kinds of refusal, as HTTP status codes (RFC 9110, 15.5)."""

    MALFORMED = 400
    FORBIDDEN = 403
    UNKNOWN = 404
    CONFLICT = 409
    TOO_LARGE = 413
    INVALID = 422


class Refused(StockadeError):  # noqa: N818 - reads as what happened
    """What was asked cannot be done. ``problems`` where documents were at fault."""

    def __init__(
        self, why: Why, message: str, *, kept: str = "", remedy: str = "", problems: Sequence[Problem] = ()
    ) -> None:
        super().__init__(message, kept=kept or "Nothing was changed.", remedy=remedy)
        self.why = why
        self.problems = tuple(problems)


def unknown(what: str, name: object, remedy: str) -> Refused:
    """Return the error for a name that stands for nothing."""
    return Refused(Why.UNKNOWN, f'there is no {what} "{name}"', remedy=remedy)
