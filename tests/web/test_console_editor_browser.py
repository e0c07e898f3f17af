"""Writing a policy with completion, by keys and by mouse, in a real browser; mistakes where they stand."""

from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page, expect
from tests.web.browsing import entered, grave
from tests.web.consoled import Consoled
from tests.web.marked import EVIL
from tests.web.screenshots import SLIP
from tests.web.test_console_hostile import _planted

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

BEGUN = "apiVersion: stockade.dev/v1\nkind: Policy\nmetadata: {name: shop}\nspec:\n  scope: app = shop\n  rules:\n"


def drafting(page: Page, console: Consoled, text: str) -> None:
    page.goto(f"{console.origin}/policies/draft")
    page.get_by_role("textbox", name="shop.yaml", exact=True).fill(text)
    page.get_by_role("textbox", name="shop.yaml", exact=True).press("Control+End")


def test_a_rule_is_written_by_keys(visit: BrowserContext, shared: Consoled) -> None:
    page = entered(visit, shared)
    drafting(page, shared, f"{BEGUN}    - name: api-to-cache\n      ")
    editor, offers = page.get_by_role("textbox", name="shop.yaml", exact=True), page.get_by_role("listbox")
    page.keyboard.press("Control+Space")
    expect(offers.get_by_role("option")).to_have_count(4)
    expect(page.get_by_role("status")).to_have_text("4 completions")
    page.keyboard.type("al")
    expect(offers.get_by_role("option")).to_have_count(1)
    page.keyboard.press("Enter")
    expect(offers).to_be_hidden()
    page.keyboard.type("{fr")
    page.keyboard.press("Control+Space")
    expect(offers.get_by_role("option")).to_have_count(1)
    page.keyboard.press("Enter")
    expect(offers).to_contain_text("networks(…)")  # a space was written: what may follow is offered at once
    page.keyboard.press("Escape")
    expect(offers).to_be_hidden()
    expect(editor).to_be_focused()
    page.keyboard.type("role = ")
    page.keyboard.press("Control+Space")
    expect(offers.get_by_role("option")).to_have_count(4)
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowUp")
    expect(offers.get_by_role("option", selected=True)).to_contain_text("api")
    assert editor.get_attribute("aria-activedescendant") == "offer-0"
    page.keyboard.press("Tab")
    page.keyboard.type(", to: role = cache, on: [post")
    page.keyboard.press("Control+Space")
    expect(offers.get_by_role("option", name="postgres")).to_be_visible()
    page.keyboard.press("Enter")
    page.keyboard.type("]}")
    written = editor.input_value().splitlines()[-1]
    assert written == "      allow: {from: role = api, to: role = cache, on: [postgres]}"
    page.keyboard.press("Control+z")
    assert editor.input_value() != f"{BEGUN}    - name: api-to-cache\n{written}", "what was completed can be undone"
    page.keyboard.press("Control+Shift+z")
    page.locator(".draft > .line").get_by_role("button", name="Plan", exact=True).click()
    expect(page.get_by_role("region", name="Connections")).to_contain_text("role=cache")


def test_by_mouse_and_never_over_what_is_not_a_draft(visit: BrowserContext, shared: Consoled) -> None:
    page = entered(visit, shared)
    drafting(page, shared, "kind: ")
    page.keyboard.press("Control+Space")
    assert grave(page) == []
    page.get_by_role("option", name="Quarantine").click()
    editor = page.get_by_role("textbox", name="shop.yaml", exact=True)
    expect(editor).to_have_value("kind: Quarantine")
    expect(editor).to_be_focused()
    page.keyboard.type("\n# ")
    page.keyboard.press("Control+Space")
    expect(page.get_by_role("status")).to_have_text("Nothing to complete here")
    page.get_by_role("textbox", name="File").first.press("Control+Space")
    expect(page.get_by_role("listbox")).to_be_hidden()


def test_the_list_stays_within_the_window(visit: BrowserContext, shared: Consoled) -> None:
    page = entered(visit, shared)
    drafting(page, shared, "#\n" * 60 + "kind: ")
    page.keyboard.press("Control+Space")
    box = page.get_by_role("listbox").bounding_box()
    size = page.viewport_size
    assert box is not None
    assert size is not None
    assert box["y"] >= 0
    assert box["y"] + box["height"] <= size["height"]


def test_a_mistake_is_marked_at_its_line(visit: BrowserContext, shared: Consoled) -> None:
    page = entered(visit, shared)
    drafting(page, shared, SLIP)
    page.locator(".draft > .line").get_by_role("button", name="Plan", exact=True).click()
    editor = page.get_by_role("textbox", name="shop.yaml", exact=True)
    expect(editor).to_have_attribute("aria-invalid", "true")
    described = editor.get_attribute("aria-describedby")
    expect(page.locator(f"#{described}")).to_contain_text("did you mean postgres")
    gutter = page.locator(".gutter").last.inner_text().splitlines()
    assert [line for line in gutter if "✕" in line] == ["✕ 8"]


def test_hostile_names_are_offered_as_text(tmp_path: Path, console: Consoled, visit: BrowserContext) -> None:
    console.do(_planted(console))
    page = entered(visit, console)
    page.goto(f"{console.origin}/policies/draft")
    editor = page.locator(".editor textarea").last
    editor.fill("kind: EnforcementMode\nspec:\n  select: name = x-ev")
    editor.press("Control+Space")
    expect(page.get_by_role("option")).to_contain_text(EVIL[10:40])
    page.keyboard.press("Enter")
    assert page.evaluate("window.evil") is None
    assert "window.evil" in editor.input_value()
