"""One connection, explained: each end's verdict, what decided it, and the smallest change that would turn it."""

from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from stockade.core.compile.addresses import LINK_LOCAL, own_addresses
from stockade.core.model.ids import HostId
from stockade.core.model.inventory import Endpoint, Host
from stockade.core.model.net import Ports, Protocol
from stockade.core.model.packet import Judgement, Layer, Packet
from stockade.core.model.policy import Mode
from stockade.core.model.snapshot import Snapshot
from stockade.core.oracle import mode, verdict
from stockade.core.plan.changes import Allow, Change, added, allows, widened
from stockade.core.plan.naming import Named, address_of, calling, named
from stockade.core.plan.opening import Opened, opened
from stockade.core.plan.portset import range_text
from stockade.core.plan.values import EndVerdict, Explanation, Flip, NearestRule
from stockade.core.plan.writing import rule_text

BECAUSE = {
    Layer.FORGED: "the frame's source is not its endpoint's own",
    Layer.HELD: "nobody has labelled it yet, and this host holds unknown workloads (births: hold)",
    Layer.ESSENTIAL: "essential: always passes",
    Layer.INVALID: "belongs to no connection",
    Layer.QUARANTINE: "{rule} decides",
    Layer.OVERRIDE_DENY: "{rule} denies it, whatever allows it",
    Layer.ALLOW: "{rule} allows it",
    Layer.KEPT: "an earlier rule said `established: keep`",
    Layer.DENY: "{rule} denies it and nothing allows it",
}
NOBODYS = "nothing in policy: no source has reported the workload behind this link yet"
TRIED = 8
"""Allows that are tried for the one that opens least besides."""
LISTED = 1000
"""Other pairs that are named; of more there is the number."""
Ends = tuple[Named, Named]


def explain(snapshot: Snapshot, source: str, destination: str, on: Ports) -> Explanation:
    """Judge one connection as the oracle does and say why. Raises ``StockadeError`` where an end is nobody."""
    v6 = on.protocol is Protocol.ICMPV6 or any(":" in (address_of(each) or "") for each in (source, destination))
    ends = (named(snapshot, source, v6=v6), named(snapshot, destination, v6=v6))
    near = _nearby(snapshot, ends)
    judged = tuple(_judged(near, ends, on))
    refused = [each for _, each in judged if not each.allowed]
    rules = allows(snapshot.policy, ends, on) if refused else []
    return Explanation(
        source=ends[0].end(snapshot, _mode(snapshot, ends[0])),
        destination=ends[1].end(snapshot, _mode(snapshot, ends[1])),
        on=range_text(on),
        allowed=not refused,
        version=snapshot.version,
        ends=tuple(_end(snapshot, host, each) for host, each in judged),
        nearest=_nearest(rules) if refused and refused[0].layer is Layer.MODE else None,
        flip=_flip((snapshot, near), rules, ends, on, refused) if refused else None,
    )


# The verdict


def _nearby(snapshot: Snapshot, ends: Ends) -> Snapshot:
    """Leave out the workloads that have no part in a packet between two ends: the oracle asks of every one it is given.

    What has a part: whoever has one of the addresses (a published port's among them) or the ports of the ends, and
    the hosts themselves.
    """
    hosts = [snapshot.hosts[host] for host in _carriers(snapshot, ends)]
    wanted = {each.address for each in ends} | {each.to_address for host in hosts for each in host.published}
    ports = {each.port for each in ends} - {""}
    local = any(each.startswith(LINK_LOCAL) for each in wanted)

    def has_a_part(endpoint: Endpoint) -> bool:
        addresses = own_addresses(endpoint) if local else endpoint.addresses
        return endpoint.port in ports or not wanted.isdisjoint(addresses)

    kept = {host.workload for host in hosts} | {each.workload.id for each in ends if each.workload}
    near = {
        id_: each
        for id_, each in snapshot.workloads.items()
        if id_ in kept or any(map(has_a_part, each.seen.endpoints))
    }
    return snapshot._replace(workloads=near)


def _carriers(snapshot: Snapshot, ends: Ends) -> tuple[HostId, ...]:
    """Return the hosts that judge: those that carry an end, the source's first."""
    hosts = (each.host for each in ends)
    return tuple(dict.fromkeys(each for each in hosts if each is not None and each in snapshot.hosts))


def _judged(snapshot: Snapshot, ends: Ends, on: Ports) -> Iterator[tuple[HostId, Judgement]]:
    """Judge at each host that carries an end. Between two hosts the second sees the packet come from outside."""
    one, other = ends
    for host in _carriers(snapshot, ends):
        packet = Packet(
            host=host,
            source=one.address,
            destination=other.address,
            protocol=on.protocol,
            port=on.first,
            interface=one.port if one.host == host else _way_in(snapshot.hosts[host]),
        )
        for judgement in verdict(snapshot, packet).ends:
            yield host, judgement


def _passes(snapshot: Snapshot, ends: Ends, on: Ports) -> bool:
    return all(each.allowed for _, each in _judged(snapshot, ends, on))


def _way_in(host: Host) -> str:
    """Name an interface by which the outside is met."""
    bridges = {bridge.name for bridge in host.bridges}
    return next((each for each in host.interfaces if each not in bridges and each != "lo"), "lo")


# What it was, in words


def _mode(snapshot: Snapshot, end: Named) -> Mode | None:
    return mode(snapshot, end.known) if end.known and end.known.seen.host in snapshot.hosts else None


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
        return BECAUSE[judgement.layer].format(rule=judgement.rule)
    if found is Mode.FULL:
        return "no rule allows it; mode full denies"
    if found is Mode.SELECTIVE:
        return "no rule denies it; mode selective allows"
    return f"mode {found.value if found else 'visibility'} judges nothing"


def _nearest(rules: list[Allow]) -> NearestRule | None:
    """Return the allow that lacks least; none where all lack everything."""
    best = min(rules, key=lambda each: len(each.lacks), default=None)
    if best is None or len(best.lacks) == 3:
        return None
    return NearestRule(best.rule.id, best.rule.where, rule_text(best.rule), best.lacks)


# What would turn it


def _flip(
    snapshots: tuple[Snapshot, Snapshot], rules: list[Allow], ends: Ends, on: Ports, refused: list[Judgement]
) -> Flip:
    """Say what would open it: an allow, where none is missing the rule in the way, else the remedy."""
    first = refused[0]
    if first.layer is Layer.HELD:
        return Flip(f"label it: stockade labels set {first.workload} app=…" if first.workload else NOBODYS)
    if first.layer in (Layer.FORGED, Layer.INVALID):
        return Flip("nothing in policy: send it from the endpoint's own address")
    barred = next((each for each in refused if each.layer in (Layer.OVERRIDE_DENY, Layer.QUARANTINE)), None)
    if barred is not None:
        return Flip(f"take this connection out of {barred.rule}", barred.where)
    unknown = sorted(each.workload.id for each in ends if each.workload and each.known is None)
    if unknown:
        return Flip(f"label it, so that a rule can name it: stockade labels set {unknown[0]} app=…")
    return _smallest(*snapshots, rules, ends, on)


def _smallest(snapshot: Snapshot, near: Snapshot, rules: list[Allow], ends: Ends, on: Ports) -> Flip:
    """Of the ways to widen one allow the one that opens least besides; where there is none, a new allow."""
    policy = snapshot.policy
    ways = (change for each in rules for change in widened(policy, each, ends, on))
    turning = (change for change in ways if _passes(near._replace(policy=change.policy), ends, on))
    found = [(_also(snapshot, change, ends), change) for change in islice(turning, TRIED)]
    if not found:
        change = added(policy, ends, on)
        if not _passes(near._replace(policy=change.policy), ends, on):
            return Flip("nothing in policy: no selector and no network set can name " + _unnamed(ends))
        found = [(_also(snapshot, change, ends), change)]
    also, change = min(found, key=lambda each: each[0].number)
    return Flip(change.text, change.where, also.named(snapshot), change.names, also.number)


class _Also(NamedTuple):
    """What else a change opens: groups of pairs, the pair that was asked about among them."""

    found: list[Opened]
    asked: tuple[str, ...]

    @property
    def number(self) -> int:
        """How many other pairs there are."""
        asked = any(self.asked[0] in each.sources.ids and self.asked[1] in each.destinations.ids for each in self.found)
        return sum(each.number for each in self.found) - asked

    def named(self, snapshot: Snapshot) -> tuple[tuple[str, str], ...]:
        """Name the other pairs, or the first of very many."""
        others = (pair for each in self.found for pair in each.pairs() if pair != self.asked)
        pairs = list(islice(others, LISTED))
        names = calling(snapshot, sorted({id_ for pair in pairs for id_ in pair}))
        return tuple(sorted((names[one], names[other]) for one, other in pairs))


def _also(snapshot: Snapshot, change: Change, ends: Ends) -> _Also:
    asked = tuple(each.workload.id if each.workload else each.address for each in ends)
    outside = next((each.address for each in ends if each.workload is None), "")
    return _Also(opened(snapshot, change, outside), asked)


def _unnamed(ends: Ends) -> str:
    outside = [each.text for each in ends if each.workload is None]
    return " or ".join(outside or [each.text for each in ends])
