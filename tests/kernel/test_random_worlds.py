"""kernel(compile(s), packet) == oracle(s, packet), with real packets, over random worlds.

``STOCKADE_SEED=N`` replays a run; one world alone: ``python -m stockade.testing.kernel_worlds SEED``.
"""

import os
import random

import pytest

from stockade.core.model.net import Protocol
from stockade.testing.kernel_worlds.__main__ import summary
from stockade.testing.kernel_worlds.run import Shard, Tally, try_apart
from stockade.testing.kernel_worlds.trials import PROTOCOLS, PUBLISHED, REQUIRED, existing_cells, why_absent

pytestmark = [pytest.mark.real, pytest.mark.timeout(900)]

WORLDS = 200
SHARD = 25
LEAST = 20
"""Packets in each cell of family, protocol, path, and modes of both ends."""
ABSENT = {(Protocol.ICMP, path): "ICMP has no ports to publish" for path in PUBLISHED}
"""Cells that cannot exist."""

FIRST_SEED = 7000
"""Worlds of a run, unless ``STOCKADE_SEED`` says others (``STOCKADE_SEED=random``: any)."""


def first_seed() -> int:
    given = os.environ.get("STOCKADE_SEED", str(FIRST_SEED))
    return random.SystemRandom().randrange(1 << 30) if given == "random" else int(given)


@pytest.fixture(scope="module")
def tally() -> Tally:
    """Every other shard on a ground whose bridges are realms of their own, as a container engine's are; of both kinds
    every other one with programs whose lines stand in blocks, as those of many lines do.
    """
    seed = first_seed()
    print(f"STOCKADE_SEED={seed}")  # noqa: T201 - shown where a test fails

    found = try_apart(
        Shard(range(first, first + SHARD), realms=n % 2 == 1, pairs=n % 4 >= 2)
        for n, first in enumerate(range(seed, seed + WORLDS, SHARD))
    )
    print(summary(found), f"smallest cell: {min(found.cells[cell] for cell in existing_cells())}")  # noqa: T201
    return found


def test_the_kernel_does_what_the_oracle_says(tally: Tally) -> None:
    assert tally.worlds == WORLDS
    assert not tally.wrong, "\n".join(tally.wrong[:20])


def test_every_kind_of_packet_was_met_often_enough(tally: Tally) -> None:
    scarce = {cell: tally.cells[cell] for cell in existing_cells() if tally.cells[cell] < LEAST}
    assert not scarce
    assert min(tally.kinds.values()) >= LEAST


def test_at_least_two_in_five_packets_were_denied(tally: Tally) -> None:
    assert tally.denied / tally.packets >= 0.4


def test_cells_that_cannot_exist_are_listed() -> None:
    absent = {
        (protocol, path): why for protocol in PROTOCOLS for path in REQUIRED if (why := why_absent(protocol, path))
    }
    assert absent == ABSENT
    assert len(existing_cells()) == (len(PROTOCOLS) * len(REQUIRED) - len(ABSENT)) * 2 * 16
