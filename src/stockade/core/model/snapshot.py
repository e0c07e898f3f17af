"""All facts and policy at one instant."""

from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from stockade.core.model.ids import Address, HostId, Revision, Version, WorkloadId
from stockade.core.model.inventory import Host, Workload
from stockade.core.model.labels import Label
from stockade.core.model.policy import PolicySet, Where


class Snapshot(NamedTuple):
    """All facts and policy at one revision; nothing in it ever changes.

    ``policy`` is complete (built-ins included); ``lapsed`` names quarantines whose ``until`` has passed.
    ``operator_labels`` are what operators set, also on workloads that nobody has seen yet; what is in force of them
    is in ``workloads``.
    """

    revision: Revision = Revision(0)
    hosts: Mapping[HostId, Host] = {}
    workloads: Mapping[WorkloadId, Workload] = {}
    policy: PolicySet = PolicySet()
    version: Version = Version(0)
    lapsed: frozenset[str] = frozenset()
    operator_labels: Mapping[WorkloadId, tuple[Label, ...]] = {}


class Contest(msgspec.Struct, frozen=True, order=True):
    """An address that a document claims and somebody reported has: on ``host`` alone, or (None) wherever it is met."""

    workload: WorkloadId
    address: Address
    holder: WorkloadId
    host: HostId | None = None
    where: Where = Where()
