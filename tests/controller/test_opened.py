"""``off`` takes out what can drop anything, and nothing else moves."""

import pytest

from stockade.controller.opened import is_open, opened
from stockade.core.model.policy import Births, EnforcementMode, Mode, PolicySet, Quarantine
from stockade.core.model.selector import ALL
from stockade.seams.store import SourceFile

POLICY = "apiVersion: stockade.dev/v1\nkind: Policy\nmetadata: {name: shop}\n"
MODE = "apiVersion: stockade.dev/v1\nkind: EnforcementMode\nmetadata: {name: prod}\n"


def texts(*given: str) -> list[str]:
    return [each.text for each in opened([SourceFile(f"{n}.yaml", text) for n, text in enumerate(given)])]


def test_modes_are_commented_out_and_lines_stay() -> None:
    (text,) = texts(f"{POLICY}---\n{MODE}---\n{POLICY}")
    lines = text.splitlines()
    assert lines[:3] == POLICY.splitlines()
    assert all(line.startswith("# ") for line in lines[3:7])
    assert lines[7:] == ["---", *POLICY.splitlines()]


@pytest.mark.parametrize(
    "document",
    [
        MODE,
        "kind: Quarantine\nmetadata: {name: x}\n",
        "{apiVersion: stockade.dev/v1, kind: EnforcementMode, metadata: {name: x}}\n",
        '{"apiVersion": "stockade.dev/v1", "kind": "Quarantine"}\n',
        "'kind': 'EnforcementMode'\n",
    ],
)
def test_a_file_of_nothing_else_is_left_out(document: str) -> None:
    assert texts(document) == []
    assert texts(f"# a remark\n---\n{document}") == []


def test_the_first_document_can_go() -> None:
    (text,) = texts(f"{MODE}--- # the shop\n{POLICY}")
    assert text == "".join(f"# {line}\n" for line in MODE.splitlines()) + f"--- # the shop\n{POLICY}"


def test_what_only_mentions_a_mode_stays() -> None:
    assert texts(f"# kind Quarantine\n{POLICY}") == [f"# kind Quarantine\n{POLICY}"]


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (PolicySet(modes=(EnforcementMode("default", ALL, Mode.VISIBILITY),)), True),
        (PolicySet(modes=(EnforcementMode("default", ALL, Mode.IDLE, births=Births.PASS),)), True),
        (PolicySet(modes=(EnforcementMode("default", ALL, Mode.IDLE, births=Births.HOLD),)), False),
        (PolicySet(modes=(EnforcementMode("prod", ALL, Mode.SELECTIVE),)), False),
        (PolicySet(quarantines=(Quarantine("q", ALL),)), False),
    ],
)
def test_what_is_open(policy: PolicySet, expected: bool) -> None:
    assert is_open(policy) is expected
