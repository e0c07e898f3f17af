"""Events → snapshots: the last event of an object decides, and no order across objects matters."""

import itertools

import msgspec

from stockade.core.fold import Folding, apply, fold
from stockade.core.model.event import (
    Event,
    HostGone,
    HostSeen,
    LabelsSet,
    PolicyActivated,
    QuarantineLapsed,
    WorkloadGone,
    WorkloadSeen,
)
from stockade.core.model.ids import Address, HostId, Version, WorkloadId
from stockade.core.model.inventory import Attachment, Endpoint, Facts, Host, Sighting, WorkloadKind, WorkloadState
from stockade.core.model.labels import Labels
from stockade.core.model.policy import LabelRule, PolicySet, Quarantine
from stockade.core.model.selector import ALL
from stockade.core.model.snapshot import Snapshot

A, B = HostId("host-a"), HostId("host-b")
RULES = PolicySet(label_rules=(LabelRule("own", (("role", "{label:role}"),)),), quarantines=(Quarantine("q", ALL),))


def seen(number: int, host: HostId = A, role: str = "web", **more: object) -> WorkloadSeen:
    sighting = Sighting(
        id=WorkloadId(f"w{number}"),
        name=f"web-{number}",
        kind=WorkloadKind.CONTAINER,
        host=host,
        endpoints=(Endpoint(Attachment.BRIDGED, (Address(f"10.0.0.{number}"),), f"veth{number}", "br0"),),
        facts=Facts(runtime="docker", labels=(("role", role),)),
    )
    return WorkloadSeen(msgspec.structs.replace(sighting, **more))


def host(id_: HostId) -> HostSeen:
    return HostSeen(Host(id_, WorkloadId(f"host:{id_}"), interfaces=("lo", "eth0")))


def still(snapshot: Snapshot) -> Snapshot:
    return snapshot._replace(revision=0)


def test_no_order_across_objects_matters() -> None:
    events: list[Event] = [
        host(A),
        seen(1),
        seen(2),
        LabelsSet(WorkloadId("w1"), (("env", "prod"),), "ann"),
        PolicyActivated(Version(1), RULES),
    ]
    results = [still(fold(order)) for order in itertools.permutations(events)]
    assert all(result == results[0] for result in results)
    assert [label.value for label in results[0].workloads[WorkloadId("w1")].labels.items] == ["prod", "web"]


def test_each_event_is_one_revision_even_where_nothing_changes() -> None:
    snapshot = fold([seen(1), seen(1), WorkloadGone(WorkloadId("w9")), HostGone(B)])
    assert snapshot.revision == 4
    assert list(snapshot.workloads) == ["w1"]


def test_the_last_event_of_an_object_decides() -> None:
    assert still(fold([seen(1, role="db"), seen(1)])) == still(fold([seen(1)]))
    assert still(fold([seen(1), WorkloadGone(WorkloadId("w1"))])) == still(fold([WorkloadGone(WorkloadId("w1"))]))


def test_operator_labels_outlive_reports_and_absence_until_taken_back() -> None:
    label = LabelsSet(WorkloadId("w1"), (("env", "prod"),), "ann")
    once = fold([seen(1), label])
    assert still(fold([label, seen(1), seen(1)])) == still(once)
    assert still(fold([seen(1), label, WorkloadGone(WorkloadId("w1")), seen(1)])) == still(once)
    assert still(fold([seen(1), label, LabelsSet(WorkloadId("w1"), (), "bob")])) == still(fold([seen(1)]))


def test_a_host_takes_its_workloads_with_it_and_no_others() -> None:
    snapshot = fold([host(A), host(B), seen(1), seen(2, B), HostGone(A)])
    assert set(snapshot.hosts) == {B}
    assert set(snapshot.workloads) == {"w2"}


def test_a_workload_that_has_moved_stays_when_its_old_host_goes() -> None:
    assert set(fold([seen(1), seen(1, B), HostGone(A)]).workloads) == {"w1"}


def test_stopped_workloads_keep_labels_and_give_up_endpoints() -> None:
    running = fold([PolicyActivated(Version(1), RULES), seen(1)])
    stopped = apply(running, seen(1, state=WorkloadState.STOPPED))
    assert stopped.workloads[WorkloadId("w1")].labels == running.workloads[WorkloadId("w1")].labels
    assert stopped.workloads[WorkloadId("w1")].seen.endpoints == ()
    assert apply(stopped, seen(1)).workloads == running.workloads


def test_a_shared_namespace_has_no_endpoints_of_its_own() -> None:
    snapshot = fold([seen(1), seen(2, owner=WorkloadId("w1"))])
    assert snapshot.workloads[WorkloadId("w2")].seen.endpoints == ()


def test_an_older_version_never_replaces_a_newer_one() -> None:
    new, old = PolicyActivated(Version(2), RULES), PolicyActivated(Version(1), PolicySet())
    assert still(fold([new, old])) == still(fold([new])) == still(fold([old, new]))


def test_the_built_in_policy_is_version_zero_and_can_become_active() -> None:
    assert fold([PolicyActivated(Version(0), RULES)]).policy == RULES


def test_what_lapsed_is_forgotten_with_the_next_version_and_not_with_the_same_again() -> None:
    active, lapsed = PolicyActivated(Version(1), RULES), QuarantineLapsed("q")
    assert fold([active, lapsed]).lapsed == {"q"}
    assert fold([active, lapsed, active]).lapsed == {"q"}
    assert fold([active, lapsed, PolicyActivated(Version(2), RULES)]).lapsed == frozenset()
    assert fold([active, QuarantineLapsed("other")]).lapsed == frozenset()


def test_one_at_a_time_equals_all_at_once() -> None:
    events = [PolicyActivated(Version(1), RULES), host(A), seen(1), seen(2), WorkloadGone(WorkloadId("w1")), seen(1)]
    snapshot, folding = Snapshot(), Folding()
    for event in events:
        snapshot = apply(snapshot, event)
        assert folding.apply(event) == snapshot
    assert fold(events) == snapshot


def test_a_snapshot_never_changes() -> None:
    before = fold([PolicyActivated(Version(1), RULES), seen(1)])
    workload = before.workloads[WorkloadId("w1")]
    fold([seen(1, role="db"), seen(2), HostGone(A)], before)
    assert dict(before.workloads) == {"w1": workload}


def test_equal_label_sets_are_one_object() -> None:
    snapshot = fold([PolicyActivated(Version(1), RULES), *(seen(number) for number in range(1, 50))])
    assert len({id(workload.labels) for workload in snapshot.workloads.values()}) == 1


def test_what_is_remembered_does_not_grow_with_history() -> None:
    folding = Folding()
    for number in range(5000):
        folding.apply(LabelsSet(WorkloadId("w1"), (("n", str(number)),), "ann"))
        folding.apply(seen(1))
    assert len(folding._labeller._table) < 1100
    assert len(folding._labeller._complaints) < 1100
    assert folding.snapshot.workloads[WorkloadId("w1")].labels == Labels(
        folding.snapshot.operator_labels[WorkloadId("w1")]
    )
