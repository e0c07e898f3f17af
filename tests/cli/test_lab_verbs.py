"""``stockade lab`` with real namespaces: up, a command in a node, down, and nothing left."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from route_table_server import CommandLine

from stockade.cli.lab import RECORD

STOCKADE = (sys.executable, "-c", "from stockade.cli.main import main; main()")


def environment(tmp_path: Path) -> dict[str, str]:
    return {**os.environ, "STOCKADE_STATE": str(tmp_path / "state"), "NO_COLOR": "1", "PYTHONIOENCODING": "utf-8"}


def stockade(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        (*STOCKADE, *arguments), env=environment(tmp_path), capture_output=True, text=True, timeout=60, check=False
    )


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A lab that is up, in a process of its own."""
    process = subprocess.Popen(
        (*STOCKADE, "lab", "up"),
        env=environment(tmp_path),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "state" / RECORD).exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    yield process
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)


def links() -> set[str]:
    return {path.name for path in Path("/sys/class/net").iterdir()}


@pytest.mark.real
def test_a_lab_goes_up_takes_commands_and_goes_down(tmp_path: Path, lab: subprocess.Popen[str]) -> None:
    before = links()
    assert lab.poll() is None, lab.communicate()
    record = json.loads((tmp_path / "state" / RECORD).read_text())
    pids = [node["pid"] for node in record["nodes"]]

    ran = stockade(tmp_path, "lab", "exec", "web-1", "--", "ip", "-4", "-o", "address", "show", "eth0")
    assert ran.returncode == 0, ran.stderr
    assert next(node["addresses"][0] for node in record["nodes"] if node["name"] == "web-1") in ran.stdout
    assert stockade(tmp_path, "lab", "exec", "db-1", "--", "sh", "-c", "exit 7").returncode == 7

    ran = stockade(tmp_path, "lab", "exec", "nobody", "--", "true")
    assert ran.returncode == 1
    assert "its nodes: lab, web-1" in ran.stderr
    assert "is up already" in stockade(tmp_path, "lab", "up").stderr

    assert stockade(tmp_path, "lab", "down").returncode == 0
    out, err = lab.communicate(timeout=30)
    assert lab.returncode == 0, err
    assert "web-1" in out
    assert "nothing is left behind" in err
    assert not (tmp_path / "state" / RECORD).exists()
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
    assert links() == before


@pytest.mark.real
def test_the_record_of_a_killed_lab_is_no_lab(tmp_path: Path, lab: subprocess.Popen[str]) -> None:
    record = json.loads((tmp_path / "state" / RECORD).read_text())
    os.kill(record["pid"], signal.SIGKILL)
    lab.wait(30)
    assert (tmp_path / "state" / RECORD).exists()
    assert "no lab is up" in stockade(tmp_path, "lab", "down").stderr


def test_without_a_lab(cli: CommandLine) -> None:
    for arguments in (("lab", "down"), ("lab", "exec", "web-1", "--", "true")):
        ran = cli(*arguments)
        assert ran.code == 1
        assert "no lab is up" in ran.err
