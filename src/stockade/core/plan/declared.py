"""What a plan warns of about workloads that documents declare: nobody of ours judges them, and others may be there."""

from collections.abc import Iterable, Iterator, Mapping

from stockade.core.fold.declared import contests, declared_id, is_declared
from stockade.core.model.ids import WorkloadId
from stockade.core.model.inventory import Workload
from stockade.core.model.policy import EnforcementMode, Mode, UnmanagedWorkload
from stockade.core.plan.parties import World
from stockade.core.plan.values import Caution, WarningKind
from stockade.core.select import matches

NAMED = 5
"""Workloads that a warning names; of more it says how many."""


def declared_cautions(world: World) -> Iterator[Caution]:
    """Yield what is to be said of the workloads that a version declares."""
    documents = {declared_id(each): each for each in world.snapshot.policy.workloads}
    if documents:
        yield from _addresses_taken(world, documents)
        yield from _names_taken(world, documents)
        yield from _unlabelled(world, documents)
        yield from _not_judged(world, documents)


def some_names(names: Iterable[str]) -> str:
    """Name the first few of some workloads, and count the others."""
    found = sorted(names)
    more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
    return f"{', '.join(found[:NAMED])}{more}"


Documents = Mapping[WorkloadId, UnmanagedWorkload]


def _addresses_taken(world: World, documents: Documents) -> Iterator[Caution]:
    for each in contests(world.snapshot):
        where = f" on {each.host}" if each.host else ""
        text = f"{each.address} is {each.holder}'s{where}, as its host reports: there it is not this document's"
        yield Caution(WarningKind.ADDRESS_TAKEN, documents[each.workload].name, text, each.where)


def _names_taken(world: World, documents: Documents) -> Iterator[Caution]:
    names = {each.name: each for each in documents.values()}
    others: dict[str, list[str]] = {}
    for id_, workload in world.snapshot.workloads.items():
        if workload.name in names and not is_declared(id_):
            others.setdefault(workload.name, []).append(id_)
    for name, ids in sorted(others.items()):
        text = f"{some_names(ids)} has this name too: a selector by name means both, a command asks for the id"
        yield Caution(WarningKind.NAME_TAKEN, name, text, names[name].where)


def _unlabelled(world: World, documents: Documents) -> Iterator[Caution]:
    for id_, document in sorted(documents.items()):
        workload = world.snapshot.workloads.get(id_)
        if workload is not None and not workload.known:
            text = "has no label: it is unknown, no selector means it, and ends in full deny it"
            yield Caution(WarningKind.UNLABELLED, document.name, text, document.where)


def _not_judged(world: World, documents: Documents) -> Iterator[Caution]:
    """Name those on whom an enforcing mode has no effect, once for each mode."""
    without: dict[EnforcementMode, list[str]] = {}
    for id_ in documents:
        workload = world.snapshot.workloads.get(id_)
        deciding = _deciding(world, workload) if workload is not None and workload.known else None
        if workload is not None and deciding is not None and deciding.mode in (Mode.SELECTIVE, Mode.FULL):
            without.setdefault(deciding, []).append(workload.name)
    for mode, names in without.items():
        text = f"{mode.mode.value} has no effect on {some_names(names)}: no agent judges there, their peers do"
        yield Caution(WarningKind.NOT_JUDGED, mode.name, text, mode.where)


def _deciding(world: World, workload: Workload) -> EnforcementMode | None:
    """Return the mode that would count for a workload."""
    return next((each for each in world.book.modes if matches(each.select, workload.labels, workload.name)), None)
