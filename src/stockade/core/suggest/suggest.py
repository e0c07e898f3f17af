"""Observed flows and a snapshot → a suggested policy for what a selector selects, and the ringfence of an app.

``suggest`` opens what was seen and was meant to pass, at the level of labels, and nothing that it leaves out.
``ringfence`` opens everything within the selection and towards it and from it just what was seen.
"""

from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from stockade.core import policy as documents
from stockade.core.graph.judge import Judge
from stockade.core.graph.merge import merged, telling
from stockade.core.graph.services import Services
from stockade.core.graph.values import Traffic
from stockade.core.model.flow import StoredFlow
from stockade.core.model.ids import RuleId
from stockade.core.model.policy import (
    Action,
    EnforcementMode,
    Mode,
    Policy,
    PolicySet,
    Rule,
    Selected,
)
from stockade.core.model.selector import ALL, Selector
from stockade.core.model.snapshot import Snapshot
from stockade.core.policy.sets import documents as each_document
from stockade.core.policy.sets import policy_set
from stockade.core.suggest.cells import Cells, cells
from stockade.core.suggest.networks import Sets
from stockade.core.suggest.people import People
from stockade.core.suggest.sifting import Sifted, ends, sift
from stockade.core.suggest.statistics import share, unseen
from stockade.core.suggest.values import Coverage, HoldOut, Refused, SuggestedRule, Suggestion, Unmet
from stockade.core.suggest.writing import drawn

LEARNT_FROM = 0.75
"""The share of the time that rules are learnt from when they are tried on the rest."""


def suggest(
    flows: Sequence[StoredFlow], snapshot: Snapshot, selector: Selector, name: str, *, enforce: bool = False
) -> Suggestion:
    """Suggest a policy of this name for the workloads that a selector selects.

    ``enforce`` adds a mode that makes it count (``full``), of the same name.
    """
    return _suggested(flows, snapshot, selector, name, enforce=enforce, within=False)


def ringfence(
    flows: Sequence[StoredFlow], snapshot: Snapshot, selector: Selector, name: str, *, enforce: bool = True
) -> Suggestion:
    """Suggest a policy that allows the selected workloads to each other, and their observed neighbours as seen."""
    return _suggested(flows, snapshot, selector, name, enforce=enforce, within=True)


def drafted(snapshot: Snapshot, more: PolicySet) -> Snapshot:
    """Return a snapshot in which documents are added to its policy, or replace those of the same kind and name."""
    new = {(kind, each.name): each for kind, each in each_document(more)}
    old = {(kind, each.name): each for kind, each in each_document(snapshot.policy)}
    return snapshot._replace(policy=policy_set({**old, **new}.values()))


def _suggested(
    flows: Sequence[StoredFlow], snapshot: Snapshot, selector: Selector, name: str, *, enforce: bool, within: bool
) -> Suggestion:
    traffic = merged(flows, telling(snapshot))
    people = People(snapshot, selector, ends(traffic))
    sets = Sets(snapshot)
    sifted = sift(traffic, people, sets)
    found = _cells(sifted, people, sets, within=within)
    rules, policy = _written(found, people, snapshot, name, within=within)
    made = _with_mode(policy, snapshot, selector, name) if enforce else policy
    judge = Judge(drafted(snapshot, _with_mode(policy, snapshot, selector, name)))
    refused = _left_out((*sifted.refused, *found.alike), judge)
    return Suggestion(
        policy=made,
        text=documents.to_documents(made),
        rules=rules,
        refused=refused,
        coverage=_coverage(sifted, refused),
        unseen=unseen([sum(each.seen.connections for each in every) for every in found.learnt.values()]),
        held_out=_held_out(flows, snapshot, selector, name, sets, within=within),
        unmet=tuple(_unmet(sifted.learnt, found.alike, judge)),
    )


def _cells(sifted: Sifted, people: People, sets: Sets, *, within: bool) -> Cells:
    """What lies within a ringfence needs no rule of its own, and closes nothing."""
    if within:
        sifted = Sifted(
            tuple(each for each in sifted.learnt if not _inside(each, people)),
            tuple(each for each in sifted.refused if not _inside(each.traffic, people)),
        )
    return cells(sifted, people, sets)


def _inside(traffic: Traffic, people: People) -> bool:
    both = (people.workload(traffic.source), people.workload(traffic.destination))
    return all(each is not None and people.is_inside(each) for each in both)


def _written(
    found: Cells, people: People, snapshot: Snapshot, name: str, *, within: bool
) -> tuple[tuple[SuggestedRule, ...], PolicySet]:
    rules, networks = drawn(found, people, Services(snapshot.policy), name)
    itself = (Rule(RuleId(f"{name}/itself"), Action.ALLOW, Selected(ALL), Selected(ALL)),) if within else ()
    policy = Policy(name, (*itself, *(each.rule for each in rules)), people.scope)
    return rules, PolicySet(policies=(policy,), network_sets=networks)


def _with_mode(policy: PolicySet, snapshot: Snapshot, selector: Selector, name: str) -> PolicySet:
    """Add a mode that counts before every other."""
    others = [each.priority for each in snapshot.policy.modes if each.name != name]
    mode = EnforcementMode(name, selector, Mode.FULL, priority=max([0, *others]) + 10)
    return replace(policy, modes=(mode,))


def _left_out(refused: Iterable[Refused], judge: Judge) -> tuple[Refused, ...]:
    """Say of what is left out whether something else in the draft allows it all the same."""
    return tuple(replace(each, open=judge.of(each.traffic).allowed) for each in refused)


def _coverage(sifted: Sifted, refused: Sequence[Refused]) -> Coverage:
    every = [*sifted.learnt, *(each.traffic for each in sifted.refused)]
    alike = {id(each.traffic) for each in refused}
    mine = [each for each in sifted.learnt if id(each) not in alike]
    counted = [sum(each.seen.connections for each in some) for some in (mine, every)]
    return Coverage(len(mine), len(every), *counted)


def _unmet(learnt: Iterable[Traffic], alike: Iterable[Refused], judge: Judge) -> Iterable[Unmet]:
    left = {id(each.traffic) for each in alike}
    for each in learnt:
        decision = judge.of(each)
        if id(each) not in left and not decision.allowed:
            yield Unmet(each, decision)


# Trying it on what was seen later


def _held_out(
    flows: Sequence[StoredFlow], snapshot: Snapshot, selector: Selector, name: str, sets: Sets, *, within: bool
) -> HoldOut | None:
    """Learn from the first part of the time, and try what comes of it on the rest."""
    if not flows:
        return None
    since, until = min(each.tally.first for each in flows), max(each.tally.last for each in flows)
    split = since + LEARNT_FROM * (until - since)
    earlier = [each for each in flows if each.tally.last <= split]
    later = [each for each in flows if each.tally.last > split]
    if not earlier or not later:
        return None
    told = telling(snapshot)
    learnt, tried = merged(earlier, told), merged(later, told)
    people = People(snapshot, selector, ends((*learnt, *tried)))
    found = _cells(sift(learnt, people, sets), people, sets, within=within)
    _, policy = _written(found, people, snapshot, name, within=within)
    judge = Judge(drafted(snapshot, _with_mode(policy, snapshot, selector, name)))
    return _tried([(each, judge.of(each).allowed) for each in sift(tried, people, sets).learnt], split)


def _tried(found: list[tuple[Traffic, bool]], split: float) -> HoldOut | None:
    if not found:
        return None
    denied = [each for each, allowed in found if not allowed]
    return HoldOut(
        split,
        share(len(denied), len(found)),
        share(sum(each.seen.passed for each in denied), sum(each.seen.passed for each, _ in found)),
    )
