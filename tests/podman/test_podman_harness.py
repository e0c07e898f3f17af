"""The Podman for tests keeps its word: it runs, root's and a user's, and leaves nothing behind."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from stockade.testing.engine_host import EngineError
from stockade.testing.podman import Podman, PodmanOptions
from stockade.testing.processes import network_namespaces as namespaces

pytestmark = [pytest.mark.real, pytest.mark.timeout(180)]

HOOK = """{"version": "1.0.0", "hook": {"path": "%s"}, "when": {"always": true}, "stages": ["createRuntime"]}"""


@pytest.fixture
def folder(able: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where this test's Podmans put their files."""
    with tempfile.TemporaryDirectory(prefix="stk") as made:
        Path(made).chmod(0o711)
        monkeypatch.setattr(tempfile, "tempdir", made)
        yield Path(made)


def machine(folder: Path) -> dict[str, set[str]]:
    """What a Podman could leave behind; what tests beside this one mount, or keep in ``/run``, is theirs."""
    places = (folder, Path("/etc"), Path("/etc/containers"), Path("/var/lib"))
    return {
        "links": set(_said("ip", "-o", "link")),
        "rules": set(_said("nft", "list", "ruleset")),
        "mounts": {line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(folder) in line},
        "files": {str(path) for place in places if place.exists() for path in place.iterdir()},
        "run": {str(path) for name in ("containers*", "libpod*", "netavark*") for path in Path("/run").glob(name)},
        "users": set(Path("/etc/passwd").read_text().splitlines()),
        "children": set(_said("ps", "-o", "pid=,comm=", "--ppid", str(os.getpid()))),
    }


def _said(*words: str) -> list[str]:
    lines = subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()
    return [line for line in lines if not line.endswith(" ps")]


def cgroups_of(name: str) -> list[Path]:
    return list(Path("/sys/fs/cgroup").glob(f"*/*{name}*")) + list(Path("/sys/fs/cgroup").glob(f"*{name}*"))


def test_nothing_is_left_behind(folder, able_rootless):
    before = machine(folder)
    with Podman(PodmanOptions(users=("ann",))) as podman:
        podman.run("web", "-p", "8080:80")
        podman.run("paused")
        podman.podman("pause", "paused")
        podman.run("web", "-p", "8081:80", user="ann")
        pids = [podman.host_pid, podman.pid("web"), podman.pid("web", "ann")]
        inside = namespaces(pids)
        root = podman.root
        assert len(inside) == 3
        assert inside <= namespaces()
        assert cgroups_of(root.name)
        during = machine(folder)
        assert during.pop("files") - before["files"] == {str(root)}
        assert during.pop("children") > before["children"]
        assert during == {name: before[name] for name in during}
    assert machine(folder) == before
    assert not inside & namespaces()
    assert not cgroups_of(root.name)


ORPHAN = """
import sys
from stockade.testing.podman import Podman
with Podman() as podman:
    podman.run("web", "-p", "8080:80")
    podman.podman("pause", "web")
    print(podman.root, podman.host_pid, flush=True)
    sys.stdin.read()
"""


@pytest.mark.fault
def test_nothing_is_left_behind_by_a_test_that_is_killed(folder):
    before = machine(folder)
    environment = {**os.environ, "TMPDIR": str(folder)}
    words = [sys.executable, "-c", ORPHAN]
    opener = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True)
    root, pid = opener.stdout.readline().split()
    inside = namespaces((int(pid),))
    assert Path(root).exists()
    assert inside <= namespaces()
    opener.kill()
    opener.communicate()
    for _ in range(200):
        if machine(folder) == before and not inside & namespaces() and not cgroups_of(Path(root).name):
            return
        time.sleep(0.1)
    assert (machine(folder), cgroups_of(Path(root).name)) == (before, [])
    assert not inside & namespaces()


def test_hooks_see_the_births_of_everybody(folder, able_rootless):
    """A hook is told who is born before its first process runs; one that says no stops the birth."""
    hooks = folder / "hooks"
    hooks.mkdir()
    hook = hooks / "hook"
    hook.write_text(f"#!/bin/sh\ncat >> {hooks}/said\ntest ! -e {hooks}/closed\n")
    hook.chmod(0o755)
    (hooks / "said").touch()
    (hooks / "said").chmod(0o666)
    (hooks / "hook.json").write_text(HOOK % hook)
    with Podman(PodmanOptions(users=("ann",), hooks=(hooks,))) as podman:
        born = [podman.run("web"), podman.run("web", user="ann")]
        said = (hooks / "said").read_text()
        assert all(f'"id":"{each}"' in said for each in born)
        (hooks / "closed").touch()
        with pytest.raises(EngineError, match="hook"):
            podman.run("late")
        with pytest.raises(EngineError, match="hook"):
            podman.run("late", user="ann")


@pytest.mark.parametrize("network", ["netavark", "cni"])
def test_containers_reach_each_other_the_host_and_outside(able, network):
    with Podman(PodmanOptions(network=network)) as podman:
        podman.run("web", command=("sh", "-c", "httpd -p 80; exec sleep 100000"))
        podman.run("client", "--cap-add", "NET_RAW")
        networks = podman.inspect("web")["NetworkSettings"]["Networks"]
        address = networks["podman"]["IPAddress"]
        assert podman.exec("client", "wget", "-qO-", f"http://{address}/etc/passwd").startswith("root:")
        for target in (address, "10.88.0.1", "198.51.100.2"):
            assert " 0% packet loss" in podman.exec("client", "ping", "-c1", "-W5", target)


def test_the_image_takes_files_along(able):
    files = {"/bin/hello": b"#!/bin/sh\necho hello $1\n"}
    with Podman(PodmanOptions(uplink=False), files=files) as podman:
        podman.run("web")
        assert podman.exec("web", "hello", "world") == "hello world"
