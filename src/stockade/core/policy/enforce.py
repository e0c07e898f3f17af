"""What policy says and no enforcement point can do yet: named, and taken out on the safe side.

Promises that what is left opens nothing that was not meant, and denies at least what was meant: an allow that depends
on an FQDN, a program or ``trusted(…)`` opens nothing; a deny, a quarantine or an invariant that depends on one holds
for more than it says.
"""

from collections.abc import Iterator

import msgspec

from stockade.core.model.policy import (
    Action,
    End,
    Invariant,
    NetworkSet,
    Only,
    Policy,
    PolicySet,
    Quarantine,
    QuarantineException,
    Rule,
    Selected,
    Service,
    ServiceRef,
    Where,
)
from stockade.core.model.problem import Problem
from stockade.core.model.selector import ALL, And, Equal, Not, Or, Selector
from stockade.core.policy.ends import trusting
from stockade.core.policy.sets import Document, documents, policy_set


def enforceable(policy: PolicySet) -> tuple[PolicySet, tuple[Problem, ...]]:
    """Return what of a policy can be enforced, and what cannot and why, each with its place."""
    taken = _Taking(policy)
    kept = policy_set(taken.document(document) for _, document in documents(policy))
    return kept, tuple(sorted(taken.problems, key=lambda problem: (problem.where, problem.message)))


class _Taking:
    def __init__(self, policy: PolicySet) -> None:
        self.bound = {each.name for each in policy.services if each.process is not None or each.unit is not None}
        self.problems: list[Problem] = []

    def document(self, document: Document) -> Document:
        match document:
            case Policy():
                return self.policy(document)
            case Service():
                return self.service(document)
            case NetworkSet():
                return self.network_set(document)
            case Quarantine():
                return self.quarantine(document)
            case Invariant():
                return self.invariant(document)
        return document

    def say(self, where: Where, message: str) -> None:
        self.problems.append(Problem(where, message))

    def service(self, service: Service) -> Service:
        if service.name in self.bound:
            what = f"process {service.process}" if service.process is not None else f"unit {service.unit}"
            self.say(
                service.where,
                f"service {service.name}: {what} cannot be enforced yet; "
                "an allow with this service opens nothing, a deny holds for any program on its ports",
            )
        return msgspec.structs.replace(service, process=None, unit=None)

    def network_set(self, found: NetworkSet) -> NetworkSet:
        if found.fqdns:
            rest = "its CIDRs remain" if found.cidrs else "an allow with this set alone opens nothing"
            self.say(found.where, f"network set {found.name}: FQDNs cannot be enforced yet; {rest}")
        return msgspec.structs.replace(found, fqdns=())

    def policy(self, policy: Policy) -> Policy:
        if trusting(policy.scope):
            self.say(
                policy.where,
                f"policy {policy.name}: trusted(…) in its scope cannot be enforced yet; "
                "its allows open nothing, its denies hold whoever set the label",
            )
        rules = tuple(kept for rule in policy.rules if (kept := self.rule(rule, policy.scope)) is not None)
        return msgspec.structs.replace(policy, scope=_more(policy.scope), rules=rules)

    def rule(self, rule: Rule, scope: Selector) -> Rule | None:
        ends_trusting = _trusting(rule.source) or _trusting(rule.destination)
        if rule.action is not Action.ALLOW:
            if ends_trusting:
                self.say(rule.where, f"{rule.id}: trusted(…) cannot be enforced yet; it holds whoever set the label")
            return msgspec.structs.replace(rule, source=_more_of(rule.source), destination=_more_of(rule.destination))
        if ends_trusting:
            self.say(rule.where, f"{rule.id}: trusted(…) cannot be enforced yet; it opens nothing")
        on = self.opened(rule.on, rule.where, rule.id)
        if ends_trusting or trusting(scope) or on is None:
            return None
        return msgspec.structs.replace(rule, on=on)

    def opened(self, on: tuple[ServiceRef, ...], where: Where, name: str) -> tuple[ServiceRef, ...] | None:
        """Return the services that an allow can open; None where none is left, since an empty ``on`` means all."""
        bound = [each for each in on if isinstance(each, str) and each in self.bound]
        for each in bound:
            self.say(where, f"{name}: service {each} is bound to a program, which cannot be enforced yet; not opened")
        left = tuple(each for each in on if each not in bound)
        return None if bound and not left else left

    def quarantine(self, found: Quarantine) -> Quarantine:
        if trusting(found.select):
            message = f"quarantine {found.name}: trusted(…) cannot be enforced yet; it cuts off whoever set the label"
            self.say(found.where, message)
        spared = tuple(self.spared(found))
        return msgspec.structs.replace(found, select=_more(found.select), excepted=spared)

    def spared(self, found: Quarantine) -> Iterator[QuarantineException]:
        for spared in found.excepted:
            on = self.opened(spared.on, found.where, f"quarantine {found.name}")
            if _trusting(spared.source) or _trusting(spared.destination):
                self.say(found.where, f"quarantine {found.name}: trusted(…) cannot be enforced yet; nothing is spared")
            elif on is not None:
                yield msgspec.structs.replace(spared, on=on)

    def invariant(self, found: Invariant) -> Invariant:
        holds = found.holds
        if trusting(holds.source) or trusting(holds.destination):
            self.say(
                found.where, f"invariant {found.name}: trusted(…) cannot be judged yet; it demands more than it says"
            )
        source = _less(holds.source) if isinstance(holds, Only) else _more(holds.source)
        replaced = msgspec.structs.replace(holds, source=source, destination=_more(holds.destination))
        return msgspec.structs.replace(found, holds=replaced)


def _trusting(end: End | None) -> bool:
    return isinstance(end, Selected) and trusting(end.selector)


def _more_of(end: End) -> End:
    return msgspec.structs.replace(end, selector=_more(end.selector)) if isinstance(end, Selected) else end


def _more(selector: Selector) -> Selector:
    """Return a selector without ``trusted`` that matches at least the same workloads."""
    match selector:
        case Equal(key, value, True):
            return Equal(key, value)
        case Not(of):
            return Not(_less(of))
        case And(of) | Or(of):
            return type(selector)(tuple(map(_more, of)))
    return selector


def _less(selector: Selector) -> Selector:
    """Return a selector without ``trusted`` that matches at most the same workloads."""
    match selector:
        case Equal(trusted=True):
            return Not(ALL)
        case Not(of):
            return Not(_more(of))
        case And(of) | Or(of):
            return type(selector)(tuple(map(_less, of)))
    return selector
