"""The last lines of a run name what was skipped and what failed, and count rightly."""

import subprocess
import sys
from pathlib import Path

SUMMARY = Path(__file__).parents[2] / "scripts" / "summary.py"

FAST = """<testsuites><testsuite>
<testcase classname="tests.a" name="one"/>
<testcase classname="tests.a" name="two"><failure message="assert 1 == 2&#10;more"/></testcase>
</testsuite></testsuites>"""
REAL = """<testsuites><testsuite>
<testcase classname="tests.b" name="three"><skipped message="this machine: dockerd not installed"/></testcase>
</testsuite></testsuites>"""


def test_skips_failures_and_totals(tmp_path: Path) -> None:
    fast, real = tmp_path / "fast.xml", tmp_path / "real.xml"
    fast.write_text(FAST)
    real.write_text(REAL)
    ran = subprocess.run(
        [sys.executable, str(SUMMARY), str(fast), str(real), str(tmp_path / "none.xml")],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert ran.stdout.splitlines() == [
        "skipped:",
        "  tests.b::three: this machine: dockerd not installed",
        "failed:",
        "  tests.a::two: assert 1 == 2",
        "1 passed, 1 failed, 1 skipped",
    ]
