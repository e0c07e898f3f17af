"""The numbers on the map are those of the packets: connections, verdicts and bytes, exactly, whoever dies meanwhile."""

import asyncio
import re
import time
from collections import Counter

import pytest
from shop_flows import PATIENCE, again, on_stage, traffic, until_told

from stockade.cli.demo_stage import Stage
from stockade.wire.graph import GraphEdge, GraphReply

pytestmark = [pytest.mark.real, pytest.mark.timeout(280)]
AT_ONCE = [
    *((f"net/netfilter/nf_conntrack_tcp_timeout_{state}", "1") for state in ("time_wait", "close", "last_ack")),
    *((f"net/netfilter/nf_conntrack_udp_timeout{each}", "1") for each in ("", "_stream")),
]
"""Connection tracking forgets what is over after a second, and tells what it carried."""
COUNTED = (("web-1", "api-1", 8080), ("api-1", "db-1", 5432))
"""The ways on which connections pass, and so carry something."""
COUNT = "/proc/sys/net/netfilter/nf_conntrack_count"
Bytes = dict[tuple[str, str], tuple[int, int]]


async def watch_bytes(on: Stage) -> None:
    """Have each source's own kernel count what it sends on its way and what comes back: nothing of ours is asked."""
    for one, other, port in COUNTED:
        rules = []
        for family, ip in ((4, "ip"), (6, "ip6")):
            to = on.lab.address(other, family)
            rules += [
                f"add rule inet witness out {ip} daddr {to} tcp dport {port} counter name sent",
                f"add rule inet witness in {ip} saddr {to} tcp sport {port} counter name met",
            ]
        made = [
            "add table inet witness",
            "add counter inet witness sent",
            "add counter inet witness met",
            "add chain inet witness out { type filter hook output priority 500; }",
            "add chain inet witness in { type filter hook input priority -500; }",
            *rules,
        ]
        done = await on.lab.run(one, ["nft", "-f", "-"], input="\n".join(made).encode())
        assert done.status == 0, done.stderr


async def witnessed(on: Stage) -> Bytes:
    found = {}
    for one, other, _ in COUNTED:
        done = await on.lab.run(one, ["nft", "list", "counters", "table", "inet", "witness"])
        counts = dict(re.findall(r"counter (\w+) {\s+packets \d+ bytes (\d+)", done.stdout))
        found[one, other] = int(counts["sent"]), int(counts["met"])
    return found


def edges(on: Stage) -> dict[tuple[str, str], GraphEdge]:
    """The map by workload, as its page shows it."""
    reply = on.client.call("graph", GraphReply, by="workload", since=0)
    names = {node.id: node.text.rpartition("=")[2] for node in reply.nodes}
    names |= {node.id: "payments" for node in reply.nodes if node.text == "networks(payments)"}
    return {(names[each.source], names[each.destination]): each for each in reply.edges if each.observed}


async def until_over(on: Stage) -> None:
    """Wait until the host tracks nothing more: what ends while nobody listens is told by nobody."""
    deadline = time.monotonic() + PATIENCE
    while int((await on.lab.run(on.lab.host_name, ["cat", COUNT])).stdout):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)


async def until_mapped(on: Stage, wanted: Counter[tuple[str, str, int, str]]) -> None:
    """Wait until the map has what was sent, and hold it to that: ends say goodbye a while after they were told to."""
    deadline = time.monotonic() + PATIENCE
    while True:
        carried, found = await witnessed(on), await asyncio.to_thread(edges, on)
        counted: Counter[tuple[str, str, str]] = Counter()
        for (one, other), edge in found.items():
            assert edge.observed is not None
            counted[one, other, "allowed"] = edge.observed.seen.allowed
            counted[one, other, "denied"] = edge.observed.seen.denied
        told: Bytes = {}
        for one, other, _ in COUNTED:
            seen = found[one, other].observed if (one, other) in found else None
            told[one, other] = (seen.seen.bytes_out, seen.seen.bytes_in) if seen else (0, 0)
        want = Counter({(one, other, said): count for (one, other, _, said), count in wanted.items()})
        if +counted == want and told == carried:
            return
        assert time.monotonic() < deadline, f"\nsent  {want} {carried}\nfound {+counted} {told}"
        await asyncio.sleep(0.5)


def test_the_map_says_what_the_packets_were_whoever_dies_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(on: Stage) -> None:
        await on.lab.sysctl(on.lab.host_name, AT_ONCE)
        await watch_bytes(on)
        wanted = await traffic(on, 3)
        await until_mapped(on, wanted)
        wanted += await traffic(on, 2)
        await until_over(on)
        await on.stop()
        await again(on)
        await until_mapped(on, wanted)
        assert on.server is not None
        on.server.kill()
        await on.server.wait(10)
        await again(on)
        wanted += await traffic(on, 2)
        await until_told(on, wanted)
        await until_mapped(on, wanted)

    on_stage(scenario, monkeypatch)
