"""Frames that come to a bridge by an uplink, or by a port that nobody has reported: judged as any, in either family."""

import pytest
from msgspec.structs import replace
from plain_tables import in_lab

from stockade.core.model.ids import Prefix, RuleId
from stockade.core.model.net import Protocol
from stockade.core.model.policy import (
    Action,
    Births,
    EnforcementMode,
    Mode,
    Networks,
    NetworkSet,
    Policy,
    PolicySet,
    Rule,
    Selected,
)
from stockade.core.model.selector import Equal
from stockade.testing.lab import Lab, Topology, bridged, lab_bridge, outside
from stockade.testing.probe.values import Probe

pytestmark = [pytest.mark.real, pytest.mark.timeout(120)]
GROUND = Topology(
    bridges=(lab_bridge("br0", "10.1.0.0/24", "fd00:1::/64"),),
    nodes=(
        bridged("lax", "br0", app="lax"),
        bridged("shut", "br0", app="shut"),
        replace(bridged("stray", "br0"), sighted=False),
        outside("far", "10.1.0.200", "fd00:1::200", bridge="br0"),
    ),
    labels=(("role", "host"),),
)
NOBODY = Rule(
    RuleId("all/nobody"), Action.OVERRIDE_DENY, Networks(("nowhere",)), Selected(Equal("app", "lax"))
)  # so that there is something to enforce
POLICY = PolicySet(
    policies=(Policy("all", (NOBODY,)),),
    modes=(
        EnforcementMode("births", Equal("role", "host"), Mode.VISIBILITY, births=Births.PASS),
        EnforcementMode("lax", Equal("app", "lax"), Mode.SELECTIVE, 10),
        EnforcementMode("shut", Equal("app", "shut"), Mode.FULL, 10),
    ),
    network_sets=(NetworkSet("nowhere", (Prefix("203.0.113.0/24"),)),),
)


@pytest.mark.parametrize("family", [4, 6])
def test_it_reaches_who_denies_nothing_and_nobody_else(family: int) -> None:
    async def scenario(lab: Lab) -> None:
        pairs = [("far", "lax"), ("lax", "far"), ("stray", "lax"), ("lax", "stray")]
        passing = [Probe(*pair, each, 9000, family) for pair in pairs for each in (Protocol.TCP, Protocol.UDP)]
        for result in await lab.probe(passing):
            assert result.reached, result
        denied = [
            Probe(name, "shut", each, 9000, family)
            for name in ("far", "stray")
            for each in (Protocol.TCP, Protocol.UDP)
        ]
        for result in await lab.probe(denied, patience=0.5):
            assert not result.delivered, result

    in_lab(GROUND, POLICY, scenario)
