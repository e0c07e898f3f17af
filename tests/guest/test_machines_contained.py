"""A virtual machine with Stockade on its host: held until it is labelled, then contained; address by ARP and by DHCP.

The host is a network namespace: a bridge, QEMU's tap on it, and an uplink to a machine outside with two addresses, of
which the policy knows one. The machine is a real one, with a kernel and a network stack of its own.
"""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stockade.cli.client import Client, Refused, Unreachable
from stockade.testing.guest import STABLE, Guest, Machine, kernel, modules, programs
from stockade.testing.guest.ours import CHECKOUT
from stockade.testing.processes import end_nft_helpers
from stockade.wire.api import (
    ApplyRequest,
    File,
    LabelsRequest,
    StatusReply,
    VersionReply,
    WorkloadReply,
    WorkloadsReply,
    WorkloadView,
)

pytestmark = [
    pytest.mark.guest,
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        not os.access("/dev/net/tun", os.W_OK),
        reason="this machine: /dev/net/tun is not ours to write to (root's alone)",
    ),
]
PATIENCE = 120.0
MAC = "52:54:00:00:00:07"
FRIEND, STRANGER, STATIC, LEASED = "198.51.100.20", "198.51.100.21", "10.7.0.7", "10.7.0.50"
"""Nobody's address in the bridge's own subnet is ever a network set's: a workload may be born there."""
POLICY = f"""
apiVersion: stockade.dev/v1
kind: EnforcementMode
metadata: {{name: shop}}
spec: {{select: app = shop, mode: full, priority: 10}}
---
apiVersion: stockade.dev/v1
kind: NetworkSet
metadata: {{name: friends}}
spec: {{cidrs: [{FRIEND}/32]}}
---
apiVersion: stockade.dev/v1
kind: Policy
metadata: {{name: shop}}
spec:
  scope: app = shop
  rules:
    - name: friends
      allow: {{from: networks(friends), to: app = shop, on: [tcp/8080]}}
"""
ASK = "import socket, sys; s = socket.create_connection((sys.argv[2], 8080), 3, (sys.argv[1], 0)); print(s.recv(9))"
LEASES = "start {0}\nend {0}\ninterface br7\nlease_file {1}/leases\npidfile {1}/udhcpd.pid\n"
ROUTE = "ip route add 198.51.100.0/24 dev eth0"
SCRIPT = b'#!/bin/sh\n[ "$1" = bound ] && ip addr add $ip/24 dev $interface\nexit 0\n'


class Host:
    """A namespace with Stockade, a bridge and a tap; and a machine outside."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.client = Client(state / "api.sock")
        self.started: list[subprocess.Popen[bytes]] = []
        self.pids = [self.start("unshare", "-n", "--", "sleep", "900").pid for _ in range(2)]

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        with (self.state / "started.log").open("ab") as log:
            process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.started.append(process)
        return process

    def within(self, outside: bool = False) -> tuple[str, ...]:
        return ("nsenter", f"--net=/proc/{self.pids[outside]}/ns/net", "--")

    def do(self, *commands: str, outside: bool = False) -> None:
        for each in commands:
            subprocess.run([*self.within(outside), *each.split()], check=True, timeout=30, capture_output=True)

    def lay(self) -> None:
        until(lambda: len({Path(f"/proc/{pid}/ns/net").readlink() for pid in (*self.pids, os.getpid())}) == 3)
        self.do(
            "ip link set lo up",
            "ip link add br7 type bridge",
            "ip addr add 10.7.0.1/24 dev br7",
            "ip tuntap add vm7 mode tap",
            f"ip link add up7 type veth peer name eth0 netns {self.pids[1]}",
            *(f"ip link set {each} master br7 up" for each in ("vm7", "up7")),
            "ip link set br7 up",
        )
        self.do(
            *(f"ip addr add {each}/24 dev eth0" for each in (FRIEND, STRANGER)),
            "ip link set eth0 up",
            "ip route add 10.7.0.0/24 dev eth0",
            outside=True,
        )

    def up(self) -> None:
        words = ("up", "--state", str(self.state), "--host", "hyper", "--uplink", "up7")
        self.start(*self.within(), sys.executable, "-m", "stockade", *words)
        until(lambda: self.client.call("status", StatusReply))
        file = File("policy.yaml", POLICY)
        self.client.call("apply", VersionReply, ApplyRequest(files=(file,), note="test", yes=True, wait=60))

    def machine(self) -> WorkloadView:
        found = self.client.call("workloads", WorkloadsReply).workloads
        return next(each for each in found if each.id.startswith("vm:"))

    def label(self) -> None:
        request = LabelsRequest(labels={"app": "shop"})
        self.client.call("set-labels", WorkloadReply, request, workload=self.machine().id)

    def reaches(self, source: str, to: str) -> bool:
        command = [*self.within(outside=True), sys.executable, "-c", ASK, source, to]
        return subprocess.run(command, capture_output=True, timeout=60, check=False).returncode == 0

    def close(self) -> None:
        for each in reversed(self.started):
            each.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                each.wait(30)
            each.kill()
            each.wait()
        end_nft_helpers(self.state)


def until(happens: Callable[[], object], within: float = PATIENCE) -> None:
    deadline = time.monotonic() + within
    while True:
        with contextlib.suppress(Unreachable, Refused, StopIteration):
            if happens():
                return
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.2)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    found = Host(tmp_path)
    try:
        found.lay()
        found.up()
        yield found
    except BaseException:
        print((tmp_path / "started.log").read_text(errors="replace")[-3000:])  # noqa: T201 - shown where a test fails
        raise
    finally:
        found.close()


@pytest.fixture
def guest(host: Host) -> Iterator[Guest]:
    chosen = kernel(STABLE)
    link = ("-netdev", "tap,id=n0,ifname=vm7,script=no,downscript=no")
    card = ("-device", f"virtio-net-pci,netdev=n0,mac={MAC}", "-name", "guest=orders")
    layers = (modules(chosen), programs(CHECKOUT))
    with Guest(Machine(chosen, layers, memory=512, processors=1, extra=(*link, *card), within=host.within())) as booted:
        booted.check("modprobe virtio_net; ip link set eth0 up; echo hello > /tmp/hello")
        booted.check("for n in $(seq 900); do nc -l -p 8080 < /tmp/hello; done > /dev/null 2>&1 &")
        yield booted


def contained(host: Host, address: str) -> None:
    """Who may, does; who may not, does not; and what the machine says by another's address is nobody's."""
    until(lambda: host.reaches(FRIEND, address))
    assert not host.reaches(STRANGER, address)


def test_a_machine_is_held_until_it_is_labelled_and_its_address_is_learnt_by_arp(host: Host, guest: Guest) -> None:
    until(host.machine)
    guest.check(f"ip addr add {STATIC}/24 dev eth0; {ROUTE}")
    assert guest.run(f"ping -c 2 -W 2 {FRIEND}", timeout=30).status != 0
    until(lambda: STATIC in host.machine().addresses)
    assert host.machine().name == "orders"
    assert not host.reaches(FRIEND, STATIC), "nobody has labelled it yet"
    host.label()
    contained(host, STATIC)
    guest.run("ip addr add 10.7.0.1/24 dev eth0; ping -I 10.7.0.1 -c 1 -W 1 10.7.0.9", timeout=30)
    time.sleep(2)  # what it claims was heard, or never will be
    assert "10.7.0.1" not in host.machine().addresses, "the host's own"


def test_a_machine_is_given_its_address_by_dhcp(host: Host, guest: Guest) -> None:
    (host.state / "udhcpd.conf").write_text(LEASES.format(LEASED, host.state), encoding="ascii")
    (host.state / "leases").touch()
    host.start(*host.within(), "busybox", "udhcpd", "-f", str(host.state / "udhcpd.conf"))
    guest.copy_in(SCRIPT, "/tmp/bound")
    ask = "chmod 755 /tmp/bound; busybox udhcpc -i eth0 -s /tmp/bound -n -q -t 3 -T 2 -A 1"
    assert guest.run(ask, timeout=60).status != 0, "it is held"
    until(host.machine)
    host.label()
    until(lambda: guest.run(ask, timeout=60).status == 0)
    guest.check(ROUTE)
    until(lambda: host.machine().addresses == (LEASED,))
    contained(host, LEASED)
