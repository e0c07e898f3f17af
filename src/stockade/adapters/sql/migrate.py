"""Brings a database to the newest schema, step by step, each in a transaction of its own with its record.

Never goes back, and never touches a database that a newer Stockade wrote.
"""

import time
from collections.abc import Sequence

from sqlalchemy import Connection, Engine, func, insert, select

from stockade.adapters.sql.migrations import STEPS, Step
from stockade.adapters.sql.tables import ACCEPTED
from stockade.adapters.sql.tables import STEPS as APPLIED
from stockade.seams.store import StoreFailed

ADDED = (ACCEPTED,)
"""Tables beside all that the release before this one reads. They are no steps, so that it can take over again."""


def migrate(engine: Engine, steps: Sequence[Step] = STEPS) -> int:
    """Apply what is missing; return how many steps that were. ``StoreFailed`` where the schema is newer."""
    with engine.begin() as connection:
        APPLIED.create(connection, checkfirst=True)
        applied = _applied(connection)
    newest = steps[-1].number
    if applied > newest:
        raise StoreFailed(
            f"the database has schema {applied}, this Stockade knows up to {newest}: a newer one wrote it",
            kept="The database was not touched; enforcement stays as it is.",
            remedy="Start that newer version, or point --state at another folder.",
        )
    missing = [step for step in steps if step.number > applied]
    for step in missing:
        _apply(engine, step)
    with engine.begin() as connection:
        for table in ADDED:
            table.create(connection, checkfirst=True)
    return len(missing)


def _applied(connection: Connection) -> int:
    newest: int = connection.execute(select(func.coalesce(func.max(APPLIED.c.number), 0))).scalar_one()
    return newest


def _apply(engine: Engine, step: Step) -> None:
    with engine.begin() as connection:
        if _applied(connection) >= step.number:  # another process was quicker
            return
        step.apply(connection)
        connection.execute(insert(APPLIED).values(number=step.number, name=step.name, at=time.time()))
