"""What the numbers and addresses in the kernel's words stand for, as the intents that were in force say."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from stockade.core.compile.nft.rule import short
from stockade.core.model.ids import Address, RuleId, WorkloadId
from stockade.core.model.intent import Intent
from stockade.core.model.inventory import Attachment

KEPT = 4096
"""Rules remembered that are in no intent any more: what was read late is still told by its rule's name."""


class Behind(NamedTuple):
    """Where a local proxy leads that listens on a published port."""

    address: Address
    port: int


class Names(NamedTuple):
    """One intent's names, and those of rules that were in force before. Never changes: threads may share it."""

    rules: Mapping[str, RuleId]
    """By short id."""
    workloads: Mapping[Address, WorkloadId]
    proxied: Mapping[tuple[int, Address, int], Behind]
    """By protocol, and the address and port that are published."""
    places: Mapping[Address, str] = MappingProxyType({})
    """The host's link behind which an address is; empty where it is the host's own."""


NOBODY = Names({}, {}, {})


def names(intent: Intent, before: Names = NOBODY) -> Names:
    """Return the names under an intent. An address that two endpoints claim is nobody's."""
    rules = {short(rule): rule for rule, _ in intent.rules}
    for program in intent.programs:
        rules |= {short(line.rule): line.rule for line in (*program.egress, *program.ingress)}
    older = {name: rule for name, rule in before.rules.items() if name not in rules}
    rules = dict([*older.items(), *rules.items()][-max(KEPT, len(rules)) :])
    workloads: dict[Address, WorkloadId] = {}
    contested: set[Address] = set()
    for end in intent.ends:
        for address in end.addresses if end.workload else ():
            if workloads.setdefault(address, end.workload or WorkloadId("")) != end.workload:
                contested.add(address)
    proxied = {
        (int(port.protocol), address, port.port): Behind(port.to_address, port.to_port)
        for port in intent.published
        if port.proxied
        for address in port.addresses
    }
    workloads = {a: w for a, w in workloads.items() if a not in contested}
    met = [end for end in intent.ends if end.port or end.attachment is Attachment.HOST]
    places = {address: end.port for end in met for address in end.addresses if address in workloads}
    return Names(rules, workloads, proxied, places)
