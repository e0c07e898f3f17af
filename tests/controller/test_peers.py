"""Who may do what is decided by the kernel's word on the peer; tried as several real users."""

import os
import pwd
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from served import Served, served

from stockade.controller.http.peers import Access, Peer, user_name
from stockade.controller.http.server import access_for, bound_socket
from stockade.errors import StockadeError
from stockade.wire.api import Role

NOBODY = 65534
READERS, APPLIERS = 61_001, 61_002
"""Group ids that need no entry anywhere."""

CLIENT = """
import socket, sys
path, method, target = sys.argv[1:]
head = [f"{method} {target} HTTP/1.1", "Host: x", "X-User: root", "Content-Length: 2", "Connection: close"]
with socket.socket(socket.AF_UNIX) as connection:
    connection.connect(path)
    connection.sendall("".join(line + "\\r\\n" for line in [*head, ""]).encode() + b"{}")
    while part := connection.recv(65536):
        sys.stdout.buffer.write(part)
"""
PYTHON = "/usr/bin/python3" if Path("/usr/bin/python3").exists() else sys.executable
"""One that other users may run."""

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="this machine: to be several users needs root")


def ask(socket: Path, method: str, target: str, *groups: int) -> tuple[int, str]:
    """Ask as the user nobody, with these supplementary groups."""
    done = subprocess.run(
        [PYTHON, "-c", CLIENT, str(socket), method, target],
        user=NOBODY,
        group=NOBODY,
        extra_groups=list(groups),
        capture_output=True,
        timeout=30,
        cwd="/",
        check=False,
    )
    if done.returncode != 0:
        return 0, done.stderr.decode()
    head, _, body = done.stdout.decode().partition("\r\n\r\n")
    return int(head.split()[1]), body


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that other users may enter."""
    made = Path(tempfile.mkdtemp(prefix="stockade-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.fixture
def server(folder: Path) -> Iterator[Served]:
    with served(folder, Access(os.geteuid(), frozenset((APPLIERS,)), frozenset((READERS,)))) as running:
        yield running


@as_root
def test_a_stranger_may_do_nothing(server: Served) -> None:
    for method, target in (("GET", "/v1/status"), ("GET", "/metrics"), ("GET", "/openapi.json"), ("POST", "/v1/off")):
        status, body = ask(server.socket, method, target)
        assert status == 403, (target, body)
        assert "user nobody may not" in body
    assert server.get("/v1/status").json()["version"] == 0


@as_root
def test_a_reader_may_read_and_plan_alone(server: Served) -> None:
    status, body = ask(server.socket, "GET", "/v1/status", READERS)
    assert status == 200
    assert f'"name":"nobody","uid":{NOBODY},"role":1' in body
    assert ask(server.socket, "POST", "/v1/plan", READERS)[0] == 400, "let in; the body is no draft"
    for target in ("/v1/apply", "/v1/off", "/v1/mode", "/v1/rollback", "/v1/confirm", "/v1/agent/report"):
        assert ask(server.socket, "POST", target, READERS)[0] == 403
    assert ask(server.socket, "GET", "/v1/agent/assignment?host=host-a", READERS)[0] == 403


@as_root
def test_an_applier_may_apply_and_is_named(server: Served) -> None:
    assert ask(server.socket, "POST", "/v1/off", APPLIERS)[0] == 200
    (version, _) = server.get("/v1/history").json()["versions"]
    assert version["author"] == "nobody"
    (entry,) = server.get("/v1/audit", last=1).json()["entries"]
    assert (entry["who"], entry["uid"], entry["action"]) == ("nobody", NOBODY, "off")


@as_root
def test_the_file_keeps_strangers_out_before_the_role_does(folder: Path) -> None:
    with served(folder, Access(os.geteuid())) as server:
        mode = stat.S_IMODE(server.socket.stat().st_mode)
        status, problem = ask(server.socket, "GET", "/v1/status")
        assert (mode, status) == (0o600, 0)
        assert "PermissionError" in problem


@as_root
def test_one_group_owns_the_file(folder: Path) -> None:
    with served(folder, Access(os.geteuid(), readers=frozenset((READERS,)))) as server:
        found = server.socket.stat()
        assert (stat.S_IMODE(found.st_mode), found.st_gid) == (0o660, READERS)
        assert ask(server.socket, "GET", "/v1/status", READERS)[0] == 200
        assert ask(server.socket, "GET", "/v1/status")[0] == 0


@pytest.mark.parametrize(
    ("uid", "gids", "role"),
    [
        (0, (), Role.APPLY),
        (1000, (), Role.APPLY),
        (1001, (), Role.NOBODY),
        (1001, (READERS,), Role.READ),
        (1001, (APPLIERS,), Role.APPLY),
        (1001, (READERS, APPLIERS), Role.APPLY),
        (1001, (0,), Role.NOBODY),
    ],
)
def test_roles(uid: int, gids: tuple[int, ...], role: Role) -> None:
    access = Access(1000, frozenset((APPLIERS,)), frozenset((READERS,)))
    assert access.role(Peer(1, uid, frozenset(gids))) is role


def test_a_user_without_a_name_has_a_number() -> None:
    assert user_name(0) == pwd.getpwuid(0).pw_name
    assert user_name(3_999_999_999) == "uid 3999999999"


def test_a_group_that_is_not_there_is_named() -> None:
    with pytest.raises(StockadeError, match='no group "no-such-group"') as refused:
        access_for(["no-such-group"])
    assert "groupadd" in refused.value.remedy


# The socket's file


def test_a_socket_that_nobody_listens_at_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    bound_socket(path, Access(os.geteuid())).close()
    assert path.exists()
    bound_socket(path, Access(os.geteuid())).close()


def test_one_that_answers_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    with bound_socket(path, Access(os.geteuid())):
        with pytest.raises(StockadeError, match="runs already"):
            bound_socket(path, Access(os.geteuid()))
        assert path.exists()


def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("mine")
    with pytest.raises(StockadeError, match="is no socket"):
        bound_socket(path, Access(os.geteuid()))
    assert path.read_text() == "mine"


@pytest.mark.parametrize("name", ["absent/api.sock", "x" * 200])
def test_a_place_where_no_socket_can_be_is_said_in_words(tmp_path: Path, name: str) -> None:
    with pytest.raises(StockadeError, match="cannot listen at") as refused:
        bound_socket(tmp_path / name, Access(os.geteuid()))
    assert "--socket" in refused.value.remedy


def test_nothing_is_left_when_it_ends(folder: Path) -> None:
    with served(folder, Access(os.geteuid())) as server:
        server.get("/v1/status")
    assert sorted(each.name for each in folder.iterdir()) == ["state.db"]
