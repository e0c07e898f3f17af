"""What a seed decides, and what the list of faults says."""

import subprocess
import time
from itertools import islice
from pathlib import Path

import pytest

from stockade.testing.chaos.clock import clock
from stockade.testing.chaos.registry import FAULTS
from stockade.testing.chaos.suite import Row, Step, table, ways


def drawn(seed: int, count: int = 200) -> list[tuple[int, str, float]]:
    return [(step.number, step.fault.name, step.dice.random()) for step in islice(ways(seed, FAULTS), count)]


def test_a_seed_decides_order_and_dice() -> None:
    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)


def test_every_fault_comes_once_in_each_round() -> None:
    steps = [name for _, name, _ in drawn(3, 3 * len(FAULTS))]
    for start in range(0, len(steps), len(FAULTS)):
        assert sorted(steps[start : start + len(FAULTS)]) == sorted(each.name for each in FAULTS)


def test_a_step_has_its_dice_whatever_was_struck_before() -> None:
    steps: list[Step] = list(islice(ways(5, FAULTS), 20))
    again = next(step for step in ways(5, FAULTS) if step.number == 20)
    for each in steps[:19]:
        each.dice.random()
    assert again.dice.random() == steps[19].dice.random()


def test_there_are_forty_kinds_and_each_says_what_it_is() -> None:
    assert len(FAULTS) >= 40
    assert len({each.name for each in FAULTS}) == len({each.what for each in FAULTS}) == len(FAULTS)
    assert all(each.what and each.seen for each in FAULTS)


def test_the_table_says_what_held_what_did_not_and_what_was_not_assessed() -> None:
    rows = (Row("a", 2, "", ()), Row("b", 0, "no disk", ()), Row("c", 1, "", ("I1 it passed",)), Row("d", 0, "", ()))
    assert [line.split(maxsplit=2)[1:] for line in table(rows)][1:] == [
        ["2", "I1 I2 I3 I4 I5 I6"],
        ["0", "not assessed here: no disk"],
        ["1", "I1 it passed"],
        ["0", "not struck"],
    ]


def test_the_clock_goes_where_it_is_set(tmp_path: Path) -> None:

    found = clock(tmp_path)
    if found is None:
        pytest.skip("this machine has no C compiler")
    found.shift(-86_400)
    told = subprocess.run([found.python, "-c", "import time; print(time.time())"], capture_output=True, check=True)
    assert abs(time.time() - 86_400 - float(told.stdout)) < 3600
