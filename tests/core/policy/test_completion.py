"""What may stand where somebody writes: keys by their place, words that exist, and never an exception."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockade.core import policy
from stockade.core.fold import fold
from stockade.core.model.event import HostSeen, LabelsSet, PolicyActivated, WorkloadSeen
from stockade.core.model.ids import HostId, Prefix, Version, WorkloadId
from stockade.core.model.inventory import Host, Sighting, WorkloadKind
from stockade.core.model.policy import NetworkSet, PolicySet
from stockade.core.policy.completion import completion
from stockade.core.policy.place import place

HOST = HostId("host-a")
HERE = "▮"


def _seen(name: str, **labels: str):
    id_ = WorkloadId(f"docker:{name}")
    return (
        WorkloadSeen(Sighting(id_, name, WorkloadKind.CONTAINER, HOST)),
        LabelsSet(id_, tuple(labels.items()), "test"),
    )


PAYMENTS = NetworkSet("payments", (Prefix("192.0.2.0/24"),))
SNAPSHOT = fold(
    [
        *_seen("web-1", app="shop", role="web"),
        *_seen("api-1", app="shop", role="api"),
        *_seen("odd-1", app="a, b", role="two words", env="prod"),
        HostSeen(Host(HOST, WorkloadId("host-a"), ())),
        PolicyActivated(
            Version(1), policy.complete(PolicySet(network_sets=(NetworkSet("payments", (Prefix("192.0.2.0/24"),)),)))
        ),
    ]
)
POLICY = "kind: Policy\nspec:\n"


def asked(text: str) -> list[str]:
    """What is offered where the mark stands."""
    before, _, behind = text.partition(HERE)
    line, column = before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1
    found = completion(before + behind, line, column, SNAPSHOT)
    assert found.start <= len(before)
    return [each.text for each in found.candidates]


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("▮", ["apiVersion", "kind", "metadata", "spec"]),
        ("apiVersion: x\n▮\nspec:\n", ["kind", "metadata"]),
        ("apiVersion: ▮", ["stockade.dev/v1"]),
        ("kind: Pol▮", ["Policy"]),
        ("metadata: {▮}", ["name"]),
        ("metadata:\n  ▮", ["name"]),
        (f"{POLICY}  ▮", ["scope", "rules", "tests"]),
        (f"{POLICY}  rules: []\n  ▮", ["scope", "tests"]),
        (f"{POLICY}  ▮\n  rules: []\n", ["scope", "tests"]),
        (f"{POLICY}  rules:\n    - ▮", ["name", "allow", "deny", "overrideDeny", "established"]),
        (f"{POLICY}  rules:\n  - ▮", ["name", "allow", "deny", "overrideDeny", "established"]),
        (f"{POLICY}  rules:\n    - name: a\n      ▮", ["allow", "deny", "overrideDeny", "established"]),
        (f"{POLICY}  rules:\n    - name: a\n      ov▮", ["overrideDeny"]),
        (f"{POLICY}  rules:\n    - name: a\n      allow: {{▮}}", ["from", "to", "on"]),
        (f"{POLICY}  rules:\n    - name: a\n      allow: {{from: all, ▮}}", ["to", "on"]),
        (f"{POLICY}  rules:\n    - name: a\n      allow: {{from: all, ▮, on: [any]}}", ["to"]),
        (f"{POLICY}  rules:\n    - name: a\n      allow: {{from: all,\n        ▮", ["to", "on"]),
        (f"{POLICY}  rules:\n    - name: a\n      allow:\n        from: all\n        ▮", ["to", "on"]),
        (f"{POLICY}  rules:\n    - name: a\n      allow: {{}}\n    - name: b\n      ▮",
         ["allow", "deny", "overrideDeny", "established"]),
        (f"{POLICY}  rules:\n    - name: a\n      established: ▮", ["keep"]),
        (f"{POLICY}  rules: []\n  tests:\n    - {{▮}}", ["from", "to", "on", "expect"]),
        (f"{POLICY}  tests:\n    - {{from: {{app: shop, ▮}}}}", ["env", "role"]),
        (f"{POLICY}  tests:\n    - {{from: {{app: ▮}}}}", ["a, b", "shop"]),
        (f"{POLICY}  tests:\n    - {{expect: ▮}}", ["allow", "deny"]),
        (f"kind: Service\nspec: {{}}\n---\n{POLICY}  ▮", ["scope", "rules", "tests"]),
        (f"{POLICY}  ▮\n---\nkind: Service\n", ["scope", "rules", "tests"]),
        ("spec:\n  ▮\nkind: EnforcementMode\n", ["select", "mode", "priority", "births"]),
        ("kind: EnforcementMode\nspec: {select: app = shop, mode: ▮}", ["idle", "visibility", "selective", "full"]),
        ("kind: EnforcementMode\nspec:\n  births: p▮", ["pass"]),
        ("kind: LabelRule\nspec:\n  where:\n    ▮", ["runtime", "kind", "image", "namespace", "host", "name", "cidr"]),
        ("kind: LabelRule\nspec:\n  set: {▮}", ["app", "env", "role"]),
        ("kind: Workload\nspec:\n  host: ▮", ["host-a"]),
        ("kind: Workload\nspec:\n  labels: {role: w▮}", ["web", "two words"]),
    ],
)  # fmt: skip
def test_keys_and_words_by_their_place(text: str, first: list[str]) -> None:
    assert asked(text) == first


FROM = f"{POLICY}  rules:\n    - name: a\n      allow: {{from: "


@pytest.mark.parametrize(
    ("selector", "offered"),
    [
        ("▮}", ["app", "env", "name", "role", "all", "not", "has", "any(…)", "networks(…)"]),
        ("ro▮}", ["role"]),
        ("role ▮}", ["=", "!=", "in", "not"]),
        ("role = ▮}", ["api", '"two words"', "web"]),
        ("role = w▮}", ["web", '"two words"']),
        ("role = web ▮}", ["and", "or"]),
        ("role = web and ▮}", ["app", "env", "name", "role", "all", "not", "has"]),
        ("role = web and app = ▮}", ["shop"]),
        ("any(app = ▮)}", ["shop"]),
        ("has ▮}", ["app", "env", "name", "role"]),
        ("networks(▮)}", ["payments"]),
        ("name = ▮}", ["api-1", "odd-1", "web-1"]),
    ],
)
def test_selectors_are_completed_word_by_word(selector: str, offered: list[str]) -> None:
    found = asked(FROM + selector)
    if "networks(" in selector:
        offered = sorted(each.name for each in SNAPSHOT.policy.network_sets)
    assert found == offered


def test_within_braces_a_comma_ends_a_text() -> None:
    """YAML wants quotes around such a selector, and what would need them is not offered without."""
    assert asked(FROM + "role in (api, ▮)}") == ["to", "on"]
    assert asked(FROM + '"role in (api, ▮)"}') == ["api", '"two words"', "web"]


def test_selectors_outside_of_braces() -> None:
    text = "kind: EnforcementMode\nspec:\n  select: "
    assert asked(text + "role in (▮") == ["api", '"two words"', "web"]
    assert asked(text + "role in (api, ▮") == ["api", '"two words"', "web"]
    assert asked(text + "role not in (w▮") == ["web", '"two words"']
    assert asked(text + "app = ▮") == ['"a, b"', "shop"]
    assert asked(text + '"role = ▮') == ["api", '"two words"', "web"]
    assert "networks(…)" not in asked(text + "▮"), "a mode is about workloads"


def test_ports_and_services() -> None:
    found = asked(f"{FROM}all, to: all, on: [▮]}}")
    assert {"postgres", "https", "tcp", "tcp/", "icmp"} <= set(found)
    assert asked(f"{FROM}all, to: all, on: [https, postg▮]}}") == ["postgres"]
    assert "postgres" in asked(f"{POLICY}  rules:\n    - name: a\n      allow:\n        on:\n          - pos▮")
    assert "https" not in asked("kind: Service\nspec: {ports: [▮]}"), "a service is made of ports alone"
    assert asked(f"{POLICY}  tests:\n    - {{on: postg▮}}") == ["postgres"]


@pytest.mark.parametrize(
    "text", ["# ▮", "kind: Policy # ▮", "kind: Nobody\nspec:\n  ▮", "a:\n  b:\n    ▮", "metadata: {name: ▮}",
             "\n---\n-▮"]
)  # fmt: skip
def test_where_nothing_is_known_nothing_is_offered(text: str) -> None:
    assert asked(text) == []


def test_what_is_written_for_a_candidate() -> None:
    found = completion("kind:", 1, 6, SNAPSHOT)
    assert {each.insert for each in found.candidates} >= {" Policy", " Service"}
    found = completion("ki", 1, 3, SNAPSHOT)
    assert [(each.text, each.insert, found.start) for each in found.candidates] == [("kind", "kind: ", 0)]
    assert completion("x", 9, 1, SNAPSHOT).candidates == ()
    assert completion("x", 1, 9, SNAPSHOT).candidates == ()
    assert completion("", 0, 0, SNAPSHOT).candidates == ()


PIECES = ["kind: Policy", "spec:", "rules:", "- ", "name: a", "allow: {", "from: ", "role in (", "}", "[", "]", ",",
          "\n", "  ", "    ", '"', "'", "#", "---\n", ":", "on: [", "networks(", "=", "app", "é", "\t", "\x00",
          "\u2028"]  # fmt: skip


@given(st.lists(st.sampled_from(PIECES), max_size=40).map("".join), st.data())
def test_no_text_is_too_odd(text: str, data: st.DataObject) -> None:
    lines = text.split("\n")
    line = data.draw(st.integers(-1, len(lines) + 1))
    column = data.draw(st.integers(-1, 60))
    found = completion(text, line, column, SNAPSHOT)
    assert 0 <= found.start <= len(text)
    for offset in range(len(text) + 1):
        assert place(text, offset) is None or place(text, offset).path is not None


@given(st.text(max_size=200))
def test_no_text_at_all_is(text: str) -> None:
    lines = text.split("\n")
    assert completion(text, len(lines), len(lines[-1]) + 1, SNAPSHOT).start <= len(text)
