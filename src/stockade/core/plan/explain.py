"""One connection, explained: each end's verdict, what decided it, and the smallest change that would turn it."""

from collections.abc import Iterator

from stockade.core import select
from stockade.core.model.ids import HostId
from stockade.core.model.inventory import Endpoint, Host
from stockade.core.model.labels import NAME
from stockade.core.model.net import Ports, Protocol
from stockade.core.model.packet import Judgement, Layer, Packet
from stockade.core.model.policy import Action, Mode, Networks, Policy, Rule, ServiceRef
from stockade.core.model.policy import End as RuleEnd
from stockade.core.model.snapshot import Snapshot
from stockade.core.oracle import mode, verdict
from stockade.core.plan.naming import Named, named
from stockade.core.plan.parties import World
from stockade.core.plan.permitted import permitted, runs
from stockade.core.plan.portset import PortSet, portset, range_text
from stockade.core.plan.values import EndVerdict, Explanation, Flip, NearestRule
from stockade.core.plan.writing import rule_text

BECAUSE = {
    Layer.FORGED: "the frame's source is not its endpoint's own",
    Layer.HELD: "nobody has labelled it yet, and this host holds unknown workloads (births: hold)",
    Layer.ESSENTIAL: "essential: always passes",
    Layer.INVALID: "belongs to no connection",
    Layer.QUARANTINE: "quarantined",
    Layer.OVERRIDE_DENY: "an override deny beats every allow",
    Layer.ALLOW: "a rule allows it",
    Layer.KEPT: "an earlier rule said `established: keep`",
    Layer.DENY: "a rule denies it and none allows it",
}


def explain(snapshot: Snapshot, source: str, destination: str, on: Ports) -> Explanation:
    """Judge one connection as the oracle does and say why. Raises ``StockadeError`` where an end is nobody."""
    v6 = on.protocol is Protocol.ICMPV6 or any(":" in each for each in (source, destination))
    one, other = named(snapshot, source, v6=v6), named(snapshot, destination, v6=v6)
    judged = tuple(_judged(snapshot, one, other, on))
    denied = next((each for _, each in judged if not each.allowed), None)
    ends = tuple(_end(snapshot, host, each) for host, each in judged)
    return Explanation(
        source=one.end(_mode(snapshot, one)),
        destination=other.end(_mode(snapshot, other)),
        on=range_text(on),
        allowed=denied is None,
        version=snapshot.version,
        ends=ends,
        nearest=_nearest(snapshot, one, other, on) if denied and denied.layer is Layer.MODE else None,
        flip=_flip(snapshot, one, other, on, denied) if denied else None,
    )


def _judged(snapshot: Snapshot, one: Named, other: Named, on: Ports) -> Iterator[tuple[HostId, Judgement]]:
    """Judge at each host that carries an end. Between two hosts the second sees the packet come from outside."""
    carriers = [each.workload.seen.host for each in (one, other) if each.workload and each.workload.seen.host]
    for host in dict.fromkeys(each for each in carriers if each in snapshot.hosts):
        here = one.workload is not None and one.workload.seen.host == host
        packet = Packet(
            host=host,
            source=one.address,
            destination=other.address,
            protocol=on.protocol,
            port=on.first,
            interface=_interface(one) if here else _way_in(snapshot.hosts[host]),
        )
        for judgement in verdict(snapshot, packet).ends:
            yield host, judgement


def _interface(end: Named) -> str:
    endpoints: tuple[Endpoint, ...] = end.workload.seen.endpoints if end.workload else ()
    return next((each.port for each in endpoints if end.address in each.addresses), "")


def _way_in(host: Host) -> str:
    """Name an interface by which the outside is met."""
    bridges = {bridge.name for bridge in host.bridges}
    return next((each for each in host.interfaces if each not in bridges and each != "lo"), "lo")


def _mode(snapshot: Snapshot, end: Named) -> Mode | None:
    known = end.workload is not None and end.workload.known and end.workload.seen.host in snapshot.hosts
    return mode(snapshot, end.workload) if known and end.workload else None


def _end(snapshot: Snapshot, host: HostId, judgement: Judgement) -> EndVerdict:
    workload = snapshot.workloads.get(judgement.workload) if judgement.workload else None
    found = mode(snapshot, workload) if workload and workload.known else None
    return EndVerdict(
        direction=judgement.direction,
        workload=judgement.workload,
        host=host,
        allowed=judgement.allowed,
        layer=judgement.layer,
        because=_because(judgement, found),
        mode=found,
        rule=judgement.rule,
        where=judgement.where,
    )


def _because(judgement: Judgement, found: Mode | None) -> str:
    if judgement.layer is not Layer.MODE:
        return BECAUSE[judgement.layer]
    if found is Mode.FULL:
        return "no rule allows it; mode full denies"
    if found is Mode.SELECTIVE:
        return "no rule denies it; mode selective allows"
    return f"mode {found.value if found else 'visibility'} judges nothing"


def _allows(snapshot: Snapshot) -> Iterator[tuple[Policy, Rule]]:
    for policy in snapshot.policy.policies:
        for rule in policy.rules:
            if rule.action is Action.ALLOW:
                yield policy, rule


def _nearest(snapshot: Snapshot, one: Named, other: Named, on: Ports) -> NearestRule | None:
    """Return the allow that lacks least; none where all lack everything."""
    best: NearestRule | None = None
    for policy, rule in _allows(snapshot):
        lacks = tuple(
            name
            for name, met in (
                ("source", _meets(policy, rule.source, one)),
                ("destination", _meets(policy, rule.destination, other)),
                ("on", not rule.on or bool(_services(snapshot, rule.on) & portset([on]))),
            )
            if not met
        )
        if len(lacks) < 3 and (best is None or len(lacks) < len(best.lacks)):
            best = NearestRule(rule.id, rule.where, rule_text(rule), lacks)
    return best


def _meets(policy: Policy, end: RuleEnd, who: Named) -> bool:
    if isinstance(end, Networks) or who.workload is None or not who.workload.known:
        return False
    labels, name = who.workload.labels, who.workload.name
    inside = end.anywhere or select.matches(policy.scope, labels, name)
    return inside and select.matches(end.selector, labels, name)


def _services(snapshot: Snapshot, on: tuple[ServiceRef, ...]) -> PortSet:
    known = {service.name: service.ports for service in snapshot.policy.services}
    return portset(ports for each in on for ports in ((each,) if isinstance(each, Ports) else known.get(each, ())))


def _flip(snapshot: Snapshot, one: Named, other: Named, on: Ports, denied: Judgement) -> Flip:
    """Say what would open it: for a default, a rule; for a deny, the rule in the way; else the remedy."""
    if denied.layer in (Layer.OVERRIDE_DENY, Layer.DENY, Layer.QUARANTINE):
        verb = "take this connection out of" if denied.layer is not Layer.DENY else "add an allow, or change,"
        return Flip(f"{verb} {denied.rule}", denied.where)
    if denied.layer is Layer.MODE:
        return _rule_that_opens(snapshot, one, other, on)
    if denied.layer is Layer.HELD:
        return Flip(f"label it: stockade labels set {denied.workload} app=…")
    return Flip("nothing in policy: send it from the endpoint's own address")


def _rule_that_opens(snapshot: Snapshot, one: Named, other: Named, on: Ports) -> Flip:
    world = World(snapshot)
    ends = [_selecting(world, each) for each in (one, other)]
    rule = f'allow: {{from: "{ends[0]}", to: "{ends[1]}", on: [{range_text(on)}]}}'
    unknown = [each.text for each in (one, other) if each.workload is not None and not each.workload.known]
    if unknown:
        return Flip(f"label {', '.join(unknown)}: nobody has, so no rule can name it")
    return Flip(rule, also=tuple(_also(world, one, other, on)))


def _selecting(world: World, end: Named) -> str:
    """Return the end of a rule that names this party: its labels, as far as policy tells them apart."""
    if end.workload is None:
        return f"networks(…{end.address})"
    keys = world.population.keys - {NAME}
    told = [each for each in end.workload.labels.items if each.key in keys] or list(end.workload.labels.items[:1])
    return f"any({' and '.join(f'{each.key} = {each.value}' for each in told)})"


def _also(world: World, one: Named, other: Named, on: Ports) -> Iterator[tuple[str, str]]:
    """Yield the other pairs that such a rule would open."""
    if one.workload is None or other.workload is None:
        return
    source, destination = world.party_of(one.workload), world.party_of(other.workload)
    if portset([on]) & permitted(runs(world, source, destination)):
        return
    for here in source.workloads:
        for there in destination.workloads:
            if (here.id, there.id) != (one.workload.id, other.workload.id) and here.id != there.id:
                yield here.name, there.name
