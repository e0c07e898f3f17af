"""A console for tests that change nothing, and one of its own for each that does."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.web.consoled import Consoled, consoled


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Consoled]:
    with consoled(tmp_path_factory.mktemp("shared")) as running:
        running.furnish()
        yield running


@pytest.fixture
def console(tmp_path: Path) -> Iterator[Consoled]:
    with consoled(tmp_path) as running:
        running.furnish()
        yield running


@pytest.fixture
def bare_console(tmp_path: Path) -> Iterator[Consoled]:
    """Nothing has been heard of yet."""
    with consoled(tmp_path) as running:
        yield running
