"""What a plan says of workloads that documents declare: what comes and goes with them, and what cannot be so."""

import pytest

from stockade.core import policy
from stockade.core.fold import apply, fold
from stockade.core.model.event import Event, PolicyActivated
from stockade.core.model.ids import Version
from stockade.core.model.snapshot import Snapshot
from stockade.core.plan.explain import explain
from stockade.core.plan.plan import plan
from stockade.core.plan.reach import reach
from stockade.core.plan.values import Caution, Change, Plan, WarningKind
from stockade.core.policy import ports_of
from stockade.errors import StockadeError
from stockade.testing.scenarios import SHOP, container, unmanaged

HEAD = "apiVersion: stockade.dev/v1\n"
FULL = HEAD + "kind: EnforcementMode\nmetadata: {name: shop}\nspec: {select: app = shop, mode: full}\n"
RULES = f"""{HEAD}kind: Policy
metadata: {{name: shop}}
spec:
  rules:
    - name: api-to-till
      allow: {{from: role = api, to: role = till, on: [tcp/9000]}}
    - name: api-to-private
      allow: {{from: role = api, to: networks(private), on: [https]}}
"""
CUT = HEAD + "kind: Quarantine\nmetadata: {name: till}\nspec: {select: name = till}\n"


def till(*addresses: str, name: str = "till", labels: str = "{role: till}") -> str:
    return (
        f"{HEAD}kind: Workload\nmetadata: {{name: {name}}}\n"
        f"spec: {{labels: {labels}, addresses: [{', '.join(addresses)}]}}\n"
    )


def shop(*documents: str, more: tuple[Event, ...] = ()) -> Snapshot:
    files = [policy.SourceText(f"{at}.yaml", each.encode()) for at, each in enumerate((FULL, RULES, *documents))]
    draft = policy.read(files)
    assert not draft.problems, draft.problems
    return apply(fold([*SHOP, *more]), PolicyActivated(Version(1), policy.complete(draft.policy)))


def told(it: Plan) -> tuple[list[tuple[str, str, str]], list[tuple[str, str, str]]]:
    gained, lost = ([(each.source, each.destination, each.on) for each in some] for some in (it.gained, it.lost))
    return gained, lost


def warned(it: Plan, kind: WarningKind) -> list[Caution]:
    return [each for each in it.warnings if each.kind is kind]


API = "app=shop role=api"
NEW = "role=till (not enforced here) (was networks(private))"
GONE = "networks(private) (was role=till (not enforced here))"


def test_a_workload_that_is_declared_is_met_by_its_labels_and_no_more_by_its_network() -> None:
    it = plan(shop(), shop(till("192.168.7.40")))
    assert told(it) == ([(API, NEW, "tcp/9000")], [(API, NEW, "tcp/443")])
    assert it.gained[0].pairs == it.lost[0].pairs == (("api-1", "till"),)
    assert [(each.kind, each.name, each.change) for each in it.documents] == [("Workload", "till", Change.ADDED)]
    assert it.documents[0].where.file == "2.yaml"


def test_one_that_is_taken_back_is_told_the_other_way_round() -> None:
    it = plan(shop(till("192.168.7.40")), shop())
    assert told(it) == ([(API, GONE, "tcp/443")], [(API, GONE, "tcp/9000")])
    assert it.lost[0].pairs == (("api-1", "till"),)


def test_one_that_moves_loses_the_old_address_and_gains_the_new() -> None:
    it = plan(shop(till("192.168.7.40")), shop(till("192.168.7.41")))
    assert told(it) == (
        [(API, GONE, "tcp/443"), (API, NEW, "tcp/9000")],
        [(API, GONE, "tcp/9000"), (API, NEW, "tcp/443")],
    )


def test_one_that_keeps_its_address_changes_nothing_however_it_is_written() -> None:
    it = plan(shop(till("192.168.7.40")), shop(CUT.replace("name = till", "name = nobody"), till("192.168.7.40")))
    assert told(it) == ([], [])


def test_an_address_that_goes_from_one_to_another_is_told_as_both() -> None:
    other = till("192.168.7.40", name="web-box", labels="{role: web}")
    it = plan(shop(till("192.168.7.40")), shop(other))
    assert told(it)[1] == [(API, "role=web (not enforced here) (was role=till (not enforced here))", "tcp/9000")]


def test_a_mode_has_no_effect_on_it_and_the_plan_says_so_and_refuses_nothing() -> None:
    it = plan(shop(), shop(till("192.168.7.40", labels="{app: shop, role: till}")))
    (caution,) = warned(it, WarningKind.NOT_JUDGED)
    assert (caution.subject, caution.where.file) == ("shop", "0.yaml")
    assert caution.text == "full has no effect on till: no agent judges there, their peers do"
    assert it.narrower == ()
    assert warned(plan(shop(), shop(till("192.168.7.40"))), WarningKind.NOT_JUDGED) == []


def test_one_that_nobody_labels_is_said_to_be_unknown() -> None:
    it = plan(shop(), shop(till("192.168.7.40", labels="{}")))
    (caution,) = warned(it, WarningKind.UNLABELLED)
    assert (caution.subject, caution.where.file, caution.where.line) == ("till", "2.yaml", 4)


def test_an_address_that_is_somebodys_is_warned_of_with_who_has_it() -> None:
    it = plan(shop(), shop(till("192.168.7.20", "10.0.0.12"), more=(unmanaged(),)))
    assert [each.text for each in warned(it, WarningKind.ADDRESS_TAKEN)] == [
        "10.0.0.12 is docker:host-a:api-1's on host-a, as its host reports: there it is not this document's",
        "192.168.7.20 is unmanaged:legacy's, as its host reports: there it is not this document's",
    ]


def test_a_name_that_somebody_has_is_warned_of_and_asked_for_by_id() -> None:
    snapshot = shop(till("192.168.7.40", name="api-1"))
    (caution,) = warned(plan(shop(), snapshot), WarningKind.NAME_TAKEN)
    assert caution.subject == "api-1"
    assert "docker:host-a:api-1 has this name too" in caution.text
    with pytest.raises(StockadeError, match="api-1 is the name of 2 workloads"):
        explain(snapshot, "web-1", "api-1", ports_of("tcp/9000"))
    assert explain(snapshot, "web-1", "workload:api-1", ports_of("tcp/9000")).destination.workload == "workload:api-1"


@pytest.mark.parametrize("by", ["till", "192.168.7.40", "workload:till"])
def test_explain_names_it_and_where_it_was_written(by: str) -> None:
    it = explain(shop(till("192.168.7.40")), "api-1", by, ports_of("tcp/9000"))
    assert it.allowed
    assert (it.destination.name, it.destination.workload, it.destination.host) == ("till", "workload:till", None)
    assert it.destination.mode is None
    assert it.destination.origins == ("from its document, 2.yaml:4",)
    assert not explain(shop(till("192.168.7.40")), "api-1", by, ports_of("tcp/443")).allowed


def test_reach_lists_it_and_answers_for_it() -> None:
    snapshot = shop(till("192.168.7.40"))
    assert ("role=till (not enforced here)", "tcp/9000", 1) in [
        (each.peer, each.on, each.workloads) for each in reach(snapshot, "api-1").outbound
    ]
    assert [(name, where.file, where.line) for name, where in reach(snapshot, "till").written] == [
        ("till", "2.yaml", 4)
    ]
    assert reach(snapshot, "api-1").written == ()
    assert [(each.peer, each.on) for each in reach(snapshot, "till").inbound if each.peer == API] == [(API, "tcp/9000")]


def test_a_quarantine_of_it_is_carried_out_by_its_peers() -> None:
    gained, lost = told(plan(shop(till("192.168.7.40")), shop(till("192.168.7.40"), CUT)))
    assert gained == []
    assert (f"{API} name=api-1", "role=till name=till (not enforced here)", "tcp/9000") in lost


def test_containers_in_a_network_of_their_own_keep_their_address_on_their_host() -> None:
    """A document that names a container's address takes nothing from it where the container is."""
    snapshot = shop(till("10.0.0.12"), more=(container("probe-1", 14),))
    assert explain(snapshot, "probe-1", "docker:host-a:api-1", ports_of("tcp/9000")).destination.name == "api-1"
