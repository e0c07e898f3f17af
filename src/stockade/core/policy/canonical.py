"""A policy's canonical form: equal meaning as written, equal bytes, wherever and however it was written down.

Comments, spacing, the order of files, documents, CIDRs and ports, and the places of things do not count; names and
the order of rules do. The form carries its version, so that a hash never changes meaning.
"""

from hashlib import sha256
from typing import TypeVar

import msgspec

from stockade.core.model.ids import Address, Prefix
from stockade.core.model.policy import (
    EnforcementMode,
    Invariant,
    LabelRule,
    NetworkSet,
    Policy,
    PolicySet,
    Quarantine,
    Rule,
    Service,
    ServiceRef,
    UnmanagedWorkload,
    Where,
)
from stockade.core.policy.sets import Document, documents, policy_set
from stockade.core.policy.words import ports_text

FORM = b"stockade.dev/v1 canonical 1\n"

T = TypeVar("T", str, Address, Prefix, tuple[str, str])

_NOWHERE = Where()


def canonical(policy: PolicySet) -> bytes:
    """Return the canonical form of a policy set."""
    held = msgspec.to_builtins(placeless(policy))
    if not held["workloads"]:
        del held["workloads"]  # a kind younger than the form: where there is none, nothing is said of it
    return FORM + msgspec.json.encode(held)


def content_hash(policy: PolicySet) -> str:
    """Return the SHA-256 of the canonical form, in hexadecimal."""
    return sha256(canonical(policy)).hexdigest()


def placeless(policy: PolicySet) -> PolicySet:
    """Return a policy set with every place taken out and every unordered list in its one order."""
    return policy_set(_placeless(document) for _, document in documents(policy))


def _placeless(document: Document) -> Document:
    replace = msgspec.structs.replace
    match document:
        case Policy(rules=rules, tests=tests):
            bare_tests = tuple(replace(test, where=_NOWHERE) for test in tests)
            return replace(document, rules=tuple(map(_rule, rules)), tests=bare_tests, where=_NOWHERE)
        case NetworkSet(cidrs=cidrs, excepted=excepted, fqdns=fqdns):
            return NetworkSet(document.name, _ordered(cidrs), _ordered(excepted), _ordered(fqdns))
        case Service(ports=ports):
            return replace(document, ports=tuple(sorted(set(ports))), where=_NOWHERE)
        case LabelRule(conditions=conditions):
            return replace(document, conditions=_ordered(conditions), where=_NOWHERE)
        case Invariant(holds=holds):
            return Invariant(document.name, replace(holds, on=_on(holds.on)))
        case Quarantine(excepted=spared):
            bare_spared = tuple(replace(each, on=_on(each.on)) for each in spared)
            return replace(document, excepted=bare_spared, where=_NOWHERE)
        case UnmanagedWorkload(addresses=addresses, labels=labels):
            return replace(document, addresses=_ordered(addresses), labels=_ordered(labels), where=_NOWHERE)
        case EnforcementMode():
            return replace(document, where=_NOWHERE)


def _rule(rule: Rule) -> Rule:
    return msgspec.structs.replace(rule, on=_on(rule.on), where=_NOWHERE)


def _on(on: tuple[ServiceRef, ...]) -> tuple[ServiceRef, ...]:
    return tuple(sorted(set(on), key=lambda each: each if isinstance(each, str) else ports_text(each)))


def _ordered(items: tuple[T, ...]) -> tuple[T, ...]:
    return tuple(sorted(set(items)))
