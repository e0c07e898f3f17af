"""Workloads: who is there, with which labels, on whose word; one of them with all that is known of it."""

from typing import Any

from stockade.core.model.inventory import Attachment
from stockade.errors import StockadeError
from stockade.web.asking import Desk, command
from stockade.web.forms import Form
from stockade.web.frame import Goto, View
from stockade.web.pages.asking import Asking
from stockade.web.words import link
from stockade.wire.api import (
    BirthsReply,
    LabelsRequest,
    ReachReply,
    WorkloadDetail,
    WorkloadReply,
    WorkloadsReply,
    WorkloadView,
)

PATH = "/workloads"
LABELS = "/workloads/labels"
ROWS = 100
"""On one page."""


async def page(desk: Desk, asking: Asking) -> View:
    """All workloads or some; beside them the one that was asked for."""
    select, host, shown = asking.text("select"), asking.text("host"), asking.text("show")
    only, start = asking.text("only"), asking.number("from", 0)
    rows, problem = await _listed(desk, select)
    rows = tuple(each for each in rows if _wanted(each, host, only))
    values: dict[str, Any] = {
        "select": select,
        "host": host,
        "only": only,
        "problem": problem,
        "rows": rows[start : start + ROWS],
        "start": start,
        "step": ROWS,
        "total": len(rows),
        "show": shown,
        "drawer": await _drawer(desk, shown) if shown else None,
    }
    commands = [command("workloads", *(("--select", select) if select else ()))]
    commands += [command("workloads", shown)] if shown else []
    return View("workloads", "Workloads", "workloads.html", values, tuple(commands), status=422 if problem else 200)


async def _listed(desk: Desk, select: str) -> tuple[tuple[WorkloadView, ...], StockadeError | None]:
    """Return the rows; where the selector is none, no rows and what is wrong with it."""
    try:
        return (await desk.ask("workloads", WorkloadsReply, select=select)).workloads, None
    except StockadeError as problem:
        return (), problem


def _wanted(each: WorkloadView, host: str, only: str) -> bool:
    kind = {"unknown": not each.labels, "held": each.held, "quarantined": each.quarantined}
    mode = each.mode is not None and each.mode.value == only
    return (not host or each.host == host) and (not only or kind.get(only, mode))


async def _drawer(desk: Desk, name: str) -> dict[str, Any]:
    try:
        detail = await desk.ask("workload", WorkloadDetail, workload=name)
        births = await desk.ask("births", BirthsReply, workload=detail.workload.id, last="5", shown=False)
        reach = await desk.ask("reach", ReachReply, of=detail.workload.id)
    except StockadeError as problem:
        return {"problem": problem, "name": name}
    return {
        "problem": None,
        "name": name,
        "detail": detail,
        "births": births.births,
        "reach": reach.reach,
        "own": {each.key: each.value for each in detail.workload.labels if each.source.value == "operator"},
        "ends": [each for each in detail.endpoints if each.attachment is not Attachment.HOST],
    }


async def set_labels(desk: Desk, _asking: Asking, form: Form) -> View | Goto:
    """Make what was written all the operator labels of a workload."""
    workload = form.text("workload")
    pairs = (each.partition("=") for each in form.text("labels").split())
    labels = {key: value for key, _, value in pairs}
    await desk.ask("set-labels", WorkloadReply, LabelsRequest(labels=labels), workload=workload)
    return Goto(link(PATH, select=form.text("select"), show=workload))
