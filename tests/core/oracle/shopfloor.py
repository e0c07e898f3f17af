"""The small world of the oracle's tests: a shop on one bridge of host-a, in ``full`` unless a test says otherwise.

web-1, api-1, db-1 and probe-1 have addresses of both families; new-1 has no labels; legacy is unmanaged; host-a is in
``visibility``. ``ask`` sends one packet from place to place and returns the verdict.
"""

from msgspec.structs import replace

from stockade.core.fold import fold
from stockade.core.model.event import Event, LabelsSet
from stockade.core.model.ids import Address, WorkloadId
from stockade.core.model.net import Protocol
from stockade.core.model.packet import Direction, Judgement, Layer, Packet, Verdict
from stockade.core.model.policy import (
    Action,
    Births,
    End,
    EnforcementMode,
    Mode,
    Networks,
    Policy,
    PolicySet,
    Rule,
    Selected,
    ServiceRef,
)
from stockade.core.model.selector import ALL, Selector
from stockade.core.model.snapshot import Snapshot
from stockade.core.oracle import verdict
from stockade.testing.scenarios import (
    DEFAULT,
    FULL,
    HOST,
    OWN_LABELS,
    PROBE,
    SHOP,
    container,
    policy,
    role,
    unmanaged,
)

TCP, UDP, ICMP, ICMPV6 = Protocol.TCP, Protocol.UDP, Protocol.ICMP, Protocol.ICMPV6
NEW_1 = container("new-1", 15, labels=False)
WEB, API, DB, PROBE_ID, NEW = (
    WorkloadId(f"docker:host-a:{name}") for name in ("web-1", "api-1", "db-1", "probe-1", "new-1")
)
LEGACY, ITSELF = WorkloadId("unmanaged:legacy"), WorkloadId("host:host-a")
OUTSIDE = "203.0.113.5"
PLACES = {
    "web": ("10.0.0.11", "veth11"),
    "api": ("10.0.0.12", "veth12"),
    "db": ("10.0.0.13", "veth13"),
    "probe": ("10.0.0.14", "veth14"),
    "new": ("10.0.0.15", "veth15"),
    "web6": ("fd00::11", "veth11"),
    "api6": ("fd00::12", "veth12"),
    "new6": ("fd00::15", "veth15"),
    "host": ("192.168.7.1", ""),
    "gateway": ("10.0.0.1", ""),
    "legacy": ("192.168.7.20", "eth0"),
    "outside": (OUTSIDE, "eth0"),
    "outside6": ("2001:db8:7::5", "eth0"),
}

BASE: tuple[Event, ...] = (*SHOP, PROBE, NEW_1, unmanaged(), LabelsSet(LEGACY, (("role", "legacy"),), "ann"))
PASS_BIRTHS = EnforcementMode("births", role("host"), Mode.VISIBILITY, births=Births.PASS)


def rule(
    name: str,
    source: Selector | End,
    destination: Selector | End,
    *on: ServiceRef,
    action: Action = Action.ALLOW,
    keep: bool = False,
) -> Rule:
    """Make a rule; plain selectors are ends that select."""
    return Rule(f"shop/{name}", action, _end(source), _end(destination), on, keep)


def _end(end: Selector | End) -> End:
    return end if isinstance(end, Selected | Networks) else Selected(end)


def anywhere(selector: Selector) -> Selected:
    """Write ``any(selector)``."""
    return Selected(selector, anywhere=True)


def shop(*rules: Rule, more: tuple[Event, ...] = (), scope: Selector = ALL, **documents: object) -> Snapshot:
    """Make the shop under one policy; ``documents`` replace kinds of its policy set, ``more`` events come last."""
    documents.setdefault("modes", (FULL,))
    active = policy(1, scope=scope, label_rules=(OWN_LABELS,))
    complete = replace(active.policy, policies=(Policy("shop", rules, scope),), **documents)
    complete = replace(complete, modes=(DEFAULT, *complete.modes))
    return fold([*BASE, replace(active, policy=complete), *more])


def with_policy(snapshot: Snapshot, **documents: object) -> Snapshot:
    """Replace kinds of documents in a snapshot's policy."""
    changed: PolicySet = replace(snapshot.policy, **documents)
    return snapshot._replace(policy=changed)


def packet(source: str, destination: str, port: int = 80, protocol: Protocol = TCP, **more: object) -> Packet:
    """Make a packet between two places or plain addresses."""
    address, interface = PLACES.get(source, (source, "eth0"))
    to, _ = PLACES.get(destination, (destination, ""))
    made = Packet(HOST, Address(address), Address(to), protocol, port, 50000, interface=interface)
    return replace(made, **more)


def ask(
    snapshot: Snapshot, source: str, destination: str, port: int = 80, protocol: Protocol = TCP, **more: object
) -> Verdict:
    """Judge one packet."""
    return verdict(snapshot, packet(source, destination, port, protocol, **more))


def egress(said: Verdict) -> Judgement | None:
    """What the source's end said."""
    return next((end for end in said.ends if end.direction is Direction.EGRESS), None)


def ingress(said: Verdict) -> Judgement | None:
    """What the destination's end said."""
    return next((end for end in said.ends if end.direction is Direction.INGRESS), None)


def layers(said: Verdict) -> list[Layer]:
    """Which layer decided at each end that judged."""
    return [end.layer for end in said.ends]
