"""The map of the benchmarks' world in a real browser: first drawn frame, frames and memory under live updates.

``python -m bench.map``: Chromium, headless, drawing in software. Updates of a day come one after the other, as fast as
the map takes them.
"""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

from bench.figures import Figure, at_most, percentile, program

WORKLOADS, WORKLOADS_QUICK = 100_000, 3_000
ROWS, ROWS_QUICK = 30_000, 6_000
UPDATES, UPDATES_QUICK = 288, 20
"""Of a day: one stands for five minutes of it."""
UPDATE = 150
"""Rows of flows that each brings."""
BY = "d03,d06"
SHAPES, PAINT, FRAME, STEADY = 2000, 1.0, 16.0, 0.2
PATIENCE = 600_000
"""Milliseconds."""

FRAMES = """() => {
  const times = window.frameTimes = []
  const channel = new MessageChannel()
  channel.port2.onmessage = ({ data }) => times.push(performance.now() - data)
  const frame = () => { channel.port1.postMessage(performance.now()); window.frameLoop = requestAnimationFrame(frame) }
  frame()
}"""
"""From the beginning of each frame until the main thread is free again."""
STARTED = "(name) => performance.getEntriesByName(name)[0].startTime"


def main() -> None:
    """Print every figure as it is measured."""
    program(__doc__, figures)


def figures(*, quick: bool) -> Iterator[Figure]:
    """Yield the figures."""
    size, rows = (WORKLOADS_QUICK, ROWS_QUICK) if quick else (WORKLOADS, ROWS)
    updates = UPDATES_QUICK if quick else UPDATES
    with _server(size, rows) as server, _browser() as browser:
        page = _entered(browser, server.link)
        where = f"{size:,} workloads, {size // 10:,} rules, {rows:,} rows of flows, by {BY}"
        visits = [_painted(page, server.origin) for _ in range(4)]
        (first, _), *others = visits
        yield Figure("first drawn frame of the first visit", first, "s", compared_with=where)
        shown, live = (sorted(each)[1] for each in zip(*others, strict=True))
        yield at_most("first drawn frame, median of the three visits after it", shown, "s", PAINT, where)
        yield Figure(
            "until WebGL draws it and it can be pointed at, median of the same", live, "s", compared_with=where
        )
        yield at_most("shapes sent", int(page.locator("#map-canvas").get_attribute("data-shapes") or 0), "", SHAPES)
        yield from _live(page, server, updates)


def _live(page: Page, server: "_Server", updates: int) -> Iterator[Figure]:
    page.wait_for_timeout(3000)
    page.evaluate(FRAMES)
    heap, resident = [], []
    began = page.evaluate("performance.now()")
    for number in range(updates):
        server.ask(f"update {UPDATE}")
        page.evaluate("stockadeMapView.ask({ seen: '1' })")
        if number % max(1, updates // 12) == 0:
            heap.append(_heap(page))
            resident.append(float(server.ask("rss")))
    page.wait_for_timeout(1000)
    times = [float(each) for each in page.evaluate("frameTimes")]
    seconds = (page.evaluate("performance.now()") - began) / 1000
    each = f"{UPDATE} rows, {86_400 // updates} s of a day"
    beside = f"{updates} updates, each of {each}, in {seconds:.0f} s; software renderer"
    yield at_most("main thread of a frame under updates, p95", percentile(times, 0.95), "ms", FRAME, beside)
    yield Figure("main thread of a frame under updates, p99", percentile(times, 0.99), "ms")
    yield Figure("frames under updates", len(times) / seconds, "/s", compared_with=beside)
    for name, found in (("browser's heap", heap), ("server's resident set", resident)):
        # The first third is when caches fill; what a leak adds, it adds in the rest as well.
        settled = found[len(found) // 3 :]
        grown = settled[-1] / settled[0] - 1
        text = f"{settled[0] / 1e6:.0f} MB to {settled[-1] / 1e6:.0f} MB"
        yield at_most(f"{name}: growth over the last two thirds", grown * 100, "%", STEADY * 100, text)


def _heap(page: Page) -> float:
    session = page.context.new_cdp_session(page)
    session.send("HeapProfiler.collectGarbage")
    used = session.send("Runtime.getHeapUsage")["usedSize"]
    session.detach()
    return float(used)


def _painted(page: Page, origin: str) -> tuple[float, float]:
    """Return the seconds from the navigation to the first drawn frame, and to WebGL's, as the browser measures them."""
    page.goto(f"{origin}/map?by={BY.replace(',', '%2C')}", timeout=PATIENCE)
    page.locator("#map-canvas[data-drawn]").wait_for(timeout=PATIENCE)
    shown, live = page.evaluate(f"['map-shown', 'map-drawn'].map({STARTED})")
    return shown / 1000, live / 1000


def _entered(browser: Browser, link: str) -> Page:
    page = browser.new_context(viewport={"width": 1280, "height": 720}, reduced_motion="reduce").new_page()
    page.set_default_timeout(PATIENCE)
    page.goto(link)
    page.get_by_role("button", name="Open the console").click()
    return page


@contextmanager
def _browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield found
        found.close()


class _Server:
    """The process that serves, and a way to tell it what to do."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self.link = self._heard()
        self.origin = self.link.partition("/sign-in")[0]

    def ask(self, text: str) -> str:
        """Say a line and return the answer."""
        self._end("stdin").write(f"{text}\n")
        self._end("stdin").flush()
        return self._heard()

    def _heard(self) -> str:
        for line in self._end("stdout"):
            if line.startswith("> "):
                return str(line[2:].strip())
        raise RuntimeError("the server ended")

    def _end(self, name: str) -> Any:
        return getattr(self._process, name)


@contextmanager
def _server(size: int, rows: int) -> Iterator[_Server]:
    with tempfile.TemporaryDirectory() as folder:
        words = f"from bench.mapped import serve; serve({folder!r}, {size}, {rows})"
        process = subprocess.Popen(
            [sys.executable, "-c", words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[1],
        )
        try:
            yield _Server(process)
        finally:
            if process.stdin:
                process.stdin.close()
            process.wait(60)


if __name__ == "__main__":
    main()
