"""What the kernel tells of connections: read and put together as fast as it comes (``python -m bench.recording``).

Replayed: datagrams as the kernel writes them, decoded and aggregated. Real: connections between two nodes of a lab
under a policy, from the first packet to the batch, as fast as one process opens them; what is lost is counted.
"""

import asyncio
import json
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path

from bench.figures import Figure, at_least, at_most, program
from bench.hosts import bring_about, host_kernel, in_a_lab
from stockade.adapters.namespaces import KnownPrograms, Room
from stockade.adapters.namespaces.processes import namespace_of, pids
from stockade.adapters.netfilter.flows import KernelFlows
from stockade.adapters.netfilter.logged import PACKETS, PacketReader
from stockade.adapters.netfilter.messages import attribute
from stockade.agent.flows.names import NOBODY, Names, names
from stockade.agent.flows.recording import MOST, Recording, local_socket
from stockade.core.compile.compiler import compile_snapshot
from stockade.core.compile.nft.render import render
from stockade.core.fold import fold
from stockade.core.model.event import Event, HostSeen, PolicyActivated, WorkloadSeen
from stockade.core.model.flow import Verdict
from stockade.core.model.flow_table import flows
from stockade.core.model.ids import RuleId, Version
from stockade.core.model.intent import Intent
from stockade.core.model.net import Ports, Protocol
from stockade.core.model.policy import Action, EnforcementMode, Mode, Policy, PolicySet, Rule, Selected
from stockade.core.model.selector import Equal
from stockade.core.policy import complete
from stockade.memory import look_rarely
from stockade.seams.flows import Decision
from stockade.testing.lab import Lab, Topology, bridged, lab_bridge

REPLAYED, REPLAYED_QUICK = 1_000_000, 50_000
TOGETHER = 100
"""Packets that the kernel puts into one datagram."""
UDP, UDP_QUICK = 240_000, 20_000
TCP, TCP_QUICK = 50_000, 4_000
FIRST = 2_000
READ, UDP_HEARD, TCP_HEARD = 100_000, 50_000, 10_000
GROUND = Topology(
    bridges=(lab_bridge("br0", "10.1.0.0/16"),),
    nodes=(bridged("web", "br0", app="shop", role="web"), bridged("api", "br0", app="shop", role="api")),
)
POLICY = PolicySet(
    policies=(
        Policy(
            "shop",
            (
                Rule(
                    RuleId("shop/web-api"),
                    Action.ALLOW,
                    Selected(Equal("role", "web")),
                    Selected(Equal("role", "api")),
                    (Ports(Protocol.TCP), Ports(Protocol.UDP)),
                ),
            ),
        ),
    ),
    modes=(EnforcementMode("shop", Equal("app", "shop"), Mode.FULL, 10),),
)
UDP_TALK = """
import json, socket, struct, sys, time
source, at, count, first = json.load(sys.stdin)
ends = socket.inet_aton(source) + socket.inet_aton(at)
head = struct.pack(">BBHHHBBH", 0x45, 0, 29, 1, 0, 64, 17, 0) + ends
began, sent = time.perf_counter(), 0
with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as s:
    for number in range(count):
        datagram = struct.pack(">HHHHB", 1024 + number % 60_000, first + number // 60_000, 9, 0, 0)
        try:
            s.sendto(head + datagram, (at, 0))
        except OSError:
            continue
        sent += 1
print(json.dumps([sent, time.perf_counter() - began]))
"""
TCP_TALK = """
import json, socket, struct, sys, threading, time
_, at, count, first = json.load(sys.stdin)
began = time.perf_counter()
def run(port, count):
    for _ in range(count):
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        s.connect((at, port))
        s.close()
threads = [threading.Thread(target=run, args=(first + n, count // 4)) for n in range(4)]
for each in threads: each.start()
for each in threads: each.join()
print(json.dumps([count // 4 * 4, time.perf_counter() - began]))
"""
TCP_SERVE = """
import json, selectors, socket, sys
_, at, _, first = json.load(sys.stdin)
wait = selectors.DefaultSelector()
for n in range(4):
    s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind((at, first + n)); s.listen(4096); s.setblocking(False); wait.register(s, selectors.EVENT_READ)
print("ready", flush=True)
while True:
    for key, _ in wait.select():
        try:
            while True:
                key.fileobj.accept()[0].close()
        except OSError:
            pass
"""


def main() -> None:
    """Print every figure as it is measured."""
    program(__doc__, figures, in_a_lab)


async def figures(*, quick: bool) -> AsyncIterator[Figure]:
    """Yield the figures, part by part."""
    look_rarely()  # as whoever records does
    for each in _replayed(REPLAYED_QUICK if quick else REPLAYED):
        yield each
    async with Lab(GROUND) as lab:
        for protocol, count, limit in (
            (Protocol.UDP, UDP_QUICK if quick else UDP, UDP_HEARD),
            (Protocol.TCP, TCP_QUICK if quick else TCP, TCP_HEARD),
        ):
            for each in await _heard(lab, protocol, count, limit):
                yield each


# Datagrams that are there already


def _replayed(count: int) -> Iterator[Figure]:
    data = [b"".join(map(_message, range(at, at + TOGETHER))) for at in range(0, count, TOGETHER)]
    recording, known = Recording(), NOBODY
    reader = PacketReader()
    began, batches = time.perf_counter(), 0
    for each in data:
        found: list[Decision] = []
        reader.decode(each, found)
        recording.decided(found, began)
        if len(recording) >= MOST:
            batches += bool(len(recording.take(known)))
    took = time.perf_counter() - began
    beside = f"{count:,} connections, each new, in {batches:,} batches"
    yield at_least("replayed NFLOG datagrams, to batches", count / took, "packets/s", READ, beside)


def _message(number: int) -> bytes:
    """Return one logged packet as the kernel writes it: the first of a TCP connection of its own."""
    ends = bytes([10, 1, number >> 8 & 255, number & 255, 10, 1, 0, 1])
    packet = struct.pack(">BBHHHBBH", 0x45, 0, 60, 1, 0, 64, 6, 0) + ends
    packet += struct.pack(">HHI", 1024 + number % 60_000, 443 + number % 7, number) + bytes(32)
    first = ((1, b"\x08\x00\x02\x00"), (10, b"iarabcdef012345\0"), (4, bytes(4)), (5, bytes(4)), (6, bytes(4)))
    link = ((8, bytes(12)), (15, bytes(2)), (17, bytes(2)), (16, bytes(14)))
    parts = (*first, *link, (12, struct.pack(">I", number)), (9, packet))
    body = b"\x02\x00\x00\x00" + b"".join(attribute(kind, content) for kind, content in parts)
    return struct.pack("=IHHII", 16 + len(body), PACKETS, 0, 0, 0) + body


def _intent(lab: Lab) -> Intent:
    seen = [WorkloadSeen(each) for each in lab.sightings()]
    events: list[Event] = [HostSeen(lab.host()), *seen, *lab.labels(), PolicyActivated(Version(1), complete(POLICY))]
    (intent,) = compile_snapshot(fold(events)).values()
    return intent


# Real packets


async def _heard(lab: Lab, protocol: Protocol, count: int, limit: float) -> list[Figure]:
    """Send connections as fast as one process can, and read them at the same time."""
    intent = _intent(lab)
    name = protocol.name
    with host_kernel(lab) as kernel, closing(KernelFlows(lab.netns(lab.host_name))) as source:
        bring_about(kernel, render(intent))
        where = json.dumps([lab.address("web"), lab.address("api"), count, FIRST]).encode()
        serving = _program(lab, "api", TCP_SERVE, where) if protocol is Protocol.TCP else None
        if serving is not None and serving.stdout is not None:
            serving.stdout.readline()
        talking = _program(lab, "web", TCP_TALK if protocol is Protocol.TCP else UDP_TALK, where)
        programs = KnownPrograms(_Rooms(lab))
        heard, took, met = await asyncio.to_thread(_read, source, intent, protocol, programs)
        said, _ = talking.communicate(timeout=120)
        if serving is not None:
            serving.kill()
            serving.wait()
        sent, sending = json.loads(said)
        lost = next(lost for where, _, lost in source.losses() if where == "nflog")
    told = 2 * sent  # at either end
    beside = f"{sent:,} sent at {sent / sending:,.0f}/s; told of at both ends"
    return [
        at_least(f"{name} connections, to batches", sent / took, "connections/s", limit, beside),
        Figure(f"{name}, counted as lost", lost, "packets"),
        at_most(f"{name}, lost and not counted", max(told - heard - lost, 0), "packets", 0),
        Figure(
            f"{name}, programs met",
            met["met"],
            "ends",
            compared_with=f"of {met.total():,} ends; {programs.unlooked:,} not looked for",
        ),
    ]


class _Rooms:
    """Where a lab's nodes are, and who lives there."""

    def __init__(self, lab: Lab) -> None:
        self._paths = {plug.port: lab.netns(node.name) for node in lab.topology.nodes for plug in lab.plugs(node.name)}

    def rooms(self) -> dict[str, Room]:
        return {port: Room(path, Path(path).stat().st_ino) for port, path in self._paths.items()}

    def members(self, inode: int) -> list[int]:
        return sorted((pid for pid in pids() if _lives(pid, inode)), reverse=True)


def _lives(pid: int, inode: int) -> bool:
    try:
        return namespace_of(pid) == inode
    except PermissionError:
        return False


def _read(
    source: KernelFlows, intent: Intent, protocol: Protocol, programs: KnownPrograms
) -> tuple[int, float, Counter[str]]:
    """Read until nothing comes any more.

    Return how many packets of this protocol were told of, the seconds, and how many sockets' programs were met.
    """
    recording, known, heard, met = Recording(), names(intent), 0, Counter[str]()
    began = last = 0.0
    while not began or time.perf_counter() - last < 1.0:
        some = source.read(0.2)
        if some.decisions:
            last = time.perf_counter()
            began = began or last
        recording.decided(some.decisions, last)
        _meet(recording, known, programs, met)
        recording.ended(some.ended, last)
        if len(recording) >= MOST or not some.decisions:
            heard += _told(recording, known, protocol)
    return heard + _told(recording, known, protocol), last - began, met


def _meet(recording: Recording, known: Names, programs: KnownPrograms, met: Counter[str]) -> None:
    ends = [(one, end) for one in recording.fresh() if (end := local_socket(one, known)) is not None]
    for (one, _), name in zip(ends, programs.look([end for _, end in ends]), strict=True):
        met["met" if name else "not met"] += 1
        recording.met(one, name)


def _told(recording: Recording, known: Names, protocol: Protocol) -> int:
    allowed = [each for each in flows(recording.take(known)) if each.key.verdict is Verdict.ALLOWED]
    return sum(each.tally.packets for each in allowed if each.key.protocol == protocol)


def _program(lab: Lab, node: str, text: str, given: bytes) -> "subprocess.Popen[bytes]":
    words = [*lab.inside(node), sys.executable, "-c", text]
    made = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    if made.stdin is not None:
        made.stdin.write(given)
        made.stdin.close()
        made.stdin = None
    return made


if __name__ == "__main__":
    main()
