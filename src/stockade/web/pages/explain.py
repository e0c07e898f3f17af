"""Explain: why a connection is allowed or denied, end by end, and the smallest change that would turn it."""

from typing import Any

from stockade.errors import StockadeError
from stockade.web.asking import Desk, command
from stockade.web.frame import View
from stockade.web.pages.asking import Asking
from stockade.wire.api import ExplainReply, WorkloadsReply

PATH = "/explain"
SUGGESTED = 300
"""Names that the fields complete."""


async def page(desk: Desk, asking: Asking) -> View:
    """A verdict, or the question for one."""
    source, destination, on = asking.text("source"), asking.text("destination"), asking.text("on")
    values: dict[str, Any] = {
        "source": source,
        "destination": destination,
        "on": on,
        "names": await _names(desk),
        "problem": None,
        "reply": None,
    }
    complete = bool(source and destination and on)
    if complete:
        try:
            values["reply"] = await desk.ask("explain", ExplainReply, source=source, destination=destination, on=on)
        except StockadeError as problem:
            values["problem"] = problem
    said = command("explain", source, destination, on) if complete else "stockade explain SOURCE DESTINATION tcp/PORT"
    return View("explain", "Explain", "explain.html", values, (said,), status=422 if values["problem"] else 200)


async def _names(desk: Desk) -> list[str]:
    reply = await desk.ask("workloads", WorkloadsReply, shown=False)
    return sorted({each.name for each in reply.workloads})[:SUGGESTED]
