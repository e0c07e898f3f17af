"""Small changes of policy that might open one connection: an allow widened by what it lacks, or a new allow.

Proposes only; whether a change really opens anything is for the oracle to say.
"""

from collections.abc import Iterator
from ipaddress import ip_network
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from stockade.core import select
from stockade.core.model.ids import Address, Prefix, RuleId
from stockade.core.model.inventory import Workload
from stockade.core.model.labels import NAME
from stockade.core.model.net import Ports
from stockade.core.model.policy import (
    Action,
    Networks,
    NetworkSet,
    Policy,
    PolicySet,
    Rule,
    Selected,
    Where,
)
from stockade.core.model.policy import End as RuleEnd
from stockade.core.model.selector import And, Equal, In, Selector
from stockade.core.plan.cells import holds
from stockade.core.plan.naming import Named
from stockade.core.plan.portset import Speaking, portset
from stockade.core.plan.writing import allow_text, anywhere, end_text, on_text, scalar, told
from stockade.core.policy.words import name_like

NEW = Policy("new")
"""Where a new rule stands: in a policy without a scope."""


class Change(msgspec.Struct, frozen=True):
    """A changed policy: the allow that differs, the policy that it stands in, and the change in words.

    ``network`` names the set that grows instead, and with it every rule that names the set.
    """

    policy: PolicySet
    within: Policy
    rule: Rule
    text: str
    where: Where | None = None
    network: str = ""

    @property
    def names(self) -> RuleId | None:
        """The rule that is widened in place."""
        return self.rule.id if self.where is not None and not self.network else None


class Allow(NamedTuple):
    """An allow beside a connection: what of it does not fit (``source``, ``destination``, ``on``)."""

    within: Policy
    rule: Rule
    lacks: tuple[str, ...]


def allows(policy: PolicySet, ends: tuple[Named, Named], on: Ports) -> list[Allow]:
    """Return every allow, in the order of policy, with what it lacks for a connection."""
    speaking = Speaking(policy, portset([on]))
    return [
        Allow(within, rule, _lacks(policy, within, rule, ends, speaking))
        for within in policy.policies
        for rule in within.rules
        if rule.action is Action.ALLOW
    ]


def widened(policy: PolicySet, allow: Allow, ends: tuple[Named, Named], on: Ports) -> Iterator[Change]:
    """Yield the ways to give a rule the one thing that it lacks; nothing where it lacks more, or there is no way."""
    within, rule, lacks = allow
    match lacks:
        case ("on",):
            yield _in_place(policy, within, rule, replace(rule, on=(*rule.on, on)), "on")
        case ("source",):
            yield from _more_addresses(policy, within, rule, rule.source, ends[0])
            for end in _wider(policy, within, rule.source, ends[0]):
                yield _in_place(policy, within, rule, replace(rule, source=end), "from")
        case ("destination",):
            yield from _more_addresses(policy, within, rule, rule.destination, ends[1])
            for end in _wider(policy, within, rule.destination, ends[1]):
                yield _in_place(policy, within, rule, replace(rule, destination=end), "to")


def added(policy: PolicySet, ends: tuple[Named, Named], on: Ports) -> Change:
    """Return a new allow for a connection, and for an address in no set, a new network set."""
    keys = mentioned(policy)
    source, destination, made = *(_naming(policy, each, keys) for each in ends), []
    for end, who in ((source, ends[0]), (destination, ends[1])):
        if isinstance(end, Networks) and not any(each.name in end.names for each in policy.network_sets):
            made.append(NetworkSet(end.names[0], (_prefix(who.address),)))
    rule = Rule(RuleId("new/rule"), Action.ALLOW, source, destination, (on,))
    within = replace(NEW, rules=(rule,))
    text = allow_text(source, destination, (on,))
    text += "".join(f"  with NetworkSet {each.name}: {{cidrs: [{scalar(each.cidrs[0])}]}}" for each in made)
    sets = tuple(sorted((*policy.network_sets, *made), key=lambda each: each.name))
    changed = replace(policy, policies=(*policy.policies, within), network_sets=sets)
    return Change(changed, within, rule, text)


def mentioned(policy: PolicySet) -> frozenset[str]:
    """Return every dimension by which a policy can tell workloads apart."""
    selectors = [each.select for each in policy.modes] + [each.select for each in policy.quarantines]
    for each in policy.policies:
        selectors.append(each.scope)
        ends = (end for rule in each.rules for end in (rule.source, rule.destination))
        selectors += [end.selector for end in ends if isinstance(end, Selected)]
    return frozenset().union(*(select.keys(selector) for selector in selectors))


# Does it fit?


def _lacks(
    policy: PolicySet, within: Policy, rule: Rule, ends: tuple[Named, Named], speaking: Speaking
) -> tuple[str, ...]:
    fits = {
        "source": _fits(policy, within, rule.source, ends[0]),
        "destination": _fits(policy, within, rule.destination, ends[1]),
        "on": speaking.of(rule.on),
    }
    return tuple(name for name, met in fits.items() if not met)


def _fits(policy: PolicySet, within: Policy, end: RuleEnd, who: Named) -> bool:
    if isinstance(end, Networks):
        sets = (each for each in policy.network_sets if each.name in end.names)
        return who.workload is None and any(_holds(each, who.address) for each in sets)
    return who.known is not None and _matches(end.selector, who.known) and (end.anywhere or _inside(within, who.known))


def _matches(selector: Selector, workload: Workload) -> bool:
    return select.matches(selector, workload.labels, workload.name)


def _inside(within: Policy, workload: Workload) -> bool:
    return _matches(within.scope, workload)


def _holds(network: NetworkSet, address: Address) -> bool:
    return holds(network.cidrs, address) and not holds(network.excepted, address)


# Widening an end


def _wider(policy: PolicySet, within: Policy, end: RuleEnd, who: Named) -> Iterator[RuleEnd]:
    if isinstance(end, Networks):
        if who.workload is None:
            holding = [each for each in policy.network_sets if _holds(each, who.address)]
            yield from (Networks((*end.names, each.name)) for each in sorted(holding, key=_size)[:1])
    elif who.known is not None:
        selector = end.selector if _matches(end.selector, who.known) else _taught(end.selector, who.known)
        if selector is not None:
            yield Selected(selector, anywhere=end.anywhere or not _inside(within, who.known))


def _size(network: NetworkSet) -> tuple[int, str]:
    """The narrowest first; an IPv4 prefix counts as long as the IPv6 prefix of the same share of its family."""
    prefixes = map(ip_network, network.cidrs)
    return sum(1 << (128 - each.prefixlen * 128 // each.max_prefixlen) for each in prefixes), network.name


def _taught(selector: Selector, workload: Workload) -> Selector | None:
    """Return a selector that matches a workload too, by one more value; None where that is not the way."""
    match selector:
        case Equal(key, value, trusted) if not trusted and (own := _value(workload, key)):
            return In(key, tuple(sorted((value, own))))
        case In(key, values) if own := _value(workload, key):
            return In(key, tuple(sorted((*values, own))))
        case And(parts):
            failing = [each for each in parts if not _matches(each, workload)]
            taught = _taught(failing[0], workload) if len(failing) == 1 else None
            return And(tuple(taught if each is failing[0] else each for each in parts)) if taught else None
    return None


def _value(workload: Workload, key: str) -> str | None:
    return workload.name if key == NAME else workload.labels.get(key)


def _more_addresses(policy: PolicySet, within: Policy, rule: Rule, end: RuleEnd, who: Named) -> Iterator[Change]:
    """One more address for the first set that a user wrote: the narrowest way there is."""
    if not isinstance(end, Networks) or who.workload is not None:
        return
    own = [each for each in policy.network_sets if each.name in end.names and each.where.line]
    for each in own[:1]:
        wider = replace(each, cidrs=(*each.cidrs, _prefix(who.address)))
        sets = tuple(wider if other is each else other for other in policy.network_sets)
        text = f"NetworkSet {each.name}  cidrs: […, {scalar(wider.cidrs[-1])}]"
        yield Change(replace(policy, network_sets=sets), within, rule, text, each.where, network=each.name)


def _in_place(policy: PolicySet, within: Policy, old: Rule, new: Rule, field: str) -> Change:
    changed = replace(within, rules=tuple(new if each is old else each for each in within.rules))
    policies = tuple(changed if each is within else each for each in policy.policies)
    said = {"from": lambda: scalar(end_text(new.source)), "to": lambda: scalar(end_text(new.destination))}
    text = f"on: [{on_text(new.on)}]" if field == "on" else f"{field}: {said[field]()}"
    return Change(replace(policy, policies=policies), changed, new, text, old.where)


# Naming an end


def _naming(policy: PolicySet, who: Named, keys: frozenset[str]) -> RuleEnd:
    if who.workload is not None:
        return anywhere(told(who.workload, keys - {NAME}))
    holding = sorted((each for each in policy.network_sets if _holds(each, who.address)), key=_size)
    return Networks((holding[0].name if holding else name_like(who.address.replace(":", "-")),))


def _prefix(address: Address) -> Prefix:
    return Prefix(f"{address}/{128 if ':' in address else 32}")
