"""What policy costs a packet: hosts that differ in nothing but their tables, crossed in turn by the same packets.

Hosts stand side by side: one without any table, one that only tracks connections (as every host with a container engine
does), one with everything in ``visibility``, one with everything in ``full``. The last two hold what the compiler makes
of the world of the compile benchmark, in which the ends that talk are workloads of one host, allowed from everybody. In
each round every host is crossed by a few batches, in changing order; what is compared are medians within a round, and
what is told is the median of their differences over all rounds.
"""

import asyncio
import gc
import os
import random
import statistics
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, ExitStack, contextmanager

import msgspec

from bench.batches import Connections, Datagrams
from bench.figures import Figure, at_most
from bench.hosts import bring_about, host_kernel
from bench.world import world
from stockade.core.compile.compiler import Compiler
from stockade.core.compile.nft.render import render
from stockade.core.compile.nft.ruleset import Ruleset
from stockade.core.model.ids import HostId, RuleId
from stockade.core.model.inventory import Workload
from stockade.core.model.labels import Label, Labels
from stockade.core.model.net import Ports, Protocol
from stockade.core.model.policy import DEFAULT_MODE, Action, EnforcementMode, Mode, Policy, Rule, Selected
from stockade.core.model.selector import ALL, Equal, Selector
from stockade.core.model.snapshot import Snapshot
from stockade.testing.lab import Lab, Topology, bridged, lab_bridge, routed

HOST = HostId("host-00000")
"""A host of the world, with its workloads; the lab plays it."""
UDP, TCP = 9000, 9001
TALKING = Equal("bench", "yes")
GROUND = Topology(
    host=HOST,
    bridges=(lab_bridge("br0", "172.20.0.0/24", "fd72::/64"),),
    nodes=(
        routed("one", "172.21.0.1", "fd73::1"),
        routed("other", "172.21.0.2", "fd73::2"),
        bridged("left", "br0"),
        bridged("right", "br0"),
    ),
)
WAYS = {"routed": ("one", "other"), "on one bridge": ("left", "right")}
TRACKED = """
table inet tracking {
    chain forward { type filter hook forward priority 0; ct state new counter; }
}
"""
SIZES, SIZES_QUICK = (10, 1_000, 10_000, 100_000), (10, 1_000)
ROUNDS, ROUNDS_QUICK = 300, 60
BATCHES = 5
BOUND = 1.0
AGAINST = "tracking alone; a verdict map: 0-0.9"
MODES = {"visible": Mode.VISIBILITY, "full": Mode.FULL}
LINES = (10, 100, 1_000)
"""Rules that speak of one port of one workload, each of another source."""


class Crossing(msgspec.Struct, frozen=True):
    """A way of crossing a host: which nodes, which family, datagrams or (``tcp``) connections."""

    way: str
    family: int = 4
    tcp: bool = False

    @property
    def text(self) -> str:
        """The way, as figures name it."""
        return f"{'a connection' if self.tcp else 'a packet'}, {self.way}, IPv{self.family}"


Medians = Mapping[str, float]
"""Microseconds a packet, by host."""


async def crossing(*, quick: bool) -> AsyncIterator[Figure]:
    """Yield what policy costs a packet at each size of world, and where it grows."""
    sizes, rounds = (SIZES_QUICK, ROUNDS_QUICK) if quick else (SIZES, ROUNDS)
    async with AsyncExitStack() as labs:
        labs.enter_context(_one_core())
        hosts = {name: await labs.enter_async_context(Lab(GROUND)) for name in ("bare", "tracked", "visible", "full")}
        yield await _control(hosts, rounds)
        await hosts["tracked"].nft(TRACKED)
        kernels = {name: labs.enter_context(host_kernel(hosts[name])) for name in MODES}
        for size in sizes:
            rules = max(10, size // 10)
            for name, mode in MODES.items():
                bring_about(kernels[name], _ruleset(hosts[name], size, rules, mode))
            async for each in _at_size(hosts, f"{size:,} workloads x {rules:,} rules", rounds):
                yield each
        async for each in _otherwise(hosts, rounds):
            yield each
        for lines in LINES:
            bring_about(kernels["full"], _ruleset(hosts["full"], 1_000, 10, Mode.FULL, lines))
            yield await _one_port(hosts, lines, rounds)


async def _control(hosts: Mapping[str, Lab], rounds: int) -> Figure:
    """Hosts without a table each: what is seen here is not policy's."""
    cost = await _compared(hosts, Crossing("routed"), rounds)
    worst = max(abs(cost(one, "bare")) for one in hosts if one != "bare")
    return Figure("a packet: four hosts without tables differ by", worst, "µs", compared_with="the control")


async def _at_size(hosts: Mapping[str, Lab], size: str, rounds: int) -> AsyncIterator[Figure]:
    for way in WAYS:
        each = Crossing(way)
        cost = (await _compared(hosts, each, rounds))("full", "tracked")
        yield at_most(f"{each.text}: policy, {size}", cost, "µs", BOUND, AGAINST)


async def _otherwise(hosts: Mapping[str, Lab], rounds: int) -> AsyncIterator[Figure]:
    """The largest world again: the other family, the other comparisons, connections."""
    for way in WAYS:
        six = Crossing(way, 6)
        yield at_most(
            f"{six.text}: policy, same", (await _compared(hosts, six, rounds))("full", "tracked"), "µs", BOUND, AGAINST
        )
        four = Crossing(way)
        cost = await _compared(hosts, four, rounds)
        yield Figure(f"{four.text}: full, same", cost("full", "visible"), "µs", compared_with="visibility")
        yield Figure(f"{four.text}: full and tracking, same", cost("full", "bare"), "µs", compared_with="neither")
        yield Figure(f"{four.text}: itself", cost("tracked", ""), "µs", compared_with="tracked, without policy")
        tcp = Crossing(way, tcp=True)
        cost = await _compared(hosts, tcp, rounds)
        yield Figure(f"{tcp.text}: policy, same", cost("full", "tracked"), "µs", compared_with="tracking alone")
        yield Figure(f"{tcp.text}: itself", cost("tracked", ""), "µs", compared_with="tracked, without policy")


async def _one_port(hosts: Mapping[str, Lab], lines: int, rounds: int) -> Figure:
    cost = (await _compared(hosts, Crossing("routed"), rounds))("full", "tracked")
    name = f"a packet, routed, IPv4: policy, the last of {lines:,} rules about one port"
    return at_most(name, cost, "µs", BOUND, "linear rules: 15-18 a 1,000")


# Worlds


def _ruleset(lab: Lab, workloads: int, rules: int, mode: Mode, lines: int = 0) -> Ruleset:
    """Compile the world of so many workloads and rules, with a lab's nodes in it, for the lab's host."""
    gc.collect()
    snapshot = _with_the_lab(lab, world(workloads, rules))
    policies = (*snapshot.policy.policies, _allowing(snapshot, lines))
    modes = (EnforcementMode(DEFAULT_MODE, ALL, mode),)
    policy = msgspec.structs.replace(snapshot.policy, policies=policies, modes=modes)
    return render(Compiler(snapshot._replace(policy=policy)).intent(HOST))


def _with_the_lab(lab: Lab, snapshot: Snapshot) -> Snapshot:
    """Put a lab's nodes beside the workloads of the world's first host, labelled like them."""
    models = [each.labels for each in snapshot.workloads.values()][: len(lab.nodes) + 1]
    mark = Label(TALKING.key, TALKING.value)
    found = dict(snapshot.workloads)
    for sighting, labels in zip(lab.sightings(), models, strict=True):
        found[sighting.id] = Workload(sighting, Labels(tuple(sorted((*labels.items, mark)))))
    return snapshot._replace(hosts={**snapshot.hosts, HOST: lab.host()}, workloads=found)


def _allowing(snapshot: Snapshot, lines: int) -> Policy:
    """Allow what is measured, from everybody; with ``lines``: from so many workloads, each by a rule of its own."""
    names = [Equal("name", each.name) for each in list(snapshot.workloads.values())[:lines]]
    sources: list[Selector] = [*names[1:], Equal("name", WAYS["routed"][0])] if lines else [ALL]
    on = (Ports(Protocol.UDP, UDP, UDP), Ports(Protocol.TCP, TCP, TCP))
    rules = (
        Rule(RuleId(f"zz-bench/{number:05}"), Action.ALLOW, Selected(source), Selected(TALKING), on)
        for number, source in enumerate(sources)
    )
    return Policy("zz-bench", tuple(rules))


# Measuring


class _Cost:
    """Differences between hosts, in microseconds: the median over rounds."""

    def __init__(self, rounds: list[Medians]) -> None:
        self._rounds = rounds

    def __call__(self, one: str, other: str) -> float:
        """Return what a packet costs more at ``one`` than at ``other``; at all, where that is nobody."""
        return statistics.median(each[one] - each.get(other, 0.0) for each in self._rounds)


async def _compared(hosts: Mapping[str, Lab], each: Crossing, rounds: int) -> _Cost:
    """Cross every host in every round, in another order each time."""
    dice = random.Random(1)
    with ExitStack() as open_ends:
        lines = {name: _line(lab, each) for name, lab in hosts.items()}
        for line in lines.values():
            open_ends.callback(line.close)
        for line in lines.values():
            line.nanoseconds()  # neighbours are asked for, sets are warm
        found: list[Medians] = []
        for _ in range(rounds):
            order = dice.sample(sorted(lines), len(lines))
            found.append({name: _median(lines[name]) for name in order})
            await asyncio.sleep(0)
    return _Cost(found)


def _line(lab: Lab, each: Crossing) -> Datagrams | Connections:
    source, destination = WAYS[each.way]
    if each.tcp:
        return Connections(lab, source, destination, TCP, each.family)
    return Datagrams(lab, source, destination, UDP, each.family)


def _median(line: Datagrams | Connections) -> float:
    return statistics.median(line.nanoseconds() for _ in range(BATCHES)) / 1000


@contextmanager
def _one_core() -> Iterator[None]:
    """Stay on one core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
