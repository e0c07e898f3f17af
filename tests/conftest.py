"""What holds for every test: which ones this machine can run, and that tests of the core meet no outside world.

A marked test is skipped only with the precise thing that is missing. Where the machine can run everything, any other
skip is a failure, unless its reason begins with "this kernel" or "this machine" and so names a fact.
"""

import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
from xdist.scheduler import LoadScopeScheduling

CORE_TESTS = Path(__file__).parent / "core"
os.environ.setdefault("STOCKADE_FLOWS", "off")
"""A store for each `up` that a test starts would take most of the time; tests of flows say otherwise."""
KINDS = ("real", "docker", "fault", "guest", "browser")
TOGETHER = (
    "tests/births/",
    "tests/docker/",
    "tests/podman/",
    "tests/containerd/",
    "tests/faults/test_faults.py",
    "tests/faults/test_package",
    "tests/guest/",
    "tests/kernel/test_random_worlds.py",
    "tests/web/test_console_browser.py",
)
"""Each on one worker: one Docker engine at a time, one small disk, packages that are built once; the random worlds are
tried once for all tests."""
FACTS = ("this kernel", "this machine")
os.environ["PATH"] = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
"""Where Debian has nft and libvirtd; its users' own paths lack these folders."""


# Which tests this machine can run


def _output(*command: str) -> str:
    """Run a probe; empty where it succeeds, else the last line of what it said."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except OSError as problem:
        return str(problem)
    return "" if done.returncode == 0 else (done.stderr.strip().splitlines() or [f"{command[0]} failed"])[-1]


def _absent(*programs: str) -> str:
    missing = [program for program in programs if shutil.which(program) is None]
    return f"{', '.join(missing)} not installed (make setup)" if missing else ""


@cache
def why_not_real() -> str:
    """Say why real namespaces and nftables cannot be used here; empty where they can."""
    if absent := _absent("nft", "ip", "unshare"):
        return absent
    if refused := _output("unshare", "-Urnm", "true"):
        return f"this kernel forbids user namespaces: {refused}"
    if refused := _output("unshare", "-Urnm", "nft", "add table inet probe"):
        return f"this kernel refuses nftables: {refused}"
    return ""


@cache
def why_not_docker() -> str:
    """Say why a Docker engine cannot be started here; empty where it can."""
    if absent := _absent("dockerd", "containerd", "busybox", "iptables"):
        return absent
    if os.geteuid() != 0:
        return "a Docker engine needs root"
    # A user namespace shows root, and mknod and the engine are refused all the same.
    if Path("/proc/self/uid_map").read_text(encoding="ascii").split() != ["0", "0", "4294967295"]:
        return "a Docker engine needs root outside a user namespace"
    return ""


@cache
def why_not_guest() -> str:
    """Say why a QEMU guest cannot be booted here; empty where it can."""
    return _absent("qemu-system-x86_64", "depmod", "mke2fs", "busybox", "dpkg-deb")


@cache
def why_not_browser() -> str:
    """Say why no browser can be driven here; empty where one can."""
    if absent := _absent("chromium"):
        return absent
    axe = Path(__file__).parents[1] / ".tools/console/node_modules/axe-core/axe.min.js"
    return "" if axe.exists() else "axe-core not fetched (make setup, with npm)"


REASONS: dict[str, Callable[[], str]] = {
    "real": why_not_real,
    "fault": why_not_real,
    "docker": why_not_docker,
    "guest": why_not_guest,
    "browser": why_not_browser,
}


class _Places(LoadScopeScheduling):
    """Hands out test by test, and whole folders and files where two tests at a time would share what they break."""

    def _split_scope(self, nodeid: str) -> str:
        return next((place for place in TOGETHER if nodeid.startswith(place)), nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> LoadScopeScheduling:
    """Distribute tests by place. xdist's own groups go by a part of the node that pytest 9 no longer has."""
    return _Places(config, log)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what this machine cannot run, and say exactly why."""
    for kind in KINDS:
        if item.get_closest_marker(kind) and (reason := REASONS[kind]()):
            pytest.skip(f"this machine: {reason}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Turn a skip that names no fact of this machine into a failure."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2].removeprefix("Skipped: ") if isinstance(report.longrepr, tuple) else ""
        if not reason.startswith(FACTS):
            report.outcome = "failed"
            report.longrepr = f'{item.nodeid} was skipped without naming what is missing here: "{reason}"'
    return report


# Tests of the core meet no outside world


class OutsideWorldError(AssertionError):
    """The core reached for a socket, a file, a process, a clock or randomness."""


CLOCKS = ("time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns", "process_time", "sleep")
DICE = ("random", "randint", "randrange", "choice", "choices", "shuffle", "sample", "uniform")
OUTSIDE = ("socket.", "subprocess.", "os.", "shutil.", "tempfile.", "open")
_guard = {"on": False}


def _from_core() -> bool:
    """Tell whether the core is at work, and not merely being imported."""
    frame = sys._getframe(2)
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        if name.startswith(("importlib", "_frozen_importlib")):
            return False
        if name.startswith("stockade.core"):
            return True
        frame = frame.f_back
    return False


def _audit(event: str, _arguments: tuple[object, ...]) -> None:
    if not _guard["on"]:
        return
    if event.startswith(OUTSIDE) and _from_core():
        raise OutsideWorldError(event)


sys.addaudithook(_audit)


def _raising(real: Callable[..., object], name: str) -> Callable[..., object]:
    def guarded(*arguments: object, **named: object) -> object:
        if sys._getframe(1).f_globals.get("__name__", "").startswith("stockade.core"):
            raise OutsideWorldError(name)
        return real(*arguments, **named)

    return guarded


@pytest.fixture(autouse=True)
def _no_outside_world(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Under tests/core, sockets, files, processes, clocks and randomness raise when the core uses them."""
    if CORE_TESTS not in request.path.parents:
        yield
        return
    for name in CLOCKS:
        monkeypatch.setattr(time, name, _raising(getattr(time, name), f"time.{name}"))
    for name in DICE:
        monkeypatch.setattr(random, name, _raising(getattr(random, name), f"random.{name}"))
    _guard["on"] = True
    yield
    _guard["on"] = False
