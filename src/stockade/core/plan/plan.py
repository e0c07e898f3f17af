"""Draft × active → what would change: documents, connections, tests, invariants, points, warnings.

Pure. Connections are compared between parties (identities, named networks, the unknown) that both versions together
can tell apart, so that a difference is never hidden inside a coarser identity. What a draft moves from one identity or
network to another (by a label rule, by a set's addresses, by declaring a workload there) is a party of its own:
``role=api (was role=web)``, ``role=db (was networks(private))``.

Left out, for policy does not decide it: what is essential, a workload's talk with itself, and what a host that holds
births does to whoever nobody has labelled (a warning of its own).
"""

from collections.abc import Iterator
from itertools import islice, permutations, product
from typing import NamedTuple

from stockade.core.compile.compiler import compile_snapshot
from stockade.core.model.ids import HostId, RuleId
from stockade.core.model.intent import Intent, Tier
from stockade.core.model.packet import Direction
from stockade.core.model.policy import Where
from stockade.core.model.problem import Problem
from stockade.core.model.snapshot import Snapshot
from stockade.core.plan.cautions import cautions
from stockade.core.plan.checks import invariants, tests
from stockade.core.plan.documents import document_changes, rule_changes
from stockade.core.plan.parties import Party, World, apart, worlds
from stockade.core.plan.permitted import Run
from stockade.core.plan.portset import PortSet, joined
from stockade.core.plan.talk import Exchange, Pair, Talk, differing
from stockade.core.plan.values import ConnectionChange, HalfOpen, Plan, PointChange
from stockade.core.plan.writing import allow_text, anywhere, services, told
from stockade.core.policy import content_hash


def plan(active: Snapshot, draft: Snapshot, *, pairs: int = 20, unenforceable: tuple[Problem, ...] = ()) -> Plan:
    """Compare two snapshots that differ in policy. ``pairs`` bounds the pairs of names that each connection lists."""
    before, after = map(Talk, worlds(active, draft))
    gained, lost = _connections(before, after, pairs)
    old, new = compile_snapshot(active), compile_snapshot(draft)
    return Plan(
        against=active.version,
        id=f"{active.version}-{content_hash(draft.policy)[:12]}",
        documents=document_changes(active.policy, draft.policy),
        rules=rule_changes(active.policy, draft.policy),
        gained=gained,
        lost=lost,
        half_open=tuple(sorted(_half_open(after))),
        tests=tests(after.world),
        invariants=invariants(after),
        points=tuple(sorted(_points(old, new))),
        points_total=len(draft.hosts),
        warnings=cautions(before.world, after, old, new, unenforceable),
    )


class _Opened(NamedTuple):
    """Services that a rule (None: a mode) opens in one version only, and in which versions some of them may talk."""

    rule: RuleId | None
    on: str
    was: bool
    now: bool


_Difference = tuple[list[_Opened], list[_Opened]]
"""What is gained, and what is lost."""
_OneSided = tuple[Direction, PortSet, RuleId]
"""At which end a connection is denied, on which services, and by which rule the other end would have it."""


def _connections(
    before: Talk, after: Talk, pairs: int
) -> tuple[tuple[ConnectionChange, ...], tuple[ConnectionChange, ...]]:
    worlds = (before.world, after.world)
    known: dict[tuple[Exchange, Exchange], _Difference] = {}
    gained: list[ConnectionChange] = []
    lost: list[ConnectionChange] = []
    for ends in differing(before, after):
        if not _judged(worlds, ends):
            continue
        said = (before.exchange(ends), after.exchange(ends))
        if said not in known:
            known[said] = _difference(before, after, said)
        more, less = known[said]
        gained += (_change(each, worlds, ends, pairs) for each in more)
        lost += (_change(each, worlds, ends, pairs) for each in less)
    return tuple(sorted(gained)), tuple(sorted(lost))


def _judged(worlds: tuple[World, World], ends: Pair) -> bool:
    """Skip pairs that nobody judges, and a lone workload's talk with itself."""
    parties = [(world.parties[ends[0]], world.parties[ends[1]]) for world in worlds]
    return any(one.program or other.program for one, other in parties) and apart(*parties[0])


def _difference(before: Talk, after: Talk, said: tuple[Exchange, Exchange]) -> _Difference:
    """Compare what two versions say of one pair, and of every pair of which they say the same."""
    was, now = before.permitted_by(said[0]), after.permitted_by(said[1])
    if was == now:
        return [], []
    both = (was, now)
    return list(_opened(now - was, after.judged(said[1]), both)), list(_opened(was - now, before.judged(said[0]), both))


def _opened(ports: PortSet, found: tuple[Run, ...], permitted: tuple[PortSet, PortSet]) -> Iterator[_Opened]:
    """Yield what each rule opens of some ports."""
    by_rule: dict[str, list[Run]] = {}
    for run in found if ports else ():
        if run.allowed and joined([run.ports]) & ports:
            by_rule.setdefault(run.rule or "", []).append(run)
    for _, opened in sorted(by_rule.items()):
        on = joined(run.ports for run in opened) & ports
        was, now = (bool(each & on) for each in permitted)
        yield _Opened(opened[0].rule, on.text(), was, now)


def _change(opened: _Opened, worlds: tuple[World, World], ends: Pair, pairs: int) -> ConnectionChange:
    before, after = worlds
    source, destination = (_peopled(after.parties[end], before.parties[end]) for end in ends)
    return ConnectionChange(
        source=ends[0],
        destination=ends[1],
        on=opened.on,
        sources=len(source.workloads),
        destinations=len(destination.workloads),
        before=_pairs(before, ends) if opened.was else 0,
        after=_pairs(after, ends) if opened.now else 0,
        rule=opened.rule,
        where=_where(opened.rule, after, before),
        pairs=tuple(islice(_names(source, destination), pairs)),
    )


def _peopled(now: Party, was: Party) -> Party:
    """Return a party as the version knows it in which it is workloads: a draft may declare them, or no more."""
    return now if now.workloads else was


def _where(rule: RuleId | None, *worlds: World) -> Where | None:
    return next((world.book.wheres[rule] for world in worlds if rule and rule in world.book.wheres), None)


def _pairs(world: World, ends: Pair) -> int:
    """Count the pairs of workloads at two ends; a network or the unknown counts as one."""
    sizes = [max(1, len(world.parties[end].workloads)) for end in ends]
    return sizes[0] * (sizes[1] - (ends[0] == ends[1]))


def _names(source: Party, destination: Party) -> Iterator[tuple[str, str]]:
    if source is destination:
        return permutations(source.names, 2)
    return product(source.names, destination.names)


def _half_open(talk: Talk) -> Iterator[HalfOpen]:
    """A rule's yes at one end and no yes at the other: say which rule is missing there."""
    world = talk.world
    known: dict[Exchange, list[_OneSided]] = {}
    for pair in talk.spoken_of(Tier.ALLOW):
        source, destination = (world.parties[end] for end in pair)
        if source.program is None or destination.program is None or not apart(source, destination):
            continue
        said = talk.exchange(pair)
        if said not in known:
            known[said] = list(_one_sided(talk.judged(said)))
        for denied, on, rule in known[said]:
            yield HalfOpen(
                source.text,
                destination.text,
                on.text(),
                denied,
                missing=_missing(world, source, destination, on),
                rule=rule,
                where=world.book.wheres.get(rule),
            )


def _one_sided(found: tuple[Run, ...]) -> Iterator[_OneSided]:
    for denied in Direction:
        here = [(run, rule) for run in found if (rule := _opener(run, denied)) is not None]
        if here:
            yield denied, joined(run.ports for run, _ in here), here[0][1]


def _opener(run: Run, denied: Direction) -> RuleId | None:
    """Return the rule that says yes at the other end, where the default of this end says no."""
    no, yes = (run.leaves, run.enters) if denied is Direction.EGRESS else (run.enters, run.leaves)
    if no.allowed or no.line is not None or yes.line is None or yes.line.tier is not Tier.ALLOW:
        return None
    return yes.line.rule


def _missing(world: World, source: Party, destination: Party, on: PortSet) -> str:
    keys = world.population.keys
    one, other = (anywhere(told(each.workloads[0], keys)) for each in (source, destination))
    return allow_text(one, other, services(on))


def _points(old: dict[HostId, Intent], new: dict[HostId, Intent]) -> Iterator[PointChange]:
    for host in sorted({*old, *new}):
        before, after = old.get(host), new.get(host)
        if before and after and before.fingerprint == after.fingerprint:
            continue
        programs = _programs(before) ^ _programs(after)
        yield PointChange(host, len(programs), len(_elements(before) ^ _elements(after)))


def _programs(intent: Intent | None) -> set[str]:
    return {str(program.id) for program in intent.programs} if intent else set()


def _elements(intent: Intent | None) -> set[tuple[str, str]]:
    if intent is None:
        return set()
    ends = {(str(end.program), address) for end in intent.ends for address in end.addresses}
    return ends | {(peers.name, address) for peers in intent.peers for address in peers.addresses}
