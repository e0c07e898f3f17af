"""From what was seen to a version in force, in a real browser; a draft that is judged by what was recorded."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, expect
from tests.web.browsing import entered
from tests.web.consoled import READER, Consoled
from tests.web.flowing import flowing

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]


@pytest.fixture
def recorded(tmp_path: Path) -> Iterator[Consoled]:
    """Named first by whoever uses it with a browser, so that no page outlives what it looks at."""
    with flowing(tmp_path) as console:
        yield console


def test_suggested_taken_judged_applied(recorded: Consoled, visit: BrowserContext) -> None:
    page = entered(visit, recorded)
    page.get_by_role("link", name="web-1", exact=True).click()
    page.get_by_role("complementary").get_by_role("link", name="Suggest a policy for app = shop").click()
    expect(page.get_by_role("heading", name="Suggest")).to_be_visible()
    expect(page.get_by_role("region", name="The suggested file")).to_contain_text("name: suggested-shop")
    expect(page.get_by_role("region", name="Seen, and not allowed by it")).to_contain_text("denied by default")
    page.get_by_role("link", name="with a mode that makes it count").click()
    expect(page.get_by_role("region", name="The suggested file")).to_contain_text("EnforcementMode")
    page.get_by_role("button", name="Take it into the draft").click()
    expect(page.get_by_label("suggested-shop.yaml", exact=True)).to_be_visible()
    page.get_by_label("What was recorded in the last").select_option(label="1 day")
    page.get_by_role("button", name="Judge it by this draft").click()
    expect(page.get_by_role("region", name="Recorded, and decided otherwise")).to_contain_text("203.0.113.9")
    page.get_by_label("Why").fill("as it was seen")
    page.get_by_role("button", name="Apply", exact=True).click()
    expect(page.get_by_role("heading", name="Version 2")).to_be_visible()


def test_a_live_policy_is_tightened(recorded: Consoled, visit: BrowserContext) -> None:
    page = entered(visit, recorded)
    page.goto(f"{recorded.origin}/policies")
    page.get_by_role("link", name="Suggest one from what was seen").click()
    page.get_by_role("link", name="shop", exact=True).click()
    expect(page.get_by_text("all of it was used").first).to_be_visible()
    page.get_by_role("button", name="Take it into the draft").click()
    expect(page.get_by_label("shop.yaml", exact=True)).to_be_visible()
    expect(page.get_by_role("heading", name="Plan", exact=True)).to_be_visible()


def test_who_may_look_drafts_a_suggestion_and_applies_nothing(recorded: Consoled, visit: BrowserContext) -> None:
    page = entered(visit, recorded, READER)
    page.goto(f"{recorded.origin}/policies/suggest?select=app+%3D+shop")
    page.get_by_role("button", name="Take it into the draft").click()
    expect(page.get_by_text("You may look and not apply")).to_be_visible()
    expect(page.get_by_role("button", name="Apply", exact=True)).to_have_count(0)
    assert recorded.installation.controller.snapshot.version == 1
