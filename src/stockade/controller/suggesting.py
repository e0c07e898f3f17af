"""Recorded flows → suggested policy, and what a draft would have made of them. Reads; changes nothing."""

from collections.abc import Sequence

from stockade.controller.flow_queries import end_filter
from stockade.controller.flow_reading import recorded
from stockade.controller.refused import Refused, Why
from stockade.core import select
from stockade.core.graph.anomaly import Anomaly
from stockade.core.graph.scans import named
from stockade.core.graph.zoom import port_text
from stockade.core.model.policy import Rule
from stockade.core.model.selector import Selector
from stockade.core.model.snapshot import Snapshot
from stockade.core.plan.writing import rule_text
from stockade.core.policy.words import is_name
from stockade.core.suggest.replay import Replayed, replay
from stockade.core.suggest.suggest import ringfence, suggest
from stockade.core.suggest.tighten import tighten
from stockade.core.suggest.values import Evidence, Opens, Suggestion
from stockade.core.suggest.values import Refused as LeftOut
from stockade.errors import StockadeError
from stockade.seams.flow_store import FlowFilter, FlowStore
from stockade.wire.replay import ReplayedView, ReplayView
from stockade.wire.suggestions import (
    LeftOutView,
    RuleView,
    Share,
    SuggestReply,
    SuggestRequest,
)

LISTED = 50
"""Flows that a replay lists of each kind."""


def suggested(
    store: FlowStore, snapshot: Snapshot, request: SuggestRequest, now: float, suspicious: Sequence[Anomaly] = ()
) -> SuggestReply:
    """Suggest what was asked for; nothing is learnt from what shows an anomaly. Blocks.

    ``Refused`` where it cannot be, and why.
    """
    until = request.until or now
    if not is_name(request.name):
        raise Refused(Why.INVALID, f'"{request.name}" is no name for a policy', remedy="Letters, digits, - and dots.")
    try:
        return (
            _tightened(store, snapshot, request, until)
            if request.tighten
            else _drafted(store, snapshot, request, until, suspicious)
        )
    except Refused:
        raise
    except StockadeError as problem:
        raise Refused(Why.INVALID, problem.message, remedy=problem.remedy) from problem


def _drafted(
    store: FlowStore, snapshot: Snapshot, request: SuggestRequest, until: float, suspicious: Sequence[Anomaly]
) -> SuggestReply:
    wanted = _selector(request.selector)
    ends = end_filter(request.selector, snapshot)
    seen = recorded(store, snapshot, request.since, until, FlowFilter(source=ends), FlowFilter(destination=ends))
    make = ringfence if request.within else suggest
    found: Suggestion = make(seen.flows, snapshot, wanted, request.name, enforce=request.enforce, suspicious=suspicious)
    held = found.held_out
    return SuggestReply(
        text=found.text,
        rules=tuple(_rule(each.rule, each.evidence, each.opens) for each in found.rules),
        within=request.within,
        left_out=tuple(map(_left_out, found.refused)),
        since=request.since,
        until=until,
        recorded=len(seen.flows),
        covered=Share(found.coverage.connections, found.coverage.of_connections, 0.0, 1.0),
        denied=Share(held.flows.count, held.flows.of, held.flows.low, held.flows.high) if held else None,
        new=found.unseen.probability,
        partial_before=seen.partial_before,
    )


def _tightened(store: FlowStore, snapshot: Snapshot, request: SuggestRequest, until: float) -> SuggestReply:
    seen = recorded(store, snapshot, request.since, until)
    found = tighten(seen.flows, snapshot, request.name)
    rules = tuple(
        _rule(each.after or each.before, each.evidence, before=rule_text(each.before), gone=each.after is None)
        for each in found.rules
    )
    return SuggestReply(
        text=found.text,
        rules=rules,
        since=found.since,
        until=found.until,
        recorded=len(seen.flows),
        partial_before=seen.partial_before,
    )


def _selector(text: str) -> Selector:
    try:
        return select.parse(text)
    except select.SelectorError as problem:
        raise Refused(
            Why.INVALID, f'"{text}" is no selector: {problem}', remedy="For example: app = shop."
        ) from problem


def _rule(rule: Rule, evidence: Evidence | None, opens: Opens | None = None, *, before: str = "", gone: bool = False
          ) -> RuleView:  # fmt: skip
    shown = RuleView(rule.id, "" if gone else rule_text(rule), before)
    if evidence is None:
        return shown
    return RuleView(
        rule.id, shown.text, before, evidence.flows, evidence.connections, evidence.first, evidence.last,
        evidence.processes, _opens(opens),
    )  # fmt: skip


def _opens(opens: Opens | None) -> str:
    if opens is None:
        return ""
    parts = (
        ("from", ", ".join(opens.sources)),
        ("to", ", ".join(opens.destinations)),
        ("all of", ", ".join(opens.networks)),
        ("on", opens.on),
    )
    return "; ".join(f"{word} {what}" for word, what in parts if what)


def _left_out(each: LeftOut) -> LeftOutView:
    seen = each.traffic
    on = port_text(seen.protocol, seen.port)
    return LeftOutView(
        named(seen.source), named(seen.destination), on, seen.seen.connections, each.reason.value, each.detail,
        each.open,
    )  # fmt: skip


def replayed(store: FlowStore, active: Snapshot, draft: Snapshot, since: float, until: float) -> ReplayView:
    """Judge what was recorded in a time by a draft. Blocks."""
    seen = recorded(store, active, since, until)
    found = replay(seen.flows, active, draft)
    mixed = [each for each in found.mixed if not each.decision.allowed]
    cut, opened = sorted((*found.cut, *mixed), key=_most), sorted(found.opened, key=_most)
    return ReplayView(
        since,
        until,
        kept=sum(each.traffic.seen.passed for each in (*found.kept, *found.mixed) if each.decision.allowed),
        shut=sum(each.traffic.seen.denied for each in (*found.shut, *mixed)),
        cut=found.cut_connections,
        opened=sum(each.traffic.seen.denied for each in found.opened),
        cut_list=tuple(map(_replayed, cut[:LISTED])),
        opened_list=tuple(map(_replayed, opened[:LISTED])),
        partial_before=seen.partial_before,
    )


def _most(each: Replayed) -> tuple[int, str, str, int]:
    seen = each.traffic
    return (-seen.seen.connections, seen.source.address, seen.destination.address, seen.port)


def _replayed(each: Replayed) -> ReplayedView:
    seen = each.traffic
    return ReplayedView(
        named(seen.source),
        named(seen.destination),
        port_text(seen.protocol, seen.port),
        seen.seen.connections,
        each.decision.rule or "default",
    )
