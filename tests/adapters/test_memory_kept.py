"""What a process keeps: dead cycles are found although they are looked for rarely, what was loaded is left alone."""

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


def test_what_is_loaded_is_left_alone_and_dead_cycles_still_go() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "True", "True"]
