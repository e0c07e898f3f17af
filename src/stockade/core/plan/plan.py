"""Draft × active → what would change: documents, connections, tests, invariants, points, warnings.

Pure. Connections are compared between parties (identities, named networks, the unknown) that both versions together
can tell apart, so that a difference is never hidden inside a coarser identity. What a draft moves from one identity or
network to another (by a label rule, by a set's addresses, by declaring a workload there) is a party of its own:
``role=api (was role=web)``, ``role=db (was networks(private))``.

Left out, for policy does not decide it: what is essential, a workload's talk with itself, and what a host that holds
births does to whoever nobody has labelled (a warning of its own).
"""

from collections.abc import Iterator
from itertools import permutations, product

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
from stockade.core.plan.permitted import Run, permitted, runs
from stockade.core.plan.portset import PortSet, joined
from stockade.core.plan.values import ConnectionChange, HalfOpen, Plan, PointChange
from stockade.core.plan.writing import allow_text, anywhere, services, told
from stockade.core.policy import content_hash


def plan(active: Snapshot, draft: Snapshot, *, pairs: int = 20, unenforceable: tuple[Problem, ...] = ()) -> Plan:
    """Compare two snapshots that differ in policy. ``pairs`` bounds the pairs of names that each connection lists."""
    before, after = worlds(active, draft)
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
        tests=tests(after),
        invariants=invariants(after),
        points=tuple(sorted(_points(old, new))),
        points_total=len(draft.hosts),
        warnings=cautions(before, after, old, new, unenforceable),
    )


def _connections(
    before: World, after: World, pairs: int
) -> tuple[tuple[ConnectionChange, ...], tuple[ConnectionChange, ...]]:
    gained: list[ConnectionChange] = []
    lost: list[ConnectionChange] = []
    for one, other in product(sorted(after.parties), repeat=2):
        ends = (one, other)
        if not _judged((before, after), ends):
            continue
        old, new = (_between(world, ends) for world in (before, after))
        was, now = permitted(old), permitted(new)
        gained += _changes(now - was, new, (before, after), ends, pairs)
        lost += _changes(was - now, old, (before, after), ends, pairs)
    return tuple(sorted(gained)), tuple(sorted(lost))


def _judged(worlds: tuple[World, World], ends: tuple[str, str]) -> bool:
    """Skip pairs that nobody judges, and a lone workload's talk with itself."""
    parties = [(world.parties[ends[0]], world.parties[ends[1]]) for world in worlds]
    return any(one.program or other.program for one, other in parties) and apart(*parties[0])


def _between(world: World, ends: tuple[str, str]) -> tuple[Run, ...]:
    return runs(world.book, world.parties[ends[0]], world.parties[ends[1]])


def _changes(
    ports: PortSet, found: tuple[Run, ...], worlds: tuple[World, World], ends: tuple[str, str], pairs: int
) -> Iterator[ConnectionChange]:
    """Yield a change for each rule that opens some of these ports."""
    before, after = worlds
    by_rule: dict[str, list[Run]] = {}
    for run in found:
        if run.allowed and joined([run.ports]) & ports:
            by_rule.setdefault(run.rule or "", []).append(run)
    for _, opened in sorted(by_rule.items()):
        on = joined(run.ports for run in opened) & ports
        counts = [_pairs(world, ends, on) for world in worlds]
        source, destination = (_peopled(after.parties[end], before.parties[end]) for end in ends)
        yield ConnectionChange(
            source=ends[0],
            destination=ends[1],
            on=on.text(),
            sources=len(source.workloads),
            destinations=len(destination.workloads),
            before=counts[0],
            after=counts[1],
            rule=opened[0].rule,
            where=_where(opened[0].rule, after, before),
            pairs=tuple(_names(source, destination))[:pairs],
        )


def _peopled(now: Party, was: Party) -> Party:
    """Return a party as the version knows it in which it is workloads: a draft may declare them, or no more."""
    return now if now.workloads else was


def _where(rule: RuleId | None, *worlds: World) -> Where | None:
    return next((world.book.wheres[rule] for world in worlds if rule and rule in world.book.wheres), None)


def _pairs(world: World, ends: tuple[str, str], on: PortSet) -> int:
    """Count the pairs that may talk on some of these ports; a network or the unknown counts as one."""
    if not permitted(_between(world, ends)) & on:
        return 0
    sizes = [max(1, len(world.parties[end].workloads)) for end in ends]
    return sizes[0] * (sizes[1] - (ends[0] == ends[1]))


def _names(source: Party, destination: Party) -> Iterator[tuple[str, str]]:
    if source is destination:
        return permutations(source.names, 2)
    return product(source.names, destination.names)


def _half_open(world: World) -> Iterator[HalfOpen]:
    """A rule's yes at one end and no yes at the other: say which rule is missing there."""
    for source in world.parties.values():
        for destination in world.parties.values():
            if source.program is None or destination.program is None or not apart(source, destination):
                continue
            for denied, found in _one_sided(runs(world.book, source, destination)):
                on = joined(run.ports for run in found)
                yield HalfOpen(
                    source.text,
                    destination.text,
                    on.text(),
                    denied,
                    missing=_missing(world, source, destination, on),
                    rule=(rule := _opener(found[0], denied)),
                    where=world.book.wheres.get(rule) if rule else None,
                )


def _one_sided(found: tuple[Run, ...]) -> Iterator[tuple[Direction, list[Run]]]:
    for denied in Direction:
        here = [run for run in found if _opener(run, denied) is not None]
        if here:
            yield denied, here


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
