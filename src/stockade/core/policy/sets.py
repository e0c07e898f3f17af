"""Documents ↔ a policy set: each tuple sorted by name, whatever the order of files."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

from stockade.core.model.policy import (
    EnforcementMode,
    Invariant,
    LabelRule,
    NetworkSet,
    Policy,
    PolicySet,
    Quarantine,
    Service,
    UnmanagedWorkload,
)

D = TypeVar("D")
Document = Policy | Service | NetworkSet | LabelRule | EnforcementMode | Invariant | Quarantine | UnmanagedWorkload

FIELDS: dict[str, str] = {
    "Policy": "policies",
    "Service": "services",
    "NetworkSet": "network_sets",
    "LabelRule": "label_rules",
    "EnforcementMode": "modes",
    "Invariant": "invariants",
    "Quarantine": "quarantines",
    "Workload": "workloads",
}
"""Where a policy set keeps each kind."""


def policy_set(found: Iterable[Document]) -> PolicySet:
    """Return the set of these documents."""
    ordered = sorted(found, key=lambda each: each.name)
    return PolicySet(
        policies=_only(Policy, ordered),
        services=_only(Service, ordered),
        network_sets=_only(NetworkSet, ordered),
        label_rules=_only(LabelRule, ordered),
        modes=_only(EnforcementMode, ordered),
        invariants=_only(Invariant, ordered),
        quarantines=_only(Quarantine, ordered),
        workloads=_only(UnmanagedWorkload, ordered),
    )


def documents(policy: PolicySet) -> Iterator[tuple[str, Document]]:
    """Yield each document with its kind, kinds in a fixed order and names sorted."""
    for kind, field in FIELDS.items():
        for document in sorted(getattr(policy, field), key=lambda each: each.name):
            yield kind, document


def _only(kind: type[D], found: list[Document]) -> tuple[D, ...]:
    return tuple(each for each in found if isinstance(each, kind))
