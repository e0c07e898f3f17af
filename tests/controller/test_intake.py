"""An agent has a word on its own host and on nothing else."""

import pytest

from stockade.controller.intake import admit
from stockade.controller.refused import Refused
from stockade.core.fold import fold
from stockade.core.model.event import Event, HostGone, HostSeen, LabelsSet, PolicyActivated, WorkloadGone, WorkloadSeen
from stockade.core.model.ids import HostId, Version, WorkloadId
from stockade.core.model.inventory import Host, Sighting, WorkloadKind
from stockade.core.model.policy import PolicySet
from stockade.wire import Report

A, B = HostId("host-a"), HostId("host-b")


def seen(name: str, host: HostId | None) -> WorkloadSeen:
    return WorkloadSeen(Sighting(WorkloadId(name), name, WorkloadKind.CONTAINER, host))


SNAPSHOT = fold([seen("mine", A), seen("theirs", B), seen("nobody's", None)])


@pytest.mark.parametrize(
    "event",
    [
        seen("mine", A),
        seen("new", A),
        seen("nobody's", None),
        WorkloadGone(WorkloadId("mine")),
        WorkloadGone(WorkloadId("never seen")),
        HostSeen(Host(A, WorkloadId("a"))),
    ],
)
def test_what_is_its_own_is_taken(event: Event) -> None:
    admit(Report(A, 1, (event,)), SNAPSHOT)


@pytest.mark.parametrize(
    "event",
    [
        seen("new", B),
        seen("theirs", A),
        seen("theirs", None),
        seen("workload:old-db", A),
        WorkloadGone(WorkloadId("workload:old-db")),
        WorkloadGone(WorkloadId("theirs")),
        HostSeen(Host(B, WorkloadId("b"))),
        HostGone(A),
        LabelsSet(WorkloadId("mine"), (("app", "shop"),), "mallory"),
        PolicyActivated(Version(9), PolicySet()),
    ],
)
def test_what_is_not_is_refused(event: Event) -> None:
    with pytest.raises(Refused, match="host host-a reported") as refused:
        admit(Report(A, 1, (seen("mine", A), event)), SNAPSHOT)
    assert refused.value.kept


def test_another_protocol_is_refused() -> None:
    with pytest.raises(Refused, match="speaks protocol 2"):
        admit(Report(A, 1, (), protocol=2), SNAPSHOT)
