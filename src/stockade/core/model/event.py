"""What happened, as values. ``fold`` makes snapshots of them; the store keeps them.

Each event speaks of one object and carries all that is now true of it, so that the last event of an object decides
and repeating one changes nothing.
"""

import msgspec

from stockade.core.model.ids import HostId, Version, WorkloadId
from stockade.core.model.inventory import Host, Sighting
from stockade.core.model.policy import PolicySet


class WorkloadSeen(msgspec.Struct, frozen=True, tag="workload-seen"):
    """A source reports a workload, whole."""

    sighting: Sighting


class WorkloadGone(msgspec.Struct, frozen=True, tag="workload-gone"):
    """A workload is no more."""

    id: WorkloadId


class HostSeen(msgspec.Struct, frozen=True, tag="host-seen"):
    """An agent reports its host, whole. The host's own workload comes as a ``WorkloadSeen``."""

    host: Host


class HostGone(msgspec.Struct, frozen=True, tag="host-gone"):
    """A host was removed from the installation; its workloads are removed with it."""

    id: HostId


class LabelsSet(msgspec.Struct, frozen=True, tag="labels-set"):
    """All labels that operators have set on a workload, by (key, value), sorted; empty takes them back."""

    id: WorkloadId
    labels: tuple[tuple[str, str], ...]
    by: str


class PolicyActivated(msgspec.Struct, frozen=True, tag="policy-activated"):
    """A version became active. ``policy`` is complete (built-ins included)."""

    version: Version
    policy: PolicySet


class QuarantineLapsed(msgspec.Struct, frozen=True, tag="quarantine-lapsed"):
    """A quarantine's ``until`` has passed. Forgotten when the next version becomes active."""

    name: str


Event = WorkloadSeen | WorkloadGone | HostSeen | HostGone | LabelsSet | PolicyActivated | QuarantineLapsed
