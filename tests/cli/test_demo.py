"""``stockade demo``: the main job with real packets, as whoever runs it sees it; nothing is left behind."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
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


def test_its_console_is_for_a_browser_of_this_machine_and_its_traffic_goes_on(
    environment: dict[str, str], tmp_path: Path
) -> None:
    """The link that is printed opens the console, and what goes on is recorded: the shop's own, and what is denied."""
    out = tmp_path.parent / f"{tmp_path.name}.out"
    before = traces(environment[MARK], [tmp_path])
    environment = {name: value for name, value in environment.items() if name != "STOCKADE_FLOWS"}
    with out.open("wb") as file:
        running = subprocess.Popen([*DEMO, "--traffic"], stdout=file, stderr=file, env=environment)
    try:
        assert within(PATIENCE, lambda: b"Ctrl-C leaves" in out.read_bytes()), out.read_text()[-2000:]
        said = out.read_text()
        state = next(line for line in said.splitlines() if "STOCKADE_STATE=" in line).partition("=")[2]
        link = re.search(r"http://127\.0\.0\.1:\d+/sign-in\?token=\S+", said)
        assert link is not None, said[-2000:]
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(link[0], timeout=30) as page:
            assert b"Stockade" in page.read()
        since = str(time.time())
        assert within(PATIENCE, lambda: verdicts(environment, state, since, "tcp/6000-6023") == {"denied"})
        assert within(PATIENCE, lambda: verdicts(environment, state, since, "tcp/8080") == {"allowed"})
        assert within(PATIENCE, lambda: "scan" in checks(environment, state)), checks(environment, state)
        running.send_signal(signal.SIGINT)
        assert running.wait(60) == 0, out.read_text()[-2000:]
    finally:
        running.kill()
        running.wait(60)
    assert within(20, lambda: not list(marked(environment[MARK])))
    assert traces(environment[MARK], [tmp_path]).new_since(before) == []


def verdicts(environment: dict[str, str], state: str, since: str, on: str) -> set[str]:
    """What became of flows from the web server since then."""
    words = ("flows", "--from", "web-1", "--on", on, "--since", since, "--verdict", "allowed,denied", "--by", "verdict")
    done = subprocess.run(
        [sys.executable, "-m", "stockade", *words, "-o", "json"],
        capture_output=True, text=True, timeout=60, check=False, env={**environment, "STOCKADE_STATE": state},
    )  # fmt: skip
    return {each["values"][0] for each in json.loads(done.stdout)["groups"]} if done.returncode == 0 else set()


def checks(environment: dict[str, str], state: str) -> set[str]:
    """What is found of traffic."""
    done = subprocess.run(
        [sys.executable, "-m", "stockade", "findings", "-o", "json"],
        capture_output=True, text=True, timeout=60, check=False, env={**environment, "STOCKADE_STATE": state},
    )  # fmt: skip
    return {each["check"] for each in json.loads(done.stdout)["findings"] if each["host"] == "*"}


INHERITING = """
import os, sys
from stockade.cli import demo_console
port = demo_console.taken("127.0.0.1:0")
if len(sys.argv) == 1:
    demo_console.bequeath(port)
    os.execvp("unshare", ["unshare", "-Urnm", "--", sys.executable, __file__, str(port.getsockname()[1])])
assert port.getsockname() == ("127.0.0.1", int(sys.argv[1]))
print(sys.argv[1], flush=True)
port.setblocking(True)
port.accept()[0].sendall(b"from within")
"""


def test_the_port_is_this_machines_though_the_demo_is_in_a_namespace(tmp_path: Path) -> None:
    """Without root the demo starts itself again in namespaces of its own: a browser must still find it."""
    program = tmp_path / "inheriting.py"
    program.write_text(INHERITING)
    with subprocess.Popen([sys.executable, str(program)], stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        port = int(running.stdout.readline())
        with socket.create_connection(("127.0.0.1", port), 30) as browser:
            assert browser.recv(100) == b"from within"
        assert running.wait(30) == 0
