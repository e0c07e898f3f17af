"""The steps that lead from an empty database to the newest schema, in order, each applied once in a transaction.

A step is never changed once it was released: what it made is out there. A new one is added at the end.
"""

from collections.abc import Callable

import msgspec
from sqlalchemy import Connection

from stockade.adapters.sql.migrations import s0001_first


class Step(msgspec.Struct, frozen=True):
    """One step; ``apply`` runs within the transaction that also records it."""

    number: int
    name: str
    apply: Callable[[Connection], None]


STEPS: tuple[Step, ...] = (Step(1, "first", s0001_first.apply),)
