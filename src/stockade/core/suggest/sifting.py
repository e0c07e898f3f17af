"""Observed traffic of the selected ends → what is learnt from, and what is left out with the reason."""

from collections.abc import Iterable, Iterator

import msgspec

from stockade.core.graph.anomaly import Anomaly
from stockade.core.graph.scans import answered, scans, target
from stockade.core.graph.services import NAMED
from stockade.core.graph.values import Traffic
from stockade.core.model.flow import FlowEnd, Verdict
from stockade.core.model.ids import RuleId
from stockade.core.model.net import LAST_PORT, PORTED, Protocol
from stockade.core.suggest.networks import Sets
from stockade.core.suggest.people import People
from stockade.core.suggest.values import Reason, Refused

OWN = frozenset({"", "default", "held", "forged", "midstream", "invalid"})
"""What flows are decided by that is no rule of anybody's policy."""


class Sifted(msgspec.Struct, frozen=True):
    """Traffic of which a selected workload is an end, each in one of the two."""

    learnt: tuple[Traffic, ...]
    refused: tuple[Refused, ...]


def sift(traffic: Iterable[Traffic], people: People, sets: Sets) -> Sifted:
    """Sort out the traffic of the workloads within the scope. A scan is seen in all traffic, whoever it meets."""
    every = tuple(traffic)
    probes = {target(each): found for found in scans(every) for each in found.traffic}
    learnt, refused = [], []
    for each in every:
        if not concerns(each, people):
            continue
        found = _reason(each, people, sets, probes.get(target(each)))
        if found is None:
            learnt.append(each)
        else:
            refused.append(Refused(each, *found))
    return Sifted(tuple(learnt), tuple(refused))


def concerns(traffic: Traffic, people: People) -> bool:
    """Tell whether a selected workload is an end of it, and not both ends."""
    ends = (people.workload(traffic.source), people.workload(traffic.destination))
    if ends[0] is not None and ends[1] is not None and ends[0].id == ends[1].id:
        return False  # what somebody says to itself always passes
    return any(each is not None and people.is_inside(each) for each in ends)


def _reason(traffic: Traffic, people: People, sets: Sets, scan: Anomaly | None) -> tuple[Reason, str] | None:
    return next(
        (
            found
            for found in (
                _by_sender(traffic),
                _by_ends(traffic, people, sets),
                (Reason.SCAN, scan.text) if scan else None,
                _by_rule(traffic),
                _by_outcome(traffic),
                _by_words(traffic),
            )
            if found is not None
        ),
        None,
    )


def _by_sender(traffic: Traffic) -> tuple[Reason, str] | None:
    rules = {each.rule for each in traffic.said if each.verdict is not Verdict.ALLOWED}
    if "forged" in rules and not traffic.seen.passed:
        return Reason.UNVOUCHED, "its frames do not come from its endpoint"
    if rules & {"midstream", "invalid"} and not traffic.seen.passed:
        return Reason.STRAY, ""
    return None


def _by_ends(traffic: Traffic, people: People, sets: Sets) -> tuple[Reason, str] | None:
    for end in (traffic.source, traffic.destination):
        who = people.workload(end)
        if who is not None and not who.known:
            return Reason.UNKNOWN, who.name or end.address
        if who is None and not sets.holding(end):
            return Reason.DARK, end.address
    return None


def _by_rule(traffic: Traffic) -> tuple[Reason, str] | None:
    """Somebody wrote that this is not to pass, be it enforced or not."""
    denying = (each for each in traffic.said if each.verdict in (Verdict.DENIED, Verdict.WOULD_DENY))
    rule = next((each.rule for each in denying if each.rule not in OWN), RuleId(""))
    return (Reason.DENIED, rule) if rule else None


def _by_outcome(traffic: Traffic) -> tuple[Reason, str] | None:
    if not traffic.seen.passed:
        return Reason.NOTHING, "denied by default" if traffic.seen.denied else "none arrived"
    if traffic.protocol == Protocol.TCP and traffic.seen.ended and not answered(traffic):
        return Reason.NOTHING, "nobody answered"
    return None


def _by_words(traffic: Traffic) -> tuple[Reason, str] | None:
    if traffic.protocol not in NAMED:
        return Reason.UNSPEAKABLE, f"protocol {traffic.protocol}"
    ported = traffic.protocol in PORTED
    if not (1 if ported else 0) <= traffic.port <= LAST_PORT:
        return Reason.UNSPEAKABLE, f"port {traffic.port}"
    return None


def ends(found: Iterable[Traffic]) -> Iterator[FlowEnd]:
    """Yield both ends of each."""
    for each in found:
        yield each.source
        yield each.destination
