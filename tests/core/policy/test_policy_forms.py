"""Canonical form, documents written back, schema, built-ins: what holds for every policy."""

import copy
import ipaddress
import json
from typing import Any

import jsonschema
import pytest
import yaml
from drafts import policy_sets, read, spec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stockade.core import policy, select
from stockade.core.model.ids import Prefix
from stockade.core.model.inventory import Facts, Sighting, WorkloadId, WorkloadKind
from stockade.core.model.net import Ports, Protocol
from stockade.core.model.policy import EnforcementMode, Mode, PolicySet, Service
from stockade.core.model.selector import ALL
from stockade.core.policy import builtin
from stockade.core.policy.kinds import KINDS
from stockade.core.policy.words import ports_of, ports_text

SLOW = settings(suppress_health_check=[HealthCheck.too_slow], deadline=None, max_examples=20)
SCHEMA = policy.schema()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def problems_of(draft: policy.Draft) -> list[str]:
    return [policy.shown(problem) for problem in draft.problems]


# Written back


@SLOW
@given(policy_sets())
def test_documents_read_back_to_the_same_policy(found: PolicySet) -> None:
    text = policy.to_documents(found)
    draft = read(text)
    if text:
        assert problems_of(draft) == []
    assert policy.placeless(draft.policy) == policy.placeless(found)
    assert policy.content_hash(draft.policy) == policy.content_hash(found)
    assert policy.to_documents(draft.policy) == text


@SLOW
@given(policy_sets())
def test_what_is_written_is_yaml_that_others_read_alike_and_the_schema_accepts(found: PolicySet) -> None:
    for document in yaml.safe_load_all(policy.to_documents(found)):
        assert list(VALIDATOR.iter_errors(_without_yaml_1_1(document))) == []


def _without_yaml_1_1(document: Any) -> Any:
    """Undo what only YAML 1.1 reads: ``on`` as true, a moment as a date; editors' schemas go by YAML 1.2."""
    match document:
        case dict():
            return {"on" if key is True else key: _without_yaml_1_1(value) for key, value in document.items()}
        case list():
            return [_without_yaml_1_1(each) for each in document]
        case str() | int() | None:
            return document
    return document.isoformat()


def test_the_complete_policy_reads_back_too() -> None:
    complete = policy.complete(PolicySet())
    draft = read(policy.to_documents(complete))
    assert problems_of(draft) == []
    assert policy.placeless(draft.policy) == complete


# Canonical form


SCATTERED = [
    "# a remark\n" + spec("Service", "{ports: [udp/53, tcp/53]}", "a"),
    """\
kind: Policy
spec:
  rules:
  - allow:
      on: [ssh, "tcp/80"]
      to: "all"
      from: role = b and (x = "y")
    name: r
metadata:
  name: p
apiVersion: stockade.dev/v1
""",
]
TOGETHER = (
    spec("Policy", "{rules: [{name: r, allow: {from: 'role=b and x=y', to: all, on: [tcp/80, ssh, ssh]}}]}", "p")
    + "---\n"
    + spec("Service", "{ports: [tcp/53, udp/53, udp/53]}", "a")
)


def test_the_hash_is_of_what_is_said_not_of_how() -> None:
    scattered, together = read(*SCATTERED), read(TOGETHER)
    assert problems_of(scattered) == problems_of(together) == []
    assert policy.canonical(scattered.policy) == policy.canonical(together.policy)
    assert policy.content_hash(read(*reversed(SCATTERED)).policy) == policy.content_hash(together.policy)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("role=b", "role=c"),
        ("tcp/80", "tcp/81"),
        ("name: r", "name: s"),
        ("allow", "deny"),
        ("tcp/53", "tcp/54"),
        ("to: all", "to: any(all)"),
    ],
)
def test_the_hash_tells_what_differs(old: str, new: str) -> None:
    assert policy.content_hash(read(TOGETHER).policy) != policy.content_hash(read(TOGETHER.replace(old, new)).policy)


def test_the_hash_never_changes_between_versions_of_the_program() -> None:
    assert policy.content_hash(PolicySet()) == "9a202c39dafb4a81e35f22ecfc206790186f4b324509d06a165f15c275f17747"


# Schema


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    json.dumps(SCHEMA)


def test_the_schema_is_the_callers_own() -> None:
    policy.schema()["$defs"].clear()  # type: ignore[attr-defined]
    assert policy.schema() == SCHEMA


def every_field() -> list[tuple[str, str]]:
    """Walk the schema: every field at any depth, with its kind."""
    found = []

    def walk(kind: str, node: object) -> None:
        if isinstance(node, dict):
            if isinstance(node.get("properties"), dict):
                found.extend((kind, name) for name in node["properties"])
            for value in node.values():
                walk(kind, value)
        elif isinstance(node, list):
            for value in node:
                walk(kind, value)

    for kind, definition in SCHEMA["$defs"].items():  # type: ignore[attr-defined]
        walk(kind, definition)
    return sorted(set(found))


FULL = {
    "Policy": """{scope: all, rules: [
        {name: a, allow: {from: all, to: all, on: [ssh]}, established: keep},
        {name: b, deny: {from: all, to: all}}, {name: c, overrideDeny: {from: all, to: all}}],
        tests: [{from: {a: b}, to: 10.0.0.1, on: ssh, expect: deny}]}""",
    "Service": "{ports: [tcp/1], process: /bin/x, unit: x.service}",
    "NetworkSet": "{cidrs: [10.0.0.0/8], except: [10.0.0.0/9], fqdns: [a.example]}",
    "LabelRule": '{source: rule, where: {kind: container}, set: {a: "{host}"}}',
    "EnforcementMode": "{select: all, mode: full, priority: 1, births: hold}",
    "Invariant": "{only: all, reaches: all, on: [ssh]}",
    "Quarantine": """{select: all, except: [{from: all, on: [ssh]}, {to: all}],
        reason: x, until: "2030-01-01T00:00:00Z"}""",
    "Workload": "{addresses: [192.0.2.1], labels: {a: b}, host: esx, kind: vm, description: x}",
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_parser_and_the_schema_know_the_same_fields(kind: str) -> None:
    text = spec(kind, FULL[kind])
    assert problems_of(read(text)) == []
    document = _without_yaml_1_1(yaml.safe_load(text))
    assert list(VALIDATOR.iter_errors(document)) == []
    for of, name in every_field():
        assert of != kind or f"{name}:" in FULL[kind] + "never:"
    document["spec"]["surplus"] = 1
    assert list(VALIDATOR.iter_errors(document)) != []
    assert "unknown field" in read(spec(kind, FULL[kind][:-1] + ", surplus: 1}")).problems[0].message


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_schema_requires_the_parser_requires(kind: str) -> None:
    document = _without_yaml_1_1(yaml.safe_load(spec(kind, FULL[kind])))
    for path in [("apiVersion",), ("kind",), ("metadata",), ("spec",), *((("spec", key)) for key in document["spec"])]:
        less = copy.deepcopy(document)
        inner = less
        for key in path[:-1]:
            inner = inner[key]
        del inner[path[-1]]
        draft = policy.read([policy.SourceText("x", yaml.safe_dump(less).encode())])
        assert bool(draft.problems) == bool(list(VALIDATOR.iter_errors(less))), path


# Built in


def test_a_document_replaces_what_is_built_in_of_its_name() -> None:
    mine = PolicySet(
        services=(Service("ssh", (Ports(Protocol.TCP, 2222, 2222),)),),
        modes=(EnforcementMode("default", ALL, Mode.FULL),),
    )
    complete = policy.complete(mine)
    assert [each for each in complete.services if each.name == "ssh"] == list(mine.services)
    assert complete.modes == mine.modes
    assert policy.own(complete) == mine
    assert policy.complete(complete) == complete


@SLOW
@given(policy_sets())
def test_own_undoes_complete(found: PolicySet) -> None:
    complete = policy.complete(found)
    assert policy.complete(policy.own(complete)) == complete
    for tuple_ in (getattr(complete, name) for name in complete.__struct_fields__):
        assert [each.name for each in tuple_] == sorted({each.name for each in tuple_})


def inside(name: str, address: str) -> bool:
    found = next(each for each in policy.complete(PolicySet()).network_sets if each.name == name)

    def holds(prefixes: tuple[Prefix, ...]) -> bool:
        return any(ipaddress.ip_address(address) in ipaddress.ip_network(each) for each in prefixes)

    return holds(found.cidrs) and not holds(found.excepted)


@pytest.mark.parametrize(
    ("address", "sets"),
    [
        ("1.1.1.1", {"world", "internet"}),
        ("2606:4700::1111", {"world", "internet"}),
        ("10.1.2.3", {"world", "private"}),
        ("100.64.0.1", {"world", "private"}),
        ("fd12::1", {"world", "private"}),
        ("fe80::1", {"world", "private"}),
        ("169.254.169.254", {"world", "private", "metadata"}),
        ("fd00:ec2::254", {"world", "private", "metadata"}),
        ("127.0.0.1", set()),
        ("::1", set()),
        ("0.0.0.0", set()),
        ("224.0.0.1", set()),
        ("ff02::1", set()),
        ("255.255.255.255", set()),
        ("203.0.113.1", set()),
        ("2001:db8::1", set()),
        ("198.18.0.1", set()),
        ("64:ff9b::1.2.3.4", set()),
        ("::ffff:1.2.3.4", set()),
    ],
)
def test_built_in_network_sets(address: str, sets: set[str]) -> None:
    assert {name for name in ("world", "internet", "private", "metadata", "resolvers") if inside(name, address)} == sets


def test_built_in_services_are_the_usual_ones() -> None:
    services = {each.name: set(map(ports_text, each.ports)) for each in policy.complete(PolicySet()).services}
    assert services["dns"] == {"tcp/53", "udp/53"}
    assert services["ssh"] == {"tcp/22"}
    assert services["postgres"] == {"tcp/5432"}
    assert services["ping"] == {"icmp/echo-request", "icmpv6/echo-request"}
    assert all(builtin.SERVICES[name] for name in ("http", "https", "mysql", "redis", "kafka", "ntp"))


def sighting(kind: WorkloadKind, labels: dict[str, str]) -> Sighting:
    facts = Facts(runtime="docker", host_name="host-a", labels=tuple(sorted(labels.items())))
    return Sighting(WorkloadId("w"), "w", kind, facts=facts)


def test_built_in_label_rules_label_containers_and_hosts() -> None:
    labelling = pytest.importorskip("stockade.core.fold.labelling", reason="this machine has no fold")
    labeller = labelling.Labeller(policy.complete(PolicySet()))
    compose = {"com.docker.compose.project": "shop", "com.docker.compose.service": "web", "stockade.env": "prod"}
    container = labeller.workload(sighting(WorkloadKind.CONTAINER, compose), ())
    assert {(label.key, label.value, label.by) for label in container.labels.items} == {
        ("app", "shop", "compose"),
        ("role", "web", "compose"),
        ("env", "prod", "runtime-labels"),
    }
    host = labeller.workload(sighting(WorkloadKind.HOST, {"os.id": "debian", "stockade.env": "prod"}), ())
    assert {(label.key, label.value) for label in host.labels.items} == {
        ("env", "prod"),  # the host's own agent may say so of it
        ("host", "host-a"),
        ("os", "debian"),
    }
    assert labeller.workload(sighting(WorkloadKind.CONTAINER, {}), ()).labels.items == ()


@pytest.mark.parametrize(
    "text",
    [
        "any",
        "tcp",
        "tcp/80",
        "udp/1-65534",
        "sctp/2905",
        "icmp",
        "icmp/echo-request",
        "icmp/200",
        "icmp/3/4",
        "icmpv6/nd-redirect",
    ],
)
def test_ports_are_written_as_they_are_read(text: str) -> None:
    assert ports_text(ports_of(text)) == text


@given(st.text(max_size=12) | st.from_regex(r"(tcp|icmp|any)/[0-9/-]{0,8}", fullmatch=True))
def test_any_text_is_ports_or_refused(text: str) -> None:
    try:
        found = ports_of(text)
    except policy.WordError:
        return
    assert 0 <= found.first <= found.last <= 65535
    assert ports_of(ports_text(found)) == found


def test_every_label_key_of_the_schema_is_one() -> None:
    assert select.is_key("example.com/team")
    assert not any(map(select.is_key, ("and", "", "-a", "a-", "a b", "a" * 318)))
