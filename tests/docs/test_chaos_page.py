"""The page of faults lists every kind that the chaos suite strikes with, in its words."""

from pathlib import Path

from stockade.testing.chaos.registry import FAULTS

PAGE = Path(__file__).parents[2] / "docs" / "faults.md"
HEAD = "| fault | what fails | what is seen |"


def test_the_page_has_a_row_for_every_kind_of_fault() -> None:
    rows = [line for line in PAGE.read_text(encoding="utf-8").partition(HEAD)[2].splitlines() if line.startswith("| `")]
    assert rows == [f"| `{each.name}` | {each.what} | {each.seen} |" for each in FAULTS]
