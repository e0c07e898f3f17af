"""The command line against a whole controller: one story from an empty installation to off."""

import asyncio
import os
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest
from route_table_server import CommandLine

from stockade.cli.client import Client
from stockade.controller.http.peers import Access
from stockade.controller.run import running_controller
from stockade.core.model.event import HostSeen, WorkloadSeen
from stockade.core.model.ids import Address, HostId, Prefix, Realm, WorkloadId
from stockade.core.model.inventory import Attachment, Bridge, Endpoint, Host, Sighting, WorkloadKind
from stockade.wire import Report
from stockade.wire.api import Check, Judged, LabelsRequest, ReportReply, ReportRequest, WorkloadReply

EXAMPLES = Path(__file__).parents[2] / "examples" / "shop"
HOST = HostId("host-a")
REALM = Realm("host-a/br0")
ROLES = {"web-1": "web", "api-1": "api", "db-1": "db"}


def container(number: int, name: str) -> Sighting:
    endpoint = Endpoint(
        Attachment.BRIDGED,
        (Address(f"10.0.0.{number}"),),
        f"veth{number}",
        "br0",
        f"02:00:00:00:00:{number:02x}",
        REALM,
    )
    return Sighting(WorkloadId(f"lab:{name}"), name, WorkloadKind.NAMESPACE, HOST, endpoints=(endpoint,))


def inventory() -> tuple[HostSeen | WorkloadSeen, ...]:
    own = Endpoint(Attachment.HOST, (Address("192.0.2.1"),))
    host = Sighting(WorkloadId("host:host-a"), "host-a", WorkloadKind.HOST, HOST, endpoints=(own,))
    bridge = Bridge("br0", REALM, (Prefix("10.0.0.0/24"),))
    seen = [container(number, name) for number, name in enumerate((*ROLES, "stranger"), 2)]
    return (
        HostSeen(Host(HOST, host.id, ("lo", "eth0"), (bridge,))),
        WorkloadSeen(host),
        *map(WorkloadSeen, seen),
    )


@pytest.fixture
def controller(tmp_path: Path) -> Iterator[Client]:
    """A controller of its own, told of one host."""
    socket = tmp_path / "api.sock"
    ready: Future[asyncio.Event] = Future()

    async def serve() -> None:
        done = asyncio.Event()
        loop = asyncio.get_running_loop()
        access = Access(os.geteuid())
        checks = (Check("store", Judged.GOOD, "it writes"),)
        async with running_controller(f"sqlite:///{tmp_path}/state.db", socket, access, doctor=lambda: checks):
            ready.set_result(done)
            stop["it"] = lambda: loop.call_soon_threadsafe(done.set)
            await done.wait()

    def run() -> None:
        try:
            asyncio.run(serve())
        except BaseException as problem:
            if not ready.done():
                ready.set_exception(problem)
            raise

    stop: dict[str, object] = {}
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    ready.result(30)
    client = Client(socket)
    client.call("report", ReportReply, ReportRequest(message=Report(HOST, 1, inventory())))
    for name, role in ROLES.items():
        labels = {"app": "shop", "env": "prod", "role": role}
        client.call("set-labels", WorkloadReply, LabelsRequest(labels=labels), workload=name)
    yield client
    stop["it"]()  # type: ignore[operator]
    thread.join(30)


@pytest.mark.long
def test_from_nothing_to_off(controller: Client, cli: CommandLine) -> None:
    ran = cli("workloads")
    assert ran.code == 0
    assert any(row.startswith("?  stranger") for row in ran.lines)
    assert "role=web" in ran.out

    ran = cli("labels", "set", "stranger", "app=intruder")
    assert ran.code == 0, ran.err
    assert "app=intruder  from " in ran.out
    assert "app=shop" in cli("labels").out

    ran = cli("plan", str(EXAMPLES))
    assert ran.code == 2, ran.err
    assert ran.lines[0].startswith("Draft against version 0. ")
    assert ran.lines[-1].startswith("Apply it:  stockade apply ")

    ran = cli("apply", str(EXAMPLES), "--yes", "--note", "the shop", "--confirm", "10m", "--wait", "0")
    assert ran.code == 2, ran.err
    assert 'Version 1 "the shop"' in ran.out
    assert "stockade confirm" in ran.out
    assert cli("status").code == 2
    assert "Version 1" in cli("confirm", "1").out

    ran = cli("plan", str(EXAMPLES))
    assert (ran.code, ran.lines[0]) == (0, "Draft against version 1. Nothing changes.")

    ran = cli("explain", "web-1", "db-1", "tcp/5432")
    assert ran.code == 2, ran.err
    assert "DENIED at host-a, on " in ran.lines[0]
    assert "web-1" in ran.out
    assert "has role=web" in ran.out
    assert cli("explain", "api-1", "db-1", "tcp/5432").code == 0

    ran = cli("reach", "db-1")
    assert ran.code == 0, ran.err
    assert "shop/api-to-db" in ran.out
    ran = cli("rules")
    assert ran.code == 0, ran.err
    assert "shop/api-to-db" in ran.out
    assert "table inet stockade" in cli("rules", "--text").out

    assert cli("mode", "app = intruder", "selective", "--wait", "0").code == 2
    ran = cli("rollback", "1", "--wait", "0")
    assert ran.code == 2, ran.err
    ran = cli("off", "--note", "enough", "--wait", "0")
    assert ran.code == 2, ran.err
    assert cli("explain", "web-1", "db-1", "tcp/5432").code == 0

    ran = cli("history")
    assert next(row.split()[0] for row in ran.lines[1:]) == "●"
    assert "the shop" in ran.out
    ran = cli("log")
    assert "enough" in ran.out
    assert "off" in ran.out
    assert cli("policy", "show", "1").out.count("kind: Policy") == 1
    assert "store" in cli("doctor").out


def test_what_is_wrong_is_three_lines(controller: Client, cli: CommandLine, tmp_path: Path) -> None:
    for arguments in (
        ("explain", "nobody", "db-1", "tcp/5432"),
        ("explain", "web-1", "db-1", "no-such-service"),
        ("reach", "role ="),
        ("rollback", "99"),
        ("confirm",),
        ("mode", "role ==", "full"),
        ("labels", "set", "nobody", "a=b"),
        ("rules", "host-z"),
        ("policy", "show", "x"),
        ("workloads", "--select", "role in"),
        ("console",),
    ):
        ran = cli(*arguments)
        assert ran.code == 1, arguments
        assert [row.split()[0] for row in ran.err.splitlines()] == ["error", "kept", "next"], ran.err

    (tmp_path / "bad.yaml").write_text("kind: Polcy\n")
    assert cli("plan", "bad.yaml").code == 1
    assert cli("apply", "bad.yaml", "--yes").code == 1


def test_without_a_console_there_is_no_link(controller: Client, cli: CommandLine) -> None:
    told = cli("console")
    assert told.code == 1
    assert "there is no web console" in told.err
    assert "STOCKADE_CONSOLE" in told.err
