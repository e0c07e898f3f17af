"""Births: how soon after its creation each workload was contained, and what it could do until then."""

from typing import Any

import msgspec

from stockade.errors import StockadeError
from stockade.web.asking import Desk, command
from stockade.web.frame import View
from stockade.web.pages.asking import Asking
from stockade.wire.api import BirthsReply, BirthView

PATH = "/births"
ROWS = 50
MOST = 1000


class Bar(msgspec.Struct, frozen=True):
    """A birth on a scale of 0 to 1000 from its creation: while nothing held it, while it could not do what it may."""

    leak: int
    dead: int
    open: bool
    """It still waits."""


async def page(desk: Desk, asking: Asking) -> View:
    """The newest births, or the slowest."""
    workload, slowest = asking.text("workload"), bool(asking.text("slowest"))
    leaked, last = bool(asking.text("leaked")), min(asking.number("last", ROWS), MOST)
    values: dict[str, Any] = {"workload": workload, "slowest": slowest, "leaked": leaked, "last": last, "problem": None}
    births: tuple[BirthView, ...] = ()
    values["runtimes"] = ()
    try:
        reply = await desk.ask(
            "births", BirthsReply, workload=workload, last=str(MOST if leaked else last), slowest="1" if slowest else ""
        )
        births, values["runtimes"] = reply.births, reply.runtimes
    except StockadeError as problem:
        values["problem"] = problem
    births = tuple(each for each in births if each.leak or not leaked)[:last]
    values["births"] = [(each, bar(each, _longest(births))) for each in births]
    words = ["births", workload, *(("--slowest",) if slowest else ()), *(("--last", str(last)) if last != ROWS else ())]
    status = 422 if values["problem"] else 200
    return View("births", "Births", "births.html", values, (command(*words),), status=status)


def _longest(births: tuple[BirthView, ...]) -> float:
    return max((each.dead or 0.0 for each in births), default=0.0) or 1.0


def bar(each: BirthView, longest: float) -> Bar:
    """Lay a birth on the scale whose end is the longest of those shown."""
    return Bar(
        leak=min(round((each.leak or 0.0) / longest * 1000), 1000),
        dead=min(round((each.dead or 0.0) / longest * 1000), 1000),
        open=each.allowed is None,
    )
