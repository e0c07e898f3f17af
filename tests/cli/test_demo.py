"""``stockade demo``: the main job with real packets, as whoever runs it sees it; nothing is left behind."""

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from stockade.testing.lab.traces import MARK, marked, traces

pytestmark = [pytest.mark.real, pytest.mark.timeout(280)]
DEMO = (sys.executable, "-m", "stockade", "demo")
PATIENCE = 240


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A terminal of 80 columns without colour, its own folder for files, and a mark on every process."""
    return {**os.environ, "NO_COLOR": "1", "COLUMNS": "80", "TMPDIR": str(tmp_path), MARK: uuid.uuid4().hex}


def once(environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*DEMO, "--once", *words], capture_output=True, text=True, timeout=PATIENCE, env=environment, check=False
    )


def within(seconds: float, holds: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def test_every_packet_does_what_policy_says_and_nothing_is_left(environment: dict[str, str], tmp_path: Path) -> None:
    before = traces(environment[MARK], [tmp_path])
    done = once(environment, "-o", "json")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    summary = json.loads(done.stdout.splitlines()[-1])
    assert summary["probes"] > 1000
    assert (summary["mismatches"], summary["leaked"], summary["births"]) == (0, 0, 1)
    assert traces(environment[MARK], [tmp_path]).new_since(before) == []


def test_the_story_is_told_in_six_steps(environment: dict[str, str]) -> None:
    done = once(environment)
    assert done.returncode == 0, done.stderr
    steps = [line for line in done.stdout.splitlines() if line[:1].isdigit()]
    assert [line[0] for line in steps] == ["1", "2", "3", "4", "5", "6"]
    assert "DENIED at lab" in done.stdout
    assert "0 did otherwise" in done.stdout
    assert "\x1b[" not in done.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["Ctrl-C", "kill -9"])
def test_it_stays_up_until_it_is_ended_and_leaves_nothing(
    number: signal.Signals, environment: dict[str, str], tmp_path: Path
) -> None:
    out = tmp_path.parent / f"{tmp_path.name}.out"
    before = traces(environment[MARK], [tmp_path])
    with out.open("wb") as file:
        running = subprocess.Popen(DEMO, stdout=file, stderr=file, env=environment)
    try:
        assert within(PATIENCE, lambda: b"The lab stays up" in out.read_bytes()), out.read_text()[-2000:]
        state = next(line for line in out.read_text().splitlines() if "STOCKADE_STATE=" in line).partition("=")[2]
        told = {**environment, "STOCKADE_STATE": state}
        asked = subprocess.run(
            [sys.executable, "-m", "stockade", "status", "-o", "json"],
            capture_output=True, text=True, timeout=60, env=told, check=False,
        )  # fmt: skip
        assert json.loads(asked.stdout)["workloads"] == 6, asked.stderr
        running.send_signal(number)
        running.wait(60)
    finally:
        running.kill()
        running.wait(60)
    assert within(20, lambda: not list(marked(environment[MARK])))
    left = traces(environment[MARK], [tmp_path] if number is signal.SIGINT else []).new_since(before)
    assert left == []  # who is killed cannot tidy its folder; everything else is gone
