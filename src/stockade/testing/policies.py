"""Policy made from a ``Random``: every kind of document, over the dimensions of ``inventories``.

Complete, as a snapshot's policy must be: small built-ins are in it. Refers only to services and sets that exist.
Makes the same policy of the same random numbers.
"""

from collections.abc import Callable
from random import Random
from typing import TypeVar

from stockade.core.model.ids import Address, Prefix, RuleId
from stockade.core.model.labels import NAME, LabelSource
from stockade.core.model.net import ANYTHING, Ports, Protocol
from stockade.core.model.policy import (
    Action,
    Births,
    End,
    EnforcementMode,
    Expectation,
    Invariant,
    LabelRule,
    Mode,
    Networks,
    NetworkSet,
    Never,
    Only,
    Policy,
    PolicySet,
    PolicyTest,
    Quarantine,
    QuarantineException,
    Rule,
    Selected,
    Service,
    ServiceRef,
    TestEnd,
    UnmanagedWorkload,
    Where,
)
from stockade.core.model.selector import ALL, And, Equal, Everything, Has, In, Not, Or, Selector
from stockade.testing.inventories import DIMENSIONS, NAMES, chance

_T = TypeVar("_T")

SERVICES = (
    Service("db", (Ports(Protocol.TCP, 5432, 5432),)),
    Service("dns", (Ports(Protocol.TCP, 53, 53), Ports(Protocol.UDP, 53, 53))),
    Service("http", (Ports(Protocol.TCP, 80, 80),)),
    Service("ping", (Ports(Protocol.ICMP, 8 * 256, 8 * 256), Ports(Protocol.ICMPV6, 128 * 256, 128 * 256))),
    Service("ssh", (Ports(Protocol.TCP, 22, 22),)),
)
_SPECIAL = ("10.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16", "224.0.0.0/3")
_SPECIAL_6 = ("::1/128", "fc00::/7", "fe80::/10", "ff00::/8")
NETWORK_SETS = (
    NetworkSet("groups", (Prefix("224.0.0.251/32"), Prefix("ff02::fb/128"))),
    NetworkSet("metadata", (Prefix("169.254.169.254/32"), Prefix("fd00:ec2::254/128"))),
    NetworkSet("payments", (Prefix("1.2.3.0/24"), Prefix("2a00:1::/32")), (Prefix("1.2.3.7/32"),)),
    NetworkSet("private", tuple(Prefix(each) for each in (*_SPECIAL[:1], *_SPECIAL[2:5], *_SPECIAL_6[1:3]))),
    NetworkSet("resolvers"),
    NetworkSet(
        "world",
        (Prefix("0.0.0.0/0"), Prefix("2000::/3")),
        tuple(Prefix(each) for each in _SPECIAL),
    ),
)
DEFAULT = EnforcementMode("default", ALL, Mode.VISIBILITY)
LABEL_RULES = (
    LabelRule(
        "compose",
        (("role", "{label:com.docker.compose.service}"),),
        (("runtime", "docker"),),
        LabelSource.RUNTIME,
    ),
    LabelRule("own", (("{label:stockade.*}", "{label:stockade.*}"),), (("runtime", "docker"),), LabelSource.SELF),
)
POINTS = (
    Ports(Protocol.TCP, 80, 80),
    Ports(Protocol.TCP, 8000, 8100),
    Ports(Protocol.UDP, 53, 53),
    Ports(Protocol.UDP, 1000, 2000),
    Ports(Protocol.SCTP, 3868, 3868),
    Ports(Protocol.ICMP),
    Ports(Protocol.ICMPV6),
    Ports(Protocol.TCP),
    ANYTHING,
)


def selector(random: Random, depth: int = 2) -> Selector:
    """Make a selector: mostly one plain condition, sometimes a tree, now and then one that names nobody."""
    kind = random.randrange(12)
    if depth and kind >= 9:
        return _tree(random, kind, depth)
    key = random.choice(tuple(DIMENSIONS))
    if kind <= 4:
        return Equal(key, random.choice(DIMENSIONS[key]))
    if kind == 5:
        return In(key, tuple(sorted(set(random.sample(DIMENSIONS[key], 2)))))
    if kind == 6:
        return Has(key)
    if kind == 7:
        return Equal(NAME, random.choice(NAMES))
    return ALL


def _tree(random: Random, kind: int, depth: int) -> Selector:
    if kind == 9:
        return Not(selector(random, depth - 1))
    parts = (selector(random, depth - 1), selector(random, depth - 1))
    return And(parts) if kind == 10 else Or(parts)


def _where(name: str, line: int = 1) -> Where:
    return Where(f"{name}.yaml", line, 3)


def _selected(random: Random) -> Selected:
    return Selected(selector(random), anywhere=chance(random, 0.3))


def _networks(random: Random) -> Networks:
    names = [each.name for each in NETWORK_SETS]
    return Networks(tuple(sorted(random.sample(names, random.choice((1, 1, 2))))))


def _ends(random: Random) -> tuple[End, End]:
    """Make two ends: one may lie outside the inventory, never both."""
    source, destination = _selected(random), _selected(random)
    outside = random.random()
    if outside > 0.85:
        return source, _networks(random)
    if outside > 0.75:
        return _networks(random), destination
    return source, destination


def _on(random: Random) -> tuple[ServiceRef, ...]:
    if chance(random, 0.25):
        return ()
    every: tuple[ServiceRef, ...] = (*(each.name for each in SERVICES), *POINTS)
    return tuple(random.sample(every, random.randint(1, 3)))


def rule(random: Random, policy: str, place: int) -> Rule:
    """Make one rule of a policy."""
    source, destination = _ends(random)
    return Rule(
        id=RuleId(f"{policy}/r{place}"),
        action=random.choice((*[Action.ALLOW] * 6, Action.DENY, Action.DENY, Action.OVERRIDE_DENY)),
        source=source,
        destination=destination,
        on=_on(random),
        keep=chance(random, 0.15),
        where=_where(policy, 10 + place),
    )


def policy(random: Random, name: str) -> Policy:
    """Make a policy, with a scope in half of all cases."""
    scope = selector(random, 1) if chance(random, 0.5) else ALL
    rules = tuple(rule(random, name, place) for place in range(random.randint(1, 5)))
    test = PolicyTest(
        TestEnd((("role", "web"),)), TestEnd(address=Address("1.2.3.4")), "http", Expectation.DENY, _where(name, 9)
    )
    return Policy(name, rules, scope, (test,) if chance(random, 0.2) else (), _where(name))


def mode(random: Random, name: str) -> EnforcementMode:
    """Make an enforcement mode, mostly one that enforces."""
    modes = (*[Mode.FULL] * 4, *[Mode.SELECTIVE] * 2, Mode.VISIBILITY, Mode.IDLE)
    return EnforcementMode(
        name,
        ALL if chance(random, 0.4) else selector(random, 1),
        random.choice(modes),
        priority=random.choice((0, 0, 10, -5)),
        births=random.choice(tuple(Births)) if chance(random, 0.2) else None,
        where=_where(name),
    )


def quarantine(random: Random, name: str) -> Quarantine:
    """Make a quarantine, of one workload or of a few."""
    who = Equal(NAME, random.choice(NAMES)) if chance(random, 0.6) else selector(random, 0)
    excepted = tuple(_exception(random) for _ in range(random.randint(0, 2)))
    return Quarantine(name, _not_everybody(who), excepted, "seen scanning", where=_where(name))


def _not_everybody(who: Selector) -> Selector:
    return Has("role") if isinstance(who, Everything) else who


def _exception(random: Random) -> QuarantineException:
    end: End = _networks(random) if chance(random, 0.3) else Selected(selector(random, 1))
    if chance(random, 0.5):
        return QuarantineException(source=end, on=_on(random))
    return QuarantineException(destination=end, on=_on(random))


def invariant(random: Random, name: str) -> Invariant:
    """Make an invariant of either kind."""
    ends = selector(random, 1), selector(random, 1)
    return Invariant(name, Only(*ends, _on(random)) if chance(random, 0.5) else Never(*ends, _on(random)), _where(name))


def policy_set(random: Random) -> PolicySet:
    """Make all documents of one version, built-ins included, each kind sorted by name."""
    return PolicySet(
        policies=_several(random, 1, 3, "policy", policy),
        services=SERVICES,
        network_sets=NETWORK_SETS,
        label_rules=LABEL_RULES,
        modes=(DEFAULT, *_several(random, 1, 3, "mode", mode)),
        invariants=_several(random, 0, 1, "invariant", invariant),
        quarantines=_several(random, 0, 2, "quarantine", quarantine) if chance(random, 0.4) else (),
        workloads=workloads(random),
    )


DECLARED_AT = (
    ("192.168.7.40", "fd00:7::40"),
    ("192.168.7.41", "8.8.4.4"),
    ("1.2.3.4", "2a00:1::5"),
    ("192.168.7.20", "192.168.7.43"),  # unmanaged:0 is reported at the first
    ("192.168.7.30", "10.0.0.10", "fd00::11"),  # host-b's machine, and containers of either host's own networks
)
"""Where documents declare workloads: on the hosts' network, in network sets, where somebody else is."""


def workloads(random: Random) -> tuple[UnmanagedWorkload, ...]:
    """Make documents of workloads without an agent, mostly labelled, with some or all addresses of a place."""
    if chance(random, 0.4):
        return ()
    return tuple(_workload(random, place) for place in range(len(DECLARED_AT)) if chance(random, 0.5))


def _workload(random: Random, place: int) -> UnmanagedWorkload:
    at = DECLARED_AT[place]
    some = random.sample(at, random.randint(1, len(at)))
    keys = [key for key in DIMENSIONS if chance(random, 0.6)]
    labels = tuple((key, random.choice(DIMENSIONS[key][:3])) for key in sorted(keys))
    return UnmanagedWorkload(
        f"box-{place}", tuple(sorted(map(Address, some))), labels, where=_where("boxes", 1 + 5 * place)
    )


def _several(random: Random, least: int, most: int, name: str, make: Callable[[Random, str], _T]) -> tuple[_T, ...]:
    return tuple(make(random, f"{name}-{number}") for number in range(random.randint(least, most)))
