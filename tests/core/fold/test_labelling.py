"""Label rules: what they read, who wins, what is no label."""

import pytest

from stockade.core.fold import apply, fold, label_problems
from stockade.core.fold.labelling import complaint
from stockade.core.model.event import LabelsSet, PolicyActivated, WorkloadSeen
from stockade.core.model.ids import Address, HostId, Version, WorkloadId
from stockade.core.model.inventory import Attachment, Endpoint, Facts, Sighting, WorkloadKind
from stockade.core.model.labels import Label, LabelSource
from stockade.core.model.policy import LabelRule, PolicySet
from stockade.core.model.snapshot import Snapshot
from stockade.core.select import KEY_LIMIT, VALUE_LIMIT

W = WorkloadId("docker:host-a:1")
SEEN = Sighting(
    id=W,
    name="web-2",
    kind=WorkloadKind.CONTAINER,
    host=HostId("host-a"),
    endpoints=(Endpoint(Attachment.BRIDGED, (Address("10.1.2.3"), Address("2001:db8::5")), "veth1", "br0"),),
    facts=Facts(
        runtime="docker",
        image="registry.example/shop/web:1.2",
        namespace="prod",
        labels=(
            ("com.docker.compose.project", "shop"),
            ("com.docker.compose.service", "web"),
            ("empty", ""),
            ("stockade.env", "prod"),
            ("stockade.team", "blue"),
        ),
        tags=(("cost", "42"),),
    ),
)


def labelled(*rules: LabelRule, by_hand: tuple[tuple[str, str], ...] = (), seen: Sighting = SEEN) -> Snapshot:
    events = [PolicyActivated(Version(1), PolicySet(label_rules=rules)), WorkloadSeen(seen)]
    return fold([*events, LabelsSet(W, by_hand, "ann")] if by_hand else events)


def pairs(snapshot: Snapshot) -> dict[str, str]:
    return {label.key: label.value for label in snapshot.workloads[W].labels.items}


def rule(name: str, *set_: tuple[str, str], source: LabelSource = LabelSource.RULE, **where: str) -> LabelRule:
    return LabelRule(name=name, set=set_, conditions=tuple(where.items()), source=source)


@pytest.mark.parametrize(
    ("key", "wanted", "holds"),
    [
        ("runtime", "docker", True),
        ("runtime", "podman", False),
        ("kind", "container", True),
        ("kind", "host", False),
        ("image", "registry.example/*", True),
        ("image", "*/web:1.?", True),
        ("image", "*/web:1.??", False),
        ("image", "web", False),
        ("namespace", "prod", True),
        ("host", "host-a", True),
        ("host", "host-?", True),
        ("host", "host", False),
        ("name", "web-*", True),
        ("name", "[w]eb-2", False),
        ("cidr", "10.0.0.0/8", True),
        ("cidr", "10.1.2.3/32", True),
        ("cidr", "10.2.0.0/16", False),
        ("cidr", "2001:db8::/32", True),
        ("cidr", "nonsense", False),
        ("label:stockade.env", "prod", True),
        ("label:empty", "*", True),
        ("label:absent", "*", False),
        ("tag:cost", "4?", True),
        ("tag:absent", "", False),
        ("colour", "*", False),
    ],
)
def test_condition(key: str, wanted: str, holds: bool) -> None:
    snapshot = labelled(LabelRule("r", (("app", "yes"),), ((key, wanted),)))
    assert pairs(snapshot) == ({"app": "yes"} if holds else {})


def test_every_condition_must_hold() -> None:
    both = LabelRule("r", (("app", "yes"),), (("runtime", "docker"), ("namespace", "test")))
    assert pairs(labelled(both)) == {}


def test_templates_take_facts_and_an_absent_one_sets_nothing() -> None:
    compose = rule(
        "compose",
        ("app", "{label:com.docker.compose.project}"),
        ("role", "x-{label:com.docker.compose.service}-{tag:cost}"),
        ("gone", "{label:nobody}"),
        ("half", "{namespace}{label:nobody}"),
        ("hollow", "{label:empty}"),
        ("host", "{host}"),
        ("fixed", "v"),
    )
    assert pairs(labelled(compose)) == {"app": "shop", "role": "x-web-42", "host": "host-a", "fixed": "v"}


def test_a_starred_key_sets_one_label_for_each_match() -> None:
    own = rule("own", ("{label:stockade.*}", "{label:stockade.*}"))
    assert pairs(labelled(own)) == {"env": "prod", "team": "blue"}
    tags = rule("tags", ("{tag:*}", "tag-{tag:*}"))
    assert pairs(labelled(tags)) == {"cost": "tag-42"}


def test_sources_win_in_their_order_and_losers_are_kept() -> None:
    rules = [rule(f"by-{source.value}", ("app", source.value), source=source) for source in LabelSource]
    for count in range(len(rules), 0, -1):
        weakest = rules[-count:]
        workload = labelled(*weakest).workloads[W]
        assert [label.value for label in workload.labels.items] == [weakest[0].source.value]
        assert [label.value for label in workload.conflicts] == [one.source.value for one in weakest[1:]]


def test_an_operator_s_word_comes_before_any_rule_and_names_the_operator() -> None:
    snapshot = labelled(rule("r", ("app", "rule"), source=LabelSource.OPERATOR), by_hand=(("app", "hand"),))
    workload = snapshot.workloads[W]
    assert workload.labels.items == (Label("app", "hand", LabelSource.OPERATOR, "ann"),)
    assert workload.conflicts == (Label("app", "rule", LabelSource.OPERATOR, "r"),)


def test_within_a_source_rules_win_by_name_and_within_a_rule_by_place() -> None:
    first, second = rule("a", ("app", "one"), ("app", "two")), rule("b", ("app", "three"))
    for rules in ((first, second), (second, first)):
        workload = labelled(*rules).workloads[W]
        assert [label.value for label in workload.labels.items] == ["one"]
        assert [label.value for label in workload.conflicts] == ["two", "three"]


def test_who_says_the_same_is_no_conflict() -> None:
    snapshot = labelled(rule("a", ("app", "x")), rule("b", ("app", "x"), source=LabelSource.SELF))
    assert snapshot.workloads[W].conflicts == ()


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("name", "x", "own name"),
        ("a" * (KEY_LIMIT + 1), "x", "longer"),
        ("all", "x", "letters"),
        ("", "x", "letters"),
        ("-a", "x", "letters"),
        ("a b", "x", "letters"),
        ("a{b", "x", "letters"),
        ("a", "", "empty"),
        ("a", "v" * (VALUE_LIMIT + 1), "longer"),
        ("a", "x\ny", "control"),
        ("a", "x\u202ey", "control"),
        ("a", "x\u2028y", "control"),
        ("a", "x\ud800y", "control"),
    ],
)
def test_what_is_no_label_is_dropped_and_said(key: str, value: str, words: str) -> None:
    snapshot = labelled(by_hand=((key, value), ("app", "shop")))
    assert pairs(snapshot) == {"app": "shop"}
    (problem,) = label_problems(snapshot)
    assert (problem.workload, problem.label.key, problem.label.value) == (W, key, value)
    assert words in problem.message


@pytest.mark.parametrize(("key", "value"), [("a", "v" * VALUE_LIMIT), ("a.b/c-d_e", "Zoë's «x» 1"), ("k8s", "{}")])
def test_what_is_a_label(key: str, value: str) -> None:
    assert complaint(Label(key, value)) == ""
    assert label_problems(labelled(by_hand=((key, value),))) == ()


def test_a_bad_value_does_not_hide_a_good_one_of_a_weaker_source() -> None:
    snapshot = labelled(rule("a", ("app", "x\x00")), rule("b", ("app", "good"), source=LabelSource.SELF))
    assert pairs(snapshot) == {"app": "good"}
    assert [problem.label.by for problem in label_problems(snapshot)] == ["a"]


def test_a_changed_rule_labels_everything_anew_and_keeps_what_stays() -> None:
    before = labelled(rule("a", ("app", "x")), by_hand=(("env", "prod"),))
    same = apply(before, PolicyActivated(Version(2), PolicySet(label_rules=(rule("a", ("app", "x")),))))
    assert same.workloads[W] is before.workloads[W]
    after = apply(before, PolicyActivated(Version(2), PolicySet(label_rules=(rule("a", ("role", "y")),))))
    assert pairs(after) == {"env": "prod", "role": "y"}


def test_equal_labels_are_one_object() -> None:
    seen = [Sighting(WorkloadId(name), name, WorkloadKind.CONTAINER) for name in ("one", "two")]
    told = {"one": (("app", "x"),), "two": (("app", "x"), ("env", "y"))}
    by_hand = [LabelsSet(WorkloadId(name), labels, "ann") for name, labels in told.items()]
    found = fold([*map(WorkloadSeen, seen), *by_hand]).workloads
    assert found[WorkloadId("one")].labels.items[0] is found[WorkloadId("two")].labels.items[0]
