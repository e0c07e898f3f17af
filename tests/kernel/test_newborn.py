"""What was sent to an address before anybody was there, and waits in the host's kernel for its link address."""

import asyncio

import pytest
from plain_tables import enforce

from stockade.core.model.policy import EnforcementMode, Mode, PolicySet
from stockade.core.model.selector import Equal
from stockade.testing.lab import Lab, Topology, bridged, enter, lab_bridge, routed
from stockade.testing.probe import packets

pytestmark = [pytest.mark.real, pytest.mark.timeout(60)]

GROUND = Topology(
    bridges=(lab_bridge("br0", "10.1.0.0/24", "fd00:1::/64"),),
    nodes=(bridged("web", "br0", app="shop"), routed("vm", "10.9.0.2", "fd00:9::2")),
)
NEWBORN = bridged("newborn", "br0", "10.1.0.77", "fd00:1::77", app="shop")
ASKED_AGAIN = 4.0
"""Seconds in which a kernel asks three times for a neighbour, and hands over or gives up what waits for it."""


@pytest.mark.parametrize("sender", ["lab", "vm"])
@pytest.mark.parametrize(("mode", "passes"), [(Mode.VISIBILITY, True), (Mode.FULL, False)])
def test_it_is_not_for_who_is_born_there_meanwhile(sender: str, mode: Mode, passes: bool) -> None:
    policy = PolicySet(modes=(EnforcementMode("shop", Equal("app", "shop"), mode, 10),))

    async def run() -> None:
        async with Lab(GROUND) as lab:
            held = await enforce(lab, policy)
            nonces = {family: lab.nonce() for family in (4, 6)}
            for family, nonce in nonces.items():
                ends = lab.address(sender, family), NEWBORN.links[0].addresses[family == 6]
                segment = packets.udp(*ends, 7000, 9000, nonce.encode())
                assert await lab.inject(sender, [packets.ip(*ends, packets.UDP, segment)], link="") == [0]
            await lab.add(NEWBORN)
            await enforce(lab, policy, held)
            waited = 0.0
            while waited < ASKED_AGAIN and not (passes and await _all_seen(lab, nonces)):
                await asyncio.sleep(0.1)
                waited += 0.1
            for family, nonce in nonces.items():
                assert bool(await lab.seen("newborn", nonce)) == passes, family

    enter()
    asyncio.run(run())


async def _all_seen(lab: Lab, nonces: dict[int, str]) -> bool:
    return all([await lab.seen("newborn", nonce) for nonce in nonces.values()])
