"""Search: a few words, found in names, labels, addresses, rules and hosts. What is found leads to its page."""

from collections.abc import Iterator

import msgspec

from stockade.core.model.policy import Where
from stockade.web.asking import Desk, command
from stockade.web.frame import RAIL, View
from stockade.web.pages.asking import Asking
from stockade.web.words import BUILT_IN, link, place, place_link
from stockade.wire.api import WorkloadsReply, WorkloadView

PATH = "/search"
SHOWN = 50
"""Of each kind."""


class Hit(msgspec.Struct, frozen=True):
    """One thing that was found: what it is called, where it leads, what was said beside it."""

    name: str
    path: str
    beside: str = ""


async def page(desk: Desk, asking: Asking) -> View:
    """Everything that holds all the words."""
    text = asking.text("q")
    needles = text.lower().split()
    found: dict[str, list[Hit]] = {}
    if needles:
        reply = await desk.ask("workloads", WorkloadsReply)
        kinds = {"Workloads": _workloads(reply.workloads), "Rules": _rules(desk), "Enforcement points": _hosts(desk)}
        kinds["Pages"] = (Hit(each.title, each.path) for each in RAIL)
        for kind, hits in kinds.items():
            found[kind] = [hit for hit in hits if _holds(hit, needles)]
    shown = {kind: hits[:SHOWN] for kind, hits in found.items() if hits}
    counts = {kind: len(hits) for kind, hits in found.items()}
    return View("", "Search", "search.html", {"text": text, "found": shown, "counts": counts}, (command("workloads"),))


def _holds(hit: Hit, needles: list[str]) -> bool:
    text = f"{hit.name} {hit.beside}".lower()
    return all(each in text for each in needles)


def _workloads(views: tuple[WorkloadView, ...]) -> Iterator[Hit]:
    for each in views:
        labels = " ".join(f"{label.key}={label.value}" for label in each.labels)
        yield Hit(each.name, link("/workloads", show=each.id), " ".join((each.id, labels, *each.addresses)))


def _rules(desk: Desk) -> Iterator[Hit]:
    for policy in desk.installation.controller.snapshot.policy.policies:
        for rule in policy.rules:
            yield Hit(rule.id, _rule_path(rule.where), place(rule.where))


def _rule_path(where: Where) -> str:
    return "/policies/active" if where.file == BUILT_IN else place_link(where)


def _hosts(desk: Desk) -> Iterator[Hit]:
    for host in sorted(desk.installation.controller.snapshot.hosts):
        yield Hit(host, link("/points", show=host))
