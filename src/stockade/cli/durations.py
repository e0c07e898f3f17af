"""Spans of time as a user writes them: ``60s``, ``5m``, ``1h``; a bare number is seconds."""

from collections.abc import Sequence
from typing import Annotated

from cyclopts import Parameter, Token

from stockade.wire.moments import seconds


def _convert(_type: object, tokens: Sequence[Token]) -> float:
    return seconds(tokens[0].value)


Seconds = Annotated[float, Parameter(converter=_convert)]

Wait = Annotated[
    float,
    Parameter(converter=_convert, help="As 5s: how long to wait until it is in force on every host; 0 is not at all."),
]
WAIT = 5.0
