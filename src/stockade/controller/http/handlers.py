"""One function a route: a call in, a reply out. Thin: what they say is decided elsewhere."""

import asyncio
from collections.abc import Mapping

from stockade.controller.accepting import accept, reopen
from stockade.controller.births import by_runtime, dead_for
from stockade.controller.completeness import completeness_reply, workload_detail
from stockade.controller.finding_views import accepted_view, every_finding
from stockade.controller.http.call import Call
from stockade.controller.http.flow_handlers import FLOW_HANDLERS, Handler, replay_of
from stockade.controller.installation import Installation, status
from stockade.controller.labels import set_labels
from stockade.controller.links import LIFE
from stockade.controller.listing import rule_texts, text
from stockade.controller.refused import Refused, Why, unknown
from stockade.controller.views import (
    birth_view,
    find,
    label_uses,
    places,
    version_view,
    workload_view,
    workload_views,
)
from stockade.core.model.ids import HostId, Revision, Version, WorkloadId
from stockade.core.model.intent import Intent
from stockade.wire.api import (
    AcceptedReply,
    AcceptRequest,
    ApplyRequest,
    AssignmentReply,
    AuditEntry,
    AuditReply,
    BirthsReply,
    CompletenessReply,
    ConfirmRequest,
    ConsoleLinkReply,
    ConsoleLinkRequest,
    DoctorReply,
    EventsReply,
    ExplainReply,
    File,
    FindingsReply,
    HistoryReply,
    LabelsReply,
    LabelsRequest,
    ModeRequest,
    OffRequest,
    PlanReply,
    PlanRequest,
    PolicyReply,
    ReachReply,
    ReopenRequest,
    ReportReply,
    ReportRequest,
    RollbackRequest,
    RulesReply,
    StatusReply,
    StoredEvent,
    VersionReply,
    WorkloadDetail,
    WorkloadReply,
    WorkloadsReply,
)

MOST_ROWS = 10_000
SUMMED_UP = 1_000
"""The newest births, of which the slowest are told and percentiles taken."""
"""The most that one reply lists, whatever was asked for."""
LONGEST_POLL = 60.0


async def _status(installation: Installation, call: Call) -> StatusReply:
    return await status(installation, call.caller)


async def _workloads(installation: Installation, call: Call) -> WorkloadsReply:
    controller = installation.controller
    views = workload_views(controller.snapshot, controller.roster, call.text("select"))
    return WorkloadsReply(revision=controller.snapshot.revision, workloads=views)


async def _workload(installation: Installation, call: Call) -> WorkloadDetail:
    controller = installation.controller
    return workload_detail(controller.snapshot, controller.roster, find(controller.snapshot, call.text("workload")))


async def _completeness(installation: Installation, _: Call) -> CompletenessReply:
    controller = installation.controller
    return await asyncio.to_thread(completeness_reply, controller.snapshot, controller.roster, controller.clock.now())


async def _labels(installation: Installation, _: Call) -> LabelsReply:
    return LabelsReply(labels=label_uses(installation.controller.snapshot))


async def _set_labels(installation: Installation, call: Call) -> WorkloadReply:
    controller = installation.controller
    labels = call.request(LabelsRequest).labels
    workload = await set_labels(controller, call.text("workload"), labels, call.caller)
    view = workload_view(controller.snapshot, controller.roster, workload, places(controller.snapshot))
    return WorkloadReply(revision=controller.snapshot.revision, workload=view)


async def _plan(installation: Installation, call: Call) -> PlanReply:
    request = call.request(PlanRequest)
    plan = await installation.lifecycle.plan(request)
    replay = None if plan.problems else await replay_of(installation, request)
    return PlanReply(plan=plan, replay=replay)


async def _apply(installation: Installation, call: Call) -> VersionReply:
    return await installation.lifecycle.apply(call.request(ApplyRequest), call.caller)


async def _confirm(installation: Installation, call: Call) -> VersionReply:
    return await installation.lifecycle.confirm(call.request(ConfirmRequest), call.caller)


async def _rollback(installation: Installation, call: Call) -> VersionReply:
    return await installation.lifecycle.rollback(call.request(RollbackRequest), call.caller)


async def _mode(installation: Installation, call: Call) -> VersionReply:
    return await installation.lifecycle.mode(call.request(ModeRequest), call.caller)


async def _off(installation: Installation, call: Call) -> VersionReply:
    return await installation.lifecycle.off(call.request(OffRequest), call.caller)


async def _history(installation: Installation, call: Call) -> HistoryReply:
    controller = installation.controller
    stored = await asyncio.to_thread(controller.store.versions, _rows(call, "limit", MOST_ROWS))
    return HistoryReply(versions=tuple(version_view(each, controller.snapshot.version) for each in stored))


async def _policy(installation: Installation, call: Call) -> PolicyReply:
    active = installation.controller.snapshot.version
    stored = await installation.lifecycle.stored(_version(call.text("version"), active))
    files = tuple(File(each.name, each.text) for each in stored.files)
    return PolicyReply(version=version_view(stored, active), files=files, canonical=stored.canonical)


def _version(wanted: str, active: Version) -> Version:
    if wanted == "active":
        return active
    if not (wanted.isascii() and wanted.isdigit() and len(wanted) < 16):
        raise Refused(Why.MALFORMED, f'"{wanted}" is no version', remedy="Give a number, or `active`.")
    return Version(int(wanted))


async def _explain(installation: Installation, call: Call) -> ExplainReply:
    controller = installation.controller
    ends = (call.text("source"), call.text("destination"), call.text("on"))
    explanation = await asyncio.to_thread(controller.parts.explain, controller.snapshot, *ends)
    hosts = sorted({each.host for each in explanation.ends if each.host})
    realised = tuple((host, controller.roster.in_force(host)) for host in hosts)
    return ExplainReply(explanation=explanation, realised=realised)


async def _reach(installation: Installation, call: Call) -> ReachReply:
    controller = installation.controller
    return ReachReply(reach=await asyncio.to_thread(controller.parts.reach, controller.snapshot, call.text("of")))


async def _rules(installation: Installation, call: Call) -> RulesReply:
    controller = installation.controller
    intent = _intent(controller.roster.wanted, call.text("host"))
    ruleset = await asyncio.to_thread(controller.parts.render, intent)
    return RulesReply(
        host=intent.host,
        version=intent.version,
        revision=intent.revision,
        text=text(ruleset),
        rules=rule_texts(intent, ruleset, controller.roster.counters.get(intent.host)),
    )


def _intent(wanted: Mapping[HostId, Intent], host: str) -> Intent:
    if host == "local" and len(wanted) == 1:
        return next(iter(wanted.values()))
    if (intent := wanted.get(HostId(host))) is None:
        raise unknown("host", host, f"There {'are' if wanted else 'is'}: {', '.join(sorted(wanted)) or 'none yet'}.")
    return intent


async def _births(installation: Installation, call: Call) -> BirthsReply:
    controller = installation.controller
    workload = _born(installation, call.text("workload"))
    last = _rows(call, "last", 20)
    every = await asyncio.to_thread(controller.store.births, max(last, SUMMED_UP), workload)
    shown = (sorted(every, key=dead_for, reverse=True) if call.flag("slowest") else every)[:last]
    views = tuple(birth_view(controller.snapshot, controller.roster, each) for each in shown)
    return BirthsReply(births=views, runtimes=by_runtime(every))


def _born(installation: Installation, name: str) -> WorkloadId | None:
    """Return the workload's id; one that is gone may still be asked for by its id."""
    if not name:
        return None
    try:
        return find(installation.controller.snapshot, name).id
    except Refused as refusal:
        if refusal.why is Why.UNKNOWN:
            return WorkloadId(name)
        raise


async def _audit(installation: Installation, call: Call) -> AuditReply:
    before = call.number("before", 0) or None
    entries = await asyncio.to_thread(installation.controller.store.audit, _rows(call, "last", 50), before)
    return AuditReply(
        entries=tuple(
            AuditEntry(
                number=each.number,
                at=each.at,
                who=each.entry.who,
                uid=each.entry.uid,
                action=each.entry.action,
                target=each.entry.target,
                outcome=each.entry.outcome,
                detail=each.entry.detail,
            )
            for each in entries
        )
    )


async def _findings(installation: Installation, call: Call) -> FindingsReply:
    controller = installation.controller
    host, hosts = HostId(call.text("host")), sorted(controller.snapshot.hosts)
    if host and host not in hosts:
        raise unknown("host", host, f"There {'are' if hosts else 'is'}: {', '.join(hosts) or 'none yet'}.")
    return every_finding(controller, host or None)


async def _accept_finding(installation: Installation, call: Call) -> AcceptedReply:
    made = await accept(installation.controller, call.request(AcceptRequest), call.caller)
    return AcceptedReply(accepted=accepted_view(installation.controller, made))


async def _reopen_finding(installation: Installation, call: Call) -> AcceptedReply:
    known = await reopen(installation.controller, call.request(ReopenRequest), call.caller)
    return AcceptedReply(accepted=accepted_view(installation.controller, known))


async def _doctor(installation: Installation, _: Call) -> DoctorReply:
    return DoctorReply(checks=tuple(await asyncio.to_thread(installation.controller.parts.doctor)))


async def _console_link(installation: Installation, call: Call) -> ConsoleLinkReply:
    book = installation.links
    if book is None:
        raise Refused(
            Why.CONFLICT,
            "there is no web console: the setting `console` is off",
            remedy="Set it, or STOCKADE_CONSOLE, to 127.0.0.1 or to an address and a port, and start Stockade again.",
        )
    link, user = book.issue(call.caller, read_only=call.request(ConsoleLinkRequest).read_only)
    return ConsoleLinkReply(link=link, user=user, seconds=LIFE)


async def _events(installation: Installation, call: Call) -> EventsReply:
    controller = installation.controller
    since, limit = Revision(call.number("since", 0)), _rows(call, "limit", 1000)
    stored = await asyncio.to_thread(controller.store.events, since, limit)
    events = tuple(StoredEvent(each.revision, each.at, each.event) for each in stored)
    return EventsReply(revision=controller.snapshot.revision, events=events)


async def _report(installation: Installation, call: Call) -> ReportReply:
    generation = await installation.controller.take(call.request(ReportRequest).message)
    return ReportReply(revision=installation.controller.snapshot.revision, generation=generation)


async def _assignment(installation: Installation, call: Call) -> AssignmentReply:
    wait = min(call.seconds("wait"), LONGEST_POLL)
    assigned = await installation.controller.assignment(HostId(call.text("host")), call.text("since"), wait)
    return AssignmentReply(assignment=assigned)


def _rows(call: Call, name: str, default: int) -> int:
    return min(call.number(name, default), MOST_ROWS)


HANDLERS: Mapping[str, Handler] = {
    "status": _status,
    "workloads": _workloads,
    "workload": _workload,
    "completeness": _completeness,
    "labels": _labels,
    "set-labels": _set_labels,
    "plan": _plan,
    "apply": _apply,
    "confirm": _confirm,
    "history": _history,
    "policy": _policy,
    "rollback": _rollback,
    "mode": _mode,
    "off": _off,
    "explain": _explain,
    "reach": _reach,
    "rules": _rules,
    "births": _births,
    "audit": _audit,
    "findings": _findings,
    "accept-finding": _accept_finding,
    "reopen-finding": _reopen_finding,
    "doctor": _doctor,
    "console-link": _console_link,
    "events": _events,
    "report": _report,
    "assignment": _assignment,
    **FLOW_HANDLERS,
}
