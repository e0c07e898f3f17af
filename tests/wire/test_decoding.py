"""Many threads decode for the first time into types that hold one another, and the process lives."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import stockade

PROGRAM = """
import sys, threading
import msgspec
from stockade.decoding import ready

sys.setswitchinterval(1e-6)
WIDE = range(12)
INNER = {f"f{i}": i for i in WIDE}
MID = {f"g{i}": INNER for i in WIDE}
OUTER = {f"h{i}": MID for i in WIDE}
TEXTS = [msgspec.json.encode(each) for each in (OUTER, MID, INNER)]


def kinds(number):
    inner = msgspec.defstruct(f"Inner{number}", [(name, int) for name in INNER])
    mid = msgspec.defstruct(f"Mid{number}", [(name, inner) for name in MID])
    return msgspec.defstruct(f"Outer{number}", [(name, mid) for name in OUTER]), mid, inner


def decode(pairs, gate):
    gate.wait()
    for kind, text in pairs:
        assert msgspec.json.encode(msgspec.json.decode(text, type=ready(kind))) == text


for number in range(30):
    pairs, gate = list(zip(kinds(number), TEXTS)), threading.Barrier(6)
    threads = [threading.Thread(target=decode, args=(pairs[k % 3 :] + pairs[: k % 3], gate)) for k in range(6)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
print("alive")
"""


def test_threads_that_meet_a_type_together_live() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "alive\n", "")


def _into(call: ast.Call) -> ast.expr | None:
    """Return what a call of msgspec's decodes into; None where it is no such call, or into nothing in particular."""
    name = ast.unparse(call.func)
    if name.endswith((".decode", ".Decoder")) and name.startswith(
        ("msgspec.json.", "msgspec.msgpack.", "msgspec.yaml.")
    ):
        named = next((each.value for each in call.keywords if each.arg == "type"), None)
        return named if named is not None or name.endswith(".decode") else next(iter(call.args), None)
    return call.args[1] if name == "msgspec.convert" else None


def _unready() -> Iterator[str]:
    root = Path(stockade.__file__).parent
    for path in sorted(root.rglob("*.py")):
        if path.relative_to(root).parts[0] in ("testing", "decoding.py"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            into = _into(node) if isinstance(node, ast.Call) else None
            if into is not None and not ast.unparse(into).startswith("ready("):
                yield f"{path.relative_to(root)}:{node.lineno}: {ast.unparse(into)}"


def test_nothing_is_decoded_into_a_type_that_threads_may_meet_half_made() -> None:
    assert list(_unready()) == []
