"""``stockade watch`` on a real pseudo-terminal: what it shows, what its keys do, and that it leaves nothing behind."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import cli_samples as samples
import msgspec
import pytest
from route_table_server import Server
from strict_terminal import Pty, StrictTerminal

from stockade.core.model.finding import Severity
from stockade.core.model.flow import Verdict, Via
from stockade.core.model.ids import Address, CheckId, HostId, RuleId, WorkloadId
from stockade.core.model.packet import Direction
from stockade.wire.api import BirthView, ErrorReply, ExplainReply, FindingsReply, HostFinding
from stockade.wire.flows import FlowEndView, FlowView

pytestmark = [pytest.mark.timeout(200), pytest.mark.long]
EVIL = "x\x1b]0;owned\x07\x1b[2J\x9b31m\u202e\r\n<名前>"


def end(name: str, role: str = "", app: str = "shop") -> FlowEndView:
    labels = (("app", app), ("role", role)) if role else ()
    return FlowEndView(Address("10.0.0.1"), name, WorkloadId(f"docker:h:{name}") if role else None, labels)


def flow(one: FlowEndView, other: FlowEndView, verdict: Verdict = Verdict.ALLOWED, **more: Any) -> FlowView:
    made = FlowView(
        HostId("host-a"), time.time(), time.time(), one, other, "tcp/8080", Direction.INGRESS, verdict,
        RuleId("shop/web-to-api"), Via.DIRECT, "", "", 3, 4, 1500, 0, 0, 0.0,
    )  # fmt: skip
    return msgspec.structs.replace(made, **more)


WEB, API, DB = end("web-1", "web"), end("api-1", "api"), end("db-1", "db")


@pytest.fixture
def live(server: Server) -> Server:
    server.answers |= {
        "status": samples.STATUS,
        "findings": FindingsReply(),
        "explain": ExplainReply(explanation=samples.DENIED),
    }
    server.streams = {"flows": [flow(WEB, API)], "births": []}
    return server


def command(server: Server, *words: str, **variables: str) -> tuple[list[str], dict[str, str]]:
    kept = {each: os.environ[each] for each in ("PATH", "HOME", "LANG") if each in os.environ}
    environment = {**kept, "STOCKADE_SOCKET": str(server.socket), "TERM": "xterm", "PYTHONUTF8": "1", **variables}
    return [sys.executable, "-m", "stockade", "watch", *words], environment


@pytest.fixture
def watching(live: Server) -> Iterator[Pty]:
    it = Pty(*command(live))
    yield it
    it.close()


def test_it_shows_health_edges_flows_and_what_happens(live: Server, watching: Pty) -> None:
    seen = watching.shows("version 8", "shop/web → shop/api", "web-1 → api-1", "q quit")
    assert "in force on" in seen.text
    assert "●" in seen.text
    live.streams["flows"] += [
        flow(WEB, DB, Verdict.DENIED, on="tcp/5432", end=Direction.EGRESS, rule=RuleId("default"))
    ]
    live.streams["births"].append(
        BirthView(WorkloadId("docker:h:web-9"), "web-9", HostId("host-a"), 1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0)
    )
    live.answers["findings"] = FindingsReply(
        findings=(
            HostFinding(HostId("*"), CheckId("scan"), "docker:h:web-1", Severity.MEDIUM, "39 ports", "look", 1.0),
        )
    )
    watching.shows("shop/web → shop/db", "✕", "birth web-9", "finding medium scan docker:h:web-1: 39 ports")
    live.answers["findings"] = FindingsReply()
    watching.shows("cleared scan")
    watching.type("q")
    assert watching.ended() == 0
    assert watching.as_before()


def test_keys_group_sort_pause_filter_and_explain(live: Server, watching: Pty) -> None:
    live.streams["flows"] += [flow(WEB, API)] * 3 + [flow(API, DB, on="tcp/5432")]
    watching.shows("shop/api → shop/db")
    watching.type("g")
    watching.shows("by app")
    watching.type("g")
    watching.shows("by workload", "web-1 → api-1 ")
    watching.type("gg")
    watching.shows("by role", "rate first")
    watching.type("s")
    rows = edges(watching.shows("connections first"))
    assert [each.split()[1:4] for each in rows] == [["shop/web", "→", "shop/api"], ["shop/api", "→", "shop/db"]]
    assert rows[0].split()[-2] == "12"
    watching.type("p")
    watching.shows("standing still, 0 flows since")
    live.streams["flows"].append(flow(WEB, DB))
    assert "shop/web → shop/db" not in watching.shows("standing still, 1 flows since").text
    watching.type("p")
    watching.until(lambda it: "standing still" not in it.text)
    watching.type("\x1b[B\r")
    watching.shows("stockade explain docker:h:api-1 docker:h:db-1 tcp/5432", "esc back")
    assert live.of("explain")[1] == {"source": "docker:h:api-1", "destination": "docker:h:db-1", "on": "tcp/5432"}
    watching.type("\x1b")
    watching.shows("q quit")
    watching.type("ffrom")
    watching.shows("filter", "from")
    watching.type("\x15nonsense x\r")
    watching.shows('"nonsense" is nothing to filter by')
    watching.type("\x15--from 'role = web' verdict denied\r")
    watching.shows("--from 'role = web' --verdict denied  by role")
    watching.until(lambda _: live.of("flows")[1] == {"from": "role = web", "verdict": "denied", "watch": "1"})
    watching.type("f\x15process =nginx via translated end destination service none\r")
    watching.shows("--process =nginx --end destination --via translated --service none  by role")
    wanted = {"process": "=nginx", "via": "translated", "end": "destination", "service": "none", "watch": "1"}
    watching.until(lambda _: live.of("flows")[1] == wanted)
    watching.type("q")
    assert watching.ended() == 0
    assert watching.as_before()


def edges(it: StrictTerminal) -> list[str]:
    lines = it.text.splitlines()
    head = next(at for at, each in enumerate(lines) if "FROM → TO" in each)
    return [each for each in lines[head + 1 : lines.index("FLOWS")] if each.strip()]


def test_names_cannot_steer_the_terminal(live: Server, watching: Pty) -> None:
    """The strict terminal fails at whatever sequence nobody meant, and at a line that is too wide."""
    live.streams["flows"].append(flow(end(EVIL, EVIL, EVIL), end("名前" * 40, "名" * 60), on=EVIL, rule=RuleId(EVIL)))
    live.answers["findings"] = FindingsReply(
        findings=(HostFinding(HostId(EVIL), CheckId(EVIL), EVIL, Severity.HIGH, EVIL, EVIL, 1.0),)
    )
    seen = watching.shows(r"\x1b]0;owned\x07", "名")
    assert "\x1b" not in seen.text
    watching.type("gg")
    watching.shows("by workload")
    watching.type("q")
    assert watching.ended() == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_and_the_terminal_is_as_it_was(watching: Pty, number: signal.Signals) -> None:
    watching.shows("q quit")
    assert watching.terminal.alternate
    assert not watching.terminal.cursor
    os.kill(watching.process.pid, number)
    assert watching.ended() == (0 if number is signal.SIGINT else -number)
    assert watching.as_before()


def test_ctrl_c_is_a_key_like_any_other_terminals(watching: Pty) -> None:
    watching.shows("q quit")
    watching.type("\x03")
    assert watching.ended() == 0
    assert watching.as_before()


def test_suspended_it_gives_the_screen_back_and_takes_it_again(watching: Pty) -> None:
    watching.shows("q quit")
    os.kill(watching.process.pid, signal.SIGTSTP)
    watching.until(lambda _: watching.as_before())  # the screen goes first, how keys are read after
    os.kill(watching.process.pid, signal.SIGCONT)
    watching.until(lambda it: it.alternate and "q quit" in it.text)


def test_it_follows_the_terminals_size(live: Server, watching: Pty) -> None:
    watching.shows("q quit")
    for columns, rows in ((40, 10), (132, 50), (20, 3), (1, 1), (80, 24)):
        watching.resize(columns, rows)
        live.streams["flows"].append(flow(WEB, API))
        watching.read(0.5)
    watching.shows("version 8", "shop/web → shop/api", "q quit")


def test_without_colour_the_marks_say_it(live: Server) -> None:
    live.streams["flows"].append(flow(WEB, DB, Verdict.DENIED))
    it = Pty(*command(live, NO_COLOR="1"))
    try:
        seen = it.shows("✕", "●", "q quit")
        assert seen.styles <= {"7"}, "only what is selected is turned round"
    finally:
        it.close()


def test_a_filter_that_the_server_refuses_may_be_written_anew(live: Server, watching: Pty) -> None:
    watching.shows("version 8", "web")
    live.refusal, live.answers["flows"] = 422, ErrorReply(error='"on" names no port')
    watching.type("f\x15on x\r")
    watching.shows('"on" names no port', "filter --on x")
    del live.answers["flows"]
    watching.type("\x7f\x7f\x7f\x7f\x7f\x7fto db-1\r")
    watching.shows("--to db-1  by role", "q quit")


def test_where_no_flows_are_kept_all_else_is_shown(live: Server) -> None:
    live.answers["flows"] = ErrorReply(error="no flows are kept here")
    it = Pty(*command(live))
    try:
        seen = it.shows("no flows are kept here", "version 8", "q quit")
        assert "filter" not in seen.text.splitlines()[-2]
    finally:
        it.close()


def test_a_server_that_goes_is_said_to_have_gone(live: Server, watching: Pty) -> None:
    watching.shows("version 8")
    del live.answers["status"]
    watching.shows("no answer for status", "version 8")


@pytest.mark.parametrize("form", ["table", "json"])
def test_in_a_pipe_there_are_lines(live: Server, form: str) -> None:
    argv, environment = command(live, "-o", form, "--from", "web-1", "--end", "source", "--process", "nginx")
    live.streams["flows"].append(flow(end(EVIL, EVIL), DB, Verdict.DENIED))
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment) as ran:
        assert ran.stdout is not None
        lines = []
        while not any(b"db-1" in each for each in lines):
            lines.append(ran.stdout.readline())
            assert lines[-1], lines
        ran.send_signal(signal.SIGTERM)
        ran.wait(30)
    assert live.of("flows")[1] == {"from": "web-1", "end": "source", "process": "nginx", "watch": "1"}
    said = next(each for each in lines if b"db-1" in each)
    if form == "json":
        assert msgspec.json.decode(said)["flow"]["destination"]["name"] == "db-1"
    else:
        assert said.startswith(b"20") or "✕" in said.decode()
        assert b"\x1b" not in b"".join(lines)
