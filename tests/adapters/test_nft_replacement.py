"""A policy is replaced under traffic: nothing denied is delivered, nothing allowed is lost."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from nft_rooms import Room, room

from stockade.core.compile.nft.rule import rule
from stockade.core.compile.nft.ruleset import Chain, ElementSet, Ruleset, Table
from stockade.core.reconcile import settled, steps, text

pytestmark = pytest.mark.real
REPLACEMENTS = 2000
TRAFFIC = """
import json, socket, sys, select
def bound(port):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(("127.0.0.1", port)); return s
allowed, denied, sender = bound(9001), bound(9002), bound(9003)
denied.setblocking(False)
allowed.settimeout(2)
rounds = lost = leaked = 0
print("ready", flush=True)
while not select.select([sys.stdin], [], [], 0)[0]:
    rounds += 1
    sender.sendto(b"no", ("127.0.0.1", 9002))
    sender.sendto(b"yes", ("127.0.0.1", 9001))
    try:
        allowed.recv(10)
    except TimeoutError:
        lost += 1
    try:
        denied.recv(10)
        leaked += 1
    except BlockingIOError:
        pass
print(json.dumps([rounds, lost, leaked]), flush=True)
"""


@pytest.fixture
def space(tmp_path: Path) -> Iterator[Room]:
    with room(tmp_path) as made:
        yield made


def policy(number: int) -> Ruleset:
    """Each is another program: another chain, another set that it looks at, the same meaning."""
    name = f"web_{number}"
    loopback = ElementSet("ipv4_addr", data="verdict", elements=frozenset({f"127.0.0.1 : goto {name}"}))
    peers = ElementSet("ipv4_addr", elements=frozenset({"127.0.0.1", f"10.0.{number >> 8}.{number & 255}"}))
    program = (
        rule(f"ip saddr @peers_{number} udp dport {{ 9001, {10000 + number} }} accept"),
        rule("udp dport 9003 accept"),
        rule("counter name refused drop"),
    )
    chains = {
        "incoming": Chain(
            "type filter hook input priority -5; policy accept;", (rule("ip daddr vmap @ways"), rule("drop"))
        ),
        name: Chain("", program),
    }
    sets = {"ways": loopback, f"peers_{number}": peers}
    return Ruleset((Table("inet", sets=sets, counters=frozenset({"refused"}), chains=chains),))


@pytest.mark.fault
@pytest.mark.parametrize("killed_every", [0, 200], ids=["helper lives", "helper is killed between the steps"])
def test_replaced_under_traffic(space: Room, killed_every: int) -> None:
    space.apply(policy(0))
    command = ["nsenter", f"--net={space.netns}", "--", sys.executable, "-c", TRAFFIC]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as traffic:
        try:
            assert traffic.stdout.readline() == "ready\n"
            for number in range(1, REPLACEMENTS):
                make, switch = steps(policy(number), policy(number - 1))
                space.kernel.commit(text(make))
                if killed_every and number % killed_every == 0:
                    space.kill_helper()
                space.kernel.commit(text(switch))
            rounds, lost, leaked = json.loads(traffic.communicate("stop\n", timeout=30)[0])
        finally:
            traffic.kill()
    assert (lost, leaked) == (0, 0)
    assert rounds > REPLACEMENTS
    assert settled(policy(REPLACEMENTS - 1), space.kernel.observe())
