"""Everything that is found, on hosts and in traffic, as the API shows it."""

from collections.abc import Iterator

from msgspec.structs import replace

from stockade.controller.alarms import evidence
from stockade.controller.findings import EVERYWHERE
from stockade.controller.loop import Controller
from stockade.controller.views import findings_view, host_finding
from stockade.core.graph.anomalies import CHECKS
from stockade.core.graph.anomaly import Anomaly, AnomalyKind
from stockade.core.model.finding import Waiver
from stockade.core.model.ids import CheckId, HostId
from stockade.wire.api import AcceptedFinding, FindingsReply, HostFinding, HostUnassessed

KINDS = {check: kind for kind, (check, _) in CHECKS.items()}
NO_FLOWS = "no flows are kept here"
KEEP_THEM = "pip install 'stockade[flows]', and see that the setting flows is not off"
NOT_YET = "no flows have come since the start, or what is ordinary is still being learnt"


def every_finding(controller: Controller, host: HostId | None = None) -> FindingsReply:
    """Describe what is wrong, worst first; on one host, also what is of traffic that it told of."""
    bare = without_evidence(controller, host)
    found = (each for each in bare.findings if _is_of(controller, each, host))
    every = controller.findings.accepted
    accepted = (accepted_view(controller, each) for _, each in sorted(every.items()))
    mine = tuple(each for each in accepted if host in (None, each.host) or _is_of(controller, each.finding, host))
    return replace(bare, findings=tuple(_shown(controller, each) for each in found), accepted=mine)


def accepted_view(controller: Controller, each: Waiver) -> AcceptedFinding:
    """Describe a waiver, with what is found of it now."""
    found = controller.findings.find(each.id)
    return AcceptedFinding(
        each.id, each.host, each.check, each.object, each.severity, each.by, each.at, each.why, each.until,
        _shown(controller, host_finding(*found)) if found is not None else None,
    )  # fmt: skip


def without_evidence(controller: Controller, host: HostId | None = None) -> FindingsReply:
    """Describe what is wrong, on one host or anywhere, and all that is wrong with traffic; for who only counts."""
    hosts = (host,) if host else tuple(controller.snapshot.hosts)
    shown = findings_view(controller.findings, (*hosts, *_of_traffic(controller)))
    return replace(shown, unassessed=(*shown.unassessed, *_unlooked(controller)))


def _of_traffic(controller: Controller) -> Iterator[HostId]:
    """What is said of traffic is shown where anything was said: until then it is not assessed."""
    if EVERYWHERE in controller.findings.by_host:
        yield EVERYWHERE


def _unlooked(controller: Controller) -> Iterator[HostUnassessed]:
    if EVERYWHERE in controller.findings.by_host or not controller.snapshot.hosts:
        return
    why, remedy = (NO_FLOWS, KEEP_THEM) if controller.flows is None else (NOT_YET, "")
    for check in sorted(KINDS):
        yield HostUnassessed(EVERYWHERE, check, why, remedy)


def _anomaly(controller: Controller, each: HostFinding) -> Anomaly | None:
    kind: AnomalyKind | None = KINDS.get(CheckId(each.check))
    return controller.alarms.open.get((kind, each.object)) if kind and each.host == EVERYWHERE else None


def _shown(controller: Controller, each: HostFinding) -> HostFinding:
    anomaly = _anomaly(controller, each)
    return each if anomaly is None else replace(each, evidence=evidence(anomaly))


def _is_of(controller: Controller, each: HostFinding | None, host: HostId | None) -> bool:
    return each is not None and (host is None or each.host == host or _told_by(controller, each, host))


def _told_by(controller: Controller, each: HostFinding, host: HostId) -> bool:
    anomaly = _anomaly(controller, each)
    return anomaly is not None and any(host in traffic.hosts for traffic in anomaly.traffic)
