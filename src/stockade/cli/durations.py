"""Spans of time as a user writes them: ``60s``, ``5m``, ``1h``; a bare number is seconds."""

import re
from collections.abc import Sequence
from typing import Annotated

from cyclopts import Parameter, Token

UNITS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
SHAPE = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|)")


def seconds(text: str) -> float:
    """Return a written span in seconds; ``ValueError`` where it is none."""
    found = SHAPE.fullmatch(text.strip())
    if found is None:
        raise ValueError(f'"{text}" is no span of time; write 60s, 5m or 1h')
    return float(found[1]) * UNITS[found[2]]


def _convert(_type: object, tokens: Sequence[Token]) -> float:
    return seconds(tokens[0].value)


Seconds = Annotated[float, Parameter(converter=_convert)]

Wait = Annotated[
    float,
    Parameter(converter=_convert, help="As 5s: how long to wait until it is in force on every host; 0 is not at all."),
]
WAIT = 5.0
