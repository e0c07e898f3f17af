"""Workloads that documents declare follow from the active policy and from who else is there, and from nothing else."""

import itertools

import pytest
from msgspec.structs import replace

from stockade.core.fold import Folding, fold
from stockade.core.fold.declared import contests
from stockade.core.model.event import Event, HostGone, LabelsSet, WorkloadGone, WorkloadSeen
from stockade.core.model.ids import Address, HostId, WorkloadId
from stockade.core.model.inventory import Attachment, Endpoint, WorkloadKind, WorkloadState
from stockade.core.model.labels import Label, LabelSource
from stockade.core.model.policy import LabelRule, Where
from stockade.core.model.snapshot import Contest, Snapshot
from stockade.testing.scenarios import BY_NAME, OTHER, box, container, host, host_itself, policy, unmanaged

OLD_DB = WorkloadId("workload:old-db")
LEGACY = WorkloadId("unmanaged:legacy")


def declared(*addresses: str, version: int = 1, **labels: str) -> Event:
    return policy(version, workloads=(box("old-db", *addresses, **labels),))


def still(snapshot: Snapshot) -> Snapshot:
    return snapshot._replace(revision=0)


def addresses(snapshot: Snapshot) -> list[str]:
    return [address for endpoint in snapshot.workloads[OLD_DB].seen.endpoints for address in endpoint.addresses]


def test_a_document_is_a_workload_with_labels_that_say_where_they_stand() -> None:
    document = replace(box("old-db", "192.168.7.40", role="db"), host="esx-3", kind=WorkloadKind.VM)
    workload = fold([policy(1, workloads=(document,))]).workloads[OLD_DB]
    assert workload.name == "old-db"
    assert (workload.seen.kind, workload.seen.host, workload.seen.facts.host_name) == (WorkloadKind.VM, None, "esx-3")
    assert workload.seen.endpoints == (Endpoint(Attachment.REMOTE, (Address("192.168.7.40"),)),)
    assert workload.labels.items == (Label("role", "db", LabelSource.OPERATOR, "boxes.yaml:20"),)


def test_it_goes_with_its_document_and_comes_back_with_it() -> None:
    folding = Folding()
    folding.apply(declared("192.168.7.40", role="db"))
    folding.apply(policy(2))
    assert OLD_DB not in folding.snapshot.workloads
    folding.apply(declared("192.168.7.40", version=3, role="db"))
    assert still(folding.snapshot) == still(fold([declared("192.168.7.40", version=3, role="db")]))


def test_a_version_that_says_the_same_keeps_the_same_object() -> None:
    folding = Folding(fold([declared("192.168.7.40", role="db")]))
    before = folding.snapshot.workloads[OLD_DB]
    after = folding.apply(
        policy(2, workloads=(box("old-db", "192.168.7.40", role="db"), box("till", "192.168.7.41", line=30)))
    )
    assert after.workloads[OLD_DB] is before


def test_whoever_is_reported_at_its_address_has_it_in_any_order() -> None:
    events: list[Event] = [
        declared("192.168.7.20", "192.168.7.40", role="db"),
        unmanaged(),
        LabelsSet(OLD_DB, (("env", "prod"),), "ann"),
    ]
    results = [still(fold(order)) for order in itertools.permutations(events)]
    assert all(result == results[0] for result in results)
    assert addresses(results[0]) == ["192.168.7.40"]


@pytest.mark.parametrize(
    "event",
    [
        WorkloadGone(LEGACY),
        unmanaged(address="192.168.7.21"),
        WorkloadSeen(replace(unmanaged().sighting, state=WorkloadState.STOPPED)),
        WorkloadSeen(replace(unmanaged().sighting, owner=WorkloadId("somebody"))),
    ],
)
def test_what_is_given_up_is_the_documents_again(event: Event) -> None:
    folding = Folding(fold([unmanaged(), declared("192.168.7.20", role="db")]))
    assert folding.snapshot.workloads[OLD_DB].seen.endpoints == ()
    assert addresses(folding.apply(event)) == ["192.168.7.20"]


def test_a_host_that_goes_gives_up_what_it_and_its_workloads_had() -> None:
    folding = Folding(fold([declared("192.168.7.2", role="db"), host(OTHER), host_itself(OTHER, 2)]))
    assert folding.snapshot.workloads[OLD_DB].seen.endpoints == ()
    assert addresses(folding.apply(HostGone(OTHER))) == ["192.168.7.2"]


def test_an_address_of_a_hosts_own_network_stays_the_documents_elsewhere() -> None:
    snapshot = fold([declared("10.0.0.12", role="db"), container("api-1", 12)])
    assert addresses(snapshot) == ["10.0.0.12"]
    assert contests(snapshot) == (
        Contest(
            OLD_DB,
            Address("10.0.0.12"),
            WorkloadId("docker:host-a:api-1"),
            HostId("host-a"),
            Where("boxes.yaml", 20, 1),
        ),
    )


def test_contests_name_who_has_the_address_and_are_gone_with_it() -> None:
    held = [declared("192.168.7.20", role="db"), unmanaged()]
    assert [(each.workload, each.holder, each.host) for each in contests(fold(held))] == [(OLD_DB, LEGACY, None)]
    assert contests(fold([*held, WorkloadGone(LEGACY)])) == ()
    assert contests(fold([unmanaged()])) == ()


@pytest.mark.parametrize(
    "word",
    [
        WorkloadSeen(replace(unmanaged("liar").sighting, id=OLD_DB)),
        WorkloadGone(OLD_DB),
        WorkloadSeen(replace(container("web-1", 11).sighting, id=OLD_DB)),
    ],
)
def test_no_source_has_a_word_on_it(word: Event) -> None:
    said = declared("192.168.7.40", role="db")
    assert still(fold([said, word])) == still(fold([word, said])) == still(fold([said]))
    assert OLD_DB not in fold([word]).workloads


def test_what_an_operator_sets_comes_before_its_document_and_label_rules_after() -> None:
    rule = LabelRule(
        "boxes", (("role", "rule"), ("zone", "{host}")), (("kind", "unmanaged"), ("cidr", "192.168.7.0/24"))
    )
    document = replace(box("old-db", "192.168.7.40", role="db", env="dev"), host="esx-3")
    workload = fold(
        [policy(1, label_rules=(rule,), workloads=(document,)), LabelsSet(OLD_DB, (("env", "prod"),), "ann")]
    ).workloads[OLD_DB]
    assert workload.labels.items == (
        Label("env", "prod", LabelSource.OPERATOR, "ann"),
        Label("role", "db", LabelSource.OPERATOR, "boxes.yaml:20"),
        Label("zone", "esx-3", LabelSource.RULE, "boxes"),
    )
    assert workload.conflicts == (
        Label("env", "dev", LabelSource.OPERATOR, "boxes.yaml:20"),
        Label("role", "rule", LabelSource.RULE, "boxes"),
    )


def test_label_rules_that_change_label_it_anew() -> None:
    folding = Folding(fold([policy(1, workloads=(box("till-1", "192.168.7.40"),))]))
    till = WorkloadId("workload:till-1")
    assert not folding.snapshot.workloads[till].known
    after = folding.apply(policy(2, label_rules=(BY_NAME,), workloads=(box("till-1", "192.168.7.40"),)))
    assert after.workloads[till].labels.get("env") == "prod"


def test_a_name_that_somebody_has_already_is_two_workloads() -> None:
    snapshot = fold([container("old-db", 12), declared("192.168.7.40", role="db")])
    assert sorted(id_ for id_, each in snapshot.workloads.items() if each.name == "old-db") == [
        "docker:host-a:old-db",
        OLD_DB,
    ]
