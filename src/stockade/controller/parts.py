"""The pure functions that a controller is a shell around, as one value: what it is given, not what it looks up."""

from collections.abc import Callable, Collection, Mapping, Sequence

import msgspec

from stockade.core.compile.nft.ruleset import Ruleset
from stockade.core.model.ids import HostId, WorkloadId
from stockade.core.model.intent import Intent
from stockade.core.model.policy import PolicySet
from stockade.core.model.problem import Problem
from stockade.core.model.snapshot import Snapshot
from stockade.core.plan.values import Explanation, Plan, Reach
from stockade.seams.store import SourceFile
from stockade.wire.api import Check


class Draft(msgspec.Struct, frozen=True):
    """Files, read. ``policy`` is complete (built-ins included) and holds nothing that cannot be enforced.

    ``problems``: it does not parse, nothing else counts. ``narrower``: what is parsed and cannot be enforced, so that
    the policy is narrower than written. ``canonical`` is every document as text, ``hash`` its content's.
    """

    policy: PolicySet
    canonical: str = ""
    hash: str = ""
    problems: tuple[Problem, ...] = ()
    narrower: tuple[Problem, ...] = ()


class Parts(msgspec.Struct, frozen=True):
    """Everything the controller does not do itself. Pure, but for ``compile`` (it remembers) and ``doctor``."""

    read: Callable[[Sequence[SourceFile]], Draft]
    """Policy files → a draft. No files: the built-in policy."""
    compile: Callable[[Snapshot, Collection[WorkloadId], Collection[HostId]], Mapping[HostId, Intent]]
    """(snapshot, workloads and hosts changed since the last call) → every host's intent."""
    check: Callable[[Snapshot], None]
    """Raises ``StockadeError`` where a snapshot could not be compiled and rendered."""
    plan: Callable[[Snapshot, Snapshot, Draft, int], Plan]
    """(active, with the draft active, the draft, most pairs a connection) → plan."""
    explain: Callable[[Snapshot, str, str, str], Explanation]
    """(snapshot, source, destination, service) → verdict. ``StockadeError`` where a name stands for nothing."""
    reach: Callable[[Snapshot, str], Reach]
    render: Callable[[Intent], Ruleset]
    doctor: Callable[[], Sequence[Check]]
    """Looks at the machine; may take seconds."""
