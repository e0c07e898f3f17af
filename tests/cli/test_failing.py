"""However a verb ends, its user meets three lines and an exit code; never a traceback."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from route_table_server import CommandLine, Server

import stockade.cli.history
from stockade.wire.routes import route

STOCKADE = (sys.executable, "-c", "from stockade.cli.main import main; main()")


def three(err: str) -> list[str]:
    return [row.split()[0] for row in err.splitlines()]


def test_no_server(cli: CommandLine, tmp_path: Path) -> None:
    ran = cli("status")
    assert ran.code == 1
    assert three(ran.err) == ["error", "kept", "next"]
    assert str(tmp_path / "api.sock") in ran.err
    assert "stockade up" in ran.err


def test_a_server_that_does_not_speak_http(cli: CommandLine, tmp_path: Path) -> None:
    import socket
    import threading

    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(tmp_path / "api.sock"))
    listening.listen(1)

    def answer() -> None:
        taken, _ = listening.accept()
        taken.sendall(b"what?\r\n")
        taken.close()

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    ran = cli("status")
    thread.join(10)
    listening.close()
    assert ran.code == 1
    assert three(ran.err) == ["error", "kept", "next"]


def test_a_bug_is_reported_shortly(server: Server, cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("something that nobody thought of")

    monkeypatch.setattr(stockade.cli.history, "deliver", broken)
    server.answers["history"] = route("history").reply(versions=())  # type: ignore[call-arg,misc]
    ran = cli("history")
    assert ran.code == 1
    assert three(ran.err) == ["error", "kept", "next"]
    assert "ZeroDivisionError: something that nobody thought of" in ran.err
    assert "Traceback" not in ran.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("no-such-verb",),
        ("plan", "--no-such-flag"),
        ("explain", "one"),
        ("rollback", "seven"),
        ("rollback", "7", "--confirm", "soon"),
        ("history", "--last", "many"),
        ("status", "-o", "xml"),
    ],
)
def test_a_wrong_command_line(arguments: tuple[str, ...], cli: CommandLine) -> None:
    ran = cli(*arguments)
    assert ran.code == 1
    assert three(ran.err) == ["error", "kept", "next"]
    assert "--help" in ran.err


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("latin1.yaml", "name: caf\xe9\n".encode("latin1"), "latin1.yaml:1:10: byte 0xe9 is not UTF-8"),
        ("huge.yaml", b"#" * (8 * 1024 * 1024 + 1), "larger than 8 MiB"),
    ],
)
def test_a_file_that_is_no_text(name: str, content: bytes, said: str, cli: CommandLine, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    ran = cli("plan", name)
    assert ran.code == 1
    assert said in ran.err


def test_no_files_and_missing_files(cli: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "no policy files in empty" in cli("plan", "empty").err
    assert "cannot read nowhere.yaml: No such file or directory" in cli("plan", "nowhere.yaml").err


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    ran = subprocess.run(
        ["sh", "-c", 'set -o pipefail 2>/dev/null; "$@" | true', "sh", *STOCKADE, "completion", "bash"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.stderr == ""


def test_a_full_disk_under_stdout() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this machine: /dev/full is not there")
    with Path("/dev/full").open("w") as full:
        ran = subprocess.run(
            [*STOCKADE, "version"], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False
        )
    assert ran.returncode == 1
    assert os.strerror(errno.ENOSPC) in ran.stderr
    assert "Traceback" not in ran.stderr
