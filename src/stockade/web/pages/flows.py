"""Flows: who talked to whom, what became of it and by which rule, as of any time; one by one, or summed up."""

from importlib.util import find_spec
from typing import Any

import msgspec

from stockade.core.graph.zoom import port_text
from stockade.core.model.flow import Verdict
from stockade.errors import StockadeError
from stockade.web.asking import Desk, command
from stockade.web.frame import View
from stockade.web.histogram import Histogram, histogram, step
from stockade.web.pages.asking import Asking
from stockade.web.pages.flow import drawer, token
from stockade.web.pages.flow_asking import PATH, FlowAsking, narrowed, read_asking
from stockade.web.words import stamp
from stockade.wire.flows import FlowGroupsReply, FlowGroupView, FlowLossView, FlowsReply, FlowStoreReply

STORE = "/flows/store"
ROWS, MOST = 50, 500
MOST_WRITTEN = 1_000_000
"""Flows in one file."""
ALL = 10_000
"""Groups of a histogram."""
SPANS = (("15m", "15 min"), ("1h", "1 h"), ("6h", "6 h"), ("1d", "1 day"), ("7d", "7 days"), ("30d", "30 days"))
BY = (
    ("Each flow", ""),
    ("Apps", "source.app,destination.app,verdict"),
    ("Roles", "source.role,destination.role,verdict"),
    ("Workloads", "source.workload,destination.workload,verdict"),
    ("Sources", "source.address,source.network"),
    ("Destinations", "destination.address,destination.network"),
    ("Ports", "protocol,port,verdict"),
    ("Verdicts", "verdict"),
    ("Rules", "rule,verdict"),
    ("Processes", "process,end"),
    ("Ways", "via,service"),
    ("Hosts", "host,verdict"),
)
"""What flows are summed up by at a touch; anything else that the API takes can be written."""
NEEDED = ("clickhouse_connect", "chdb", "pyarrow")


class Lost(msgspec.Struct, frozen=True, order=True):
    """What was lost in one place in a time, all of it."""

    where: str
    what: str
    count: int
    hosts: tuple[str, ...]


async def page(desk: Desk, asking: Asking) -> View:
    """The flows that are asked for; beside them the one that was asked for."""
    if desk.installation.controller.flows is None:
        return unkept(desk)
    now = desk.installation.controller.clock.now()
    asked = read_asking(asking, desk.installation.controller.snapshot, now)
    values: dict[str, Any] = {"wanted": asked, "spans": SPANS, "choices": BY, "most_written": MOST_WRITTEN}
    show = asking.text("show")
    values |= {"show": show, "after": asking.text("after"), "problem": None, "found": None, "kept": None}
    values["drawer"] = await drawer(desk, asked, show) if show else None
    if not asked.mistakes:
        try:
            values |= await _found(desk, asked, asking)
        except StockadeError as problem:
            values["problem"] = problem
    following = bool(asked.text("follow")) and asked.until is None and not values["after"]
    values["following"] = following
    return View(
        "flows",
        "Flows",
        "flows.html",
        values,
        (asked.command(), *((command("flows", "--store"),))),
        status=422 if asked.mistakes or values["problem"] else 200,
        still=not following,
        flows=following,
    )


async def _found(desk: Desk, asked: FlowAsking, asking: Asking) -> dict[str, Any]:
    which, by = asked.which, asked.text("by")
    limit = min(asking.number("limit", ROWS), MOST) or ROWS
    kept = await desk.ask("flow-store", FlowStoreReply, since=which["since"], shown=False)
    found: dict[str, Any] = {"kept": kept, "lost": lost(kept, asked.until), "groups": None, "flows": None}
    if by:
        order = asked.text("order")
        found["groups"] = await desk.ask(
            "flow-groups", FlowGroupsReply, by=by, order=order, limit=str(limit), which=which
        )
        found["rows"] = [(each, narrowed(asked, _names(by), each.values)) for each in found["groups"].groups]
    else:
        reply = await desk.ask("flows", FlowsReply, limit=str(limit), after=asking.text("after"), which=which)
        found["flows"] = reply
        found["rows"] = [(each, token(each)) for each in reply.flows]
    found |= {"counts": await _counts(desk, which), "histogram": await _histogram(desk, asked)}
    return {"found": found, "kept": kept, "limit": limit, "cell": cell}


async def _counts(desk: Desk, which: dict[str, str]) -> list[tuple[Verdict, int]]:
    """Connections of each verdict, whichever of them is shown; of what is carried, how many ended."""
    others = {name: value for name, value in which.items() if name != "verdict"}
    reply = await desk.ask("flow-groups", FlowGroupsReply, by="verdict", shown=False, which=others)
    counted = {Verdict(each.values[0]): each for each in reply.groups}
    return [(each, _count(counted[each])) for each in Verdict if each in counted]


def _count(group: FlowGroupView) -> int:
    return group.ended if group.values[0] == Verdict.CARRIED else group.connections


async def _histogram(desk: Desk, asked: FlowAsking) -> Histogram:
    until = asked.until if asked.until is not None else desk.installation.controller.clock.now()
    by = f"{step(asked.since, until)[0]},verdict"
    reply = await desk.ask("flow-groups", FlowGroupsReply, by=by, limit=str(ALL), shown=False, which=asked.which)
    return histogram(asked.since, until, reply.groups)


def _names(by: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in by.split(",") if part.strip())


def cell(name: str, value: str | int | None) -> str:
    """Return a group's value as a person reads it."""
    if value is None or value == "":
        return "–"
    if name in ("minute", "hour", "day"):
        return stamp(int(value))
    if name == "protocol":
        return port_text(int(value), 0).removesuffix("/0")
    return {"egress": "source", "ingress": "destination"}.get(str(value), str(value)) if name == "end" else str(value)


def lost(kept: FlowStoreReply, until: float | None) -> tuple[Lost, ...]:
    """Sum up what was lost before a moment, by where and what."""
    found: dict[tuple[str, str], list[FlowLossView]] = {}
    for each in kept.losses:
        if until is None or each.at < until:
            found.setdefault((each.where, each.what), []).append(each)
    return tuple(
        Lost(where, what, sum(each.count for each in those), tuple(sorted({each.host for each in those})))
        for (where, what), those in sorted(found.items())
    )


def unkept(desk: Desk) -> View:
    """Say why there are no flows, and what would change it."""
    setting = next((each for each in desk.installation.settings if each.name == "flows"), None)
    absent = [each for each in NEEDED if find_spec(each) is None]
    values = {"off": setting is not None and setting.value == "off", "setting": setting, "absent": absent}
    return View("flows", "Flows", "flows_unkept.html", values, (command("flows"),), still=True)


async def store_page(desk: Desk, asking: Asking) -> View:
    """Where flows are kept, for how long, and what was lost of them."""
    if desk.installation.controller.flows is None:
        return unkept(desk)
    now = desk.installation.controller.clock.now()
    asked = read_asking(asking, desk.installation.controller.snapshot, now)
    since = asked.since if asking.text("since") and not asked.mistakes else now - 7 * 86_400
    reply = await desk.ask("flow-store", FlowStoreReply, since=f"{since:.0f}")
    values = {"kept": reply, "since": since, "wanted": asked, "spans": SPANS, "sums": lost(reply, None)}
    return View("flows", "What is kept of flows", "flow_store.html", values, (command("flows", "--store"),), still=True)


__all__ = ["PATH", "STORE", "page", "store_page", "unkept"]
