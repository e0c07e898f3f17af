"""What cannot be enforced yet opens nothing, denies at least what was meant, and is named."""

import pytest
from drafts import policy_sets, read, spec
from hypothesis import HealthCheck, given, settings

from stockade.core import policy, select
from stockade.core.model.policy import PolicySet
from stockade.core.model.selector import ALL, Not
from stockade.core.policy.ends import trusting
from stockade.core.policy.enforce import _less, _more


def kept(*texts: str) -> tuple[PolicySet, list[str]]:
    draft = read(*texts)
    assert draft.problems == ()
    found, problems = policy.enforceable(draft.policy)
    assert all(problem.where.line for problem in problems)
    return found, [problem.message for problem in problems]


def rules(text: str) -> str:
    return spec("Policy", "{rules: [" + text + "]}", "p")


EXPORTER_SAYS = "service exporter: unit node-exporter.service cannot be enforced yet"
EXPORTER = spec("Service", "{ports: [tcp/9100], unit: node-exporter.service}", "exporter")


def test_an_allow_of_a_program_opens_nothing_and_a_deny_holds_for_its_ports() -> None:
    found, problems = kept(
        EXPORTER,
        rules("{name: a, allow: {from: all, to: all, on: [exporter]}}"),
        spec("Policy", "{rules: [{name: b, allow: {from: all, to: all, on: [exporter, ssh]}}]}", "q"),
        spec("Policy", "{rules: [{name: c, deny: {from: all, to: all, on: [exporter]}}]}", "r"),
    )
    assert [(rule.id, rule.on) for each in found.policies for rule in each.rules] == [
        ("q/b", ("ssh",)),
        ("r/c", ("exporter",)),
    ]
    assert found.services[0].unit is None
    assert problems == [
        f"{EXPORTER_SAYS}; an allow with this service opens nothing, a deny holds for any program on its ports",
        "p/a: service exporter is bound to a program, which cannot be enforced yet; not opened",
        "q/b: service exporter is bound to a program, which cannot be enforced yet; not opened",
    ]


def test_names_are_taken_out_of_network_sets() -> None:
    found, problems = kept(
        spec("NetworkSet", "{cidrs: [10.0.0.0/8], fqdns: [a.example]}", "mixed"),
        spec("NetworkSet", "{fqdns: [a.example]}", "named"),
        rules('{name: a, allow: {from: all, to: "networks(mixed, named)"}}'),
    )
    assert [(each.cidrs, each.fqdns) for each in found.network_sets] == [(("10.0.0.0/8",), ()), ((), ())]
    assert [problem.partition(";")[2] for problem in problems] == [
        " its CIDRs remain",
        " an allow with this set alone opens nothing",
    ]


def test_trusted_in_an_allow_opens_nothing() -> None:
    found, problems = kept(rules("{name: a, allow: {from: trusted(a = b) or c = d, to: all}}"))
    assert found.policies[0].rules == ()
    assert problems == ["p/a: trusted(…) cannot be enforced yet; it opens nothing"]


@pytest.mark.parametrize(
    ("written", "left"),
    [
        ("trusted(a = b)", "a = b"),
        ("not trusted(a = b)", "not not all"),
        ("c = d and trusted(a = b)", "c = d and a = b"),
        ("not (c = d and not trusted(a = b))", "not (c = d and not a = b)"),
    ],
)
def test_trusted_in_a_deny_holds_whoever_set_the_label(written: str, left: str) -> None:
    for action in ("deny", "overrideDeny"):
        found, problems = kept(rules(f"{{name: a, {action}: {{from: {written}, to: any({written})}}}}"))
        rule = found.policies[0].rules[0]
        assert select.parse(left) == rule.source.selector == rule.destination.selector  # type: ignore[union-attr]
        assert problems == ["p/a: trusted(…) cannot be enforced yet; it holds whoever set the label"]


def test_trusted_in_a_scope_takes_the_allows_and_widens_the_denies() -> None:
    found, problems = kept(
        spec(
            "Policy",
            "{scope: trusted(a = b), rules: [{name: a, allow: {from: all, to: all}}, "
            "{name: b, deny: {from: all, to: all}}]}",
        )
    )
    assert [rule.id for rule in found.policies[0].rules] == ["x/b"]
    assert found.policies[0].scope == select.parse("a = b")
    assert len(problems) == 1


def test_quarantines_and_invariants_hold_for_more() -> None:
    found, problems = kept(
        EXPORTER,
        spec(
            "Quarantine",
            "{select: trusted(a = b), except: [{from: trusted(c = d)}, {to: all, on: [exporter]}, "
            "{to: all, on: [ssh]}]}",
        ),
        spec("Invariant", "{only: trusted(a = b), reaches: trusted(c = d)}", "only"),
        spec("Invariant", "{never: trusted(a = b), reaches: c = d}", "never"),
    )
    quarantine = found.quarantines[0]
    assert quarantine.select == select.parse("a = b")
    assert [spared.on for spared in quarantine.excepted] == [("ssh",)]
    never, only = (each.holds for each in found.invariants)
    assert never.source == select.parse("a = b")
    assert (only.source, only.destination) == (Not(ALL), select.parse("c = d"))
    assert len(problems) == 6


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None, max_examples=20)
@given(policy_sets())
def test_what_is_left_is_enforceable(found: PolicySet) -> None:
    left, problems = policy.enforceable(found)
    assert policy.enforceable(left) == (left, ())
    plain = not any(each.fqdns for each in found.network_sets) and not any(
        each.process or each.unit for each in found.services
    )
    assert (problems == ()) == plain
    if plain:
        assert left == found


def test_more_and_less_are_what_they_say() -> None:
    selector = select.parse("not (trusted(a = b) and not trusted(c = d)) or trusted(e = f)")
    more, less = _more(selector), _less(selector)
    assert not trusting(more)
    assert not trusting(less)
    assert select.text(more) == "not (not all and c != d) or e = f"
    assert select.text(less) == "not (a = b and not not all) or not all"
