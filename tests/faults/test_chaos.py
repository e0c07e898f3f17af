"""Every kind of fault once, under steady traffic and an operator who does not rest; and a violation that is found."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

import pytest
from chaos import chaos

from faults import seed_of
from stockade.testing.chaos.fault import Fault
from stockade.testing.chaos.ground import Ground
from stockade.testing.chaos.suite import Plan, Row, table
from stockade.testing.lab import enter

pytestmark = [pytest.mark.real, pytest.mark.fault, pytest.mark.timeout(1500)]


def endured(plan: Plan, *faults: Fault) -> tuple[Row, ...]:
    enter()
    said: list[str] = []
    rows = asyncio.run(chaos(plan, said.append, *([faults] if faults else [])))
    print("\n".join((*said, *table(rows))))  # noqa: T201 - shown where it fails
    return rows


def test_every_kind_of_fault_once() -> None:
    rows = endured(Plan(seed_of(0)))
    assert not [row for row in rows if row.violations]
    assert not [row.name for row in rows if bool(row.times) is bool(row.why)], "struck, or said why not"


def test_what_does_not_hold_is_found_and_said_with_the_way_to_repeat_it(capsys: pytest.CaptureFixture[str]) -> None:
    @asynccontextmanager
    async def opened(on: Ground, _dice: Random) -> AsyncIterator[None]:
        await on.end_both()
        await on.must("nft", "flush", "ruleset")
        yield

    (row, *_) = endured(Plan(7), Fault("opened", "nobody holds the tables", "nothing", opened))
    assert [each for each in row.violations if each.startswith("I1")], row
    assert "make chaos SEED=7 STEP=1" in capsys.readouterr().out
