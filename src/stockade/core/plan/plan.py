"""Draft × active → what would change: documents, connections, tests, invariants, points, warnings.

Pure. Connections are compared between parties (identities, named networks, the unknown) that both versions together
can tell apart, so that a difference is never hidden inside a coarser identity.
"""

from collections.abc import Iterator

from stockade.core.compile.compiler import compile_snapshot
from stockade.core.model.ids import HostId, RuleId
from stockade.core.model.intent import Intent, Tier
from stockade.core.model.packet import Direction
from stockade.core.model.problem import Problem
from stockade.core.model.snapshot import Snapshot
from stockade.core.plan.cautions import cautions
from stockade.core.plan.checks import invariants, tests
from stockade.core.plan.documents import document_changes, rule_changes
from stockade.core.plan.parties import Party, World
from stockade.core.plan.permitted import Run, permitted, runs
from stockade.core.plan.portset import PortSet, portset
from stockade.core.plan.values import ConnectionChange, HalfOpen, Plan, PointChange
from stockade.core.policy import content_hash


def plan(active: Snapshot, draft: Snapshot, *, pairs: int = 20, unenforceable: tuple[Problem, ...] = ()) -> Plan:
    """Compare two snapshots that differ in policy. ``pairs`` bounds the pairs of names that each connection lists."""
    first = World(active)
    after = World(draft, first.population.keys, first.samples)
    before = World(active, after.population.keys, after.samples)
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
    names = sorted({*before.parties, *after.parties})
    for one in names:
        for other in names:
            if not _judged(before, after, one, other):
                continue
            old, new = (_between(world, one, other) for world in (before, after))
            was, now = permitted(old), permitted(new)
            gained += _changes(now - was, new, (before, after), (one, other), pairs)
            lost += _changes(was - now, old, (before, after), (one, other), pairs)
    return tuple(sorted(gained)), tuple(sorted(lost))


def _judged(before: World, after: World, one: str, other: str) -> bool:
    """Skip pairs that nobody judges, a lone workload's talk with itself, and parties that are in no version."""
    parties = [world.parties.get(name) for world in (before, after) for name in (one, other)]
    if all(party is None or party.program is None for party in parties):
        return False
    alone = all(len(party.workloads) < 2 for party in parties if party)
    return not (one == other and alone)


def _between(world: World, one: str, other: str) -> tuple[Run, ...]:
    if one not in world.parties or other not in world.parties:
        return ()
    return runs(world, world.parties[one], world.parties[other])


def _changes(
    ports: PortSet, found: tuple[Run, ...], worlds: tuple[World, World], ends: tuple[str, str], pairs: int
) -> Iterator[ConnectionChange]:
    """Yield a change for each rule that opens some of these ports."""
    before, after = worlds
    by_rule: dict[str, list[Run]] = {}
    for run in found:
        if run.allowed and portset([run.ports]) & ports:
            by_rule.setdefault(run.rule or "", []).append(run)
    for rule, opened in sorted(by_rule.items()):
        on = portset(run.ports for run in opened) & ports
        counts = [_pairs(world, ends, on) for world in worlds]
        where = after.book.wheres.get(opened[0].rule) if opened[0].rule else None
        if opened[0].rule and where is None:
            where = before.book.wheres.get(opened[0].rule)
        last = after if ends[0] in after.parties and ends[1] in after.parties else before
        yield ConnectionChange(
            source=ends[0],
            destination=ends[1],
            on=on.text(),
            sources=len(last.parties[ends[0]].workloads),
            destinations=len(last.parties[ends[1]].workloads),
            before=counts[0],
            after=counts[1],
            rule=opened[0].rule if rule else None,
            where=where,
            pairs=tuple(_names(last, ends))[:pairs],
        )


def _pairs(world: World, ends: tuple[str, str], on: PortSet) -> int:
    """Count the pairs that may talk on some of these ports; a network or the unknown counts as one."""
    if not permitted(_between(world, *ends)) & on:
        return 0
    sizes = [max(1, len(world.parties[end].workloads)) for end in ends]
    return sizes[0] * sizes[1] - (len(world.parties[ends[0]].workloads) if ends[0] == ends[1] else 0)


def _names(world: World, ends: tuple[str, str]) -> Iterator[tuple[str, str]]:
    source, destination = (world.parties[end] for end in ends)
    for one in source.names:
        for other in destination.names:
            if one != other:
                yield one, other


def _half_open(world: World) -> Iterator[HalfOpen]:
    """A rule's yes at one end and no yes at the other: say which rule is missing there."""
    for source in world.parties.values():
        for destination in world.parties.values():
            if source.program is None or destination.program is None or source is destination:
                continue
            for denied, found in _one_sided(runs(world, source, destination)):
                on = portset(run.ports for run in found)
                yield HalfOpen(
                    source.text,
                    destination.text,
                    on.text(),
                    denied,
                    missing=_missing(source, destination, on),
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


def _missing(source: Party, destination: Party, on: PortSet) -> str:
    ends = [
        " and ".join(part.replace("=", " = ", 1) for part in each.text.split(" ") if "=" in part) or "all"
        for each in (source, destination)
    ]
    return f'allow: {{from: "any({ends[0]})", to: "any({ends[1]})", on: [{on.text()}]}}'


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
