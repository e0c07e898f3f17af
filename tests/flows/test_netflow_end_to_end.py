"""Real exporters tell ``stockade up`` of flows: softflowd of packets, nfreplay of what nfcapd had written down."""

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from exported_traffic import SEEN, TRAFFIC, captured
from stockade.cli.demo_stage import Stage, stage
from stockade.testing.lab import enter
from stockade.wire.flows import FlowStoreReply

pytestmark = [pytest.mark.real, pytest.mark.timeout(280)]
PATIENCE = 60.0
PORT = 20_555
CONNECTIONS = {
    ("10.1.0.1", "10.1.0.2", "udp/53"): (5, 180, 256),
    ("10.1.0.3", "10.1.0.2", "udp/514"): (5, 190, 0),
    ("fd00::1", "fd00::2", "udp/53"): (4, 432, 0),
    ("10.1.0.1", "10.1.0.9", "icmp/8/0"): (1, 36, 0),
}
"""Packets, and bytes there and back."""


def on_stage(scenario: Callable[[Stage], Awaitable[None]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STOCKADE_FLOWS")
    monkeypatch.setenv("STOCKADE_NETFLOW", f"127.0.0.1:{PORT}")
    monkeypatch.setenv("STOCKADE_NETFLOW_EXPORTERS", "127.0.0.1")

    async def run() -> None:
        async with stage() as on:
            on.tell_all()
            await scenario(on)

    enter()
    asyncio.run(run())


def needed(*programs: str) -> list[str]:
    found = [shutil.which(each) for each in programs]
    for name, path in zip(programs, found, strict=True):
        if path is None:
            pytest.skip(f"this machine: {name} not installed (make setup)")
    return [each for each in found if each is not None]


def stockade(on: Stage, *words: str) -> dict[str, list[dict[str, object]]]:
    words = (sys.executable, "-m", "stockade", "flows", *words, "--state", str(on.state), "-o", "json")
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode in (0, 2), done.stderr
    return json.loads(done.stdout)


async def inside(on: Stage, *words: str) -> None:
    """Run a program on the stage's host, to its end."""
    done = await on.lab.run(on.lab.host_name, list(words))
    assert done.status == 0, done


async def until_told(on: Stage, version: str) -> None:
    deadline, found, wanted = time.monotonic() + PATIENCE, {}, dict(CONNECTIONS)
    if version == "5":
        wanted = {ends: counts for ends, counts in wanted.items() if ":" not in ends[0]}
    while found != wanted:
        assert time.monotonic() < deadline, found
        await asyncio.sleep(0.5)
        flows = (await asyncio.to_thread(stockade, on, "--host", "netflow:127.0.0.1", "--since", "2h"))["flows"]
        assert {(each["verdict"], each["rule"], each["host"]) for each in flows} <= {
            ("carried", "", "netflow:127.0.0.1")
        }
        found = {}
        for each in flows:
            ends = (each["source"]["address"], each["destination"]["address"], each["on"])
            before = found.get(ends, (0, 0, 0))
            found[ends] = (before[0] + each["packets"], before[1] + each["bytes_out"], before[2] + each["bytes_in"])


@pytest.mark.parametrize("version", ["5", "9", "10"])
def test_what_softflowd_saw_is_told_as_seen_by_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, version: str
) -> None:
    (softflowd,) = needed("softflowd")
    captured(tmp_path / "traffic.pcap", TRAFFIC)

    async def scenario(on: Stage) -> None:
        words = [softflowd, "-r", str(tmp_path / "traffic.pcap"), "-n", f"127.0.0.1:{PORT}", "-v", version, "-d"]
        await inside(on, *words, "-p", str(tmp_path / "pid"), "-c", "none")
        await until_told(on, version)
        kept = await asyncio.to_thread(on.client.call, "flow-store", FlowStoreReply)
        (device,) = kept.exporters
        assert (device.address, device.lost, device.unread, device.sampling) == ("127.0.0.1", 0, 0, 1)
        assert device.versions == ({"5": "NetFlow 5", "9": "NetFlow 9", "10": "IPFIX"}[version],)
        assert device.records == len([each for each in SEEN if version != "5" or ":" not in each[0]])
        assert kept.refused == 0
        assert not kept.losses

    on_stage(scenario, monkeypatch)


@pytest.mark.parametrize("version", ["5", "9"])
def test_what_nfcapd_wrote_down_and_nfreplay_tells_is_the_same(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, version: str
) -> None:
    softflowd, nfcapd, nfreplay = needed("softflowd", "nfcapd", "nfreplay")
    captured(tmp_path / "traffic.pcap", TRAFFIC)
    written = tmp_path / "written"
    written.mkdir()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    capd = subprocess.Popen(
        [nfcapd, "-b", "127.0.0.1", "-p", port, "-w", str(written)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        time.sleep(1)
        words = [softflowd, "-r", str(tmp_path / "traffic.pcap"), "-n", f"127.0.0.1:{port}", "-v", "9", "-d"]
        subprocess.run([*words, "-p", str(tmp_path / "pid"), "-c", "none"], check=True, timeout=30, capture_output=True)
        time.sleep(1)
    finally:
        os.kill(capd.pid, signal.SIGINT)
        capd.wait(20)
    (file,) = [each for each in written.iterdir() if each.name.startswith("nfcapd.")]

    async def scenario(on: Stage) -> None:
        await inside(on, nfreplay, "-r", str(file), "-H", "127.0.0.1", "-p", str(PORT), "-v", version)
        await until_told(on, version)

    on_stage(scenario, monkeypatch)
