"""What ``stockade flows`` tells is what was sent: exactly, over the deaths of whoever records and whoever keeps."""

import asyncio
import contextlib
import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from shop_flows import PATIENCE, WAYS, again, on_stage, traffic, until_told

from stockade.cli.demo import shop_files
from stockade.cli.demo_stage import Stage
from stockade.wire.flows import FlowStoreReply

pytestmark = [pytest.mark.real, pytest.mark.timeout(280)]


def test_what_is_told_is_what_was_sent_whoever_dies_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(on: Stage) -> None:
        wanted = await traffic(on, 3)
        await until_told(on, wanted)
        # Agent and controller end in good order, with what was not sent yet.
        wanted += await traffic(on, 2)
        await on.stop()
        await again(on)
        await until_told(on, wanted)
        # The store's process dies: batches that it did not acknowledge are sent again.
        (pid,) = store_processes(on)
        wanted += await traffic(on, 1)
        os.kill(pid, signal.SIGKILL)
        wanted += await traffic(on, 1)
        await until_told(on, wanted)
        # Everything dies at once, some time after it was recorded.
        assert on.server is not None
        on.server.kill()
        await on.server.wait(10)
        await again(on)
        wanted += await traffic(on, 2)
        await until_told(on, wanted)
        kept = await asyncio.to_thread(on.client.call, "flow-store", FlowStoreReply)
        assert {each.what for each in kept.losses} <= {"seconds unheard", "not looked for"}, "nothing else was lost"
        assert kept.bytes > 0
        assert kept.where == "embedded"

    on_stage(scenario, monkeypatch)


def store_processes(on: Stage) -> list[int]:
    """The processes that hold this stage's store."""
    found = []
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            try:
                words = (path / "cmdline").read_bytes()
            except OSError:
                continue
            if b"clickhouse.serving" in words and str(on.state).encode() in words:
                found.append(int(path.name))
    return found


def stockade(on: Stage, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "stockade", *words, "--state", str(on.state)],
        capture_output=True, text=True, timeout=60, check=False, env={**os.environ, "COLUMNS": "200", "NO_COLOR": "1"},
    )  # fmt: skip


def test_flows_are_asked_for_as_policy_is_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async def scenario(on: Stage) -> None:
        await until_told(on, await traffic(on, 1))

        def ask(*words: str) -> list[dict[str, object]]:
            done = stockade(on, "flows", *words, "-o", "json")
            assert done.returncode in (0, 2), done.stderr
            return json.loads(done.stdout)["flows"]

        denied = ask("--from", "role = web", "--to", "app = shop and role = db", "--verdict", "denied")
        assert {(each["source"]["name"], each["destination"]["name"], each["on"], each["rule"]) for each in denied} == {
            ("web-1", "db-1", "tcp/5432", "default")
        }
        assert {tuple(label) for each in denied for label in each["source"]["labels"]} >= {("role", "web")}
        assert ask("--from", on.lab.address("intruder"), "--on", "udp/7001")
        assert not ask("--from", "intruder", "--on", "tcp/7001")
        assert not ask("--since", "2020-01-01", "--until", "2020-01-02"), "time travel to when nothing was"
        assert ask("--from", "unknown", "--to", "db-1"), "payments is nobody's workload"
        table = stockade(on, "flows", "--to", "db-1", "--verdict", "denied")
        assert table.returncode == 2
        assert "✕" in table.stdout
        assert "intruder" in table.stdout
        summed = stockade(on, "flows", "--by", "source.app,destination.role,verdict")
        assert "SOURCE.APP" in summed.stdout
        assert "shop" in summed.stdout
        await programs_are_named(on)
        wrong = stockade(on, "flows", "--on", "postgres/5432")
        assert wrong.returncode == 1
        assert "postgres" in wrong.stderr
        assert stockade(on, "flows", "--by", "colour").returncode == 1
        export(on, tmp_path)
        await follow(on)

    on_stage(scenario, monkeypatch)


def test_policy_is_suggested_from_what_was_seen_and_drafts_are_judged_by_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async def scenario(on: Stage) -> None:
        await until_told(on, await traffic(on, 2))
        suggested = stockade(on, "suggest", "app = shop", "--write", str(tmp_path / "suggested.yaml"))
        assert suggested.returncode == 0, suggested.stderr
        assert "role = web → role = api  tcp/8080" in suggested.stdout
        assert "role = api → role = db  postgres" in suggested.stdout
        assert "8 of 20 connections" in suggested.stdout
        left_out = suggested.stdout.partition("Seen, and not allowed by it")[2]
        assert "intruder" in left_out
        assert "web-1" in left_out
        assert stockade(on, "policy", "check", str(tmp_path)).returncode == 0
        ring = json.loads(stockade(on, "ringfence", "shop", "-o", "json").stdout)
        assert (ring["within"], ring["rules"]) == (True, [])
        assert "from: all, to: all" in ring["text"]
        narrowed = stockade(on, "suggest", "--tighten", "shop")
        assert "udp/53    not used" in narrowed.stdout
        assert "mode: full" not in narrowed.stdout
        assert stockade(on, "suggest").returncode == 1
        assert stockade(on, "suggest", "--tighten", "nobody").returncode == 1
        assert (
            "is there already" in stockade(on, "ringfence", "shop", "--write", str(tmp_path / "suggested.yaml")).stderr
        )
        draft = tmp_path / "draft"
        draft.mkdir()
        for file in shop_files():
            (draft / Path(file.name).name).write_text(file.text.replace("tcp/8080", "tcp/8081"))
        planned = stockade(on, "plan", str(draft), "--replay", "1h")
        assert "4 connections pass then and now" in planned.stdout
        assert "4 passed and would be denied" in planned.stdout
        assert "web-1  →  api-1  tcp/8080" in planned.stdout

    on_stage(scenario, monkeypatch)


RESOLVER = """
import socket, struct, threading
told = b"\\xc0\\x0c" + struct.pack("!HHIH", 1, 1, 300, 4) + socket.inet_aton("{address}")
def answer(question):
    return question[:2] + struct.pack("!HHHHH", 0x8180, 1, 1, 0, 0) + question[12:] + told
def by_streams(s):
    while True:
        with s.accept()[0] as asked:
            said = answer(asked.recv(512)[2:])
            asked.sendall(struct.pack("!H", len(said)) + said)
with socket.create_server(("{address}", 53)) as t, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
    threading.Thread(target=by_streams, args=(t,), daemon=True).start()
    s.bind(("{address}", 53))
    while True:
        question, asker = s.recvfrom(512)
        s.sendto(answer(question), asker)
"""
ASK = """
import socket, struct
question = b"\\3pay\\7example\\0" + struct.pack("!HH", 1, 1)
question = struct.pack("!HHHHHH", 7, 0x0100, 1, 0, 0, 0) + question
if "{way}" == "tcp":
    with socket.create_connection(("{address}", 53), 5) as s:
        s.sendall(struct.pack("!H", len(question)) + question)
        while s.recv(512):
            pass
else:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.settimeout(5)
        s.sendto(question, ("{address}", 53))
        s.recvfrom(512)
"""
GO = """
import socket
try:
    socket.create_connection(("{address}", 8443), 2).close()
except OSError:
    pass
"""


def test_an_address_outside_has_the_name_by_which_its_source_was_led_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two ask a resolver outside, one over TCP, and go where they were led; ``api-1`` goes there unasked."""

    async def scenario(on: Stage) -> None:
        address = on.lab.address("payments")
        resolver = await on.lab.start("payments", [sys.executable, "-c", RESOLVER.format(address=address)])
        deadline, found = time.monotonic() + PATIENCE, set()
        while not {("web-1", "pay.example"), ("db-1", "pay.example"), ("api-1", "")} <= found:
            assert time.monotonic() < deadline, found
            for each, way in (("web-1", "udp"), ("db-1", "tcp")):
                await on.lab.run(each, [sys.executable, "-c", ASK.format(address=address, way=way)])
            for each in ("web-1", "db-1", "api-1"):
                await on.lab.run(each, [sys.executable, "-c", GO.format(address=address)])
            done = stockade(on, "flows", "--to", address, "--on", "tcp/8443", "-o", "json")
            found = {(each["source"]["name"], each["destination"]["told"]) for each in json.loads(done.stdout)["flows"]}
        assert ("api-1", "pay.example") not in found, "what one was told names nothing for another"
        named = stockade(on, "flows", "--to", "dns:pay.example")
        assert f"{address} (dns:pay.example)" in named.stdout
        assert "api-1" not in named.stdout
        summed = stockade(on, "flows", "--by", "source.name,destination.name", "-o", "json").stdout
        assert ["web-1", "dns:pay.example"] in [each["values"] for each in json.loads(summed)["groups"]]
        resolver.kill()

    on_stage(scenario, monkeypatch, policy=False)


async def programs_are_named(on: Stage) -> None:
    """Who serves is met at the destination's end, and who asks at the source's, while it is there."""
    deadline, found = time.monotonic() + PATIENCE, {}
    while found.keys() != {"egress", "ingress"}:
        assert time.monotonic() < deadline, found
        await traffic(on, 1)
        await asyncio.sleep(0.5)
        summed = json.loads(stockade(on, "flows", "--by", "end,process", "-o", "json").stdout)["groups"]
        found = {end: name for end, name in (each["values"] for each in summed) if name}
    assert all(each.startswith("python") for each in found.values()), found
    assert "python" in stockade(on, "flows", "--to", "api-1").stdout


def export(on: Stage, folder: Path) -> None:
    """The same flows in each form; a file that is there is left alone."""
    parquet = pytest.importorskip("pyarrow.parquet", reason="this machine has no pyarrow")
    rows = list(csv.DictReader(io.StringIO(stockade(on, "flows", "--export", "csv").stdout)))
    lines = [json.loads(each) for each in stockade(on, "flows", "--export", "json").stdout.splitlines()]
    assert stockade(on, "flows", "--export", "parquet", "--file", str(folder / "flows.parquet")).returncode == 0
    table = parquet.read_table(folder / "flows.parquet").to_pylist()
    assert len(rows) >= len(WAYS)
    assert {row["source"] for row in rows} == {line["source"]["name"] for line in lines} == {t["source"] for t in table}
    assert len(rows) <= len(lines) <= len(table), "more may come meanwhile, nothing goes"
    again = stockade(on, "flows", "--export", "parquet", "--file", str(folder / "flows.parquet"))
    assert again.returncode == 1
    assert "is there already" in again.stderr


async def follow(on: Stage) -> None:
    """Flows come as they are stored, those that were asked for alone."""
    words = ("-m", "stockade", "flows", "--follow", "--from", "name = intruder", "-o", "json", "--state", str(on.state))
    it = await asyncio.create_subprocess_exec(sys.executable, *words, stdout=asyncio.subprocess.PIPE)
    assert it.stdout is not None
    deadline, line = time.monotonic() + PATIENCE, b""
    while not line:
        assert time.monotonic() < deadline
        await traffic(on, 1)
        with contextlib.suppress(TimeoutError):
            line = await asyncio.wait_for(it.stdout.readline(), 1)
    it.terminate()
    await it.wait()
    assert json.loads(line)["source"]["name"] == "intruder"
