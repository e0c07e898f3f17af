"""What can lead a packet past our judgement does, and is found; what is no way past does not, and is none.

web may reach api on udp/9000; db may be reached by nobody. Each case is a stranger's doing in the host's namespace,
tried with real packets and looked at as the agent does.
"""

from pathlib import Path
from typing import NamedTuple

import pytest
from plain_tables import in_lab
from test_adversary import GROUND, POLICY, honest, udp

from stockade.adapters.netlink import Namespace
from stockade.cli.inspection import HostInspection
from stockade.core.compile.compiler import compile_snapshot
from stockade.core.fold import fold
from stockade.core.model.event import HostSeen, PolicyActivated, WorkloadSeen
from stockade.core.model.ids import Version
from stockade.core.policy import complete
from stockade.core.posture.host import assess
from stockade.testing.lab import Lab

pytestmark = [pytest.mark.real, pytest.mark.timeout(120)]
QUIET = ("file-modes", "bpf-netfilter", "bpf-sockets")
"""What may be found of the machine that the tests run on."""


AT_WEB = 'table netdev s {{{{ chain c {{{{ type filter hook ingress device "{{web_port}}" priority 0; {}\n}}}}\n}}}}'
EVERYTHING = "protocol all u32 match u32 0 0"


class Case(NamedTuple):
    """``rules``: for nft; ``commands``: for a shell. ``{…}`` are the ends' ports, MACs and addresses."""

    name: str
    sender: str
    receiver: str
    rules: str = ""
    commands: tuple[str, ...] = ()
    finds: tuple[str, ...] = ()
    passes: bool = False


CASES = (
    Case(
        "fwd takes frames across",
        "web",
        "db",
        AT_WEB.format('fwd to "{db_port}"'),
        finds=("forwarded-frames",),
        passes=True,
    ),
    Case(
        "dup copies frames across",
        "web",
        "db",
        AT_WEB.format('dup to "{db_port}"'),
        finds=("forwarded-frames",),
        passes=True,
    ),
    Case(
        "mirred takes frames across",
        "web",
        "db",
        commands=(
            "tc qdisc add dev {web_port} clsact",
            f"tc filter add dev {{web_port}} ingress {EVERYTHING} action mirred egress redirect dev {{db_port}}",
        ),
        finds=("tc-filters",),
        passes=True,
    ),
    Case(
        "a rewritten source is judged as another's",
        "db",
        "api",
        "table ip s {{ chain c {{ type filter hook prerouting priority -400; ip saddr {db} ip saddr set {web}\n}}\n}}",
        finds=("rewritten-packets",),
        passes=True,
    ),
    Case(
        "a mark of ours passes for judged where nobody judges",
        "web",
        "db",
        "table bridge s {{ chain c {{ type filter hook forward priority 0; meta mark set 0x10000000\n}}\n}}",
        commands=("sysctl -qw net.bridge.bridge-nf-call-iptables=0",),
        finds=("bridge-settings", "mark-bits"),
        passes=True,
    ),
    Case(
        "a switch at 0 alone fails closed",
        "web",
        "db",
        commands=("sysctl -qw net.bridge.bridge-nf-call-iptables=0",),
        finds=("bridge-settings",),
    ),
    Case(
        "an accept before us is no way past",
        "web",
        "db",
        "table inet s {{ chain c {{ type filter hook forward priority -400; accept\n}}\n"
        "chain d {{ type filter hook prerouting priority -400; accept\n}}\n}}\n"
        "table bridge s {{ chain c {{ type filter hook forward priority -400; accept\n}}\n}}",
    ),
    Case(
        "no tracking is no way past",
        "web",
        "db",
        "table ip s {{ chain c {{ type filter hook prerouting priority -300; notrack\n}}\n}}",
        finds=("untracked-packets",),
    ),
    Case(
        "another mark is no way past",
        "web",
        "db",
        "table inet s {{ chain c {{ type filter hook forward priority -150; meta mark set meta mark | 0x4000\n}}\n}}",
    ),
    Case(
        "a routing rule is no way past",
        "web",
        "db",
        commands=("ip rule add from {web} table 100", "ip route add {db} dev br0 table 100"),
        finds=("routing-rules",),
    ),
)


async def found(lab: Lab, inspection: HostInspection) -> set[str]:
    """Return the checks that find something, judged beside what is in force."""
    seen = [WorkloadSeen(each) for each in lab.sightings()]
    events = [HostSeen(lab.host()), *seen, *lab.labels(), PolicyActivated(Version(1), complete(POLICY))]
    (intent,) = compile_snapshot(fold(events)).values()
    said = assess(inspection.look(), intent)
    return {each.check for each in said.findings} - set(QUIET)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_is_a_way_past_is_found_and_what_is_none_is_not(case: Case, tmp_path: Path) -> None:
    async def scenario(lab: Lab) -> None:
        inspection = HostInspection(tmp_path, tmp_path / "api.sock", Namespace.at(lab.netns(lab.host_name)))
        assert await honest(lab)
        assert await found(lab, inspection) == set()
        names = {name: lab.address(name) for name in ("web", "api", "db")}
        names |= {f"{name}_port": lab.plugs(name)[0].port for name in ("web", "api", "db")}

        async def passes() -> bool:
            nonce = lab.nonce()
            packet = udp(lab.address(case.sender), lab.address(case.receiver), nonce)
            assert await lab.inject(case.sender, [lab.frame(case.sender, packet)]) == [0]
            return bool(await lab.seen(case.receiver, nonce))

        assert not await passes(), "before, it is denied"
        if case.rules:
            await lab.nft(case.rules.format(**names) + "\n")
        for each in case.commands:
            done = await lab.run(lab.host_name, each.format(**names).split())
            if done.status and each.startswith("tc"):
                pytest.skip(f"this kernel lacks it: {done.stderr.strip()[:100]}")
            assert done.status == 0, done.stderr
        assert await passes() == case.passes
        assert await found(lab, inspection) == set(case.finds)

    in_lab(GROUND, POLICY, scenario)
