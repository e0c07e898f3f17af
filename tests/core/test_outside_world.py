"""The fixture that keeps the core's tests pure does raise; nothing but the core is held to it."""

import types

import pytest

REACHES = {
    "socket.__new__": "import socket; socket.socket()",
    "open": "open('/dev/null', 'w')",
    "os.system": "import os; os.system('true')",
    "time.time": "import time; time.time()",
    "time.sleep": "import time; time.sleep(0)",
    "random.random": "import random; random.random()",
}


def run_as(module: str, source: str) -> None:
    exec(compile(source, module, "exec"), types.ModuleType(module).__dict__)


@pytest.mark.parametrize("what", REACHES)
def test_the_core_cannot_reach_outside(what: str) -> None:
    with pytest.raises(AssertionError, match=f"^{what}$"):
        run_as("stockade.core.imagined", REACHES[what])


@pytest.mark.parametrize("what", REACHES)
def test_others_can(what: str) -> None:
    run_as("stockade.imagined", REACHES[what])
