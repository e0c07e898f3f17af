"""``stockade policy``: check and schema without a server, show with one."""

import json
from pathlib import Path

import cli_samples as samples
import jsonschema
import yaml
from route_table_server import CommandLine, Server

from stockade.wire.api import File, PolicyReply

GOOD = """apiVersion: stockade.dev/v1
kind: Policy
metadata: {name: shop}
spec:
  rules:
    - {name: web, allow: {from: role = web, to: role = api, "on": [tcp/8080]}}
"""


def test_check_of_good_files(cli: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "shop.yaml").write_text(GOOD)
    ran = cli("policy", "check", "shop.yaml")
    assert (ran.code, ran.lines) == (0, ["1 document in 1 file: no mistakes."])


def test_check_shows_each_mistake_underlined_with_the_nearest_spelling(cli: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "shop.yaml").write_text(GOOD.replace("tcp/8080", "postgress").replace("allow", "alow"))
    ran = cli("policy", "check", "shop.yaml")
    assert ran.code == 2
    assert 'shop.yaml:6:19: unknown field "alow" in a rule; did you mean "allow"?' in ran.lines
    at = ran.lines.index('shop.yaml:6:19: unknown field "alow" in a rule; did you mean "allow"?')
    text, marks = ran.lines[at + 1 : at + 3]
    assert text[marks.index("^") : marks.index("^") + 4] == "alow"
    assert ran.lines[-1].endswith("in 1 file. Nothing was sent; what is in force stays.")


def test_check_says_the_same_as_data(cli: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "shop.yaml").write_bytes(b"kind: \xff")
    ran = cli("policy", "check", "shop.yaml", "-o", "json")
    it = json.loads(ran.out)
    assert ran.code == 2
    assert it["schema"] == 1
    assert it["problems"][0]["where"]["file"] == "shop.yaml"


def test_the_schema_takes_a_good_document_and_no_bad_one(cli: CommandLine) -> None:
    schema = json.loads(cli("policy", "schema").out)
    validator = jsonschema.Draft202012Validator(schema)
    assert validator.is_valid(yaml.safe_load(GOOD))
    assert not validator.is_valid(yaml.safe_load(GOOD.replace("rules", "ruels")))


def test_show_is_yaml_again(server: Server, cli: CommandLine) -> None:
    server.answers["policy"] = PolicyReply(
        version=samples.VERSION, files=(File("shop.yaml", GOOD), File("more.yaml", GOOD)), canonical="kind: Policy\n"
    )
    ran = cli("policy", "show", "7")
    assert server.of("policy")[1] == {"version": "7"}
    assert [each for each in yaml.safe_load_all(ran.out) if each] == [yaml.safe_load(GOOD)] * 2
    assert "Version 8 by ada" in ran.err
    assert cli("policy", "show", "--canonical").out == "kind: Policy\n"


TABLE = "name,address,app\nold-db,192.0.2.10,shop\ntill-1,192.0.2.20,\n"


def test_import_writes_documents_that_check_takes(cli: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "machines.csv").write_text(TABLE)
    ran = cli("policy", "import", "machines.csv", "--out", "machines.yaml")
    assert (ran.code, ran.lines) == (0, ["2 workloads written to machines.yaml."])
    assert cli("policy", "check", "machines.yaml").lines == ["2 documents in 1 file: no mistakes."]
    printed = cli("policy", "import", "machines.csv")
    assert (printed.code, printed.out) == (0, (tmp_path / "machines.yaml").read_text())


def test_import_writes_nothing_where_any_row_is_wrong(cli: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "machines.csv").write_text(TABLE + "Old DB,192.0.2.30,shop\n")
    (tmp_path / "machines.yaml").write_text("kept")
    ran = cli("policy", "import", "machines.csv", "--out", "machines.yaml")
    assert ran.code == 1
    assert 'machines.csv:4:1: "Old DB" cannot be a name; did you mean "old-db"?' in ran.lines
    assert ran.lines[-1].endswith("1 problem. Nothing was written.")
    assert (tmp_path / "machines.yaml").read_text() == "kept"
    assert sorted(each.name for each in tmp_path.iterdir() if "machines" in each.name) == [
        "machines.csv",
        "machines.yaml",
    ]


def test_import_says_what_it_cannot_write_and_leaves_nothing_behind(cli: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "machines.csv").write_text(TABLE)
    (tmp_path / "there").mkdir()
    ran = cli("policy", "import", "machines.csv", "--out", "there")
    assert ran.code == 1
    assert "cannot write there" in ran.err
    assert not [each for each in tmp_path.rglob("*") if each.name.startswith(".there")]


def test_import_says_the_same_as_data(cli: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "machines.csv").write_text(TABLE)
    it = json.loads(cli("policy", "import", "machines.csv", "-o", "json").out)
    assert (it["schema"], it["workloads"]) == (1, 2)
    assert len(list(yaml.safe_load_all(it["documents"]))) == 2


def test_a_folder_of_policy_passes_tables_by(cli: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "shop.yaml").write_text(GOOD)
    (tmp_path / "machines.csv").write_text("no policy")
    assert cli("policy", "check", ".").lines == ["1 document in 1 file: no mistakes."]
