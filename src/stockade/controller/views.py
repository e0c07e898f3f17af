"""Snapshot and records → what the API shows. Pure; everything sorted, so that the same state has the same bytes."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from stockade.controller.census import Census
from stockade.controller.findings import FindingBoard
from stockade.controller.refused import Refused, Why, unknown
from stockade.controller.roster import Roster
from stockade.core import select
from stockade.core.fold.declared import declared_id
from stockade.core.model.finding import Finding, Severity, finding_id
from stockade.core.model.ids import CheckId, HostId, Version, WorkloadId
from stockade.core.model.inventory import Workload
from stockade.core.model.policy import Births, Mode, Where
from stockade.core.model.selector import Selector
from stockade.core.model.snapshot import Snapshot
from stockade.core.oracle import mode
from stockade.errors import StockadeError
from stockade.seams.store import Birth, StoredVersion, Unconfirmed
from stockade.wire.api import (
    BirthView,
    FindingsReply,
    HostFinding,
    HostUnassessed,
    HostView,
    LabelUse,
    Pending,
    VersionView,
    WorkloadView,
)


def version_view(stored: StoredVersion, active: Version) -> VersionView:
    """Describe one version."""
    return VersionView(
        number=stored.number,
        author=stored.author,
        note=stored.note,
        at=stored.at,
        hash=stored.hash,
        policies=len(stored.policy.policies),
        rules=sum(len(policy.rules) for policy in stored.policy.policies),
        active=stored.number == active,
        restores=stored.restores,
    )


def findings_view(board: FindingBoard, hosts: Iterable[HostId]) -> FindingsReply:
    """Describe what is wrong on hosts, worst first, but for what is accepted. A host that said nothing is not clean."""
    found: list[HostFinding] = []
    unassessed: list[HostUnassessed] = []
    for host in sorted(hosts):
        said = board.by_host.get(host)
        if said is None:
            unassessed.append(HostUnassessed(host, CheckId(""), "it has not said what it finds", "is its agent up?"))
            continue
        found += [host_finding(host, each) for each in board.unaccepted(said)]
        unassessed += [HostUnassessed(host, each.check, each.why, each.remedy) for each in said.unassessed]
    order = list(Severity)
    found.sort(key=lambda each: (order.index(each.severity), each.host, each.check, each.object))
    return FindingsReply(findings=tuple(found), unassessed=tuple(unassessed))


def severity_counts(found: FindingsReply) -> tuple[tuple[Severity, int], ...]:
    """Count the findings of each severity that has any, worst first."""
    counted = Counter(each.severity for each in found.findings)
    return tuple((each, counted[each]) for each in Severity if counted[each])


def host_finding(host: HostId, each: Finding) -> HostFinding:
    """Describe one finding, without its evidence."""
    return HostFinding(
        host, each.check, each.object, each.severity, each.seen, each.remedy, each.since,
        id=finding_id(host, each.check, each.object),
    )  # fmt: skip


def pending_view(waits: Unconfirmed | None) -> Pending | None:
    """Describe what waits to be confirmed."""
    return None if waits is None else Pending(waits.version, waits.returns_to, waits.deadline)


def quarantined(snapshot: Snapshot, workload: Workload) -> bool:
    """Tell whether a quarantine that has not lapsed holds a workload."""
    return workload.known and any(
        each.name not in snapshot.lapsed and select.matches(each.select, workload.labels, workload.name)
        for each in snapshot.policy.quarantines
    )


def places(snapshot: Snapshot) -> Mapping[WorkloadId, Where]:
    """Return where the document of each declared workload stands."""
    return {declared_id(each): each.where for each in snapshot.policy.workloads}


def workload_view(
    snapshot: Snapshot, roster: Roster, workload: Workload, written: Mapping[WorkloadId, Where]
) -> WorkloadView:
    """Describe one workload. One that shares its owner's network namespace is judged as its owner.

    ``written`` tells where the documents of declared ones stand.
    """
    seen = workload.seen
    judged = snapshot.workloads.get(seen.owner, workload) if seen.owner else workload
    return WorkloadView(
        id=workload.id,
        name=workload.name,
        kind=seen.kind,
        state=seen.state,
        host=seen.host,
        addresses=tuple(sorted({address for each in judged.seen.endpoints for address in each.addresses})),
        labels=workload.labels.items,
        conflicts=workload.conflicts,
        mode=_mode(snapshot, judged),
        held=not judged.known and _births(roster, seen.host) is Births.HOLD,
        quarantined=quarantined(snapshot, judged),
        owner=seen.owner,
        image=seen.facts.image,
        runtime=seen.facts.runtime,
        created=seen.created,
        written=written.get(workload.id),
    )


def _mode(snapshot: Snapshot, workload: Workload) -> Mode | None:
    """Return the mode of a known workload that a host of ours carries."""
    carried = workload.seen.host in snapshot.hosts
    return mode(snapshot, workload) if carried and workload.known else None


def _births(roster: Roster, host: HostId | None) -> Births | None:
    intent = roster.wanted.get(host) if host else None
    return intent.births if intent else None


def workload_views(snapshot: Snapshot, roster: Roster, selector: str = "") -> tuple[WorkloadView, ...]:
    """Describe all workloads, or those that a selector matches, by name and id."""
    chosen = sorted(_chosen(snapshot, selector), key=lambda each: (each.name, each.id))
    written = places(snapshot)
    return tuple(workload_view(snapshot, roster, each, written) for each in chosen)


def _chosen(snapshot: Snapshot, selector: str) -> Iterable[Workload]:
    if not selector:
        return snapshot.workloads.values()
    try:
        parsed = select.parse(selector)
    except StockadeError as problem:
        raise Refused(Why.INVALID, problem.message, remedy=problem.remedy) from problem
    return (each for each in snapshot.workloads.values() if each.known and _matches(parsed, each))


def _matches(selector: Selector, workload: Workload) -> bool:
    return select.matches(selector, workload.labels, workload.name)


def find(snapshot: Snapshot, text: str) -> Workload:
    """Return the workload of that id or name. ``Refused`` where there is none, or more than one."""
    exact = snapshot.workloads.get(WorkloadId(text))
    if exact is not None:
        return exact
    named = sorted(id_ for id_, each in snapshot.workloads.items() if each.name == text)
    if not named:
        raise unknown("workload", text, "`stockade workloads` lists them.")
    if len(named) > 1:
        raise Refused(
            Why.CONFLICT,
            f'{len(named)} workloads are called "{text}"',
            remedy=f"Give the id: {', '.join(named[:5])}",
        )
    return snapshot.workloads[named[0]]


def label_uses(snapshot: Snapshot) -> tuple[LabelUse, ...]:
    """Count the labels in force, by who set them."""
    used = Counter(
        (label.key, label.value, label.source) for each in snapshot.workloads.values() for label in each.labels.items
    )
    return tuple(sorted(LabelUse(*label, count) for label, count in used.items()))


def host_views(snapshot: Snapshot, roster: Roster, census: Census) -> tuple[HostView, ...]:
    """Describe every host."""
    return tuple(_host_view(snapshot, roster, host, census) for host in sorted(snapshot.hosts))


def _host_view(snapshot: Snapshot, roster: Roster, host: HostId, census: Census) -> HostView:
    intent, known, counted = roster.wanted.get(host), roster.realised.get(host), roster.counters.get(host)
    return HostView(
        id=host,
        wanted=intent.version if intent else None,
        realised=known.version if known else None,
        revision=known.revision if known else None,
        confirmed=host in roster.confirmed,
        current=roster.revision == snapshot.revision and roster.settled(host),
        realised_at=known.at if known else None,
        error=known.error if known else "",
        births=intent.births if intent else None,
        workloads=census.carried.get(host, 0),
        unknown=census.unlabelled.get(host, 0) + len(snapshot.hosts[host].unknown),
        tracked=counted.tracked if counted else None,
        tracked_limit=counted.tracked_limit if counted else None,
        lost=counted.lost if counted else (),
    )


def birth_view(snapshot: Snapshot, roster: Roster, birth: Birth) -> BirthView:
    """Describe one birth. What is not known yet is None: a window needs both of its ends."""
    record = birth.record
    workload = snapshot.workloads.get(record.workload)
    known = workload is not None and workload.known
    return BirthView(
        workload=record.workload,
        name=record.name,
        host=birth.host,
        created=record.created,
        noticed=record.noticed,
        isolated=record.isolated,
        allowed=record.allowed,
        realised=record.realised,
        leak=_between(record.created, record.isolated),
        dead=_between(record.created, record.allowed),
        labels=workload.labels.items if workload else (),
        held=workload is not None and not known and _births(roster, birth.host) is Births.HOLD,
        runtime=record.runtime,
    )


def _between(start: float | None, end: float | None) -> float | None:
    return None if start is None or end is None else max(end - start, 0.0)


def differences(
    before: Mapping[WorkloadId, WorkloadView], after: Mapping[WorkloadId, WorkloadView]
) -> Iterator[tuple[WorkloadId, WorkloadView | None]]:
    """Yield what is new or different (with its view) and what is gone (with None), by name."""
    for id_ in sorted(before.keys() - after.keys(), key=lambda each: (before[each].name, each)):
        yield id_, None
    for id_ in sorted(after, key=lambda each: (after[each].name, each)):
        if before.get(id_) != after[id_]:
            yield id_, after[id_]
