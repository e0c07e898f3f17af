"""The pages say what the program does. Where they do not, this fails and `make docs` or an edit mends it."""

import importlib.util
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from stockade.cli.main import VERBS, application
from stockade.cli.settings import SETTINGS
from stockade.core.graph.anomalies import CHECKS as OF_TRAFFIC
from stockade.core.model.labels import LabelSource
from stockade.core.model.policy import Mode
from stockade.core.posture.host import CHECKS
from stockade.wire import BirthRecord

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), *ROOT.glob("*.md")])
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
COMMAND = re.compile(r"(?:^|[\s`$])stockade ([a-z]+)(?: ([a-z]+))?", re.MULTILINE)
CODE = re.compile(r"```[^\n]*\n(.*?)```|`([^`\n]+)`", re.DOTALL)
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z-]+")


def load(path: Path) -> object:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def code(page: str) -> str:
    return "\n".join(block or span for block, span in CODE.findall(page))


def commands(path: Path) -> Iterator[str]:
    for verb, _ in COMMAND.findall(code(text(path))):
        yield verb


def test_generated_pages_are_what_the_program_says() -> None:
    generator = load(ROOT / "scripts" / "generate_docs.py")
    for name, expected in generator.pages().items():  # type: ignore[attr-defined]
        assert text(DOCS / name) == expected, f"docs/{name} is behind the program: make docs"


@pytest.mark.parametrize("verb", [verb.name for verb in VERBS])
def test_every_verb_has_a_module_and_a_section(verb: str) -> None:
    module = next(each.where for each in VERBS if each.name == verb).partition(":")[0]
    assert importlib.util.find_spec(module), f"{module} is named in the table of contents and is not there"
    assert f"## `stockade {verb}`" in text(DOCS / "cli.md")


def test_every_setting_is_on_its_page() -> None:
    page = text(DOCS / "settings.md")
    for known in SETTINGS:
        for name in (known.name, *known.variables):
            assert f"`{name}`" in page


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(text(page)):
        if "://" not in target and not target.startswith("mailto:"):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_on_pages_exist(page: Path) -> None:
    known = {verb.name for verb in VERBS}
    assert set(commands(page)) <= known


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_make_verbs_on_pages_exist(page: Path) -> None:
    verbs = set(re.findall(r"^([a-z]+):.*## ", text(ROOT / "Makefile"), re.MULTILINE))
    named = set(re.findall(r"(?:^|`)make ([a-z]+)", code(text(page)), re.MULTILINE))
    named |= set(re.findall(r"`make ([a-z]+)", text(page)))
    assert named <= verbs


def test_flags_in_the_readme_exist() -> None:
    known = set(FLAG.findall(text(DOCS / "cli.md"))) | {"--once"}
    lines = [
        line for line in code(text(ROOT / "README.md")).splitlines() if line.startswith(("stockade", "$ stockade"))
    ]
    assert {flag for line in lines for flag in FLAG.findall(line)} <= known


def test_every_dependency_is_listed_with_a_licence() -> None:
    project = tomllib.loads(text(ROOT / "pyproject.toml"))
    wanted = [
        *project["project"]["dependencies"],
        *(each for extra in project["project"]["optional-dependencies"].values() for each in extra),
        *project["dependency-groups"]["dev"],
        *project["build-system"]["requires"],
    ]
    rows = {
        row.split("|")[1].strip(): row for row in text(DOCS / "dependencies.md").splitlines() if row.startswith("| ")
    }
    for each in wanted:
        name = re.match(r"[\w.-]+", each)
        assert name is not None
        if name[0] == "stockade":  # its own extra
            continue
        assert name[0] in rows, f"docs/dependencies.md does not list {name[0]}"
        assert re.search(r"MIT|BSD|Apache|MPL", rows[name[0]]), f"no licence beside {name[0]}"


def test_nothing_is_listed_that_is_no_dependency() -> None:
    project = text(ROOT / "pyproject.toml")
    listed = text(DOCS / "dependencies.md").partition("## From the system")[0]
    for row in re.findall(r"^\| ([\w.-]+) \|", listed, re.MULTILINE):
        assert row == "package" or f'"{row}>=' in project, f"{row} is listed and not depended on"


def test_named_tests_exist() -> None:
    """The threat model and the decision records name tests; each is one that pytest would find."""
    named = [(page, *found) for page in PAGES for found in re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", text(page))]
    for page, file, test in named:
        assert (ROOT / file).exists(), f"{page.name} names {file}"
        assert not test or re.search(rf"def {test}\b", text(ROOT / file)), f"{page.name} names {file}::{test}"


def test_every_line_of_the_threat_model_is_shown_or_said_to_be_untested() -> None:
    rows = [row for row in text(DOCS / "threat-model.md").splitlines() if row.startswith("| ") and "---" not in row]
    rows = [row for row in rows if not row.startswith("| it can")]
    assert rows
    for row in rows:
        last = row.rstrip(" |").rpartition("|")[2]
        assert "untested" in last or "`tests/" in last, row


def test_every_package_has_its_room_in_the_architecture() -> None:
    page = text(DOCS / "architecture.md")
    source = ROOT / "src" / "stockade"
    for init in source.glob("*/__init__.py"):
        name = init.parent.name
        assert f"| `{name}` |" in page or name == "core", f"docs/architecture.md does not say what {name} is for"
    for init in source.glob("core/*/__init__.py"):
        assert f"| `core.{init.parent.name}` |" in page


def test_the_glossary_has_each_enumerated_word() -> None:
    """What the code enumerates is spoken of in the glossary's own terms."""
    page = text(DOCS / "glossary.md").lower()
    for mode in Mode:
        assert f"`{mode.value}`" in page
    for source in LabelSource:
        assert source.value in page
    for name in BirthRecord.__struct_fields__[2:]:
        assert name in page


def test_every_check_has_its_section_and_no_other_has() -> None:
    sections = re.findall(r"^### `([a-z-]+)`$", text(DOCS / "findings.md"), re.MULTILINE)
    assert sorted(sections) == sorted([*CHECKS, *(check for check, _ in OF_TRAFFIC.values())])


def test_every_verb_has_a_summary() -> None:
    assert all(verb.summary.endswith(".") for verb in VERBS)
    assert {verb.name for verb in VERBS} <= set(application(summaries=True))
