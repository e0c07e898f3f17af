"""``docs/policy.md`` and ``examples/`` say what the program does: examples are read, fields and limits are there."""

import pathlib
import re

import jsonschema
import pytest
import yaml

from stockade.core import policy, select
from stockade.core.fold import fold
from stockade.core.model.event import PolicyActivated
from stockade.core.model.ids import Version
from stockade.core.model.labels import LabelSource
from stockade.core.model.policy import Mode, PolicySet
from stockade.core.plan import checks
from stockade.core.plan.parties import World
from stockade.core.policy import builtin, ends, kinds, names, nodes, policies, sheet, templates, words
from stockade.core.policy.read import FILE_LIMIT, TOTAL_LIMIT
from stockade.core.select import lexer, parser

ROOT = pathlib.Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "policy.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
MACHINES = ROOT / "examples" / "machines"
SHOP = sorted((ROOT / "examples" / "shop").glob("*.yaml"))
SAID = set(re.findall(r"`([^`\n]+)`", PAGE))


def fields(node: object) -> set[str]:
    """Return the name of every field in a schema, at any depth."""
    if isinstance(node, list):
        return set().union(*map(fields, node))
    if not isinstance(node, dict):
        return set()
    own = set(node["properties"]) if isinstance(node.get("properties"), dict) else set()
    return own.union(*map(fields, node.values()))


def test_every_example_of_the_page_is_read() -> None:
    assert len(BLOCKS) >= 8
    draft = policy.read([policy.SourceText(f"block {i}", block.encode()) for i, block in enumerate(BLOCKS)])
    assert [policy.shown(problem) for problem in draft.problems] == []
    assert {document.kind for document in draft.documents} == set(kinds.KINDS)


def test_the_table_of_the_page_is_read() -> None:
    (table,) = re.findall(r"^```csv\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    found = sheet.read_sheet(policy.SourceText("machines.csv", table.encode()))
    assert [each.name for each in found.workloads] == ["old-db", "till-1"]
    assert set(sheet.COLUMNS) <= SAID
    assert f"{sheet.ROW_LIMIT:,} workloads" in PAGE


def test_every_kind_and_field_is_on_the_page() -> None:
    headings = set(re.findall(r"^## (\w+)$", PAGE, re.MULTILINE))
    assert set(kinds.KINDS) <= headings
    text = " ".join(SAID)
    missing = {name for name in fields(policy.schema()) if not re.search(rf"\b{name}\b", text)}
    assert missing == set()


def test_words_of_enums_are_on_the_page() -> None:
    assert {mode.value for mode in Mode} | {source.value for source in LabelSource} <= SAID
    assert set(templates.FACTS) <= SAID
    assert {name for types in words.ICMP_TYPES.values() for name in types} <= SAID


def test_the_table_of_services_is_the_programs() -> None:
    table = dict(re.findall(r"^\| `([a-z0-9-]+)` \| ((?:tcp|udp|icmp)[^|]*) \|$", PAGE, re.MULTILINE))
    assert table == {name: ", ".join(ports) for name, ports in builtin.SERVICES.items()}


def test_built_in_documents_are_on_the_page() -> None:
    complete = policy.complete(PolicySet())
    assert {each.name for each in (*complete.network_sets, *complete.label_rules, *complete.modes)} <= SAID
    assert all(prefix in PAGE for prefix in builtin.PRIVATE)
    assert all(prefix.partition("/")[0] in PAGE for prefix in builtin.METADATA)


@pytest.mark.parametrize(
    ("what", "limit"),
    [
        ("files in a draft", FILE_LIMIT),
        ("bytes in all files", TOTAL_LIMIT),
        ("bytes in a file", nodes.BYTE_LIMIT),
        ("documents in a file", nodes.DOCUMENT_LIMIT),
        ("texts, lists and mappings in a file", nodes.NODE_LIMIT),
        ("lists and mappings within each other", nodes.DEPTH_LIMIT),
        ("rules in a policy", policies.RULE_LIMIT),
        ("services in a rule", ends.ON_LIMIT),
        ("CIDRs in a network set", kinds.CIDR_LIMIT),
        ("addresses of a workload", kinds.ADDRESS_LIMIT),
        ("labels in a mapping", names.LABEL_LIMIT),
        ("characters in a selector", lexer.TEXT_LIMIT),
        ("parentheses and `not`s within each other", parser.DEPTH_LIMIT),
        ("characters in a label's key", select.KEY_LIMIT),
        ("characters in a label's value", select.VALUE_LIMIT),
    ],
)
def test_limits_are_the_programs(what: str, limit: int) -> None:
    assert f"| {what} | {limit:,} |" in PAGE


def test_selectors_and_ports_of_the_page_parse() -> None:
    for written in ("k = v", "k != v", "k in (a, b)", "k not in (a, b)", "has k", "not has k", "all", "trusted(k = v)"):
        assert written in PAGE
        assert select.text(select.parse(written)) == written
    for written in ('team = "R&D"', "team = 'R&D'", "role != web"):
        assert written in PAGE
        select.parse(written)
    for written in ("tcp/8080", "sctp/2905", "tcp/9090-9100", "icmp/8", "icmpv6/packet-too-big", "icmp/3/4", "any"):
        assert f"`{written}`" in PAGE
        words.ports_of(written)


def test_the_shop_is_read_and_its_schema_agrees() -> None:
    draft = policy.read([policy.SourceText(str(path), path.read_bytes()) for path in SHOP])
    assert [policy.shown(problem) for problem in draft.problems] == []
    assert policy.enforceable(draft.policy) == (draft.policy, ())
    validator = jsonschema.Draft202012Validator(policy.schema())
    for path in SHOP:
        for document in yaml.safe_load_all(path.read_text(encoding="utf-8").replace(" on: ", ' "on": ')):
            assert list(validator.iter_errors(document)) == []
    assert draft.policy.invariants
    assert len(draft.policy.policies[0].tests) >= 10


def test_the_example_of_machines_is_what_its_table_makes_and_its_tests_hold() -> None:
    table = policy.SourceText("machines.csv", (MACHINES / "machines.csv").read_bytes())
    assert sheet.read_sheet(table).documents == (MACHINES / "machines.yaml").read_text(encoding="utf-8")
    files = [policy.SourceText(path.name, path.read_bytes()) for path in sorted(MACHINES.glob("*.yaml"))]
    draft = policy.read(files)
    assert [policy.shown(problem) for problem in draft.problems] == []
    world = World(fold([PolicyActivated(Version(1), policy.complete(draft.policy))]))
    results = checks.tests(world)
    assert len(results) == 2
    assert all(each.passed for each in results), results
