"""What is typed before a verb, or instead of one."""

import sys

import pytest

from stockade.cli.main import VERBS, run


@pytest.mark.parametrize("words", [["version"], ["--version"], ["-V"]])
def test_the_version_is_told_however_it_is_asked_for(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(words) == 0
    assert capsys.readouterr().out.startswith("stockade ")


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"], ["help"]])
def test_the_table_of_contents_names_every_verb(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(words) == 0
    assert {f"{each.name}:" for each in VERBS} <= set(capsys.readouterr().out.split())


@pytest.mark.parametrize("words", [["help", "version"], ["version", "--help"]])
def test_a_verb_is_explained_however_that_is_asked_for(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(words) == 0
    assert capsys.readouterr().out.startswith("Usage: stockade version")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["plam"], 'there is no verb "plam"; did you mean "plan"?'),
        (["nonsense"], 'there is no verb "nonsense"\n'),
        (["--state", "x", "status"], "options come after a verb: --state"),
        (["-"], "options come after a verb: -"),
    ],
)
def test_what_is_no_verb_is_said_and_loads_none(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    verbs = {each.where.partition(":")[0] for each in VERBS}
    before = verbs & sys.modules.keys()
    assert run(words) == 1
    error = capsys.readouterr().err
    assert said in error
    assert "stockade --help" in error
    assert verbs & sys.modules.keys() == before
