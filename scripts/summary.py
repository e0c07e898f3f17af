"""Prints, from the result files of a run, every skipped and failed test with its reason, then one line of totals.

Never decides anything: whether the run failed is the test runner's word.
"""

import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path


def main(files: list[str]) -> None:
    """Print the summary of ``files``, which are JUnit XML."""
    cases = [case for file in files for case in _cases(Path(file))]
    for outcome in ("skipped", "failed"):
        rows = sorted(f"  {name}: {reason}" for name, kind, reason in cases if kind == outcome)
        if rows:
            print(f"{outcome}:", *rows, sep="\n")
    count = {kind: sum(1 for case in cases if case[1] == kind) for kind in ("passed", "failed", "skipped")}
    print(", ".join(f"{count[kind]} {kind}" for kind in count))


def _cases(file: Path) -> Iterator[tuple[str, str, str]]:
    if not file.exists():
        return
    for case in ET.parse(file).iter("testcase"):
        yield f"{case.get('classname')}::{case.get('name')}", *_outcome(case)


def _outcome(case: ET.Element) -> tuple[str, str]:
    for tag, kind in (("failure", "failed"), ("error", "failed"), ("skipped", "skipped")):
        found = case.find(tag)
        if found is not None:
            return kind, (found.get("message") or "").splitlines()[0] if found.get("message") else ""
    return "passed", ""


if __name__ == "__main__":
    main(sys.argv[1:])
