"""``stockade gate``: shows what it changes, changes nothing else, and gives back what was there."""

import asyncio
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from stockade.cli import gate_files
from stockade.cli.main import run
from stockade.testing.fake_docker import FakeDocker

DAEMON = '{\n    "log-driver": "journald",\n    "live-restore": true\n}'
LIST = json.dumps({"cniVersion": "1.0.0", "name": "a", "plugins": [{"type": "bridge"}]})

LEFT = {"path": "/usr/bin/env", "runtimeArgs": ["runc"]}

pytestmark = pytest.mark.skipif(
    not (Path(gate_files.__file__).parents[1] / "gate/stockade-gate").exists(),
    reason="this machine has no C compiler: the gate was not built",
)


class Machine:
    def __init__(self, folder: Path) -> None:
        self.root = folder / "root"
        self.flags = ["--root", str(self.root), "--state", str(folder / "state")]
        self.daemon = self.root / "etc/docker/daemon.json"
        self.daemon.parent.mkdir(parents=True)
        self.program = self.root / gate_files.COPIED.lstrip("/")

    def gate(self, *words: str) -> int:
        return run(["gate", *words, *self.flags])


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDocker]:
    """An engine that answers, without containers."""
    fake = FakeDocker(tmp_path / "docker.sock")
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    asyncio.run_coroutine_threadsafe(fake.__aenter__(), loop).result()
    monkeypatch.setenv("DOCKER_HOST", f"unix://{fake.path}")
    yield fake
    asyncio.run_coroutine_threadsafe(fake.__aexit__(None, None, None), loop).result()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.fixture
def machine(tmp_path: Path, docker: FakeDocker) -> Machine:
    return Machine(tmp_path)


def test_what_changes_is_shown_and_comes_back_byte_for_byte(machine, capsys):
    machine.daemon.write_text(DAEMON)
    machine.daemon.chmod(0o640)
    assert machine.gate("install", "docker", "--yes") == 2, "not in force before Docker reads it"
    told = capsys.readouterr()
    assert '+    "default-runtime": "stockade"' in told.out
    assert "systemctl reload docker" in told.err
    assert machine.daemon.stat().st_mode & 0o777 == 0o640
    assert json.loads(machine.daemon.read_text())["live-restore"] is True
    assert os.access(machine.program, os.X_OK)
    assert machine.gate("remove", "docker", "--yes") == 2
    assert machine.daemon.read_text() == DAEMON
    assert machine.program.exists(), "Docker calls it until it is restarted"
    assert machine.gate("remove", "docker") == 0
    assert not machine.program.exists()
    assert [each.name for each in machine.daemon.parent.iterdir()] == ["daemon.json"]


def test_twice_is_once(machine, capsys):
    machine.gate("install", "docker", "--yes")
    there = machine.daemon.read_bytes()
    capsys.readouterr()
    assert machine.gate("install", "docker") == 0
    assert "already" in capsys.readouterr().err
    assert machine.daemon.read_bytes() == there
    machine.gate("remove", "docker", "--yes")
    assert not machine.daemon.exists(), "there was none before"
    assert machine.gate("remove", "docker") == 0


def test_what_was_born_behind_it_keeps_its_name(machine, docker, capsys):
    machine.daemon.write_text(DAEMON)
    machine.gate("install", "docker", "--yes")
    docker.hold({"Id": "c1"}, {"Id": "c1", "Name": "/web", "HostConfig": {"Runtime": "stockade"}})
    machine.gate("remove", "docker", "--yes")
    assert json.loads(machine.daemon.read_text())["runtimes"] == {"stockade": LEFT}
    assert "keep its name" in capsys.readouterr().err
    assert machine.gate("remove", "docker") == 0, "it is out"
    assert machine.program.exists(), "and called until Docker reads that"
    docker.drop("c1")
    machine.gate("remove", "docker", "--yes")
    assert json.loads(machine.daemon.read_text()) == json.loads(DAEMON)


def test_its_name_is_kept_where_nothing_shall_be_restarted(machine, capsys):
    machine.daemon.write_text(DAEMON)
    machine.gate("install", "docker", "--yes")
    capsys.readouterr()
    machine.gate("remove", "docker", "--yes", "--keep-name")
    assert "systemctl reload docker" in capsys.readouterr().err
    assert json.loads(machine.daemon.read_text()) == {
        **json.loads(DAEMON),
        "default-runtime": "runc",
        "runtimes": {"stockade": LEFT},
    }


def test_where_docker_does_not_answer_there_may_be_some(machine, monkeypatch):
    machine.gate("install", "docker", "--yes")
    monkeypatch.setenv("DOCKER_HOST", f"unix://{machine.root}/nobody.sock")
    machine.gate("remove", "docker", "--yes")
    assert json.loads(machine.daemon.read_text())["runtimes"] == {"stockade": LEFT}


def test_what_was_changed_since_is_kept(machine):
    machine.daemon.write_text(DAEMON)
    machine.gate("install", "docker", "--yes")
    changed = json.loads(machine.daemon.read_text())
    machine.daemon.write_text(json.dumps({**changed, "debug": True}))
    machine.gate("remove", "docker", "--yes")
    assert json.loads(machine.daemon.read_text()) == {**json.loads(DAEMON), "debug": True}


def test_installed_again_after_a_change_the_change_is_what_was_before(machine):
    machine.daemon.write_text(DAEMON)
    machine.gate("install", "docker", "--yes")
    machine.daemon.write_text('{"debug": true}')
    machine.gate("install", "docker", "--yes")
    machine.gate("remove", "docker", "--yes")
    assert machine.daemon.read_text() == '{"debug": true}'


def test_without_a_terminal_it_must_be_told(machine, capsys):
    machine.daemon.write_text(DAEMON)
    assert machine.gate("install", "docker") == 1
    told = capsys.readouterr()
    assert "stockade" in told.out
    assert "--yes" in told.err
    assert machine.daemon.read_text() == DAEMON
    assert not machine.program.exists()


def test_a_file_that_cannot_be_read_is_named_and_left(machine, capsys):
    machine.daemon.write_text("{")
    assert machine.gate("install", "docker", "--yes") == 1
    assert "/etc/docker/daemon.json is not JSON" in capsys.readouterr().err
    assert machine.daemon.read_text() == "{"


def test_an_unknown_runtime_is_answered_with_those_that_are_known(machine, capsys):
    assert machine.gate("install", "dokcer") == 1
    assert "docker, podman, cri-o, containerd, cni, nri" in capsys.readouterr().err


def test_the_plugin_is_where_networks_look_for_it(machine):
    folder = machine.root / "etc/cni/net.d"
    folder.mkdir(parents=True)
    (folder / "10-a.conflist").write_text(LIST)
    plugin = machine.root / "opt/cni/bin/stockade"
    assert machine.gate("install", "cni", "--yes") == 0
    assert plugin.read_bytes() == gate_files.built().read_bytes()
    machine.gate("install", "podman", "--yes")
    machine.gate("remove", "cni", "--yes")
    assert (folder / "10-a.conflist").read_text() == LIST
    assert not plugin.exists()
    assert machine.program.exists(), "Podman's hook calls it"
    machine.gate("remove", "podman", "--yes")
    assert not machine.program.exists()


def test_a_link_is_followed_and_stays_one(machine):
    kept = machine.root / "kept.json"
    kept.write_text(DAEMON)
    machine.daemon.symlink_to(kept)
    machine.gate("install", "docker", "--yes")
    assert machine.daemon.is_symlink()
    assert "stockade" in kept.read_text()


def states(machine: Machine, capsys) -> dict[str, tuple[str, list[str]]]:
    capsys.readouterr()
    machine.gate("status", "-o", "json")
    told = json.loads(capsys.readouterr().out)
    assert told["agent"] == "the agent does not answer"
    return {each["runtime"]: (each["state"], each["problems"]) for each in told["gates"]}


def test_status_says_where_it_is_and_what_is_wrong_with_it(machine, capsys):
    assert machine.gate("status") == 0
    machine.gate("install", "docker", "--yes")
    found = states(machine, capsys)
    assert found["docker"] == ("installed", [])
    assert found["podman"] == ("not installed", [])
    assert machine.gate("status") == 2, "the agent does not answer"
    machine.program.chmod(0o777)
    assert "can be changed by others" in states(machine, capsys)["docker"][1][0]
    machine.program.unlink()
    assert "missing" in states(machine, capsys)["docker"][1][0]
    changed = json.loads(machine.daemon.read_text())
    machine.daemon.write_text(json.dumps({**changed, "default-runtime": "runc"}))
    state, problems = states(machine, capsys)["docker"]
    assert state == "partly"
    assert "stockade gate install docker" in problems[0]


def test_a_program_that_is_gone_is_put_back(machine, capsys):
    machine.gate("install", "docker", "--yes")
    machine.program.write_bytes(b"an older one")
    assert machine.gate("install", "docker", "--yes") == 2
    assert states(machine, capsys)["docker"] == ("installed", [])
