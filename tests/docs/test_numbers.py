"""The page of figures is what the benchmarks wrote: whole, of benchmarks that are there. No figure is judged here."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from bench.anomalies import CHOSEN_WITH, SEEDS, SEEDS_QUICK
from bench.chance import rate_between

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "numbers.md"
BEGIN, END = "<!-- figures:begin -->", "<!-- figures:end -->"
HEAD = re.compile(r"### `python -m bench\.(\w+)`")
VALUE = re.compile(r"-?[\d,]+(\.\d+)?(e[+-]\d+)?( \S.*)?")
FIGURE = {"name": "a | b", "value": 1234.5, "unit": "ms", "target": "<= 10", "met": False, "compared_with": "c"}


def generated(page: str) -> str:
    _, found, rest = page.partition(BEGIN)
    inside, ended, _ = rest.partition(END)
    assert found, "the page has lost the marker before its figures"
    assert ended, "the page has lost the marker after its figures"
    return inside


def sections(text: str) -> dict[str, list[list[str]]]:
    """Return the rows of each benchmark's table, as cells."""
    found: dict[str, list[list[str]]] = {}
    name = ""
    for line in text.splitlines():
        if head := HEAD.fullmatch(line):
            name = head[1]
            found[name] = []
        elif line.startswith("| ") and not line.startswith("| figure |"):
            found[name].append([cell.strip() for cell in line.removeprefix("|").removesuffix("|").split("|")])
    return found


def check(found: dict[str, list[list[str]]]) -> None:
    for name, rows in found.items():
        module = ROOT / "bench" / f"{name}.py"
        assert module.exists(), f"figures of bench.{name}, which is not there"
        assert "__main__" in module.read_text(encoding="utf-8"), f"bench.{name} is no benchmark"
        assert rows, f"no figures of bench.{name}"
        for row in rows:
            assert len(row) == 5, row
            figure, value, target, mark, _ = row
            assert figure, row
            assert VALUE.fullmatch(value), row
            assert mark in ("met", "MISSED") if target else mark == "", row


def test_the_table_is_whole_and_of_benchmarks_that_are_there() -> None:
    found = sections(generated(PAGE.read_text(encoding="utf-8")))
    measured = {
        each.stem
        for each in (ROOT / "bench").glob("*.py")
        if "__main__" in each.read_text(encoding="utf-8") and each.stem != "table"
    }
    assert found.keys() == measured, "every benchmark has its figures on the page: make bench"
    check(found)


@pytest.mark.parametrize(
    ("count", "low", "high"), [(0, 0.0, 3.6889), (1, 0.0253, 5.5716), (5, 1.6235, 11.6683), (100, 81.364, 121.627)]
)
def test_a_rate_has_the_exact_interval_of_poisson(count: int, low: float, high: float) -> None:
    """Values as tables print them (Garwood, 1936)."""
    assert rate_between(count, 1.0) == pytest.approx((low, high), abs=0.001)
    assert rate_between(count, 4.0) == pytest.approx((low / 4, high / 4), abs=0.001)


def test_false_alarms_are_told_of_days_that_no_limit_was_chosen_with() -> None:
    assert not set(CHOSEN_WITH) & {*SEEDS, *SEEDS_QUICK}


def test_what_is_missed_is_counted_and_explained() -> None:
    page = PAGE.read_text(encoding="utf-8")
    rows = [row for rows in sections(generated(page)).values() for row in rows]
    missed = sum(row[3] == "MISSED" for row in rows)
    assert f"{missed} missed." in generated(page)
    assert not missed or "## Targets missed, and why" in page


def test_the_table_is_made_of_what_was_measured(tmp_path: Path) -> None:
    (tmp_path / "kernel.jsonl").write_text(json.dumps(FIGURE) + "\n", encoding="utf-8")
    command = [sys.executable, "-m", "bench.table", str(tmp_path), "--print"]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    found = sections(ran.stdout)
    check(found)
    assert found == {"kernel": [["a / b", "1,234 ms", "<= 10", "MISSED", "c"]]}
    assert "0 targets met, 1 missed." in ran.stdout
