"""What a process keeps: dead cycles go though looked for rarely; what was loaded stays, what was freed goes back."""

import subprocess
import sys

PROGRAM = """
import gc, weakref
from stockade.memory import MADE, keep_little, look_rarely

class Cycle:
    def __init__(self):
        self.itself = self

keep_little()
look_rarely()
print(gc.get_freeze_count() > 1000, gc.isenabled())
gone = [weakref.ref(Cycle()) for _ in range(MADE * 3)]
print(sum(each() is None for each in gone) >= MADE)
"""

BURST = """
from pathlib import Path
from stockade.memory import give_back, keep_little

def resident():
    rows = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(int(row.split()[1]) for row in rows if row.startswith("Rss:")) / 1024

keep_little()
burst = [bytes(64 << 10) for _ in range(400)]
last = bytes(64 << 10)
del burst
before = resident()
give_back()
print(before - resident() > 15)
"""
LOGS = """
import sys
from stockade.logs import log_of

log_of("part").info("said")
print("structlog" in sys.modules, "rich" in sys.modules, "pygments" in sys.modules)
import rich.text
print(rich.text.Text("there").plain)
"""


def said_by(program: str) -> list[str]:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()


def test_what_is_loaded_is_left_alone_and_dead_cycles_still_go() -> None:
    assert said_by(PROGRAM) == ["True", "True", "True"]


def test_what_a_burst_took_is_given_back() -> None:
    assert said_by(BURST) == ["True"]


def test_whoever_logs_does_not_load_what_shows_tracebacks_in_colours_and_others_may() -> None:
    assert said_by(LOGS)[-4:] == ["True", "False", "False", "there"]
