"""Pictures of every page in both themes, into ``docs/pictures``, to be looked at: ``make screenshots``.

The clock stands still, so that a picture differs only where its page does.
"""

import argparse
import tempfile
from pathlib import Path

from playwright.sync_api import Page
from tests.controller.controlled import FILES, StandingClock
from tests.web.browsing import PHONE, WIDE, browser, context, entered
from tests.web.consoled import Consoled
from tests.web.flowing import flowing

FLOWS = {
    "flows": "/flows",
    "flows-summed": "/flows?by=source.role%2Cdestination.role%2Cverdict&since=7d",
    "flows-mistake": "/flows?from=role+%3D+web+adn+app+%3D+shop",
    "flow-store": "/flows/store",
    "suggest": "/policies/suggest",
    "suggested": "/policies/suggest?select=app+%3D+shop&enforce=1",
    "tightened": "/policies/suggest?tighten=shop",
    "map": "/map",
    "map-unseen": "/map?by=workload&unseen=1",
}
"""Of a console in which flows are kept."""
PAGES = {
    "workloads": "/workloads?select=app+%3D+shop&show=db-1",
    "policies": "/policies",
    "version": "/policies/1",
    "draft": "/policies/draft",
    "explain": "/explain?source=web-1&destination=db-1&on=tcp/5432",
    "explain-allowed": "/explain?source=api-1&destination=db-1&on=postgres",
    "births": "/births",
    "findings": "/findings",
    "audit": "/audit",
    "points": "/points?show=host-a",
    "machine": "/points/machine",
    "settings": "/settings",
    "search": "/search?q=web",
}
EVERY = PAGES | FLOWS
ON_A_PHONE = ("map", "workloads", "flows", "explain", "policies")


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as state,
        flowing(Path(state), StandingClock()) as console,
        browser() as chromium,
    ):
        for theme in ("light", "dark"):
            for size, names in ((WIDE, tuple(EVERY)), (PHONE, ON_A_PHONE)):
                page = entered(context(chromium, theme=theme, size=size), console)
                for name in names:
                    page.goto(console.origin + EVERY[name])
                    if name.startswith("map"):
                        page.locator("#map-canvas[data-drawn]").wait_for()
                    if name == "draft" and size is WIDE:
                        page.get_by_label("shop.yaml", exact=True).fill(SLIP)
                        page.get_by_role("button", name="Plan", exact=True).last.click()
                        page.get_by_text("mistake").first.wait_for()
                    where = folder / f"{name}-{theme}{'-phone' if size is PHONE else ''}.png"
                    page.screenshot(path=where, full_page=size is PHONE)
                if size is WIDE:
                    _states(page, console, folder, theme)
                page.context.close()


def _states(page: Page, console: Consoled, folder: Path, theme: str) -> None:
    """What no address shows: a flow, an edge, a plan, the door, a link."""
    page.goto(f"{console.origin}/policies/draft")
    page.get_by_role("textbox", name="shop.yaml", exact=True).fill(SLIP.replace("role = db, on: [postgress]}\n", ""))
    page.get_by_role("textbox", name="shop.yaml", exact=True).press("Control+End")
    page.keyboard.press("Control+Space")
    page.get_by_role("option").first.wait_for()
    page.screenshot(path=folder / f"completion-{theme}.png")
    page.goto(f"{console.origin}/policies/draft")
    narrower = FILES[1].text.replace("to: role = db, on: [postgres]", "to: role = db, on: [tcp/5433]")
    page.get_by_role("textbox", name="shop.yaml", exact=True).fill(narrower)
    page.locator(".draft > .line").get_by_role("button", name="Plan", exact=True).click()
    page.get_by_role("button", name="Judge it by this draft").click()
    page.get_by_text("passed and would be denied").wait_for()
    page.locator("#plan").screenshot(path=folder / f"replay-{theme}.png")
    page.goto(f"{console.origin}/flows?verdict=denied")
    page.locator("a.row").first.click()
    page.get_by_role("complementary").wait_for()
    page.screenshot(path=folder / f"flow-{theme}.png")
    page.goto(f"{console.origin}/map")
    page.locator("#map-canvas[data-drawn]").wait_for()
    page.evaluate(WORST)
    page.get_by_role("complementary").wait_for()
    page.screenshot(path=folder / f"map-edge-{theme}.png")
    page.goto(f"{console.origin}/policies/draft")
    page.get_by_role("textbox", name="shop.yaml", exact=True).fill(FILES[1].text.replace("tcp/8080", "tcp/9090"))
    page.locator(".draft > .line").get_by_role("button", name="Plan", exact=True).click()
    page.get_by_role("region", name="Connections").get_by_text("tcp/9090").wait_for()
    page.locator("#plan").screenshot(path=folder / f"plan-{theme}.png")
    page.goto(console.link(read_only=True))
    page.screenshot(path=folder / f"link-{theme}.png")
    page.goto(f"{console.origin}/sign-in")
    page.screenshot(path=folder / f"door-{theme}.png")


WORST = """() => {
  const worst = stockadeMapView.reply().edges.find((each) => each.observed?.seen.denied)
  stockadeMapView.choose({ edge: `${worst.source}~${worst.destination}` }, true)
}"""
SLIP = """\
apiVersion: stockade.dev/v1
kind: Policy
metadata: {name: shop}
spec:
  scope: app = shop
  rules:
    - name: api-to-db
      allow: {from: role = api, to: role = db, on: [postgress]}
"""

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Make pictures of every page of the console, in both themes.")
    parser.add_argument("folder", nargs="?", type=Path, default=Path("docs/pictures"))
    main(parser.parse_args().folder)
