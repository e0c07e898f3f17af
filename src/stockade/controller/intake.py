"""What of an agent's report is taken: events about its own host, and only those that change anything. Pure."""

from stockade.controller.refused import Refused, Why
from stockade.core.fold.declared import is_declared
from stockade.core.model.event import Event, HostSeen, WorkloadGone, WorkloadSeen
from stockade.core.model.ids import HostId, WorkloadId
from stockade.core.model.snapshot import Snapshot
from stockade.wire import PROTOCOL, Report


def admit(report: Report, snapshot: Snapshot) -> None:
    """Raise ``Refused`` where a report speaks of what is not its host's: an agent has no word on policy or others."""
    if report.protocol != PROTOCOL:
        raise Refused(
            Why.MALFORMED,
            f"host {report.host} speaks protocol {report.protocol}, this controller {PROTOCOL}",
            kept="Nothing of the report was stored; the host enforces what it enforced before.",
            remedy="Run the same version of Stockade on both.",
        )
    for event in report.events:
        if foreign := _foreign(event, report.host, snapshot):
            raise Refused(
                Why.INVALID,
                f"host {report.host} reported {foreign}, which is not its own",
                kept="Nothing of the report was stored.",
                remedy="Give each host an id of its own.",
            )


def vanished(report: Report, snapshot: Snapshot) -> tuple[Event, ...]:
    """Return the ends of workloads that were the host's and are not in a report of everything."""
    if not report.whole:
        return ()
    told = {event.sighting.id for event in report.events if isinstance(event, WorkloadSeen)}
    gone = (each.id for each in snapshot.workloads.values() if each.seen.host == report.host and each.id not in told)
    return tuple(WorkloadGone(each) for each in sorted(gone))


def _foreign(event: Event, host: HostId, snapshot: Snapshot) -> str:
    """Say what an event speaks of where that is not the host's; empty where it is."""
    match event:
        case WorkloadSeen(sighting=sighting):
            wrong = (
                sighting.host not in (None, host)
                or _elsewhere(sighting.id, host, snapshot)
                or is_declared(sighting.id)  # policy's word, nobody else's
            )
            return f"workload {sighting.id}" if wrong else ""
        case WorkloadGone(id=id_):
            wrong = _elsewhere(id_, host, snapshot) or is_declared(id_)
            return f"the end of workload {id_}" if wrong else ""
        case HostSeen(host=seen):
            return f"host {seen.id}" if seen.id != host else ""
        case _:
            return f"an event of kind {type(event).__name__}"


def _elsewhere(workload: WorkloadId, host: HostId, snapshot: Snapshot) -> bool:
    known = snapshot.workloads.get(workload)
    return known is not None and known.seen.host not in (None, host)


def changes(event: Event, before: Snapshot, after: Snapshot) -> bool:
    """Tell whether an event changed anything but the revision: what a restarted agent repeats need not be stored."""
    match event:
        case WorkloadSeen(sighting=sighting):
            return before.workloads.get(sighting.id) != after.workloads[sighting.id]
        case WorkloadGone(id=id_):
            return id_ in before.workloads
        case HostSeen(host=host):
            return before.hosts.get(host.id) != host
        case _:
            return True
