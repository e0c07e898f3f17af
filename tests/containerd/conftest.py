"""A real containerd of either version for the tests of this folder."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from stockade.testing.containerd import VERSIONS, Containerd, ContainerdOptions


def why_not() -> str:
    """Say why a containerd cannot be started here; empty where it can."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    if missing := [each for each in ("containerd", "runc", "busybox") if shutil.which(each, path=path) is None]:
        return f"{', '.join(missing)} not installed (make setup)"
    # A user namespace shows root, and mounts and cgroups are refused all the same.
    whole = Path("/proc/self/uid_map").read_text(encoding="ascii").split() == ["0", "0", "4294967295"]
    return "" if os.geteuid() == 0 and whole else "containerd needs root outside a user namespace"


def pytest_runtest_setup(item: pytest.Item) -> None:
    if reason := why_not():
        pytest.skip(f"this machine: {reason}")


@pytest.fixture(scope="session", params=VERSIONS)
def _running(request: pytest.FixtureRequest) -> Iterator[Containerd]:
    with Containerd(ContainerdOptions(version=request.param)) as containerd:
        yield containerd


@pytest.fixture
def containerd(_running: Containerd) -> Iterator[Containerd]:
    """The session's containerd, empty before and after; each test runs on each version."""
    yield _running
    _running.clear()
