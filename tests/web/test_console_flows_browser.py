"""A person's way through the flows, in a real browser, and what axe-core says of these pages."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, expect
from tests.web.browsing import PHONE, context, entered, grave
from tests.web.consoled import READER, Consoled
from tests.web.flowing import DEFAULT, ENTERS, flowing, key, record
from tests.web.marked import EVIL
from tests.web.screenshots import FLOWS

from stockade.core.model.flow import Flow, Tally, Verdict

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Consoled]:
    with flowing(tmp_path_factory.mktemp("recorded")) as console:
        yield console


def test_from_a_denial_to_the_line_that_decided(visit: BrowserContext, recorded: Consoled) -> None:
    page = entered(visit, recorded, READER)
    page.keyboard.press("g")
    page.keyboard.press("l")
    expect(page).to_have_title("Flows · Stockade")
    page.get_by_role("group", name="Verdict").get_by_role("link", name="denied 10", exact=True).click()
    flows = page.get_by_role("region", name="Flows", exact=True)
    expect(flows.locator("tbody tr")).to_have_count(5)
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    drawer = page.get_by_role("complementary")
    expect(drawer).to_contain_text("Denied entering db-1")
    drawer.get_by_role("link", name="All flows between these two").click()
    expect(page.get_by_label("From")).to_have_value("docker:host-a:web-1")
    page.get_by_label("From").fill("role = api")
    page.get_by_label("to", exact=True).fill("")
    page.get_by_role("button", name="Show", exact=True).click()
    flows.get_by_role("row").filter(has_text="shop/api-to-db").first.get_by_role("link").click()
    expect(drawer).to_contain_text("role = api → role = db")
    drawer.get_by_role("link", name="shop.yaml:9").click()
    expect(page.locator("li:target")).to_contain_text("api-to-db")
    page.go_back()
    expect(drawer).to_be_visible()
    page.keyboard.press("Escape")
    expect(drawer).to_have_count(0)


def test_a_mistake_is_marked_where_it_is(visit: BrowserContext, recorded: Consoled) -> None:
    page = entered(visit, recorded)
    page.goto(f"{recorded.origin}/flows")
    page.get_by_label("From").fill("role = web adn app = shop")
    page.get_by_role("button", name="Show", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("^^^")
    expect(page.get_by_role("alert")).to_contain_text('did you mean "and"?')
    expect(page.get_by_label("From", exact=True).first).to_have_attribute("aria-invalid", "true")
    page.get_by_role("alert").locator("label").click()
    expect(page.locator("#f-from")).to_be_focused()


def test_summed_up_and_in_time(visit: BrowserContext, recorded: Consoled) -> None:
    page = entered(visit, recorded)
    page.goto(f"{recorded.origin}/flows")
    page.get_by_role("link", name="Roles", exact=True).click()
    summed = page.get_by_role("region", name="Flows, summed up")
    summed.get_by_role("link", name="Bytes in").click()
    expect(summed.locator("tbody tr").first).to_contain_text("carried")
    page.get_by_text("The same in a table").click()
    told = page.get_by_role("region", name="Connections by the minute")
    told.get_by_role("link").first.click()
    expect(page.get_by_role("link", name="back to now")).to_be_visible()
    expect(page.get_by_label("up to")).not_to_have_value("")
    page.get_by_role("link", name="back to now").click()
    expect(page.get_by_label("up to")).to_have_value("")


def test_flows_are_followed_as_they_come(visit: BrowserContext, recorded: Consoled) -> None:
    page = entered(visit, recorded)
    page.goto(f"{recorded.origin}/flows?from=198.51.100.0%2F24")
    expect(page.get_by_text("Nothing matches")).to_be_visible()
    page.get_by_role("link", name="Follow", exact=True).click()
    expect(page.get_by_role("link", name="Following: stop")).to_be_visible()
    now = recorded.installation.controller.clock.now()
    probe = key("198.51.100.7", "web-1", 22, ENTERS, Verdict.DENIED, DEFAULT)
    record(recorded, Flow(probe, Tally(now - 2, now - 1, 1, 1, 60)), number=2)
    expect(page.get_by_role("region", name="Flows", exact=True).locator("tbody tr")).to_have_count(1)
    record(recorded, Flow(probe, Tally(now - 1, now, 1, 1, 60)), number=3)
    expect(page.get_by_role("region", name="Flows", exact=True).locator("tbody tr")).to_have_count(2)


def test_flows_are_taken_home(visit: BrowserContext, recorded: Consoled) -> None:
    page = entered(visit, recorded, READER)
    page.goto(f"{recorded.origin}/flows?verdict=would-be-denied")
    for name, ending, begins in (
        ("CSV", "csv", b"host,"),
        ("JSON", "jsonl", b'{"host"'),
        ("Parquet", "parquet", b"PAR1"),
    ):
        with page.expect_download() as download:
            page.get_by_role("link", name=name).click()
        assert download.value.suggested_filename.endswith(f".{ending}")
        assert download.value.path().read_bytes().startswith(begins)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_grave_fault_on_pages_of_flows(chromium: Browser, recorded: Consoled, theme: str) -> None:
    made = context(chromium, theme=theme)
    page = entered(made, recorded)
    for name, path in FLOWS.items():
        page.goto(recorded.origin + path)
        assert grave(page, theme) == [], (name, theme)
    page.goto(f"{recorded.origin}/flows")
    page.locator("a.row").first.click()
    page.get_by_role("complementary").wait_for()
    assert grave(page, theme) == []
    made.close()


@pytest.mark.parametrize("size", [{"width": 1280, "height": 720}, PHONE], ids=["laptop", "phone"])
def test_no_page_of_flows_is_wider_than_its_window(chromium: Browser, recorded: Consoled, size: dict[str, int]) -> None:
    made = context(chromium, size=size)
    page = entered(made, recorded)
    for name, path in FLOWS.items():
        page.goto(recorded.origin + path)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), name
    made.close()


def test_flows_without_scripts(chromium: Browser, recorded: Consoled) -> None:
    made = context(chromium, scripts=False)
    page = entered(made, recorded)
    page.goto(f"{recorded.origin}/flows")
    page.get_by_label("to", exact=True).fill("role = db")
    page.get_by_role("button", name="Show", exact=True).click()
    page.locator("a.row").first.click()
    expect(page.get_by_role("complementary")).to_contain_text("db-1")
    made.close()


def test_hostile_flows_do_nothing(visit: BrowserContext, recorded: Consoled) -> None:
    now = recorded.installation.controller.clock.now()
    evil = key("web-1", "db-1", 5432, ENTERS, Verdict.DENIED, f"shop/{EVIL}", process=EVIL, service=EVIL)
    record(recorded, Flow(evil, Tally(now, now, 1, 1, 60)), number=9)
    page = entered(visit, recorded)
    for path in ("/flows", "/flows?by=rule,process,service", "/flows/store"):
        page.goto(recorded.origin + path)
        assert page.evaluate("window.evil") is None, path
    page.goto(f"{recorded.origin}/flows")
    page.get_by_role("row").filter(has_text="x-evil").first.get_by_role("link").click()
    expect(page.get_by_role("complementary")).to_contain_text("x-evil")
    assert page.evaluate("window.evil") is None
