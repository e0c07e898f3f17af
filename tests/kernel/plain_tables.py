"""A lab whose host enforces a policy in tables that nobody owns, written by plain nft."""

import asyncio
import os
from collections.abc import Awaitable, Callable

from msgspec.structs import replace

from stockade.core.compile.compiler import compile_snapshot
from stockade.core.compile.nft.render import render
from stockade.core.compile.nft.ruleset import Ruleset
from stockade.core.fold import fold
from stockade.core.model.event import HostSeen, PolicyActivated, WorkloadSeen
from stockade.core.model.ids import Version
from stockade.core.model.inventory import BridgeState
from stockade.core.model.policy import PolicySet
from stockade.core.policy import complete
from stockade.core.reconcile import steps, text
from stockade.testing.lab import Lab, Topology, enter

Scenario = Callable[[Lab], Awaitable[None]]
IN_BRIDGES = os.environ.get("STOCKADE_BRIDGES") == "bridge"
"""Whether bridged traffic is judged in the bridge family, which takes a kernel that tracks it: Debian's in a guest."""


async def enforce(lab: Lab, policy: PolicySet, held: Ruleset | None = None) -> Ruleset:
    """Bring a policy over all that is in the lab now into force, from what the kernel holds (none: nothing yet)."""
    seen = [WorkloadSeen(each) for each in lab.sightings()]
    events = [HostSeen(lab.host()), *seen, *lab.labels(), PolicyActivated(Version(1), complete(policy))]
    (intent,) = compile_snapshot(fold(events)).values()
    wanted = render(intent)
    if held is None:
        await lab.nft("table inet stockade { }\ntable bridge stockade { }\n")
    for step in steps(wanted, held or Ruleset()):
        told = [each for each in text(step).splitlines(keepends=True) if not each.startswith("add table")]
        await lab.nft("".join(told))
    return wanted


def in_lab(ground: Topology, policy: PolicySet, scenario: Scenario) -> None:
    """Run a scenario in a lab whose host enforces a policy."""

    async def run() -> None:
        async with Lab(replace(ground, bridge_nf=not IN_BRIDGES)) as lab:
            wanted = BridgeState.BRIDGE if IN_BRIDGES else BridgeState.INET
            assert {each.state for each in lab.host().bridges} == {wanted}
            await enforce(lab, policy)
            await scenario(lab)

    enter()
    asyncio.run(run())
