"""One flow, beside the others: its ends as they were, what decided and where that is written, what it came to.

A flow has no number that outlives its page: it is named by its moment and a hash of all that is said of it.
"""

import hashlib
from typing import Any

import msgspec

from stockade.controller.refused import Refused, Why
from stockade.core.model.flow import BY_EXPORTER, Verdict
from stockade.core.model.ids import RuleId, Version
from stockade.core.model.policy import Where
from stockade.core.plan.writing import rule_text
from stockade.errors import StockadeError
from stockade.web.asking import Desk
from stockade.web.pages.flow_asking import FlowAsking, number
from stockade.web.words import calendar, link
from stockade.wire.api import HistoryReply
from stockade.wire.flows import FlowEndView, FlowsReply, FlowView

BESIDE = 0.001
"""Seconds around a flow's moment in which it is looked for: moments are rounded on their way."""
AROUND = 60.0
"""Seconds around a flow in which what else the two did is shown."""
OTHERS = 12
VERSIONS = 1000
OURS = {
    "default": "no rule spoke of it: the mode decided",
    "held": "it was held: it waited to be allowed anything",
    "forged": "what it sent was not in its own name",
    "midstream": "it was under way before Stockade judged here",
    BY_EXPORTER: "a device without an agent says that it dropped it",
    "invalid": "it belonged to no connection that is known",
}
"""What decides where no rule of a policy does."""


class Decider(msgspec.Struct, frozen=True):
    """What decided: a rule with its place in the version that was active then, or what Stockade decides by itself."""

    rule: RuleId
    meaning: str = ""
    version: Version | None = None
    where: Where | None = None
    text: str = ""
    later: bool = False
    """That version became active only after the flow, and says how the rule is written now."""


def token(flow: FlowView) -> str:
    """Return what names a flow in an address."""
    said = hashlib.sha256(msgspec.json.encode(flow)).hexdigest()[:16]
    return f"{number(flow.first)}-{said}"


async def drawer(desk: Desk, asked: FlowAsking, show: str) -> dict[str, Any]:
    """Return all that is known of one flow, or why nothing is."""
    try:
        flow = await _find(desk, show)
        return {"problem": None, "flow": flow, **await _told(desk, asked, flow)}
    except StockadeError as problem:
        return {"problem": problem, "flow": None}


async def _find(desk: Desk, show: str) -> FlowView:
    moment, _, _ = show.partition("-")
    gone = Refused(
        Why.UNKNOWN,
        "that flow is not kept singly any more, or never was",
        remedy="Ask for its time, summed up: flows are kept by the minute and by the hour for longer.",
    )
    try:
        at = float(moment)
    except ValueError:
        raise gone from None
    if not 0 <= at < 2**53:
        raise gone
    around = {"since": number(max(at - BESIDE, 0.0)), "until": number(at + BESIDE)}
    reply = await desk.ask("flows", FlowsReply, limit="10000", shown=False, which=around)
    found = next((each for each in reply.flows if token(each) == show), None)
    if found is None:
        raise gone
    return found


async def _told(desk: Desk, asked: FlowAsking, flow: FlowView) -> dict[str, Any]:
    ends = [_named_now(desk, each) for each in (flow.source, flow.destination)]
    pair: dict[str, str] = {
        "from": flow.source.workload or flow.source.address,
        "to": flow.destination.workload or flow.destination.address,
    }
    others = await _others(desk, flow, pair)
    return {
        "decider": await _decider(desk, flow),
        "explain": link("/explain", source=ends[0], destination=ends[1], on=flow.on),
        "there": [_there(desk, each) for each in (flow.source, flow.destination)],
        "pair": link("/flows", since=asked.text("since"), at=asked.text("at"), **pair),
        "others": [(each, token(each)) for each in others],
        "map": link("/map", at=calendar(flow.last + 1)),
    }


def _there(desk: Desk, end: FlowEndView) -> bool:
    return end.workload is not None and end.workload in desk.installation.controller.snapshot.workloads


def _named_now(desk: Desk, end: FlowEndView) -> str:
    return str(end.workload) if _there(desk, end) else end.address


async def _others(desk: Desk, flow: FlowView, pair: dict[str, str]) -> list[FlowView]:
    """What else was told of these two on that port about then: the other end's verdict, what was carried."""
    around = {"since": number(max(flow.first - AROUND, 0.0)), "until": number(flow.last + AROUND)}
    try:
        reply = await desk.ask(
            "flows", FlowsReply, on=flow.on, limit=str(OTHERS), shown=False, which={**pair, **around}
        )
    except Refused:
        return []  # a protocol that policy has no word for
    return [each for each in reply.flows if token(each) != token(flow)]


async def _decider(desk: Desk, flow: FlowView) -> Decider:
    if flow.verdict is Verdict.CARRIED:
        return Decider(flow.rule)
    if flow.rule in OURS:
        return Decider(flow.rule, OURS[flow.rule])
    history = await desk.ask("history", HistoryReply, limit=str(VERSIONS), shown=False)
    then = [each.number for each in history.versions if each.at <= flow.first][:2]  # a host may have lagged behind
    since = [each.number for each in history.versions if each.active and each.number not in then]
    for number_ in (*then, *since):
        stored = await desk.installation.lifecycle.stored(number_)
        for rule in (rule for policy in stored.policy.policies for rule in policy.rules if rule.id == flow.rule):
            return Decider(flow.rule, "", number_, rule.where, rule_text(rule), later=number_ in since)
    return Decider(flow.rule, "that rule is in no version that was active then")
