"""The harness itself: of either version it does what tests ask of it, and leaves nothing behind."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stockade.testing.containerd import CURRENT, FOREVER, IMAGE, VERSIONS, Containerd, ContainerdOptions
from stockade.testing.engine_host import EngineError
from stockade.testing.processes import network_namespaces as namespaces

pytestmark = pytest.mark.real


def inside_of(containerd: Containerd, *pids: int) -> set[int]:
    return namespaces((containerd.host_pid, *pids))


def traces_of(root: Path) -> list[Path]:
    trees = Path("/sys/fs/cgroup")
    mounts = [Path(line) for line in Path("/proc/self/mounts").read_text().splitlines() if str(root) in line]
    return [*trees.glob(f"*/*{root.name}*"), *trees.glob(f"*{root.name}*"), *mounts, *([root] if root.exists() else [])]


@pytest.mark.parametrize("version", VERSIONS)
def test_nothing_is_left_behind(version):
    with Containerd(ContainerdOptions(version=version)) as containerd:
        pid = containerd.run("web")
        containerd.run("paused")
        containerd.ctr("tasks", "pause", "paused")
        pod = containerd.pods.run("shop")
        containerd.pods.start(containerd.pods.create(pod, "main", IMAGE, ["sleep", "1000"]))
        root, inside = containerd.root, inside_of(containerd, pid)
        assert len(inside) == 2
        assert inside <= namespaces()
        assert traces_of(root)
        containerd.freeze()
    assert not inside & namespaces()
    assert traces_of(root) == []


ORPHAN = """
import sys
from stockade.testing.containerd import Containerd
with Containerd() as containerd:
    print(containerd.root, containerd.host_pid, containerd.run("web"), flush=True)
    sys.stdin.read()
"""


@pytest.mark.fault
def test_nothing_is_left_behind_by_a_test_that_is_killed():
    words = [sys.executable, "-c", ORPHAN]
    opener = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    root, *pids = opener.stdout.readline().split()
    inside = namespaces(map(int, pids))
    assert inside <= namespaces()
    opener.kill()
    opener.communicate()
    for _ in range(300):
        if not inside & namespaces() and not traces_of(Path(root)):
            return
        time.sleep(0.1)
    assert traces_of(Path(root)) == []
    assert not inside & namespaces()


def test_one_that_does_not_come_up_leaves_nothing_and_says_why(monkeypatch):
    roots = []
    monkeypatch.setattr(Containerd, "_configuration", lambda self: roots.append(self.root) or "this is no TOML\n")
    with pytest.raises(EngineError, match=r"(?i)toml"):
        Containerd().__enter__()
    assert traces_of(roots[0]) == []


def test_containers_reach_each_other_the_host_and_outside(containerd):
    web = containerd.run("web", command=("sh", "-c", "httpd -p 80; exec sleep 100000"))
    containerd.run("client")
    links = json.loads(containerd.on_host(*containerd.within(web), "ip", "-j", "address", "show", "dev", "eth0"))
    address = next(each["local"] for each in links[0]["addr_info"] if each["family"] == "inet")
    # `ctr` may lose what a short program says, but not how it ended.
    containerd.exec("client", "sh", "-ec", f"wget -qO- http://{address}/etc/passwd | grep ^root:")
    for target in (address, "172.27.0.1", "198.51.100.2", "2001:db8:51::2"):
        containerd.exec("client", "ping", "-c1", "-W5", target)


def test_what_runs_outlives_a_killed_daemon(containerd):
    web = containerd.run("web")
    daemon = containerd.daemon_pid
    containerd.kill()
    containerd.start()
    assert containerd.daemon_pid != daemon
    assert containerd.pid("web") == web


HOOK = """#!/bin/sh
cat > {folder}/$1
"""
PLUGIN = """#!{python}
import json, os, pathlib, sys
if os.environ["CNI_COMMAND"] == "ADD":
    pathlib.Path("{folder}/seen").write_text(os.environ["CNI_IFNAME"] + " " + os.environ["CNI_NETNS"])
    print(json.dumps(json.load(sys.stdin)["prevResult"]))
"""


@pytest.mark.parametrize("version", VERSIONS)
def test_hooks_chained_plugins_and_nri(version, tmp_path):
    """What gates a birth can be put in at each of the three doors."""
    hook, plugin = tmp_path / "hook", tmp_path / "chained"
    hook.write_text(HOOK.format(folder=tmp_path))
    plugin.write_text(PLUGIN.format(folder=tmp_path, python=sys.executable))
    hook.chmod(0o755)
    plugin.chmod(0o755)

    def hooked(spec):
        return {**spec, "hooks": {"createRuntime": [{"path": str(hook), "args": ["hook", "state"]}]}}

    options = ContainerdOptions(
        version=version, base_spec=hooked, cni_chain=({"type": "chained"},), cni_programs=(plugin,)
    )
    with Containerd(options) as containerd:
        pid = containerd.run("web", spec=hooked)
        assert json.loads((tmp_path / "state").read_text())["id"] == "web"
        assert (tmp_path / "seen").read_text().split() == ["eth0", f"/proc/{pid}/ns/net"]
        pod = containerd.pods.run("shop")
        assert json.loads((tmp_path / "state").read_text())["id"] == "web", "a pod's sandbox is made from no base spec"
        main = containerd.pods.create(pod, "main", IMAGE, FOREVER)
        containerd.pods.start(main)
        assert json.loads((tmp_path / "state").read_text())["id"] == main
        assert "netns" in (tmp_path / "seen").read_text()
        assert containerd.nri_socket.is_socket() == (version == CURRENT)
