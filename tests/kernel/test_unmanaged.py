"""Workloads without an agent, by real packets: managed peers are held to what documents say of them, and no others."""

import pytest
from enforced import Enforced, on_ground

from stockade.core import policy
from stockade.core.model.net import Protocol
from stockade.core.model.policy import PolicySet
from stockade.testing.lab import Topology, bridged, lab_bridge, outside
from stockade.testing.probe.values import Flow, Probe

pytestmark = [pytest.mark.real, pytest.mark.timeout(60)]
OUT, IN = 9000, 9001
GROUND = Topology(
    bridges=(lab_bridge("br0", "10.1.0.0/24", "fd00:1::/64"),),
    nodes=(
        bridged("web", "br0", app="shop", role="web"),
        bridged("open", "br0", app="other"),
        outside("box", "203.0.113.10", "2001:db8:7::10"),
        outside("beside", "203.0.113.11", "2001:db8:7::11"),
        outside("moved-to", "203.0.113.12", "2001:db8:7::12"),
    ),
)
FULL = """
apiVersion: stockade.dev/v1
kind: EnforcementMode
metadata: {name: shop}
spec: {select: app = shop, mode: full}
---
apiVersion: stockade.dev/v1
kind: Policy
metadata: {name: shop}
spec:
  rules:
    - name: to-the-till
      allow: {from: role = web, to: role = till, on: [tcp/9000, udp/9000]}
    - name: from-the-till
      allow: {from: role = till, to: role = web, on: [tcp/9001, udp/9001]}
"""
CUT = """---
apiVersion: stockade.dev/v1
kind: Quarantine
metadata: {name: till}
spec: {select: name = till}
"""


def till(last: int) -> str:
    """Declare the till at an address of each family."""
    return f"""---
apiVersion: stockade.dev/v1
kind: Workload
metadata: {{name: till}}
spec: {{labels: {{app: shop, role: till}}, addresses: [203.0.113.{last}, "2001:db8:7::{last}"]}}
"""


def written(*parts: str) -> PolicySet:
    draft = policy.read([policy.SourceText("shop.yaml", "".join(parts).encode())])
    assert not draft.problems, draft.problems
    return draft.policy


def probes(one: str, other: str, family: int, *ports: int) -> list[Probe]:
    return [Probe(one, other, each, port, family) for port in ports for each in (Protocol.TCP, Protocol.UDP)]


@pytest.mark.parametrize("family", [4, 6])
def test_a_workload_in_full_and_an_unmanaged_one_meet_where_a_rule_lets_them(family: int) -> None:
    async def scenario(it: Enforced) -> None:
        await it.apply(written(FULL, till(10)))
        allowed = [*probes("web", "box", family, OUT), *probes("box", "web", family, IN)]
        denied = [
            *probes("web", "box", family, IN),
            *probes("web", "beside", family, OUT, IN),
            *probes("box", "web", family, OUT),
            *probes("beside", "web", family, OUT, IN),
        ]
        for result in await it.lab.probe(allowed):
            assert result.reached, result
        for result in await it.lab.probe(denied, patience=0.5):
            assert not result.delivered, result

    on_ground(GROUND, scenario)


@pytest.mark.parametrize("family", [4, 6])
def test_when_a_document_moves_an_address_what_lives_over_the_old_one_ends(family: int) -> None:
    async def scenario(it: Enforced) -> None:
        await it.apply(written(FULL, till(10)))
        flows: list[Flow] = await it.lab.open([*probes("web", "box", family, OUT), *probes("box", "web", family, IN)])
        others = await it.lab.open(probes("open", "box", family, OUT))
        assert all(each.alive for each in await it.lab.send([*flows, *others]))
        await it.apply(written(FULL, till(12)))
        for back in (False, True):
            for heard in await it.lab.send(flows, back=back, patience=0.5):
                assert not heard.delivered, heard
        assert all(each.alive for each in await it.lab.send(others))
        assert all(each.reached for each in await it.lab.probe(probes("web", "moved-to", family, OUT)))
        again = await it.lab.probe(probes("web", "box", family, OUT), patience=0.5)
        assert not any(each.delivered for each in again)

    on_ground(GROUND, scenario)


@pytest.mark.parametrize("family", [4, 6])
def test_a_quarantine_of_an_unmanaged_workload_is_carried_out_by_its_peers(family: int) -> None:
    async def scenario(it: Enforced) -> None:
        await it.apply(written(FULL, till(10)))
        flows = await it.lab.open([*probes("web", "box", family, OUT), *probes("open", "box", family, OUT)])
        assert all(each.alive for each in await it.lab.send(flows))
        await it.apply(written(FULL, till(10), CUT))
        for heard in await it.lab.send(flows, patience=0.5):
            assert not heard.delivered, heard
        assert all(each.reached for each in await it.lab.probe(probes("open", "beside", family, OUT)))

    on_ground(GROUND, scenario)
