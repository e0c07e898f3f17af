"""A console for tests that change nothing, and one of its own for each that does."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, expect
from tests.web.browsing import browser, context
from tests.web.consoled import Consoled, consoled

expect.set_options(timeout=30_000)
"""Milliseconds: a machine that is busy may take its time."""


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


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as found:
        yield found


@pytest.fixture
def visit(chromium: Browser) -> Iterator[BrowserContext]:
    """A browser that fails the test for what a person would find in its console: errors, and what the CSP refused."""
    made = context(chromium)
    said: list[str] = []
    made.on("console", lambda message: said.append(message.text) if message.type in {"error", "warning"} else None)
    made.on("weberror", lambda problem: said.append(str(problem.error)))
    foreign: list[str] = []
    made.on("request", lambda request: foreign.append(request.url) if "//127.0.0.1:" not in request.url else None)
    yield made
    made.close()
    # A form that is refused is a 4xx by design, which a browser mentions; so does a driver that draws in software.
    assert [each for each in said if "status of 4" not in each and "GL Driver Message" not in each] == []
    assert foreign == []
