"""One function for each route about flows: a call in, a reply out."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from stockade.controller.flow_queries import dimensions, flow_filter, flows_reply, groups_reply, measure, store_reply
from stockade.controller.flows import FlowIntake
from stockade.controller.graphs import SHAPES, Asked, graph
from stockade.controller.http.call import Call
from stockade.controller.installation import Installation
from stockade.controller.refused import Refused, Why
from stockade.controller.suggesting import replayed, suggested
from stockade.seams.flow_store import FlowFilter, FlowQuery
from stockade.wire.api import Message, PlanRequest
from stockade.wire.flows import FlowGroupsReply, FlowsReply, FlowStoreReply
from stockade.wire.graph import GraphReply, GraphRequest
from stockade.wire.replay import ReplayView
from stockade.wire.suggestions import SuggestReply, SuggestRequest

Handler = Callable[[Installation, Call], Awaitable[Message]]

MOST_ROWS = 10_000
"""The most that one reply lists, whatever was asked for."""
ROWS = 100
LATELY = 3600.0
"""Seconds of which losses are told unless others are asked for."""


def asked_flows(installation: Installation, call: Call) -> FlowFilter:
    """Return which flows a request is about."""
    return flow_filter(
        installation.controller.snapshot,
        source=call.text("from"),
        destination=call.text("to"),
        on=call.text("on"),
        verdict=call.text("verdict"),
        rule=call.text("rule"),
        host=call.text("host"),
        process=call.text("process"),
        end=call.text("end"),
        via=call.text("via"),
        service=call.text("service"),
        since=call.seconds("since") or None,
        until=call.seconds("until") or None,
    )


def kept_flows(installation: Installation) -> FlowIntake:
    """Return where flows are kept. ``Refused`` where they are not."""
    if installation.controller.flows is None:
        raise Refused(
            Why.UNKNOWN,
            "no flows are kept here",
            remedy="Set flows to a folder or a ClickHouse server's URL (docs/settings.md) and start Stockade again.",
        )
    return installation.controller.flows


async def _flows(installation: Installation, call: Call) -> FlowsReply:
    store, where = kept_flows(installation).store, asked_flows(installation, call)
    limit = min(call.number("limit", ROWS), MOST_ROWS)
    return flows_reply(await asyncio.to_thread(store.flows, where, limit, call.text("after") or None))


async def _flow_groups(installation: Installation, call: Call) -> FlowGroupsReply:
    store, by = kept_flows(installation).store, call.text("by")
    query = FlowQuery(
        asked_flows(installation, call),
        dimensions(by),
        measure(call.text("order", "connections")),
        limit=min(call.number("limit", ROWS), MOST_ROWS),
    )
    return groups_reply(by, await asyncio.to_thread(store.groups, query))


async def _flow_store(installation: Installation, call: Call) -> FlowStoreReply:
    flows, now = kept_flows(installation), installation.controller.clock.now()
    stats = await asyncio.to_thread(flows.store.stats)
    losses = await asyncio.to_thread(flows.store.losses, call.seconds("since") or now - LATELY, now + 1)
    return store_reply(stats, losses, flows.skews, installation.exporters)


async def _suggest(installation: Installation, call: Call) -> SuggestReply:
    controller, request = installation.controller, call.request(SuggestRequest)
    store, now = kept_flows(installation).store, controller.clock.now()
    watch = installation.anomalies
    suspicious = watch.suspicious(request.since, request.until or now) if watch else ()
    return await asyncio.to_thread(suggested, store, controller.snapshot, request, now, suspicious)


async def _graph(installation: Installation, call: Call) -> GraphReply:
    return await asyncio.to_thread(graph, installation.graphs, installation.controller, asked_graph(call))


async def _draft_graph(installation: Installation, call: Call) -> GraphReply:
    draft = await installation.lifecycle.snapshot_with(PlanRequest(files=call.request(GraphRequest).files))
    return await asyncio.to_thread(graph, installation.graphs, installation.controller, asked_graph(call), draft)


def asked_graph(call: Call) -> Asked:
    """Return what a request asks of the map. ``Refused`` where it asks for two times at once."""
    until, at = call.seconds("until"), call.seconds("at")
    if until and at:
        raise Refused(Why.MALFORMED, "until and at are the same; one of them is enough")
    return Asked(
        by=call.text("by"),
        source=call.text("from"),
        destination=call.text("to"),
        select=call.text("select"),
        verdict=call.text("verdict"),
        since=call.seconds("since") or None,
        until=until or at or None,
        limit=call.number("limit", SHAPES),
        unseen=call.flag("unseen"),
        strands=not call.flag("seen"),
    )


async def replay_of(installation: Installation, request: PlanRequest) -> ReplayView | None:
    """Judge what was recorded by a draft; None where that was not asked for."""
    if request.replay is None:
        return None
    store, controller = kept_flows(installation).store, installation.controller
    active, draft = controller.snapshot, await installation.lifecycle.snapshot_with(request)
    now = controller.clock.now()
    return await asyncio.to_thread(replayed, store, active, draft, now - request.replay, now)


FLOW_HANDLERS: Mapping[str, Handler] = {
    "flows": _flows,
    "flow-groups": _flow_groups,
    "flow-store": _flow_store,
    "suggest": _suggest,
    "graph": _graph,
    "draft-graph": _draft_graph,
}
