"""Small estates with known traffic, and the oracle's word on every connection: for suggestions to be held against."""

from collections.abc import Iterator
from random import Random
from typing import NamedTuple

from stockade.core.model.flow import FlowEnd, FlowKey, StoredFlow, Tally, Verdict
from stockade.core.model.ids import Address, HostId, Prefix, Revision, RuleId, Version, WorkloadId
from stockade.core.model.inventory import Attachment, Endpoint, Host, Sighting, Workload, WorkloadKind
from stockade.core.model.labels import NAME, Label, Labels
from stockade.core.model.net import ANYTHING, Ports, Protocol
from stockade.core.model.packet import Direction, Packet
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
    ServiceRef,
)
from stockade.core.model.policy import End as RuleEnd
from stockade.core.model.selector import ALL, Equal, In, Not, Selector
from stockade.core.model.snapshot import Snapshot
from stockade.core.oracle import verdict
from stockade.core.policy import complete
from stockade.core.suggest.networks import Sets
from stockade.core.suggest.suggest import drafted

HOSTS = (HostId("host-a"), HostId("host-b"))
APPS = ("shop", "mail", "metrics")
ROLES = ("web", "api", "db")
ENVS = ("prod", "dev")
OUTSIDE = ("8.8.8.8", "1.1.1.1", "10.200.0.7", "198.18.0.5", "2606:4700::1")
OFFICE = NetworkSet("office", (Prefix("10.200.0.0/16"), Prefix("198.18.0.0/24")))
DARK = ("203.0.113.9", "240.0.0.1")
PORTS = ((6, 5432), (6, 8080), (6, 8081), (6, 8082), (17, 53), (6, 53), (6, 443), (1, 8 * 256), (132, 3868))


class Connections(NamedTuple):
    """Connections of one kind that were seen."""

    source: FlowEnd
    destination: FlowEnd
    protocol: int
    port: int
    verdict: Verdict = Verdict.ALLOWED
    rule: str = ""
    count: int = 5
    at: float = 100.0
    answer: int = 4000


def estate(random: Random, count: int = 14, unlabelled: int = 1) -> Snapshot:
    """Workloads of a few apps, roles and environments on two hosts, everything in visibility."""
    workloads = {}
    for number in range(count):
        values = {"app": random.choice(APPS), "role": random.choice(ROLES), "env": random.choice(ENVS)}
        if random.random() < 0.2:
            del values[random.choice(("role", "env"))]
        if random.random() < 0.1:
            values = {"team": random.choice("xy")}
        each = workload(number, values if number >= unlabelled else {})
        workloads[each.id] = each
    hosts = {each: Host(each, WorkloadId(f"host:{each}"), ("eth0", "lo")) for each in HOSTS}
    policy = complete(PolicySet(network_sets=(OFFICE,)))
    return Snapshot(Revision(1), hosts, workloads, policy, Version(1))


def workload(number: int, values: dict[str, str], name: str = "") -> Workload:
    addresses = (Address(f"10.1.0.{number + 1}"), Address(f"fd00:1::{number + 1:x}"))
    port, mac = f"veth{number}", f"02:00:00:00:00:{number:02x}"
    endpoint = Endpoint(Attachment.ROUTED, addresses, port, "", mac)
    name = name or f"w{number}"
    seen = Sighting(WorkloadId(f"id-{number}"), name, WorkloadKind.CONTAINER, HOSTS[number % 2], endpoints=(endpoint,))
    return Workload(seen, Labels(tuple(Label(key, value) for key, value in sorted(values.items()))))


def end(workload: Workload, *, v6: bool = False) -> FlowEnd:
    labels = sorted([(NAME, workload.name), *((each.key, each.value) for each in workload.labels.items)])
    return FlowEnd(workload.seen.endpoints[0].addresses[v6], workload.id, tuple(labels))


def outside(snapshot: Snapshot, address: str) -> FlowEnd:
    bare = FlowEnd(Address(address))
    return FlowEnd(Address(address), network=Sets(snapshot).holding(bare))


def stored(snapshot: Snapshot, found: Connections) -> Iterator[StoredFlow]:
    """What the points tell of some connections: both ends where they are judged, and what was carried."""
    one, other = found.source, found.destination
    ends = ((Direction.EGRESS, one), (Direction.INGRESS, other))
    tally = Tally(found.at, found.at + 1, found.count, found.count)
    for direction, mine in ends:
        if mine.workload is None:
            continue
        own = [each.workload if each is mine else None for each in (one, other)]
        verdict_here = found.verdict
        if verdict_here is Verdict.DENIED and direction is Direction.EGRESS and other.workload is not None:
            verdict_here = Verdict.ALLOWED
        rule = RuleId(found.rule if verdict_here is not Verdict.ALLOWED else "default")
        key = FlowKey(
            one.address, other.address, found.protocol, found.port, direction, verdict_here, rule, own[0], own[1]
        )
        yield StoredFlow(_host(snapshot, mine), one, other, key, tally)
    if found.verdict is not Verdict.DENIED:
        mine = other if other.workload else one
        key = FlowKey(one.address, other.address, found.protocol, found.port, Direction.INGRESS, Verdict.CARRIED)
        carried = Tally(found.at, found.at + 2, 0, 9, 500 * found.count, found.answer * found.count, found.count, 1.0)
        yield StoredFlow(_host(snapshot, mine), one, other, key, carried)


def _host(snapshot: Snapshot, mine: FlowEnd) -> HostId:
    found = snapshot.workloads.get(mine.workload) if mine.workload else None
    return found.seen.host if found and found.seen.host else HOSTS[0]


def passes(snapshot: Snapshot, source: FlowEnd, destination: FlowEnd, protocol: int, port: int) -> bool:
    """Ask the oracle at every host that carries an end."""
    said = []
    carriers = [snapshot.workloads[each.workload].seen for each in (source, destination) if each.workload]
    for host in dict.fromkeys(each.host for each in carriers):
        own = [each for each in carriers if each.host == host and each.id == source.workload]
        interface = own[0].endpoints[0].port if own else "eth0"
        packet = Packet(host, source.address, destination.address, protocol, port, 50000, interface=interface)
        said.append(verdict(snapshot, packet).allowed)
    return all(said)


def random_connections(random: Random, snapshot: Snapshot, count: int) -> list[Connections]:
    """Connections between any two ends, some of which must not be suggested; of one kind once."""
    found: dict[tuple[FlowEnd, FlowEnd, int, int], Connections] = {}
    known = list(snapshot.workloads.values())
    while len(found) < count:
        one, other = random.sample(known, 2)
        protocol, port = random.choice(PORTS)
        source, destination = end(one), end(other)
        if random.random() < 0.25:
            far = outside(snapshot, random.choice((*OUTSIDE, *DARK)))
            near = end(one, v6=":" in far.address)
            if protocol == 1 and ":" in far.address:
                protocol, port = 58, 128 * 256
            source, destination = random.choice(((near, far), (far, near)))
        made = Connections(
            source, destination, protocol, port, at=random.uniform(0, 1000), count=random.choice((1, 2, 9))
        )
        fate = random.random()
        if fate < 0.15:
            made = made._replace(
                verdict=Verdict.DENIED, rule=random.choice(("default", "other/no", "forged", "invalid"))
            )
        elif fate < 0.25:
            made = made._replace(verdict=Verdict.WOULD_DENY, rule=random.choice(("default", "other/no")))
        elif fate < 0.3:
            made = made._replace(answer=40)
        found.setdefault((source, destination, protocol, port), made)
    return list(found.values())


# Policy that is enforced


ON: tuple[tuple[ServiceRef, ...], ...] = (
    (),
    ("dns", "postgres"),
    (Ports(Protocol.TCP, 8000, 9000),),
    (Ports(Protocol.TCP),),
    (ANYTHING,),
    (Ports(Protocol.TCP, 8080, 8082), "ping", "https"),
)
FULL = EnforcementMode("all", ALL, Mode.FULL, priority=5)


def selector(random: Random) -> Selector:
    found: tuple[Selector, ...] = (
        ALL,
        Equal("role", random.choice(("web", "api", "db"))),
        In("app", tuple(sorted(random.sample(APPS, 2)))),
        Not(Equal("env", "dev")),
    )
    return random.choice(found)


def rule_ends(random: Random) -> tuple[RuleEnd, RuleEnd]:
    one, other = (Selected(selector(random), anywhere=random.random() < 0.7) for _ in range(2))
    if random.random() < 0.2:
        far = Networks(tuple(sorted(random.sample(("internet", "office", "private"), 2))))
        return random.choice(((one, far), (far, other)))
    return one, other


def enforced(random: Random) -> Snapshot:
    """An estate under random rules of one policy and of another beside it."""
    policies = []
    for name in ("mine", "other"):
        rules = []
        for number in range(4):
            action = Action.ALLOW if random.random() < 0.85 else random.choice((Action.DENY, Action.OVERRIDE_DENY))
            rules.append(Rule(RuleId(f"{name}/r{number}"), action, *rule_ends(random), random.choice(ON)))
        policies.append(Policy(name, tuple(rules), random.choice((ALL, Equal("app", "shop")))))
    return drafted(estate(random), PolicySet(policies=tuple(policies), modes=(FULL,)))
