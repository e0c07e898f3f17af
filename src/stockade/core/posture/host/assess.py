"""All checks of a host over all facts: findings, and what could not be judged."""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import msgspec

from stockade.core.model.finding import Assessment, Finding, Severity, Unassessed
from stockade.core.model.ids import CheckId
from stockade.core.model.intent import Intent
from stockade.core.posture.host import links
from stockade.core.posture.host.facts import Facts, Unread
from stockade.core.posture.host.files import files
from stockade.core.posture.host.filters import filters

OWN_TABLES = CheckId("own-tables")
"""Somebody changed our tables: found by whoever restores them (``agent.findings``)."""
CHECKS: tuple[CheckId, ...] = tuple(
    map(
        CheckId,
        (
            "own-tables",
            "late-translation",
            "rewritten-packets",
            "untracked-packets",
            "forwarded-frames",
            "offloaded-connections",
            "queued-packets",
            "mark-bits",
            "foreign-tables",
            "legacy-tables",
            "tc-filters",
            "xdp-programs",
            "bpf-netfilter",
            "bpf-sockets",
            "bpf-programs",
            "moved-ports",
            "bridge-settings",
            "loopback-routing",
            "routing-rules",
            "local-routes",
            "tracking-table",
            "file-modes",
            "hooks",
        ),
    )
)
"""Every check's id, in the order in which the page has them."""
NEARLY_FULL = 0.8
STEP = 0.05
"""In such steps a share is told, so that one finding does not become another with each connection."""

Part = TypeVar("Part")


def assess(facts: Facts, intent: Intent | None) -> Assessment:
    """Judge everything. ``intent``: what is in force here, which says where endpoints are; None: nothing is."""
    found: list[Finding] = []
    unassessed: list[Unassessed] = [_unread("hooks", facts.hooks)]

    def judge(check: str, part: Part | Unread, by: Callable[[Part], Iterable[Finding]]) -> None:
        if isinstance(part, Unread):
            unassessed.append(_unread(check, part))
        else:
            found.extend(by(part))

    judge("foreign-tables", facts.tables, filters)
    judge("legacy-tables", facts.legacy, filters)
    judge("tc-filters", facts.traffic, lambda part: links.traffic(part, intent))
    judge("bpf-programs", facts.programs, lambda part: links.programs(part, intent))
    judge("moved-ports", facts.ports, lambda part: links.moved(part, intent))
    judge("bridge-settings", facts.bridges, lambda part: links.bridges(part, _switches(facts), intent))
    judge("loopback-routing", facts.switches, links.loopback)
    judge("routing-rules", facts.rules, links.rules)
    judge("local-routes", facts.local, links.local_routes)
    judge("tracking-table", facts.tracked, _tracking)
    judge("file-modes", facts.files, files)
    if facts.unlisted:
        named = ", ".join(facts.unlisted)
        remedy = "remove them, or have nft hold what they hold"
        unassessed.append(Unassessed(CheckId("legacy-tables"), f"{named} cannot be read", remedy))
    return Assessment(tuple(sorted(_one_each(found), key=_order)), tuple(sorted(unassessed)))


def _unread(check: str, part: Unread) -> Unassessed:
    return Unassessed(CheckId(check), part.why, part.remedy)


def _switches(facts: Facts) -> tuple[tuple[str, int], ...]:
    return () if isinstance(facts.switches, Unread) else facts.switches


def _one_each(found: Iterable[Finding]) -> Iterator[Finding]:
    """Join what one check says of one object: worst first."""
    by_object: dict[tuple[CheckId, str], list[Finding]] = {}
    for each in found:
        by_object.setdefault((each.check, each.object), []).append(each)
    for some in by_object.values():
        some.sort(key=_order)
        seen = "; ".join(dict.fromkeys(each.seen for each in some))
        yield msgspec.structs.replace(some[0], seen=seen)


def _order(each: Finding) -> tuple[int, CheckId, str, str]:
    return list(Severity).index(each.severity), each.check, each.object, each.seen


def _tracking(tracked: tuple[int, int]) -> Iterator[Finding]:
    entries, limit = tracked
    share = entries / limit if limit else 0.0
    if share >= NEARLY_FULL:
        told = min(int(share / STEP) * STEP, 1.0)
        yield Finding(
            CheckId("tracking-table"),
            "nf_conntrack",
            Severity.HIGH,
            f"at least {told:.0%} of {limit} entries are in use; a full table drops packets, in every mode",
            f"sysctl -w net.netfilter.nf_conntrack_max={max(limit * 4, 262_144)}",
        )
