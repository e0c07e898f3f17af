"""What the import contracts cannot say, and that they are there at all."""

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "stockade"
DATES = ("now", "utcnow", "today")
CONTROLLERS_ALONE = ("sqlalchemy", "starlette", "uvicorn", "httpx", "numpy", "pyroaring", "stockade.controller")

LOAD_AGENT = """
import importlib, pkgutil, sys
import stockade.agent
for module in pkgutil.walk_packages(stockade.agent.__path__, "stockade.agent."):
    importlib.import_module(module.name)
print(*sorted(sys.modules))
"""


def modules(folder: Path) -> Iterator[tuple[Path, ast.Module]]:
    for path in sorted(folder.rglob("*.py")):
        yield path, ast.parse(path.read_text(encoding="utf-8"))


def test_the_agent_loads_nothing_that_only_a_controller_needs() -> None:
    ran = subprocess.run([sys.executable, "-c", LOAD_AGENT], capture_output=True, text=True, timeout=60, check=True)
    loaded = set(ran.stdout.split())
    assert "stockade.agent" in loaded
    assert not loaded & set(CONTROLLERS_ALONE)


def test_compile_targets_are_independent() -> None:
    folder = SOURCE / "core" / "compile"
    targets = {each.parent.name for each in folder.glob("*/__init__.py")}
    assert "nft" in targets
    for target in targets:
        for path, tree in modules(folder / target):
            named = {name for name in _imports(tree) if name.startswith("stockade.core.compile.")}
            others = {name.split(".")[3] for name in named} & targets - {target}
            assert not others, f"{path} imports target {others}"


def test_the_core_reads_no_date() -> None:
    found = [
        f"{path.relative_to(SOURCE)}:{node.lineno}"
        for path, tree in modules(SOURCE / "core")
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in DATES
    ]
    assert found == []


def test_no_package_is_empty_of_modules() -> None:
    """A room exists from the day that something lives in it."""
    for init in SOURCE.rglob("__init__.py"):
        others = [each for each in init.parent.rglob("*.py") if each != init]
        assert others or init.read_text(encoding="utf-8").strip(), f"{init.parent} is empty"


def test_every_module_says_what_it_promises() -> None:
    for path, tree in modules(SOURCE):
        assert ast.get_docstring(tree) or not tree.body, f"{path} has no docstring"


def test_modules_can_be_held_in_mind() -> None:
    for path in SOURCE.rglob("*.py"):
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 700, f"{path} is too long to hold in mind"


def test_rooms_without_a_name_of_their_own_do_not_exist() -> None:
    for path in SOURCE.rglob("*"):
        assert path.stem not in {"utils", "util", "helpers", "manager", "common", "misc"}, path


def test_gpl_code_is_loaded_by_nothing_but_the_helper() -> None:
    """libnftables is named where it is loaded, and that file says so in its licence header."""
    for path in SOURCE.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        if "CDLL(" in text and "nftables" in text:
            assert "SPDX-License-Identifier: GPL-2.0" in text, f"{path} loads libnftables without its licence"


@pytest.mark.long
def test_the_helper_is_a_program_of_its_own() -> None:
    """It imports nothing of Stockade, and nothing of Stockade imports it."""
    for path, tree in modules(SOURCE):
        named = set(_imports(tree))
        if "nfthelper" in path.parts:
            assert not [name for name in named if name.startswith("stockade")], path
        else:
            assert not [name for name in named if name.startswith("stockade.nfthelper")], path


def test_the_contracts_are_all_there() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    kinds = [contract["type"] for contract in project["tool"]["importlinter"]["contracts"]]
    assert kinds.count("layers") == 2
    assert kinds.count("independence") == 2
    assert kinds.count("forbidden") == 4


def test_no_registry_or_machine_path_is_named() -> None:
    """The lock file apart, which names where its hashes were seen."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    words = ("pypi" + ".org", "python" + "hosted", "/work" + "/main", "/tmp" + "/brief")
    for name in listed.stdout.split():
        path = ROOT / name
        if name == "uv.lock" or not path.is_file():
            continue
        content = path.read_text(encoding="utf-8", errors="replace")
        assert not [word for word in words if word in content], name


def _imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{each.name}" for each in node.names)
        elif isinstance(node, ast.Import):
            yield from (each.name for each in node.names)


def test_nothing_that_runs_for_long_waits_by_what_may_lose_its_end() -> None:
    """``asyncio.wait_for`` forgets, up to Python 3.11, that a task was cancelled when what it waits for came just then.

    ``asyncio.timeout`` does not. What is in ``testing`` ends with its test.
    """
    found = [
        f"{path.relative_to(SOURCE)}:{node.lineno}"
        for path, tree in modules(SOURCE)
        if path.relative_to(SOURCE).parts[0] != "testing"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr == "wait_for" and ast.unparse(node) == "asyncio.wait_for"
    ]
    assert found == []
