"""``off`` through a server, and with everything dead: real tables in a namespace of the test's own."""

import json
import platform
import subprocess
import sys
from pathlib import Path

import cli_samples as samples
import pytest
from route_table_server import CommandLine, Server

from stockade.cli.emergency import LINES, Opened, forget, write_down, written_down
from stockade.wire.api import ErrorReply, OffRequest

TABLES = """
add table inet stockade
add chain inet stockade forward { type filter hook forward priority 0; policy drop; }
add table bridge stockade
add table inet other
"""

SCRIPT = """
set -e
printf '%s' "$TABLES" | nft -f -
code=0
"$PYTHON" -c 'from stockade.cli.main import main; main()' off --note "all dead" -o json || code=$?
echo "code $code"
nft list tables
"""


def test_through_the_server(server: Server, cli: CommandLine) -> None:
    server.answers["off"] = samples.APPLIED
    ran = cli("off", "--note", "breach")
    assert ran.code == 0
    assert server.of("off")[0] == OffRequest(note="breach")
    assert "Version 8" in ran.out


def test_a_server_that_forbids_it_is_obeyed(
    server: Server, cli: CommandLine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    server.answers["off"] = ErrorReply(error="you may read only", kept="nothing was changed", remedy="ask root")
    ran = cli("off")
    assert ran.code == 1
    assert "you may read only" in ran.err
    assert not (tmp_path / LINES).exists()


@pytest.mark.real
def test_with_everything_dead_our_tables_go_and_no_others(tmp_path: Path) -> None:
    environment = {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "PYTHON": sys.executable,
        "TABLES": TABLES,
        "STOCKADE_STATE": str(tmp_path / "state"),
        "HOME": str(tmp_path),
    }
    ran = subprocess.run(
        ["unshare", "-Urnm", "bash", "-c", SCRIPT],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    shown, _, rest = ran.stdout.rpartition("code 0\n")
    assert rest.split("\n")[0] == "table inet other"
    opened = json.loads(shown)["opened"]
    assert opened["tables"] == ["bridge stockade", "inet stockade"]
    (line,) = written_down(tmp_path / "state")
    assert (line.note, line.tables) == ("all dead", ("bridge stockade", "inet stockade"))


OWN = """
import sys
from pathlib import Path
from stockade.adapters.nft import NftKernel
kernel = NftKernel(Path(sys.argv[1]), None)
kernel.commit("add table inet stockade\\n")
kernel.commit("add chain inet stockade forward { type filter hook forward priority 0 ; policy drop ; }\\n")
kernel.close()
"""

OWNED = """
"$PYTHON" -c "$OWN" "$STOCKADE_STATE/helper.sock"
nft delete table inet stockade 2>/dev/null && echo "not owned"
"$PYTHON" -c 'from stockade.cli.main import main; main()' off --local >/dev/null || exit 1
sleep 0.2
nft list tables
pgrep -f "$STOCKADE_STATE/helper.sock" >/dev/null && echo "helper left"
exit 0
"""


@pytest.mark.real
def test_tables_that_a_helper_owns_go_too(tmp_path: Path) -> None:
    environment = {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "PYTHON": sys.executable,
        "OWN": OWN,
        "STOCKADE_STATE": str(tmp_path),
        "HOME": str(tmp_path),
        "PYTHONIOENCODING": "utf-8",
    }
    ran = subprocess.run(
        ["unshare", "-Urnm", "bash", "-c", OWNED],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    kernel = tuple(map(int, platform.release().split(".")[:2]))
    assert ran.stdout == ("" if kernel >= (6, 9) else "not owned\n")
    assert written_down(tmp_path)


@pytest.mark.real
def test_where_nothing_is_in_force_it_says_so(tmp_path: Path) -> None:
    environment = {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "STOCKADE_STATE": str(tmp_path),
        "HOME": str(tmp_path),
        "PYTHONIOENCODING": "utf-8",
    }
    command = ["unshare", "-Urnm", sys.executable, "-c", "from stockade.cli.main import main; main()", "off", "--local"]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0
    assert "open already" in ran.stdout


def test_lines_are_kept_in_order_until_they_are_forgotten(tmp_path: Path) -> None:
    first, second = (Opened(at, "root", 0, "", ()) for at in (1.0, 2.0))
    write_down(tmp_path / "new", first)
    write_down(tmp_path / "new", second)
    with (tmp_path / "new" / LINES).open("ab") as file:
        file.write(b'{"at": 3.0, "wh')
    assert written_down(tmp_path / "new") == (first, second)
    forget(tmp_path / "new")
    assert written_down(tmp_path / "new") == ()
    forget(tmp_path / "new")
