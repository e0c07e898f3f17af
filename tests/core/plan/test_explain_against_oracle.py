"""What explain says of a verdict is the oracle's; what it proposes turns it; and what else that opens is all named."""

from random import Random

import yaml
from ground_truth import Spot, points, spots, trials
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from stockade.core import select
from stockade.core.model.ids import Prefix, RuleId
from stockade.core.model.net import Ports, Protocol
from stockade.core.model.packet import Judgement, Packet
from stockade.core.model.policy import (
    Action,
    Networks,
    NetworkSet,
    Policy,
    PolicySet,
    Rule,
    Selected,
    ServiceRef,
)
from stockade.core.model.policy import (
    End as RuleEnd,
)
from stockade.core.model.snapshot import Snapshot
from stockade.core.oracle import verdict
from stockade.core.plan.explain import explain
from stockade.core.plan.plan import plan
from stockade.core.plan.values import Explanation, Flip
from stockade.core.policy import ports_of
from stockade.errors import StockadeError
from stockade.testing import strategies
from stockade.testing.inventories import UPLINK

FEW = settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
EVERY_PAIR = 100_000
ANEW = "allow: "
Asked = tuple[Spot, Spot, Ports, Explanation]


def asked(snapshot: Snapshot, random: Random, count: int) -> list[Asked]:
    """Ask for some connections, by name or by address; what nobody can be asked about is left out."""
    named = [point for point in points(snapshot) if point.protocol is not Protocol.ANY]
    found = []
    for one, other, point, v6 in trials(random, spots(snapshot), named, count):
        on = Ports(point.protocol, point.port, point.port)
        try:
            it = explain(snapshot, typed(random, one, v6=v6), typed(random, other, v6=v6), on)
        except StockadeError:  # an address that two have: it asks for a name instead
            continue
        if it.source.workload != it.destination.workload or it.source.workload is None:
            found.append((one, other, on, it))
    return found


def typed(random: Random, spot: Spot, *, v6: bool) -> str:
    """Return a name or an address of an end."""
    address = spot.at(v6=v6) or spot.four or spot.six
    return spot.workload.name if spot.workload and random.random() < 0.5 else str(address)


def judged(snapshot: Snapshot, one: Spot, other: Spot, on: Ports, it: Explanation) -> list[Judgement]:
    """Ask the oracle, which sees the whole snapshot, of the addresses that an explanation speaks of."""
    hosts = [each for each in dict.fromkeys((one.host, other.host)) if each in snapshot.hosts]
    packets = [
        Packet(
            host=host,
            source=it.source.address,
            destination=it.destination.address,
            protocol=on.protocol,
            port=on.first,
            interface=one.interface if one.host == host else UPLINK,
        )
        for host in hosts
    ]
    return [end for packet in packets for end in verdict(snapshot, packet).ends]


@FEW
@given(strategies.snapshots(), st.randoms(use_true_random=False))
def test_the_verdict_is_the_oracles_end_by_end(snapshot: Snapshot, random: Random) -> None:
    for one, other, on, it in asked(snapshot, random, 30):
        said = judged(snapshot, one, other, on, it)
        assert it.allowed == all(end.allowed for end in said)
        told = [(end.direction, end.workload, end.allowed, end.layer, end.rule, end.where) for end in it.ends]
        assert told == [(e.direction, e.workload, e.allowed, e.layer, e.rule, e.where) for e in said]
        assert (it.flip is None) == it.allowed


@FEW
@given(strategies.snapshots(), st.randoms(use_true_random=False))
def test_what_it_proposes_turns_the_verdict_and_names_all_else_that_it_opens(
    snapshot: Snapshot, random: Random
) -> None:
    for one, other, on, it in asked(snapshot, random, 10):
        if it.flip is None or not proposes_policy(it.flip):
            continue
        changed = snapshot._replace(policy=applied(snapshot.policy, it.flip))
        assert all(end.allowed for end in judged(changed, one, other, on, it)), it.flip
        pair = (it.source.name, it.destination.name)
        assert {each for each in it.flip.also if inside(snapshot, each)} == gained(snapshot, changed) - {pair}
        assert it.flip.also_count == len(it.flip.also)


def proposes_policy(flip: Flip) -> bool:
    """Tell whether it proposes a rule or a set, and not something else to do."""
    return flip.text.startswith((ANEW, "from: ", "to: ", "on: ", "NetworkSet "))


def inside(snapshot: Snapshot, pair: tuple[str, str]) -> bool:
    """Tell whether both are workloads."""
    return {*pair} <= {each.name for each in snapshot.workloads.values()}


def gained(snapshot: Snapshot, changed: Snapshot) -> set[tuple[str, str]]:
    """Return the pairs of workloads that a plan says are gained on any port."""
    found = {pair for each in plan(snapshot, changed, pairs=EVERY_PAIR).gained for pair in each.pairs}
    return {pair for pair in found if inside(snapshot, pair)}


# Doing what was proposed, from its text alone


def applied(policy: PolicySet, flip: Flip) -> PolicySet:
    """Return a policy changed as a user would who reads what is proposed."""
    if flip.text.startswith(ANEW):
        return with_new_rule(policy, flip.text)
    if flip.text.startswith("NetworkSet "):
        name, cidr = flip.text.removeprefix("NetworkSet ").split("  cidrs: ")
        more = Prefix(yaml.safe_load(cidr)[1])
        sets = (replace(each, cidrs=(*each.cidrs, more)) if each.name == name else each for each in policy.network_sets)
        return replace(policy, network_sets=tuple(sets))
    ((field, written),) = read(flip.text).items()
    name, reading = {"from": ("source", end), "to": ("destination", end), "on": ("on", on_of)}[field]
    change = {name: reading(written)}
    return replace(policy, policies=tuple(with_changed(each, flip, change) for each in policy.policies))


def with_changed(policy: Policy, flip: Flip, change: dict[str, object]) -> Policy:
    """Change the rule that is named; it is where the proposal says."""
    assert all(rule.where == flip.where for rule in policy.rules if rule.id == flip.rule)
    return replace(
        policy, rules=tuple(replace(rule, **change) if rule.id == flip.rule else rule for rule in policy.rules)
    )


def with_new_rule(policy: PolicySet, text: str) -> PolicySet:
    """Add a rule in a policy without a scope, and the network set that comes with it."""
    allow, _, made = text.partition("  with NetworkSet ")
    written = read(f"{{{allow}}}")["allow"]
    rule = Rule(RuleId("new/rule"), Action.ALLOW, end(written["from"]), end(written["to"]), on_of(written["on"]))
    sets = policy.network_sets
    if made:
        name, cidrs = made.split(": ", 1)
        sets = (*sets, NetworkSet(name, tuple(Prefix(each) for each in yaml.safe_load(cidrs)["cidrs"])))
    return replace(policy, policies=(*policy.policies, Policy("new", (rule,))), network_sets=sets)


def read(text: str) -> dict[str, object]:
    """Read YAML as policy does, to which `on` is a word."""
    return yaml.safe_load(text.replace("on:", "'on':"))


def end(text: str) -> RuleEnd:
    """Read an end as policy writes it."""
    if text.startswith("networks("):
        return Networks(tuple(text.removeprefix("networks(").removesuffix(")").split(", ")))
    if text.startswith("any("):
        return Selected(select.parse(text.removeprefix("any(").removesuffix(")")), anywhere=True)
    return Selected(select.parse(text))


def on_of(written: list[str]) -> tuple[ServiceRef, ...]:
    """Read a list of ports and services."""
    protocols = tuple(each.name.lower() for each in Protocol)
    return tuple(ports_of(each) if each.partition("/")[0] in protocols else each for each in written)
