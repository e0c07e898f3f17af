"""Headless Chromium, driven by Playwright: the machine's own browser, with nothing fetched."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright
from tests.web.consoled import ADMIN, Consoled

from stockade.wire.api import Caller

AXE = Path(__file__).parents[2] / ".tools/console/node_modules/axe-core/axe.min.js"
GRAVE = {"serious", "critical"}
WIDE, PHONE = {"width": 1280, "height": 720}, {"width": 390, "height": 844}


def chromium() -> str | None:
    """Return where the browser is; None where there is none."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


@contextmanager
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        # Chromium's sandbox refuses root; what it loads here is this console alone.
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        found = playwright.chromium.launch(executable_path=chromium(), args=[*arguments, "--disable-dev-shm-usage"])
        yield found
        found.close()


def context(
    browser: Browser, *, theme: str = "light", size: dict[str, int] = WIDE, scripts: bool = True
) -> BrowserContext:
    return browser.new_context(
        viewport=size,
        color_scheme=theme,
        java_script_enabled=scripts,
        reduced_motion="reduce",  # type: ignore[arg-type]
    )


def entered(context: BrowserContext, console: Consoled, caller: Caller = ADMIN, *, read_only: bool = False) -> Page:
    """Open a link and the console, as whoever got it."""
    page = context.new_page()
    page.goto(console.link(caller, read_only=read_only))
    page.get_by_role("button", name="Open the console").click()
    page.wait_for_url("**/map")
    page.goto(f"{console.origin}/workloads")
    return page


def grave(page: Page, theme: str = "light") -> list[Any]:
    """What axe finds serious or critical. It is put in past the page's own policy, which would refuse it."""
    page.evaluate(AXE.read_text(encoding="utf-8"))
    # Themes differ in their colours alone.
    found = page.evaluate("(only) => axe.run(only)", {"runOnly": ["color-contrast"]} if theme == "dark" else {})
    assert found["passes"]
    return [
        (each["id"], [node["html"][:200] for node in each["nodes"]])
        for each in found["violations"]
        if each["impact"] in GRAVE
    ]
