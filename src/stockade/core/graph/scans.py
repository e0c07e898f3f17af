"""Scans: one source that tries many ports of a destination, or one port of many destinations, and is not answered.

Quiet about whoever has lost what it always talks to: what is known to have been answered before is no probe.
"""

from collections.abc import Callable, Container, Iterable

import msgspec

from stockade.core.graph.anomaly import Anomaly, AnomalyKind
from stockade.core.graph.values import Traffic
from stockade.core.graph.zoom import port_text
from stockade.core.model.flow import FlowEnd, StoredFlow
from stockade.core.model.labels import NAME
from stockade.core.model.net import Protocol

REFUSAL = 60
"""Bytes that the other side of a TCP connection sends at most where it only refuses: a reset, with options."""

Target = tuple[str, str, int, int]
"""(source, destination, protocol, port), ends by what stays when addresses change: see ``called``."""


class ScanLimits(msgspec.Struct, frozen=True):
    """How many failed ports of a destination, or destinations on a port, make a scan; how few connections are a probe.

    ``failing``: which share of those that were tried there must fail; whatever else its source does is no excuse.
    """

    ports: int = 15
    destinations: int = 15
    failing: float = 0.5
    probe: int = 3


def scans(
    traffic: Iterable[Traffic], known: Container[Target] = frozenset(), limits: ScanLimits | None = None
) -> tuple[Anomaly, ...]:
    """Return every scan, by source. ``known``: targets that were answered before.

    Its traffic is what failed, and what was answered to as few connections meanwhile: found by the scan.
    """
    limits = limits or ScanLimits()
    sources: dict[str, list[Traffic]] = {}
    for each in traffic:
        if target(each) not in known:
            sources.setdefault(called(each.source), []).append(each)
    found = (_scan(name, tried, limits) for name, tried in sorted(sources.items()))
    return tuple(each for each in found if each is not None)


def failed(traffic: Traffic) -> bool:
    """Tell whether nothing came of any of it: denied, lost, refused or unanswered."""
    seen = traffic.seen
    if seen.passed == 0:
        return bool(seen.denied or seen.missing)
    return seen.ended > 0 and not answered(traffic)


def answered(traffic: Traffic) -> bool:
    """Tell whether the other side sent more than a refusal; False too where nothing is known of what was carried."""
    refusal = REFUSAL * traffic.seen.ended if traffic.protocol == Protocol.TCP else 0
    return traffic.seen.bytes_in > refusal


def target(traffic: Traffic) -> Target:
    """Return who tries whom on what."""
    return (called(traffic.source), called(traffic.destination), traffic.protocol, traffic.port)


def target_of(flow: StoredFlow) -> Target:
    """Return the same of a single flow."""
    return (called(flow.source), called(flow.destination), flow.key.protocol, flow.key.port)


def called(end: FlowEnd) -> str:
    """Return an end's id, or its address outside the inventory."""
    return end.workload or end.address


def named(end: FlowEnd) -> str:
    """Return what a person calls an end: its name, else its id or address."""
    return dict(end.labels).get(NAME) or called(end)


def _scan(source: str, tried: list[Traffic], limits: ScanLimits) -> Anomaly | None:
    failing = [each for each in tried if failed(each)]
    ports = _most(tried, _destination, _service, limits.failing)
    places = _most(tried, _service, _destination, limits.failing)
    if ports < limits.ports and places < limits.destinations:
        return None
    since = min(each.seen.first for each in failing)
    until = max(each.seen.last for each in failing)
    struck = [each for each in tried if not failed(each) and _probe(each, since, until, limits)]
    told = f"{named(tried[0].source)} tried {len(failing)} targets that did not answer"
    return Anomaly(
        AnomalyKind.SCAN,
        source,
        told + (f", and met {len(struck)} that did: {_list(struck)}" if struck else ""),
        since,
        until,
        (
            ("targets that failed", len(failing)),
            ("most ports of one destination", ports),
            ("most destinations on one port", places),
            ("targets that answered", len(struck)),
        ),
        tuple(sorted([*failing, *struck], key=target)),
    )


def _probe(traffic: Traffic, since: float, until: float, limits: ScanLimits) -> bool:
    during = since <= traffic.seen.first <= until
    return during and traffic.seen.connections <= limits.probe


def _list(found: list[Traffic]) -> str:
    texts = sorted({f"{named(each.destination)} {port_text(each.protocol, each.port)}" for each in found})
    return ", ".join(texts[:5]) + (f" and {len(texts) - 5} more" if len(texts) > 5 else "")


def _most(
    tried: list[Traffic], by: Callable[[Traffic], object], of: Callable[[Traffic], object], failing: float
) -> int:
    """Return the most that failed of what was tried in one place, where enough of that failed."""
    every: dict[object, set[object]] = {}
    bad: dict[object, set[object]] = {}
    for each in tried:
        every.setdefault(by(each), set()).add(of(each))
        if failed(each):
            bad.setdefault(by(each), set()).add(of(each))
    return max((len(some) for place, some in bad.items() if len(some) >= failing * len(every[place])), default=0)


def _destination(traffic: Traffic) -> str:
    return called(traffic.destination)


def _service(traffic: Traffic) -> tuple[int, int]:
    return traffic.protocol, traffic.port
