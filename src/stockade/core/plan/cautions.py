"""What a plan warns of."""

from collections.abc import Iterator
from itertools import islice

from stockade.core import select
from stockade.core.compile.rulebook import both
from stockade.core.model.ids import HostId
from stockade.core.model.intent import Intent, Tier
from stockade.core.model.inventory import Attachment, BridgeState, WorkloadKind
from stockade.core.model.net import Ports, Protocol
from stockade.core.model.packet import Direction
from stockade.core.model.policy import PER_HOST_SET, Births, EnforcementMode, Mode, Quarantine, Selected, Where
from stockade.core.model.problem import Problem
from stockade.core.model.selector import Selector
from stockade.core.plan.declared import declared_cautions, some_names
from stockade.core.plan.parties import Party, World
from stockade.core.plan.permitted import permitted, runs
from stockade.core.plan.portset import portset
from stockade.core.plan.talk import Talk
from stockade.core.plan.values import Caution, WarningKind

DNS = portset([Ports(Protocol.UDP, 53, 53)])
RESOLVERS = Party("resolvers", networks=frozenset({PER_HOST_SET, "world", "internet", "private"}))
SSH = portset([Ports(Protocol.TCP, 22, 22)])


def cautions(
    before: World,
    talk: Talk,
    old: dict[HostId, Intent],
    new: dict[HostId, Intent],
    unenforceable: tuple[Problem, ...],
) -> tuple[Caution, ...]:
    """Collect every warning about the draft, sorted."""
    after = talk.world
    found = [
        *_empty(after),
        *_shadowed(talk),
        *_newly_full(before, after),
        *_host_network(after),
        *_beyond_reach(after),
        *_holding(after, old, new),
        *declared_cautions(after),
        *(Caution(WarningKind.UNENFORCEABLE, p.nearest or p.where.file, p.message, p.where) for p in unenforceable),
    ]
    return tuple(sorted(set(found)))


def _empty(world: World) -> Iterator[Caution]:
    """Rules, modes and quarantines of which no workload is, today."""
    for policy in world.snapshot.policy.policies:
        for rule in policy.rules:
            for end in (rule.source, rule.destination):
                if isinstance(end, Selected):
                    scope = None if end.anywhere else policy.scope
                    if not _anyone(world, end.selector, scope):
                        text = f"{select.text(end.selector)} matches no workload"
                        yield Caution(WarningKind.EMPTY, rule.id, text, rule.where)
    documents: list[EnforcementMode | Quarantine] = [
        *world.snapshot.policy.modes,
        *world.snapshot.policy.quarantines,
    ]
    for document in documents:
        if not _anyone(world, document.select, None) and document.where.line:
            text = f"{select.text(document.select)} matches no workload"
            yield Caution(WarningKind.EMPTY, document.name, text, document.where)


def _anyone(world: World, selector: Selector, scope: Selector | None) -> bool:
    """One of each identity will do, save where a selector sees more than identities do: one of a lapsed quarantine."""
    matching = world.population.matching
    if (number := matching.number.get(selector if scope is None else both(scope, selector))) is not None:
        return bool(len(matching.members(number)))
    alike = select.keys(selector) <= world.population.keys
    members = (each.values() for each in world.population.members)
    examples = (each for some in members for each in islice(some, 1 if alike else None))
    return any(
        select.matches(selector, each.labels, each.name)
        and (scope is None or select.matches(scope, each.labels, each.name))
        for each in examples
    )


def _shadowed(talk: Talk) -> Iterator[Caution]:
    """Rules that speak of somebody and never decide."""
    speaking: set[str] = set()
    for text in talk.world.parties:
        program = talk.program(text)
        if program is not None and program.mode in (Mode.SELECTIVE, Mode.FULL):
            speaking |= {line.rule for way in Direction for _, line, members in talk.own(text, way) if members}
    deciding = {
        said.line.rule
        for found in talk.judgements(talk.spoken_of(*Tier))
        for run in found
        for said in (run.leaves, run.enters)
        if said.line
    }
    for policy in talk.world.snapshot.policy.policies:
        for rule in policy.rules:
            if rule.id in speaking - deciding:
                text = "another rule always decides before it"
                yield Caution(WarningKind.SHADOWED, rule.id, text, rule.where)


def _newly_full(before: World, after: World) -> Iterator[Caution]:
    """Workloads that go full without name resolution, hosts that go full without a way in."""
    for party in after.parties.values():
        if party.program is None or party.program.mode is not Mode.FULL:
            continue
        was = before.parties.get(party.text)
        if was and was.program and was.program.mode is Mode.FULL:
            continue
        if not permitted(runs(after.book, party, RESOLVERS)) & DNS:
            text = "goes full and may not ask its name servers: allow it `to: networks(resolvers), on: [dns]`"
            yield Caution(WarningKind.NO_RESOLVERS, party.text, text)
        if any(each.seen.kind is WorkloadKind.HOST for each in party.workloads):
            yield from _lockout(after, party)


def _lockout(world: World, host: Party) -> Iterator[Caution]:
    outside = [party for party in world.parties.values() if party.networks]
    if not any(permitted(runs(world.book, party, host)) & SSH for party in outside):
        text = "the host goes full and no rule lets ssh in from outside; live sessions stay. Use apply --confirm 60s"
        yield Caution(WarningKind.LOCKOUT, host.text, text)


def _host_network(world: World) -> Iterator[Caution]:
    """Containers on the host's network that policy means to tell apart: they are judged as the host."""
    hosts = {host.workload for host in world.snapshot.hosts.values()}
    for workload in world.snapshot.workloads.values():
        carried = [each.key for each in workload.labels.items if each.key in world.population.keys]
        if workload.seen.owner in hosts and carried and workload.id not in hosts:
            text = f"is on its host's network and is judged as the host, whatever its {', '.join(carried)} says"
            yield Caution(WarningKind.HOST_NETWORK, workload.name, text)


def _beyond_reach(world: World) -> Iterator[Caution]:
    """Workloads that should be enforced where no point for it exists."""
    bridges = {
        (host.id, bridge.name): bridge.state for host in world.snapshot.hosts.values() for bridge in host.bridges
    }
    for members in world.population.members:
        for workload in members.values():
            program = world.population.program(workload.id)
            if program is None or program.mode not in (Mode.SELECTIVE, Mode.FULL):
                continue
            for endpoint in workload.seen.endpoints:
                if endpoint.attachment is Attachment.OPAQUE:
                    why = endpoint.reason or "its traffic does not cross the host's stack"
                    text = f"cannot be {program.mode.value}: {why}"
                    yield Caution(WarningKind.UNENFORCEABLE, workload.name, text)
                state = bridges.get((workload.seen.host or HostId(""), endpoint.bridge))
                if state is BridgeState.NONE:
                    text = (
                        f"cannot be {program.mode.value} on {endpoint.bridge}: bridge-nf-call-iptables is off and the "
                        f"kernel does not track bridged connections. Set net.bridge.bridge-nf-call-iptables and "
                        f"-ip6tables to 1"
                    )
                    yield Caution(WarningKind.UNENFORCEABLE, workload.name, text)


def _holding(world: World, old: dict[HostId, Intent], new: dict[HostId, Intent]) -> Iterator[Caution]:
    """Hosts that begin to hold whom nobody has labelled, and who of those is there already."""
    for host, intent in sorted(new.items()):
        before = old.get(host)
        if intent.births is Births.HOLD and (before is None or before.births is not Births.HOLD):
            text = "births: hold from now on: an endpoint that nobody has labelled may not talk here"
            if held := _held(world, host):
                text += f", at once {held}"
            yield Caution(WarningKind.HOLD, host, text, Where())


def _held(world: World, host: HostId) -> str:
    """Name who would be held, the first few of them."""
    return some_names(
        each.name
        for each in world.snapshot.workloads.values()
        if each.seen.host == host and each.seen.endpoints and not each.known
    )
