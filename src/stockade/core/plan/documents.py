"""Which documents and rules differ, wherever they are written."""

from collections.abc import Iterator

import msgspec

from stockade.core.model.ids import RuleId
from stockade.core.model.policy import PolicySet, Where
from stockade.core.plan.values import Change, DocumentChange, RuleChange

KINDS = {
    "policies": "Policy",
    "services": "Service",
    "network_sets": "NetworkSet",
    "label_rules": "LabelRule",
    "modes": "EnforcementMode",
    "invariants": "Invariant",
    "quarantines": "Quarantine",
    "workloads": "Workload",
}


def document_changes(active: PolicySet, draft: PolicySet) -> tuple[DocumentChange, ...]:
    """Return the documents that differ, by kind and name."""
    changes = []
    for field, kind in KINDS.items():
        old, new = ({each.name: each for each in getattr(which, field)} for which in (active, draft))
        contents = ({name: _content(each) for name, each in found.items()} for found in (old, new))
        changes += [
            DocumentChange(kind, name, change, (new.get(name) or old[name]).where)
            for name, change in _differing(*contents)
        ]
    return tuple(sorted(changes))


def rule_changes(active: PolicySet, draft: PolicySet) -> tuple[RuleChange, ...]:
    """Return the rules that differ, by id. A rule whose policy's scope changed differs too."""
    old, new = _rules(active), _rules(draft)
    wheres = {rule: where for found in (old, new) for rule, (_, where) in found.items()}
    changes = _differing({k: v[0] for k, v in old.items()}, {k: v[0] for k, v in new.items()})
    return tuple(sorted(RuleChange(RuleId(rule), change, wheres[rule]) for rule, change in changes))


def _rules(policy: PolicySet) -> dict[str, tuple[bytes, Where]]:
    return {
        str(rule.id): (_content(rule) + _content(each.scope), rule.where)
        for each in policy.policies
        for rule in each.rules
    }


def _differing(old: dict[str, bytes], new: dict[str, bytes]) -> Iterator[tuple[str, Change]]:
    for name in sorted({*old, *new}):
        if name not in old:
            yield name, Change.ADDED
        elif name not in new:
            yield name, Change.REMOVED
        elif old[name] != new[name]:
            yield name, Change.CHANGED


def _content(document: object) -> bytes:
    """Encode a document less the places where it was written."""
    return msgspec.json.encode(_placeless(document))


def _placeless(value: object) -> object:
    if isinstance(value, msgspec.Struct):
        fields = ((name, getattr(value, name)) for name in value.__struct_fields__)
        tag = type(value).__name__
        return [tag, *([name, _placeless(each)] for name, each in fields if not isinstance(each, Where))]
    if isinstance(value, tuple):
        return [_placeless(each) for each in value]
    return value
