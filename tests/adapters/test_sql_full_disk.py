"""A disk that is really full: nothing half written, said in words, and on with it once there is room."""

import subprocess
import sys
from pathlib import Path

import pytest

SCENARIO = r"""
import os, pathlib, sys
from stockade.adapters.sql import open_store
from stockade.core.model.event import QuarantineLapsed
from stockade.errors import StockadeError
from stockade.seams.store import Commit, Entry

folder = pathlib.Path(sys.argv[1])
url = f"sqlite:///{folder}/state.db"
store = open_store(url)
revision, refused = 0, None
for step in range(10_000):
    commit = Commit(events=(QuarantineLapsed("x" * 3000),), audit=(Entry("ada", "step", str(step)),))
    try:
        revision = store.commit(commit, after=revision, at=float(step))
    except StockadeError as problem:
        refused = problem
        break
assert refused is not None and "no room" in refused.message, refused
assert "stay as they were" in refused.kept and "df -h" in refused.remedy
assert revision > 10, "there was room for some"
for _ in range(5):
    try:
        store.commit(commit, after=revision, at=0.0)
    except StockadeError as problem:
        assert "Traceback" not in problem.message and problem.kept and problem.remedy
    else:
        raise AssertionError("the disk is full")
assert len(store.load().events) == revision == len(store.audit(20_000))

# As after kill -9: another process opens what is there, on the same full disk.
child = os.fork()
if child == 0:
    try:
        again = open_store(url)
        os._exit(0 if len(again.load().events) == revision else 3)
    except StockadeError as problem:
        os._exit(0 if problem.kept and problem.remedy else 4)
    except BaseException:
        os._exit(5)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

(folder / "ballast").unlink()
assert store.commit(commit, after=revision, at=1.0) == revision + 1
store.close()
again = open_store(url)
assert [each.revision for each in again.load().events] == list(range(1, revision + 2))
again.close()
print("kept", revision)
"""


@pytest.mark.fault
def test_a_full_file_system_keeps_what_it_had(tmp_path: Path) -> None:
    script = tmp_path / "scenario.py"
    script.write_text(SCENARIO, encoding="utf-8")
    (tmp_path / "disk").mkdir()
    mounted = f"""
        mount -t tmpfs -o size=2m none {tmp_path}/disk
        head -c 1000000 /dev/zero > {tmp_path}/disk/ballast
        exec {sys.executable} {script} {tmp_path}/disk
    """
    done = subprocess.run(
        ["unshare", "-Urm", "sh", "-ec", mounted], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("kept ")
