"""Observed flows and a snapshot → a suggested policy for what a selector selects, and the ringfence of an app.

``suggest`` opens what was seen and was meant to pass, at the level of labels, and nothing that it leaves out.
``ringfence`` opens everything within the selection and towards it and from it just what was seen.
"""

from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from stockade.core import policy as documents
from stockade.core.graph.anomaly import Anomaly
from stockade.core.graph.judge import Judge
from stockade.core.graph.merge import merged, telling
from stockade.core.graph.services import Services
from stockade.core.graph.values import Traffic
from stockade.core.model.flow import FlowEnd, StoredFlow
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

SLOTS = 100
"""Parts of the time in which a kind of connection occurs or does not."""


def suggest(
    flows: Sequence[StoredFlow],
    snapshot: Snapshot,
    selector: Selector,
    name: str,
    *,
    enforce: bool = False,
    suspicious: Sequence[Anomaly] = (),
) -> Suggestion:
    """Suggest a policy of this name for the workloads that a selector selects.

    ``enforce`` adds a mode that makes it count (``full``), of the same name. ``suspicious`` are anomalies whose
    evidence nothing is learnt from; scans are found here in any case. Documents of that name are replaced.
    """
    return _Suggesting(snapshot, selector, name, suspicious, within=False).suggestion(flows, enforce=enforce)


def ringfence(
    flows: Sequence[StoredFlow],
    snapshot: Snapshot,
    selector: Selector,
    name: str,
    *,
    enforce: bool = True,
    suspicious: Sequence[Anomaly] = (),
) -> Suggestion:
    """Suggest a policy that allows the selected workloads to each other, and their observed neighbours as seen."""
    return _Suggesting(snapshot, selector, name, suspicious, within=True).suggestion(flows, enforce=enforce)


def drafted(snapshot: Snapshot, more: PolicySet) -> Snapshot:
    """Return a snapshot in which documents are added to its policy, or replace those of the same kind and name."""
    new = {(kind, each.name): each for kind, each in each_document(more)}
    old = {(kind, each.name): each for kind, each in each_document(snapshot.policy)}
    return snapshot._replace(policy=policy_set({**old, **new}.values()))


class _Suggesting:
    """One question: for whom, under what name, whether everything within is opened, and what nothing is learnt from."""

    def __init__(
        self, snapshot: Snapshot, selector: Selector, name: str, suspicious: Sequence[Anomaly], *, within: bool
    ) -> None:
        self.snapshot, self.selector, self.name = snapshot, selector, name
        self.suspicious, self.within = suspicious, within
        self.sets, self.told = Sets(snapshot), telling(snapshot)

    def suggestion(self, flows: Sequence[StoredFlow], *, enforce: bool) -> Suggestion:
        sifted, people = self.sifted(flows)
        found = self.cells(sifted, people)
        rules, policy = self.written(found, people)
        made = self.with_mode(policy) if enforce else policy
        judge = self.judge(policy)
        refused = _left_out((*sifted.refused, *found.alike), judge)
        return Suggestion(
            policy=made,
            text=documents.to_documents(made),
            rules=rules,
            refused=refused,
            coverage=_coverage(sifted, refused),
            unseen=unseen(_occurrences(flows, found)),
            held_out=self.held_out(flows),
            unmet=tuple(_unmet(sifted.learnt, found.alike, judge)),
        )

    def held_out(self, flows: Sequence[StoredFlow]) -> HoldOut | None:
        """Learn from the first part of the time, and try what comes of it on the rest."""
        since = min((each.tally.first for each in flows), default=0.0)
        until = max((each.tally.last for each in flows), default=0.0)
        split = since + LEARNT_FROM * (until - since)
        earlier = [each for each in flows if each.tally.last <= split]
        if not earlier:
            return None
        sifted, people = self.sifted(earlier)
        _, policy = self.written(self.cells(sifted, people), people)
        judge = self.judge(policy)
        tried, _ = self.sifted([each for each in flows if each.tally.last > split])
        return _tried([(each, judge.of(each).allowed) for each in tried.learnt], split)

    def sifted(self, flows: Sequence[StoredFlow]) -> tuple[Sifted, People]:
        traffic = merged(flows, self.told)
        people = People(self.snapshot, self.selector, ends(traffic))
        return sift(traffic, people, self.sets, self.suspicious), people

    def cells(self, sifted: Sifted, people: People) -> Cells:
        """What lies within a ringfence needs no rule of its own, and closes nothing."""
        if self.within:
            sifted = Sifted(
                tuple(each for each in sifted.learnt if not _inside(each, people)),
                tuple(each for each in sifted.refused if not _inside(each.traffic, people)),
            )
        return cells(sifted, people, self.sets)

    def written(self, found: Cells, people: People) -> tuple[tuple[SuggestedRule, ...], PolicySet]:
        rules, networks = drawn(found, people, Services(self.snapshot.policy), self.name)
        itself = Rule(RuleId(f"{self.name}/itself"), Action.ALLOW, Selected(ALL), Selected(ALL))
        every = (*((itself,) if self.within else ()), *(each.rule for each in rules))
        return rules, PolicySet(policies=(Policy(self.name, every, people.scope),), network_sets=networks)

    def with_mode(self, policy: PolicySet) -> PolicySet:
        """Add a mode that counts before every other."""
        others = [each.priority for each in self.snapshot.policy.modes if each.name != self.name]
        mode = EnforcementMode(self.name, self.selector, Mode.FULL, priority=max([0, *others]) + 10)
        return replace(policy, modes=(mode,))

    def judge(self, policy: PolicySet) -> Judge:
        """Return a judge of the draft as it is once it is enforced."""
        return Judge(drafted(self.snapshot, self.with_mode(policy)))


def _inside(traffic: Traffic, people: People) -> bool:
    both = (people.workload(traffic.source), people.workload(traffic.destination))
    return all(each is not None and people.is_inside(each) for each in both)


def _left_out(refused: Iterable[Refused], judge: Judge) -> tuple[Refused, ...]:
    """Say of what is left out whether something else in the draft allows it all the same."""
    return tuple(replace(each, open=judge.of(each.traffic).allowed) for each in refused)


def _occurrences(flows: Sequence[StoredFlow], found: Cells) -> Iterable[int]:
    """Count in how many slots of the time each kind of connection was met."""
    since = min((each.tally.first for each in flows), default=0.0)
    until = max((each.tally.last for each in flows), default=0.0)
    slot = (until - since) / SLOTS or 1.0
    slots: dict[tuple[FlowEnd, FlowEnd, int, int], set[int]] = {}
    for each in flows:
        if each.tally.connections:
            at = (each.source, each.destination, each.key.protocol, each.key.port)
            slots.setdefault(at, set()).add(int((each.tally.first - since) / slot))
    for every in found.learnt.values():
        met = (slots.get((one.source, one.destination, one.protocol, one.port), set()) for one in every)
        yield len(set().union(*met))


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


def _tried(found: list[tuple[Traffic, bool]], split: float) -> HoldOut | None:
    if not found:
        return None
    denied = [each for each, allowed in found if not allowed]
    return HoldOut(
        split,
        share(len(denied), len(found)),
        share(sum(each.seen.passed for each in denied), sum(each.seen.passed for each, _ in found)),
    )
