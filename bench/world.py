"""The world of the compile, proof and map benchmarks: one seed, 20 dimensions, 100 workloads a host."""

import random
from collections.abc import Iterator

from stockade.core.model.ids import Address, HostId, Revision, RuleId, Version, WorkloadId
from stockade.core.model.inventory import Attachment, Endpoint, Host, Sighting, Workload, WorkloadKind
from stockade.core.model.labels import Label, Labels
from stockade.core.model.net import Ports, Protocol
from stockade.core.model.policy import (
    Action,
    EnforcementMode,
    Mode,
    Networks,
    NetworkSet,
    Policy,
    PolicySet,
    Rule,
    Selected,
    Where,
)
from stockade.core.model.selector import ALL, And, Equal, Selector
from stockade.core.model.snapshot import Snapshot
from stockade.core.policy import complete

SEED = 20
CARDINALITIES = (2, 3, 3, 4, 5, 6, 8, 10, 12, 15, 20, 30, 40, 60, 100, 200, 400, 1000, 2500, 5000)
DIMENSIONS = tuple(f"d{number:02}" for number in range(len(CARDINALITIES)))
ABSENT = 0.05
PER_HOST = 100
PER_IDENTITY = 3.2
"""Workloads that share a label set, on average: 100,000 workloads have about 31,000 identities."""

TIERS = 4
"""Selectors that the ten rules of a policy draw from: 10,000 rules have about 4,000 distinct ones."""


def world(workloads: int = 100_000, rules: int = 10_000, seed: int = SEED) -> Snapshot:
    """Return a snapshot of so many workloads and rules; the same for the same numbers."""
    source = random.Random(seed)
    stamps = list(label_sets(source, max(1, int(workloads / PER_IDENTITY))))
    hosts = {}
    inventory = {}
    for number in range(workloads):
        host = HostId(f"host-{number // PER_HOST:05}")
        if host not in hosts:
            hosts[host] = Host(host, WorkloadId(f"host:{host}"), ("eth0", "lo"))
        workload = _workload(number, host, source.choice(stamps))
        inventory[workload.id] = workload
    policy = policies(source, rules, stamps)
    return Snapshot(Revision(1), hosts, inventory, policy, Version(1))


def label_sets(source: random.Random, count: int) -> Iterator[Labels]:
    """Yield label sets: each dimension absent in one of twenty, else one of its values.

    Equal labels are one object, as they are in the snapshots that ``fold`` gives.
    """
    one: dict[Label, Label] = {}
    for _ in range(count):
        yield Labels(
            tuple(
                one.setdefault(label := Label(key, f"v{source.randrange(cardinality)}"), label)
                for key, cardinality in zip(DIMENSIONS, CARDINALITIES, strict=True)
                if source.random() >= ABSENT
            )
        )


def policies(source: random.Random, rules: int, stamps: list[Labels]) -> PolicySet:
    """Return so many rules in policies of ten, each policy with a scope, selectors drawn from labels in use."""
    found = []
    for number in range(rules // 10):
        name = f"policy-{number:05}"
        scope = _some(source, source.choice(stamps), 1, dimensions=range(8))
        tiers = [_some(source, source.choice(stamps), source.choice((2, 2, 3))) for _ in range(TIERS)]
        found.append(Policy(name, tuple(_rule(source, name, each, tiers) for each in range(10)), scope))
    modes = (
        EnforcementMode("some-full", Equal("d03", "v1"), Mode.FULL, 20),
        EnforcementMode("some-selective", Equal("d03", "v2"), Mode.SELECTIVE, 10),
    )
    networks = (NetworkSet("partners", ("198.51.100.0/24",), where=Where("bench", 1, 1)),)  # type: ignore[arg-type]
    return complete(PolicySet(policies=tuple(found), modes=modes, network_sets=networks))


def changed(snapshot: Snapshot, source: random.Random) -> Workload:
    """Return some workload of a snapshot with the label set of another."""
    one = WorkloadId(f"w{source.randrange(len(snapshot.workloads)):06}")
    other = WorkloadId(f"w{source.randrange(len(snapshot.workloads)):06}")
    return Workload(snapshot.workloads[one].seen, snapshot.workloads[other].labels)


def _workload(number: int, host: HostId, labels: Labels) -> Workload:
    address = Address(f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}")
    endpoint = Endpoint(Attachment.ROUTED, (address,), f"veth{number % PER_HOST}", "", _mac(number))
    seen = Sighting(WorkloadId(f"w{number:06}"), f"w{number:06}", WorkloadKind.CONTAINER, host, endpoints=(endpoint,))
    return Workload(seen, labels)


def _mac(number: int) -> str:
    return "02:00:" + ":".join(f"{number >> shift & 255:02x}" for shift in (24, 16, 8, 0))


def _rule(source: random.Random, policy: str, number: int, tiers: list[Selector]) -> Rule:
    roll = source.random()
    action = Action.ALLOW if roll < 0.8 else Action.DENY if roll < 0.9 else Action.OVERRIDE_DENY
    ends = [Selected(source.choice(tiers), anywhere=roll < 0.1) for _ in range(2)]
    destination = Networks(("partners",)) if source.random() < 0.05 else ends[1]
    port = source.randrange(1, 65000)
    on = (Ports(Protocol.TCP, port, port + source.choice((0, 0, 0, 10))),)
    return Rule(RuleId(f"{policy}/rule-{number}"), action, ends[0], destination, on)


def _some(source: random.Random, labels: Labels, count: int, dimensions: range = range(4, 20)) -> Selector:
    """Return a conjunction of some of a label set's labels, so that it selects somebody."""
    keys = {DIMENSIONS[each] for each in dimensions}
    usable = [label for label in labels.items if label.key in keys]
    picked = sorted(source.sample(usable, min(count, len(usable))))
    terms = tuple(Equal(label.key, label.value) for label in picked)
    if len(terms) > 1:
        return And(terms)
    return terms[0] if terms else ALL
