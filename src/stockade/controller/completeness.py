"""The completeness audit, and what kernels show of single workloads, as the API and the metrics show them. Pure."""

from collections.abc import Iterator

from stockade.controller.roster import Roster
from stockade.controller.views import places, workload_view
from stockade.core.completeness import Completeness, assess
from stockade.core.model.census import Around, Census, Within
from stockade.core.model.ids import HostId, WorkloadId
from stockade.core.model.inventory import Workload, WorkloadKind
from stockade.core.model.policy import Births
from stockade.core.model.snapshot import Snapshot
from stockade.wire.api import CompletenessReply, WorkloadDetail


def audited(snapshot: Snapshot, roster: Roster, now: float) -> Completeness:
    """Audit every host as it was last seen."""
    holding = {host for host, intent in roster.wanted.items() if intent.births is Births.HOLD}
    return assess(snapshot, roster.censuses, holding=holding, now=now)


def completeness_reply(snapshot: Snapshot, roster: Roster, now: float) -> CompletenessReply:
    """Return the audit with the events that sources lost."""
    lost = tuple(sorted(_lost(roster)))
    return CompletenessReply(revision=snapshot.revision, found=audited(snapshot, roster, now), lost=lost)


def _lost(roster: Roster) -> Iterator[tuple[HostId, str, int]]:
    for host, counters in roster.counters.items():
        yield from ((host, source, count) for source, count in counters.lost if count)


def workload_detail(snapshot: Snapshot, roster: Roster, workload: Workload) -> WorkloadDetail:
    """Describe one workload with all that is seen of it; a host with its own network."""
    seen = workload.seen
    census = roster.censuses.get(seen.host) if seen.host else None
    within = _within(census, seen.owner or workload.id)
    itself = seen.kind is WorkloadKind.HOST
    around = census.around if census and itself else Around()
    return WorkloadDetail(
        revision=snapshot.revision,
        workload=workload_view(snapshot, roster, workload, places(snapshot)),
        sources=seen.sources,
        endpoints=seen.endpoints,
        facts=seen.facts.labels,
        looked_at=census.at if census else None,
        process=within.process,
        listening=within.listening,
        heard=_within(census, workload.id).heard,
        interfaces=around.interfaces,
        routes=around.routes,
        neighbours=around.neighbours,
        refused=census.not_assessed if census and itself else (),
    )


def _within(census: Census | None, workload: WorkloadId) -> Within:
    found = (each for each in (census.within if census else ()) if each.workload == workload)
    return next(found, Within(workload))
