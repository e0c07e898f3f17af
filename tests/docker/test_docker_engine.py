"""The engine for tests keeps its word: it starts, restarts, and leaves nothing behind."""

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from stockade.testing.engine import Engine, EngineError, EngineOptions
from stockade.testing.processes import network_namespaces as namespaces

pytestmark = pytest.mark.docker


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where this test's engines put their files: a short path, for sockets live there."""
    with tempfile.TemporaryDirectory(prefix="stk") as made:
        monkeypatch.setattr(tempfile, "tempdir", made)
        yield Path(made)


def machine(folder: Path) -> dict[str, set[str]]:
    """What an engine could leave behind; what tests beside this one mount, or keep in ``/run``, is theirs."""
    return {
        "links": set(_said("ip", "-o", "link")),
        "rules": set(_said("nft", "list", "ruleset")),
        "mounts": {line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(folder) in line},
        "files": {str(path) for place in (folder, Path("/etc")) for path in place.iterdir()},
        "run": {str(path) for name in ("docker*", "containerd*", "runc*") for path in Path("/run").glob(name)},
        "traces": {str(path) for path in Path(folder.parent).glob("containerd*")},
        "children": set(_said("ps", "-o", "pid=,comm=", "--ppid", str(os.getpid()))),
    }


def _said(*words: str) -> list[str]:
    lines = subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()
    return [line for line in lines if not line.endswith(" ps")]


def inside_of(engine: Engine) -> set[int]:
    return namespaces((engine.host_pid, engine.daemon_pid, *map(engine.pid, engine.docker("ps", "-q").split())))


def cgroups_of(name: str) -> list[Path]:
    return list(Path("/sys/fs/cgroup").glob(f"*/*{name}*")) + list(Path("/sys/fs/cgroup").glob(f"*{name}*"))


def test_nothing_is_left_behind(folder):
    before = machine(folder)
    with Engine() as engine:
        engine.docker("network", "create", "front")
        engine.run("web", "-p", "8080:80", "--network", "front")
        engine.run("other")
        inside, root, during = inside_of(engine), engine.root, machine(folder)
        assert len(inside) == 3
        assert inside <= namespaces()
        assert cgroups_of(root.name)
        assert during.pop("files") - before["files"] == {str(root)}
        assert during.pop("children") > before["children"]
        assert during == {name: before[name] for name in during}
    assert machine(folder) == before
    assert not inside & namespaces()
    assert not cgroups_of(root.name)


def test_it_starts_though_somebody_else_has_the_pid_of_its_last_containerd(folder):
    with Engine(EngineOptions(uplink=False)) as engine:
        engine.kill()
        (engine.root / "exec" / "containerd" / "containerd.pid").write_text(str(os.getpid()))
        engine.start()
        assert engine.docker("ps", "-q") == ""


def test_a_frozen_engine_is_cleared_away_too(folder):
    before = machine(folder)
    with Engine() as engine:
        engine.run("web")
        engine.run("paused")
        engine.docker("pause", "paused")
        inside, root = inside_of(engine), engine.root
        engine.freeze()
    assert machine(folder) == before
    assert not inside & namespaces()
    assert not cgroups_of(root.name)


def test_one_that_does_not_come_up_leaves_nothing_and_says_why(folder):
    before = machine(folder)
    with pytest.raises(EngineError, match="no-such-option"):
        Engine(EngineOptions(extra=("--no-such-option",))).__enter__()
    assert machine(folder) == before


ORPHAN = """
import sys
from stockade.testing.engine import Engine
with Engine() as engine:
    engine.run("web", "-p", "8080:80")
    engine.docker("pause", "web")
    print(engine.root, engine.host_pid, flush=True)
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


def test_containers_reach_each_other_the_host_and_outside(engine):
    engine.run("web", command=("sh", "-c", "httpd -p 80; exec sleep 100000"))
    engine.run("client")
    address = engine.inspect("web")["NetworkSettings"]["IPAddress"]
    assert any("dev eth0" in line for line in _said(*engine.within("web"), "ip", "route"))
    assert engine.exec("client", "wget", "-qO-", f"http://{address}/etc/passwd").startswith("root:")
    for target in (address, "172.28.0.1", "198.51.100.2", "2001:db8:51::2"):
        assert " 0% packet loss" in engine.exec("client", "ping", "-c1", "-W5", target)
    assert engine.pid("web") != engine.pid("client")


def test_the_image_takes_files_along_and_bridge_nf_is_as_asked():
    async def test(asked: bool) -> None:
        options = EngineOptions(bridge_nf=asked, iptables=asked, ipv6=False, uplink=False)
        async with Engine(options, files={"/bin/hello": b"#!/bin/sh\necho hello $1\n"}) as engine:
            assert engine.on_host("cat", "/proc/sys/net/bridge/bridge-nf-call-iptables") == str(int(asked))
            engine.run("web")
            assert engine.exec("web", "hello", "world") == "hello world"
            assert ("DOCKER" in engine.on_host("nft", "list", "ruleset")) == asked

    for asked in (True, False):
        asyncio.run(test(asked))
