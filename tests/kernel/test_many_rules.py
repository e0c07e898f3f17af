"""Hundreds of rules about one port of one workload: whoever comes is judged by the first that speaks of it."""

from random import Random

import pytest
from enforced import Enforced, on_ground

from stockade.core.compile.nft.programs import FEW
from stockade.core.model.ids import Address, RuleId
from stockade.core.model.net import Ports, Protocol
from stockade.core.model.policy import (
    Action,
    EnforcementMode,
    Mode,
    Policy,
    PolicySet,
    Rule,
    Selected,
    UnmanagedWorkload,
)
from stockade.core.model.selector import Equal
from stockade.testing.lab import Topology, bridged, lab_bridge, outside
from stockade.testing.probe.values import Probe

pytestmark = [pytest.mark.real, pytest.mark.timeout(120)]
PORT = 9000
ON = (Ports(Protocol.TCP, PORT, PORT), Ports(Protocol.UDP, PORT, PORT))
MANY = 4 * FEW**2
GROUND = Topology(
    bridges=(lab_bridge("br0", "10.1.0.0/24", "fd00:1::/64"), lab_bridge("br1", "10.2.0.0/24", "fd00:2::/64")),
    nodes=(
        bridged("shop", "br0", app="shop"),
        bridged("beside", "br0", app="beside"),
        bridged("across", "br1", app="across"),
        bridged("refused", "br1", app="refused"),
        bridged("unnamed", "br0", app="unnamed"),
        outside("far", "203.0.113.10", "2001:db8:7::10"),
    ),
)
STRANGERS = tuple(
    UnmanagedWorkload(
        f"stranger-{n:03}", (Address(f"198.51.100.{n % 250 + 1}"), Address(f"2001:db8:9::{n:x}")), (("app", f"s{n}"),)
    )
    for n in range(1, MANY)
)


def ruled(action: Action, *callers: str) -> list[Rule]:
    """Return a rule for each caller, among many for strangers."""
    random = Random(len(callers))
    names = [each.labels[0][1] for each in STRANGERS]
    for caller in callers:
        names.insert(random.randrange(len(names)), caller)
    return [
        Rule(
            RuleId(f"many/{action.value}-{place:04}"),
            action,
            Selected(Equal("app", name)),
            Selected(Equal("app", "shop")),
            ON,
        )
        for place, name in enumerate(names)
    ]


def policy(*allowed: str) -> PolicySet:
    rules = [*ruled(Action.ALLOW, *allowed), *ruled(Action.OVERRIDE_DENY, "refused")]
    return PolicySet(
        policies=(Policy("many", tuple(sorted(rules, key=lambda each: each.id))),),
        modes=(EnforcementMode("shop", Equal("app", "shop"), Mode.FULL, 10),),
        workloads=STRANGERS,
    )


@pytest.mark.parametrize("family", [4, 6])
def test_each_caller_is_judged_by_the_rule_that_speaks_of_it(family: int) -> None:
    def probes(*callers: str) -> list[Probe]:
        return [Probe(each, "shop", way, PORT, family) for each in callers for way in (Protocol.TCP, Protocol.UDP)]

    async def scenario(on: Enforced) -> None:
        await on.apply(policy("beside", "across", "refused"))
        for result in await on.lab.probe(probes("beside", "across")):
            assert result.reached, result
        for result in await on.lab.probe(probes("refused", "unnamed", "far"), patience=0.5):
            assert not result.delivered, result
        await on.apply(policy("across", "unnamed"))
        for result in await on.lab.probe(probes("across", "unnamed")):
            assert result.reached, result
        for result in await on.lab.probe(probes("beside", "refused", "far"), patience=0.5):
            assert not result.delivered, result

    on_ground(GROUND, scenario)
