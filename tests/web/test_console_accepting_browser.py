"""A finding accepted and reopened in a real browser, with what axe says of the page."""

import pytest
from playwright.sync_api import BrowserContext, expect
from tests.web.browsing import entered, grave
from tests.web.consoled import READER, Consoled

from stockade.controller.finding_views import every_finding

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]


def test_accepted_with_a_reason_and_reopened(console: Consoled, visit: BrowserContext) -> None:
    page = entered(visit, console)
    page.get_by_role("navigation").get_by_role("link", name="Findings").click()
    row = page.get_by_role("region", name="Findings").get_by_role("row", name="br-netfilter")
    row.get_by_role("link", name="accept it").click()
    page.get_by_label("Why").fill("the lab's own bridge")
    page.get_by_label("Until").fill("30d")
    assert grave(page) == []
    page.get_by_role("button", name="Accept it").click()
    below = page.get_by_role("region", name="Accepted")
    expect(below).to_contain_text("the lab's own bridge")
    expect(page.get_by_role("region", name="Findings")).not_to_contain_text("br-netfilter")
    assert grave(page) == []
    below.get_by_role("button", name="Reopen br-netfilter").click()
    expect(page.get_by_role("region", name="Findings")).to_contain_text("br-netfilter")
    expect(below).to_have_count(0)


def test_who_may_only_look_sees_what_is_accepted(console: Consoled, visit: BrowserContext) -> None:
    console.signed_in().submit("/findings/accept", id=_first(console), why="known", until="")
    page = entered(visit, console, READER)
    page.goto(f"{console.origin}/findings")
    expect(page.get_by_role("region", name="Accepted")).to_contain_text("known")
    expect(page.get_by_role("button", name="Reopen")).to_have_count(0)
    expect(page.get_by_role("link", name="accept it")).to_have_count(0)


def _first(console: Consoled) -> str:
    return every_finding(console.installation.controller).findings[0].id
