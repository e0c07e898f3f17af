"""A lab whose host enforces a policy, put in force step by step as an agent does it."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import closing

from stockade.adapters.netfilter.conntrack import Conntrack
from stockade.agent.sweep import look_ahead
from stockade.core.compile.compiler import compile_snapshot
from stockade.core.compile.nft.render import render
from stockade.core.compile.nft.ruleset import Ruleset
from stockade.core.fold import fold
from stockade.core.model.event import Event, HostSeen, LabelsSet, PolicyActivated, WorkloadSeen
from stockade.core.model.ids import Version
from stockade.core.model.intent import Intent
from stockade.core.model.policy import PolicySet
from stockade.core.policy import complete
from stockade.core.reconcile import steps, text
from stockade.testing.lab import Lab, Topology, enter, workload_id


class Enforced:
    """A lab, and what its host enforces."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.ruleset = Ruleset()
        self.intent: Intent | None = None

    async def apply(self, policy: PolicySet, relabelled: tuple[str, str] | None = None) -> None:
        seen = [WorkloadSeen(each) for each in self.lab.sightings()]
        events: list[Event] = [HostSeen(self.lab.host()), *seen, *self.lab.labels()]
        if relabelled:
            id_ = workload_id(self.lab.topology, relabelled[0])
            events.append(LabelsSet(id_, (("app", "shop"), ("role", relabelled[1])), "test"))
        (intent,) = compile_snapshot(fold([*events, PolicyActivated(Version(1), complete(policy))])).values()
        self.intent = intent
        wanted = render(intent)
        if not self.ruleset.tables:
            await self.lab.nft("table inet stockade { }\ntable bridge stockade { }\n")
        with closing(Conntrack(self.lab.netns(self.lab.host_name))) as tracking:
            look_ahead(tracking, intent)  # as an agent does before each switch
        for step in steps(wanted, self.ruleset):
            told = [each for each in text(step).splitlines(keepends=True) if not each.startswith("add table")]
            await self.lab.nft("".join(told))
        self.ruleset = wanted


def on_ground(ground: Topology, scenario: Callable[[Enforced], Awaitable[None]]) -> None:
    """Run a scenario in a lab."""

    async def run() -> None:
        async with Lab(ground) as lab:
            await scenario(Enforced(lab))

    enter()
    asyncio.run(run())
