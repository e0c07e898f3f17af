"""Who may reach a workload, and what it may reach."""

from collections.abc import Iterable

from stockade.core import select
from stockade.core.fold.declared import declared_id
from stockade.core.model.inventory import Workload
from stockade.core.model.policy import Where
from stockade.core.model.snapshot import Snapshot
from stockade.core.plan.naming import named
from stockade.core.plan.parties import Party, World, apart
from stockade.core.plan.permitted import runs
from stockade.core.plan.portset import joined
from stockade.core.plan.values import Reach, Reachable
from stockade.errors import StockadeError


def reach(snapshot: Snapshot, of: str) -> Reach:
    """Answer for a workload (name or id) or for a selector. Raises ``StockadeError`` where that is nobody."""
    world = World(snapshot)
    members = _members(snapshot, of)
    own = {party.text: party for party in (world.party_of(each) for each in members)}
    return Reach(
        of=of,
        workloads=tuple(sorted(each.name for each in members)),
        version=snapshot.version,
        inbound=_merged(
            each
            for party in own.values()
            for peer in world.parties.values()
            if apart(peer, party)
            for each in _open(world, peer, party, peer)
        ),
        outbound=_merged(
            each
            for party in own.values()
            for peer in world.parties.values()
            if apart(party, peer)
            for each in _open(world, party, peer, peer)
        ),
        written=_written(snapshot, members),
    )


def _written(snapshot: Snapshot, members: list[Workload]) -> tuple[tuple[str, Where], ...]:
    ids = {each.id for each in members}
    return tuple((each.name, each.where) for each in snapshot.policy.workloads if declared_id(each) in ids)


def _members(snapshot: Snapshot, of: str) -> list[Workload]:
    try:
        selector = select.parse(of)
    except select.SelectorError:
        found = named(snapshot, of).workload
        if found is None:
            raise StockadeError(f"{of} is no workload's address", remedy="name a workload or a selector") from None
        return [found]
    known = [each for each in snapshot.workloads.values() if each.known]
    members = [each for each in known if select.matches(selector, each.labels, each.name)]
    if not members:
        raise StockadeError(f"{of} matches no workload", remedy="`stockade labels` lists the labels in use")
    return members


def _open(world: World, source: Party, destination: Party, peer: Party) -> list[Reachable]:
    by_rule: dict[str, list[int]] = {}
    found = runs(world.book, source, destination)
    for number, run in enumerate(found):
        if run.allowed:
            by_rule.setdefault(run.rule or "", []).append(number)
    return [
        Reachable(
            peer=peer.text,
            on=joined(found[each].ports for each in numbers).text(),
            workloads=len(peer.workloads),
            rule=found[numbers[0]].rule,
            where=world.book.wheres.get(rule_id) if (rule_id := found[numbers[0]].rule) else None,
        )
        for _, numbers in sorted(by_rule.items())
    ]


def _merged(found: Iterable[Reachable]) -> tuple[Reachable, ...]:
    return tuple(sorted(set(found), key=lambda each: (each.peer, each.on, each.rule or "")))
