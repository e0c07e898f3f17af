"""A person's way through each page, in a real browser, by mouse and by keys; and what axe-core says of each page."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from playwright.sync_api import Browser, BrowserContext, expect
from tests.controller.controlled import container, report
from tests.web.browsing import PHONE, context, entered, grave
from tests.web.consoled import READER, Consoled, consoled
from tests.web.marked import EVIL
from tests.web.screenshots import PAGES, SLIP
from tests.web.test_console_hostile import SHOWN, _planted
from tests.web.test_console_pages import WIDER

from stockade.web.frame import RAIL

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Consoled]:
    with consoled(tmp_path_factory.mktemp("shop")) as running:
        running.furnish()
        yield running


def test_from_the_link_to_a_workload(visit: BrowserContext, shop: Consoled) -> None:
    page = entered(visit, shop)
    expect(page.get_by_role("heading", name="Workloads")).to_be_visible()
    page.get_by_label("Selector").fill("role = db")
    page.get_by_role("button", name="Filter").click()
    expect(page.locator("tbody tr")).to_have_count(1)
    page.get_by_role("link", name="db-1", exact=True).click()
    drawer = page.get_by_role("complementary")
    expect(drawer).to_contain_text("runtime, by compose")
    expect(drawer).to_contain_text("app=shop role=api")
    drawer.get_by_role("link", name="shop.yaml:9").first.click()
    expect(page).to_have_title("Version 1 · Stockade")
    page.go_back()
    expect(drawer).to_be_visible()
    drawer.get_by_role("link", name="Close").click()
    expect(drawer).to_have_count(0)
    page.get_by_label("Selector").fill("role ~ db")
    page.get_by_role("button", name="Filter").click()
    expect(page.get_by_role("alert")).to_be_visible()


def test_by_keys_alone(visit: BrowserContext, shop: Consoled) -> None:
    page = entered(visit, shop)
    page.keyboard.press("j")
    page.keyboard.press("j")
    expect(page.get_by_role("link", name="api-2", exact=True)).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("complementary")).to_contain_text("docker:host-a:api-2")
    page.keyboard.press("Escape")
    expect(page.get_by_role("complementary")).to_have_count(0)
    for place in RAIL:
        page.keyboard.press("g")
        page.keyboard.press(place.key)
        expect(page).to_have_title(f"{place.title} · Stockade")
        expect(page.locator(".rail [aria-current]")).to_contain_text(place.title)
    page.keyboard.press("/")
    page.keyboard.type("cache-1")
    page.keyboard.press("Enter")
    page.get_by_role("link", name="cache-1").first.click()
    expect(page.get_by_role("complementary")).to_contain_text("docker:host-a:cache-1")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_contain_text("search")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()


def test_draft_plan_apply_realise_roll_back(visit: BrowserContext, console: Consoled) -> None:
    page = entered(visit, console)
    page.get_by_role("link", name="Policies").click()
    page.get_by_role("link", name="Draft a change").click()
    editor = page.get_by_role("textbox", name="shop.yaml", exact=True)
    editor.fill(SLIP)
    plan = page.locator(".draft > .line").get_by_role("button", name="Plan", exact=True)
    plan.click()
    mistake = page.get_by_role("link", name="shop.yaml:8:53")
    expect(page.get_by_role("alert")).to_be_in_viewport()
    mistake.click()
    expect(editor).to_be_focused()
    marked = editor.evaluate("(field) => field.value.slice(field.selectionStart, field.selectionEnd)")
    assert marked == SLIP.splitlines()[7]
    editor.fill(WIDER)
    plan.click()
    expect(page.get_by_role("region", name="Connections")).to_contain_text("tcp/9090")
    expect(page.get_by_role("heading", name="Plan", exact=True)).to_be_in_viewport()
    page.get_by_label("Why").fill("metrics are read")
    page.get_by_role("button", name="Apply", exact=True).click()
    expect(page.get_by_role("heading", name="Version 2")).to_be_in_viewport()
    expect(page.locator("#live")).to_be_focused()
    expect(page.locator(".realising")).to_contain_text("on its way: has version 1")
    console.obey()
    expect(page.locator(".realising")).to_contain_text("in force since")
    expect(page.locator("#bar-state")).to_contain_text("version 2 in force")
    page.get_by_role("button", name="Take it back").click()
    expect(page.get_by_role("heading", name="Version 3")).to_be_visible()
    page.get_by_role("link", name="Audit").click()
    row = page.get_by_role("row").filter(has_text="rollback")
    expect(row).to_contain_text("admin")


def test_what_happens_is_seen_at_once_and_takes_nothing_away(visit: BrowserContext, console: Consoled) -> None:
    page = entered(visit, console)
    console.do(_born(console, "late-1", 60))
    expect(page.get_by_role("link", name="late-1", exact=True)).to_be_visible()
    page.goto(f"{console.origin}/workloads?show=web-1")
    drawer = page.get_by_role("complementary")
    drawer.evaluate("(each) => { each.scrollTop = 40 }")
    page.get_by_text("and over the API").click()
    console.do(_born(console, "late-3", 62))
    expect(page.get_by_role("link", name="late-3", exact=True)).to_be_visible()
    expect(page.locator("#same-api")).to_have_attribute("open", "")
    assert drawer.evaluate("(each) => each.scrollTop") == 40
    page.get_by_label("Selector").fill("role = we")
    console.do(_born(console, "late-2", 61))
    expect(page.get_by_label("Selector")).to_have_value("role = we")
    page.get_by_label("Selector").fill("")
    page.get_by_label("Selector").blur()
    expect(page.get_by_role("link", name="late-2", exact=True)).to_be_visible()


async def _born(console: Consoled, name: str, number: int) -> None:
    await report(console.installation.controller, container(name, number, "web"))


def test_explain(visit: BrowserContext, shop: Consoled) -> None:
    page = entered(visit, shop)
    page.get_by_role("link", name="Explain").click()
    page.get_by_label("From").fill("web-1")
    page.get_by_label("to", exact=True).fill("db-1")
    page.get_by_label("on", exact=True).fill("tcp/5432")
    page.get_by_role("button", name="Explain", exact=True).click()
    expect(page.locator(".verdict")).to_contain_text("Denied")
    expect(page.locator(".ends")).to_contain_text("enters db-1")
    page.locator(".ends").get_by_role("link", name="modes.yaml:4").first.click()
    expect(page.locator("li:target")).to_contain_text("mode: full")


def test_the_other_pages(visit: BrowserContext, shop: Consoled) -> None:
    page = entered(visit, shop)
    rail = page.get_by_role("navigation")
    rail.get_by_role("link", name="Births").click()
    page.get_by_label("only leaks").check()
    page.get_by_role("button", name="Show").click()
    expect(page.get_by_role("region", name="Births").locator("tbody tr")).to_have_count(1)
    rail.get_by_role("link", name="Findings").click()
    page.get_by_role("link", name="high 1").click()
    expect(page.locator("tbody tr")).to_have_count(1)
    rail.get_by_role("link", name="Enforcement points").click()
    page.locator("a.row", has_text="host-a").click()
    expect(page.get_by_role("complementary")).to_contain_text("shop/web-to-api")
    page.get_by_role("link", name="What works on this machine").click()
    expect(page.get_by_role("row").filter(has_text="conntrack")).to_contain_text("nearly full")
    rail.get_by_role("link", name="Settings").click()
    page.get_by_label("dark").check()
    page.get_by_role("button", name="Choose").click()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    page.get_by_role("button", name="Sign out").click()
    expect(page).to_have_title("Sign in · Stockade")


def test_who_may_look_is_offered_nothing_else(visit: BrowserContext, shop: Consoled) -> None:
    page = entered(visit, shop, READER)
    expect(page.locator(".me")).to_contain_text("may look")
    for path in ("/policies/1", "/policies", "/workloads?show=web-1"):
        page.goto(shop.origin + path)
        for name in ("Take it back", "Apply", "Set"):
            expect(page.get_by_role("button", name=name)).to_have_count(0)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_grave_fault_for_who_cannot_see_or_point(chromium: Browser, shop: Consoled, theme: str) -> None:
    made = context(chromium, theme=theme)
    page = entered(made, shop)
    for name, path in PAGES.items():
        page.goto(shop.origin + path)
        assert grave(page, theme) == [], (name, theme)
    page.goto(shop.link())
    assert grave(page, theme) == []
    made.close()


def test_axe_would_find_a_fault(chromium: Browser, shop: Consoled) -> None:
    made = context(chromium)
    page = entered(made, shop)
    page.evaluate(
        "() => { const field = document.getElementById('select'); field.labels[0].remove(); field.placeholder = '' }"
    )
    assert [each[0] for each in grave(page)] == ["label"]
    made.close()


@pytest.mark.parametrize("size", [{"width": 1280, "height": 720}, PHONE], ids=["laptop", "phone"])
def test_no_page_is_wider_than_its_window(chromium: Browser, shop: Consoled, size: dict[str, int]) -> None:
    made = context(chromium, size=size)
    page = entered(made, shop)
    for name, path in PAGES.items():
        page.goto(shop.origin + path)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), name
    made.close()


def test_without_scripts_everything_works(chromium: Browser, console: Consoled) -> None:
    made = context(chromium, scripts=False)
    page = entered(made, console)
    page.get_by_role("link", name="db-1", exact=True).click()
    expect(page.get_by_role("complementary")).to_contain_text("docker:host-a:db-1")
    page.goto(f"{console.origin}/policies/draft")
    page.get_by_role("textbox", name="shop.yaml", exact=True).fill(WIDER)
    page.locator(".draft > .line").get_by_role("button", name="Plan", exact=True).click()
    page.get_by_role("button", name="Apply", exact=True).click()
    expect(page.get_by_role("heading", name="Version 2")).to_be_visible()
    made.close()


def test_what_others_wrote_does_nothing(visit: BrowserContext, console: Consoled) -> None:
    console.do(_planted(console))
    page = entered(visit, console)
    for path in SHOWN:
        page.goto(console.origin + path)
        assert page.evaluate("window.evil") is None, path
    page.goto(f"{console.origin}/workloads")
    page.get_by_role("link", name=EVIL[:12]).first.click()
    expect(page.get_by_role("complementary")).to_contain_text("x-evil")
    assert page.evaluate("window.evil") is None


FOREIGN = """<!doctype html><title>elsewhere</title>
<iframe src="{there}/workloads"></iframe>
<form id="f" method="post" action="{there}/policies/0/rollback"><input name="note" value="x"></form>
<script>
const types = {{'content-type': 'application/x-www-form-urlencoded'}}
const post = {{method: 'POST', mode: 'no-cors', credentials: 'include', headers: types, body: 'note=x'}}
window.tried = async () => (await Promise.allSettled([
  fetch('{there}/workloads', {{credentials: 'include'}}).then((got) => got.text()),
  fetch('{there}/live', {{credentials: 'include'}}).then((got) => got.text()),
  fetch('{there}/policies/0/rollback', post).then((got) => got.text()),
])).map((each) => each.value ?? each.status)
</script>"""


def test_a_page_of_another_site_gets_nothing(chromium: Browser, console: Consoled) -> None:
    """A page on the same machine and another port, in a browser that is signed in, and whose cookie so goes along."""
    before = console.installation.controller.snapshot.version
    made = context(chromium)
    entered(made, console)
    with elsewhere(FOREIGN.format(there=console.origin)) as address:
        page = made.new_page()
        page.goto(address)
        assert page.evaluate("tried()") == ["rejected"] * 3
        framed = page.frames[1].evaluate("document.body.innerText")
        assert "Workloads" not in framed
        page.evaluate("document.getElementById('f').submit()")
        page.get_by_text("not sent from a page of the console").wait_for()
    made.close()
    assert console.installation.controller.snapshot.version == before


@contextmanager
def elsewhere(text: str) -> Iterator[str]:
    """Another site, on a port of its own."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(30)
