"""The kind ``Policy``: scope, rules, tests."""

import enum

import msgspec

from stockade.core.model.ids import RuleId
from stockade.core.model.net import PORTED, Ports
from stockade.core.model.policy import (
    Action,
    End,
    Expectation,
    Networks,
    Policy,
    PolicyTest,
    Rule,
    ServiceRef,
    TestEnd,
)
from stockade.core.model.selector import ALL
from stockade.core.policy.ends import END, ON, SELECTOR, SERVICE
from stockade.core.policy.forms import Field, Form, Given, choice, items, record
from stockade.core.policy.names import LABELS, NAMED
from stockade.core.policy.networks import ADDRESS, address
from stockade.core.policy.nodes import Mapping, Node, Scalar
from stockade.core.policy.report import Report, quoted

RULE_LIMIT = 10_000
"""Rules in one policy, and tests."""


class Established(str, enum.Enum):
    """What a rule may say of connections that live."""

    KEEP = "keep"


class _Body(msgspec.Struct, frozen=True):
    source: End
    destination: End
    on: tuple[ServiceRef, ...]


_FROM = Field("from", END, "the source: a selector, any(selector) or networks(name, …)", required=True)
_TO = Field("to", END, "the destination: a selector, any(selector) or networks(name, …)", required=True)
_ON = Field("on", ON, "ports, protocols and services; without it, every one")


def _body(given: Given) -> _Body | None:
    source, destination, on = given.read(_FROM), given.read(_TO), given.read(_ON)
    if source is None or destination is None:
        return None
    if isinstance(source, Networks) and isinstance(destination, Networks):
        given.report.add(given.key(_TO), "neither end is a workload: nobody judges this", "a selector at one end")
        return None
    return _Body(source, destination, on or ())


_BODY = record("a rule's action", (_FROM, _TO, _ON), _body)
_ACTIONS = {
    Action.ALLOW: Field("allow", _BODY, "let these connections through"),
    Action.DENY: Field("deny", _BODY, "refuse these connections, unless an allow lets them through"),
    Action.OVERRIDE_DENY: Field("overrideDeny", _BODY, "refuse these connections, whatever allows them"),
}
_RULE_NAME = Field("name", NAMED, "what the rule is called: unique within its policy", required=True)
_ESTABLISHED = Field(
    "established",
    choice("word", Established),
    "keep: what an allow let in outlives the allow; a deny spares connections that live",
)


def _rule(given: Given) -> Rule | None:
    name, keep = given.read(_RULE_NAME), given.read(_ESTABLISHED)
    said = [(action, given.read(field)) for action, field in _ACTIONS.items() if field in given]
    if len(said) != 1:
        message = "a rule has one action, not several" if said else "this rule has no action"
        given.report.add(given.spot, message, "allow, deny or overrideDeny")
        return None
    action, body = said[0]
    if name is None or body is None:
        return None
    where = given.report.where(given.spot)
    return Rule(RuleId(name), action, body.source, body.destination, body.on, keep is not None, where)


RULE: Form[Rule] = record(
    "a rule",
    (_RULE_NAME, *_ACTIONS.values(), _ESTABLISHED),
    _rule,
    {"oneOf": [{"required": [field.name]} for field in _ACTIONS.values()]},
)


# Tests


def _test_end(node: Node, report: Report) -> TestEnd | None:
    if isinstance(node, Mapping):
        labels = LABELS.read(node, report)
        return None if labels is None else TestEnd(labels=tuple(sorted(labels)))
    if not isinstance(node, Scalar):
        report.add(node.spot, "a list stands where an end of a test belongs", "labels: {role: web}, or an address")
        return None
    found = address(node, report)
    return None if found is None else TestEnd(address=found)


def _point(node: Node, report: Report) -> ServiceRef | None:
    found = SERVICE.read(node, report)
    if not isinstance(found, Ports) or found.first == found.last:
        return found
    if found.protocol not in PORTED and found.first // 256 == found.last // 256:
        return found
    report.add(
        node.spot,
        f"{quoted(getattr(node, 'value', ''))} is more than one port",
        "one port, one ICMP type, or a service",
    )
    return None


_TEST_END: Form[TestEnd] = Form(_test_end, {"anyOf": [LABELS.schema, ADDRESS.schema]})
_TEST_FROM = Field("from", _TEST_END, "a workload with exactly these labels, or an address", required=True)
_TEST_TO = Field("to", _TEST_END, "a workload with exactly these labels, or an address", required=True)
_TEST_ON: Field[ServiceRef] = Field(
    "on", Form(_point, SERVICE.schema), "one port, one ICMP type, or a service", required=True
)
_EXPECT = Field("expect", choice("expectation", Expectation), "what the policy must decide", required=True)


def _test(given: Given) -> PolicyTest | None:
    source, destination = given.read(_TEST_FROM), given.read(_TEST_TO)
    on, expect = given.read(_TEST_ON), given.read(_EXPECT)
    if source is None or destination is None or on is None or expect is None:
        return None
    if source.address and destination.address:
        given.report.add(given.key(_TEST_TO), "neither end is a workload: nobody judges this", "labels at one end")
        return None
    return PolicyTest(source, destination, on, expect, given.report.where(given.spot))


TEST: Form[PolicyTest] = record("a test", (_TEST_FROM, _TEST_TO, _TEST_ON, _EXPECT), _test)


# The whole

_SCOPE = Field("scope", SELECTOR, "both ends lie inside it, unless a rule lifts that; without it, everywhere")
_RULES = Field("rules", items("rules", RULE, RULE_LIMIT, least=0), "what may talk to what")
_TESTS = Field("tests", items("tests", TEST, RULE_LIMIT, least=0), "what must come out; run on plan and apply")


def _policy(given: Given) -> Policy | None:
    scope = given.read(_SCOPE) if _SCOPE in given else ALL
    rules, tests = given.read(_RULES) or (), given.read(_TESTS) or ()
    _distinct(rules, given)
    return None if scope is None else Policy("", rules, scope, tests)


def _distinct(rules: tuple[Rule, ...], given: Given) -> None:
    """Write down rules that share a name: each is typed back as ``policy/rule``."""
    lines: dict[str, int] = {}
    for rule in rules:
        if rule.id in lines:
            place = given.report.spot(rule.where)
            given.report.add(
                place, f"a second rule named {quoted(rule.id)}", f"another name (see line {lines[rule.id]})"
            )
        lines.setdefault(rule.id, rule.where.line)


POLICY: Form[Policy] = record("the policy", (_SCOPE, _RULES, _TESTS), _policy)
