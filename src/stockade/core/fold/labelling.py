"""Facts → labels: which labels a workload has, who set each, and which of them lost.

The order in which labels win is total: operator, rule, cluster, cloud, runtime, self; within one source what an
operator set by hand, then what the workload's own document says, then label rules by name; within one rule its
settings in the order written; within one starred setting the facts by key. The first to speak of a key has it;
whoever says otherwise of it is kept as a conflict.

Depends on the present sighting, operator's labels and policy alone, never on what they were before.
"""

from collections.abc import Iterator

import msgspec

from stockade.core.fold.declared import declared_id, written
from stockade.core.fold.facts import FactBook, parse_condition, parse_setting
from stockade.core.model.ids import WorkloadId
from stockade.core.model.inventory import Sighting, Workload
from stockade.core.model.labels import NAME, NO_LABELS, Label, Labels, LabelSource
from stockade.core.model.policy import LabelRule, PolicySet
from stockade.core.model.snapshot import Snapshot
from stockade.core.select import KEY_LIMIT, VALUE_LIMIT, is_key, is_value, shows

_TRUST = {source: rank for rank, source in enumerate(LabelSource)}
_SPARE_SETS = 1000


class LabelProblem(msgspec.Struct, frozen=True, order=True):
    """A label that was not set, because it is outside the grammar. ``label`` is as its source gave it."""

    workload: WorkloadId
    label: Label
    message: str


class Labeller:
    """What policy says of labels, parsed once, and the tables through which equal labels and label sets are one object.

    What it remembers is its owner's alone and changes nothing but speed and the identity of objects: two labellers of
    the same policy give equal answers. It forgets when that outgrows the number of workloads that its owner states.
    """

    def __init__(self, policy: PolicySet) -> None:
        rules = policy.label_rules
        self.spoken = (rules, policy.workloads)
        self._parsed = [_ParsedRule(rule) for rule in sorted(rules, key=_precedence)]
        self._documents = {declared_id(each): each for each in policy.workloads}
        self._table: dict[Labels, Labels] = {}
        self._labels: dict[Label, Label] = {}
        self._complaints: dict[tuple[str, str], str] = {}

    def workload(self, sighting: Sighting, by_hand: tuple[Label, ...]) -> Workload:
        """Return the workload of a sighting with the labels in force and those that lost."""
        winners: dict[str, Label] = {}
        losers: dict[Label, None] = {}
        for label in self._said(sighting, by_hand):
            if self._complaint(label):
                continue
            winner = winners.setdefault(label.key, label)
            if winner.value != label.value:
                losers[label] = None
        labels = Labels(tuple(winners[key] for key in sorted(winners))) if winners else NO_LABELS
        return Workload(sighting, self._one(labels), tuple(sorted(losers, key=lambda label: label.key)))

    def problems(self, sighting: Sighting, by_hand: tuple[Label, ...]) -> Iterator[LabelProblem]:
        """Yield what was said of a workload and is no label."""
        for label in self._said(sighting, by_hand):
            if message := complaint(label):
                yield LabelProblem(sighting.id, label, message)

    def trim(self, workloads: int) -> None:
        """Forget what was met once that is far more than there are workloads to have it."""
        for remembered in (self._table, self._labels, self._complaints):
            if len(remembered) > 2 * workloads + _SPARE_SETS:
                remembered.clear()

    def _complaint(self, label: Label) -> str:
        met = (label.key, label.value)
        if met not in self._complaints:
            self._complaints[met] = complaint(label)
        return self._complaints[met]

    def _one(self, labels: Labels) -> Labels:
        known = self._table.get(labels)
        if known is None:
            known = Labels(tuple([self._labels.setdefault(each, each) for each in labels.items]))
            self._table[known] = known
        return known

    def _said(self, sighting: Sighting, by_hand: tuple[Label, ...]) -> Iterator[Label]:
        """Yield every label anybody gives it, the most trusted first."""
        yield from by_hand
        document = self._documents.get(sighting.id)
        if document is not None:
            yield from written(document)
        if not self._parsed:
            return
        facts = FactBook(sighting)
        for rule in self._parsed:
            yield from rule.labels(facts)


class _ParsedRule:
    __slots__ = ("_conditions", "_rule", "_settings")

    def __init__(self, rule: LabelRule) -> None:
        self._rule = rule
        self._conditions = [parse_condition(key, wanted) for key, wanted in rule.conditions]
        self._settings = [parse_setting(key, template) for key, template in rule.set]

    def labels(self, facts: FactBook) -> Iterator[Label]:
        if not all(condition.holds(facts) for condition in self._conditions):
            return
        for setting in self._settings:
            for key, value in setting.labels(facts):
                yield Label(key, value, self._rule.source, self._rule.name)


def _precedence(rule: LabelRule) -> tuple[int, str]:
    return _TRUST[rule.source], rule.name


def complaint(label: Label) -> str:
    """Say why a key and value are no label; an empty text where they are one."""
    if label.key == NAME:
        return "the dimension name is the workload's own name and cannot be set"
    if not is_key(label.key):
        return _no_key(label.key)
    if not label.value:
        return "the value is empty"
    if len(label.value) > VALUE_LIMIT:
        return f"the value is longer than {VALUE_LIMIT} characters"
    if not is_value(label.value) or not shows(label.value):
        return "the value holds a control character"
    return ""


def _no_key(key: str) -> str:
    if len(key) > KEY_LIMIT:
        return f"the key is longer than {KEY_LIMIT} characters"
    return (
        "a key is letters, digits, '_', '.', '/' and '-' between letters or digits, and no word of the policy language"
    )


def label_problems(snapshot: Snapshot) -> tuple[LabelProblem, ...]:
    """Return every label that was said of a workload and dropped, sorted. The other labels are in force."""
    labeller = Labeller(snapshot.policy)
    return tuple(
        sorted(
            problem
            for id_, workload in snapshot.workloads.items()
            for problem in labeller.problems(workload.seen, snapshot.operator_labels.get(id_, ()))
        )
    )
