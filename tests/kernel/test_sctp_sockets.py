"""SCTP by the kernel's own sockets, where the kernel has them: handshake, data and heartbeats, not a packet by hand."""

import socket
import sys
import textwrap

import pytest
from plain_tables import in_lab

from stockade.core.model.ids import RuleId
from stockade.core.model.net import Ports, Protocol
from stockade.core.model.policy import Action, EnforcementMode, Mode, Policy, PolicySet, Rule, Selected
from stockade.core.model.selector import Equal
from stockade.testing.lab import Lab, Topology, bridged, lab_bridge


def _sockets() -> bool:
    try:
        socket.socket(socket.AF_INET, socket.SOCK_STREAM, 132).close()
    except OSError:
        return False
    return True


pytestmark = [
    pytest.mark.real,
    pytest.mark.timeout(120),
    pytest.mark.skipif(not _sockets(), reason="this kernel has no SCTP sockets"),
]
WAY = Rule(
    RuleId("shop/web-to-api"),
    Action.ALLOW,
    Selected(Equal("role", "web")),
    Selected(Equal("role", "api")),
    (Ports(Protocol.SCTP, 3868, 3868),),
)
POLICY = PolicySet(
    policies=(Policy("shop", (WAY,)),), modes=(EnforcementMode("shop", Equal("app", "shop"), Mode.FULL, 10),)
)
GROUND = Topology(
    bridges=(lab_bridge("br0", "10.1.0.0/24", "fd00:1::/64"),),
    nodes=tuple(bridged(role, "br0", app="shop", role=role) for role in ("web", "api", "db")),
)
SERVE = textwrap.dedent("""
    import socket, sys
    family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
    server = socket.socket(family, socket.SOCK_STREAM, 132)
    server.bind((sys.argv[1], 3868))
    server.listen()
    while True:
        with server.accept()[0] as one:
            while said := one.recv(1 << 16):
                one.sendall(said)
""")
ASK = textwrap.dedent("""
    import socket, sys, time
    family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
    until = time.monotonic() + float(sys.argv[2])
    while True:
        try:
            client = socket.socket(family, socket.SOCK_STREAM, 132)
            client.settimeout(until - time.monotonic())
            client.connect((sys.argv[1], 3868))
            break
        except ConnectionError:  # nobody listens there yet
            time.sleep(0.1)
    for said in (b"diameter", b"again " * 1000):
        client.sendall(said)
        heard = b""
        while len(heard) < len(said):
            more = client.recv(1 << 16)
            assert more, "the other end has closed"
            heard += more
        assert heard == said
""")


@pytest.mark.parametrize("family", [4, 6])
def test_what_the_policy_allows_is_answered_and_nothing_else_is(family: int) -> None:
    async def scenario(lab: Lab) -> None:
        for server in ("api", "db"):
            await lab.start(server, [sys.executable, "-c", SERVE, lab.address(server, family)])
        for client, server, passes in (("web", "api", True), ("web", "db", False), ("api", "web", False)):
            patience = "30" if passes else "2"
            done = await lab.run(client, [sys.executable, "-c", ASK, lab.address(server, family), patience])
            assert (done.status == 0) is passes, (client, server, done.stderr)

    in_lab(GROUND, POLICY, scenario)
