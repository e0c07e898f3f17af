"""What nobody tells of: found by the kernel's census, held by the base drop, listed as dark, admitted by a label."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from stockade.cli.client import Client, Unreachable
from stockade.testing.bare_host import BareHost, bare_host, why_not
from stockade.testing.processes import end_nft_helpers
from stockade.wire.api import ApplyRequest, File, StatusReply, VersionReply

pytestmark = [pytest.mark.real, pytest.mark.timeout(240)]

HOLD = """
apiVersion: stockade.dev/v1
kind: EnforcementMode
metadata: {name: hold}
spec: {select: has host, mode: visibility, priority: 10, births: hold}
"""
LISTEN = "import socket, sys; s = socket.create_server((sys.argv[1], 8099)); [s.accept() for _ in iter(int, 1)]"
KNOCK = "import socket; socket.create_connection(('10.99.0.1', 8099), timeout=2)"


PATIENCE = 60.0


def until(happens: Callable[[], object], says: Callable[[], object] = lambda: "") -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + PATIENCE
    while not happens():
        assert time.monotonic() < deadline, says()
        time.sleep(0.05)


class Up:
    """Stockade on a bare host."""

    def __init__(self, host: BareHost, state: Path) -> None:
        self.host, self.state = host, state
        self.client = Client(state / "api.sock")
        self._log = (state / "up.log").open("ab")
        self.process = host.start(
            sys.executable, "-m", "stockade", "up", "--state", str(state), "--host", "bare", "--no-docker",
            stdout=self._log, stderr=self._log,
        )  # fmt: skip

    def said(self) -> str:
        return (self.state / "up.log").read_text(errors="replace")

    def until(self, happens: Callable[[], object]) -> None:
        def met() -> object:
            try:
                return happens()
            except Unreachable:
                return False

        until(met, lambda: f"{self.said()[-3000:]}\n{self.audit()}")

    def settled(self) -> bool:
        status = self.client.call("status", StatusReply)
        return bool(status.hosts) and all(each.current for each in status.hosts)

    def cli(self, *words: str) -> "subprocess.CompletedProcess[str]":
        argv = [*self.host.words, sys.executable, "-m", "stockade", *words, "--state", str(self.state)]
        return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)

    def audit(self) -> tuple[int, dict[str, Any]]:
        """Return how an audit ends, and what it found."""
        ran = self.cli("audit", "-o", "json")
        return ran.returncode, json.loads(ran.stdout)["found"] if ran.stdout else {"error": ran.stderr}

    def dark(self) -> dict[str, dict[str, Any]]:
        return {each["name"]: each for each in self.audit()[1]["dark"]}

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(60)
        end_nft_helpers(self.state)
        self._log.close()


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    if reason := why_not():
        pytest.skip(f"this machine: {reason}")
    with bare_host() as host:
        on = Up(host, tmp_path)
        try:
            on.until(on.settled)
            yield on
        finally:
            on.close()


def reaches(host: BareHost, name: str) -> bool:
    """Tell whether a namespace gets through to what listens on the host."""
    knocking = host.start("nsenter", f"--net=/run/netns/{name}", sys.executable, "-c", KNOCK, stderr=subprocess.DEVNULL)
    return knocking.wait(60) == 0


def test_a_namespace_that_nobody_tells_of_is_dark_and_held_until_it_is_labelled(up: Up) -> None:
    listens = up.host.start(sys.executable, "-c", LISTEN, "10.99.0.1")
    try:
        up.host.plug("before", 6)
        until(lambda: reaches(up.host, "before"))  # where births pass so does this
        files = (File("hold.yaml", HOLD),)
        reply = up.client.call("apply", VersionReply, ApplyRequest(files=files, note="hold", yes=True, wait=30))
        assert reply.realised, reply.waiting
        up.host.plug("rogue", 7)
        assert not reaches(up.host, "rogue")  # from its first packet on, whether or not anybody has noticed it
        up.until(lambda: "rogue" in up.dark())
        code, _ = up.audit()
        assert code == 2
        rogue = up.dark()["rogue"]
        assert (rogue["why"], rogue["port"], rogue["bridge"]) == ("unreported", "rogue", "br0")
        assert (rogue["addresses"], rogue["held"]) == (["10.99.0.7"], True)
        assert not reaches(up.host, "rogue")

        assert up.cli("labels", "set", "rogue", "app=shop").returncode == 0
        up.until(up.settled)
        until(lambda: reaches(up.host, "rogue"), up.said)
        assert "rogue" not in up.dark()
        assert "before" in up.dark()
    finally:
        listens.kill()
        listens.wait()
    assert "Traceback" not in up.said()


def test_a_dark_workload_is_shown_with_what_it_runs(up: Up) -> None:
    up.host.plug("rogue", 7)
    listens = up.host.start("nsenter", "--net=/run/netns/rogue", sys.executable, "-c", LISTEN, "10.99.0.7")
    try:
        up.until(lambda: up.dark().get("rogue", {}).get("listening"))
        rogue = up.dark()["rogue"]
        (socket_,) = rogue["listening"]
        assert (socket_["port"], socket_["address"], socket_["process"]["pid"]) == (8099, "10.99.0.7", listens.pid)
        assert rogue["process"]["pid"] == listens.pid
        shown = up.cli("workloads", "rogue")
        assert f"tcp/8099 on 10.99.0.7  {rogue['process']['name']} (pid {listens.pid}" in shown.stdout
    finally:
        listens.kill()
        listens.wait()


def test_a_port_that_leads_to_nobody_known_and_a_stranger_behind_it_are_dark(up: Up) -> None:
    """A tap on a bridge: what it is opened by is no namespace."""
    if not Path("/dev/net/tun").exists():
        pytest.skip("this machine: has no /dev/net/tun")
    up.host.run("ip tuntap add dev tap7 mode tap; ip link set tap7 master br0 up")
    up.until(lambda: "tap7" in up.dark())
    assert (up.dark()["tap7"]["why"], up.dark()["tap7"]["bridge"]) == ("port", "br0")


def test_an_address_behind_somebodys_port_that_is_not_its_own_is_dark(up: Up) -> None:
    up.host.plug("one", 7)
    up.until(lambda: "one" in up.dark())
    assert up.cli("labels", "set", "one", "app=shop").returncode == 0
    up.until(lambda: "one" not in up.dark())
    up.host.run(
        "ip netns exec one sh -ec 'ip link add inner type bridge; ip link set inner up; ip addr flush dev eth0;"
        "ip link set eth0 master inner; ip addr add 10.99.0.8/24 dev inner;"
        "ip link set inner address 02:00:00:00:00:08'"
    )
    knocking = up.host.start("nsenter", "--net=/run/netns/one", sys.executable, "-c", KNOCK, stderr=subprocess.DEVNULL)
    knocking.wait(60)
    up.until(lambda: "02:00:00:00:00:08" in up.dark())
    assert up.dark()["02:00:00:00:00:08"]["port"] == "one"


def test_the_host_shows_its_links_routes_and_listening_ports(up: Up) -> None:
    listens = up.host.start(sys.executable, "-c", LISTEN, "10.99.0.1")
    try:
        until(lambda: "tcp/8099 on 10.99.0.1" in up.cli("workloads", "bare").stdout, up.said)
    finally:
        listens.kill()
        listens.wait()
    shown = up.cli("workloads", "bare").stdout
    assert "10.99.0.0/24" in shown
    assert "br0" in shown
    assert f"(pid {listens.pid}" in shown
