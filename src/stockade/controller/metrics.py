"""Metrics in Prometheus' text format, read from the controller's state at the moment of a scrape."""

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from stockade.controller.completeness import audited
from stockade.controller.exporters.counted import families
from stockade.controller.exporters.exporters import Exporters
from stockade.controller.loop import Controller
from stockade.core.completeness import Completeness, Off
from stockade.core.model.census import DELAY_BOUNDS
from stockade.core.model.finding import Finding
from stockade.wire import Counters


def exposition(controller: Controller, exporters: Exporters | None = None) -> bytes:
    """Return every metric as text; those of devices where any are heard."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Reader(controller, exporters))
    return generate_latest(registry)


class _Reader(Collector):
    def __init__(self, controller: Controller, exporters: Exporters | None) -> None:
        self._controller = controller
        self._exporters = exporters

    def collect(self) -> Iterable[Metric]:
        """Yield what is true now."""
        yield from self._policy()
        yield from self._hosts()
        yield from _families(self._controller.roster.counters.values())
        yield from self._births()
        yield from self._completeness()
        yield from self._findings()
        if self._exporters is not None:
            yield from families(self._exporters)

    def _policy(self) -> Iterator[Metric]:
        snapshot = self._controller.snapshot
        yield GaugeMetricFamily("stockade_policy_version", "The active policy version", snapshot.version)
        yield GaugeMetricFamily("stockade_revision", "Number of the newest snapshot", snapshot.revision)
        yield GaugeMetricFamily(
            "stockade_compile_stalled",
            "1 while the newest snapshot cannot be compiled and hosts keep what they had",
            int(bool(self._controller.stalled)),
        )
        yield GaugeMetricFamily(
            "stockade_store_failing",
            "1 while changes cannot be stored, and so do not happen",
            int(bool(self._controller.unstored)),
        )
        yield GaugeMetricFamily(
            "stockade_unconfirmed",
            "1 while the active version waits to be confirmed",
            int(self._controller.unconfirmed is not None),
        )
        workloads = GaugeMetricFamily("stockade_workloads", "Workloads by whether they are labelled", labels=["known"])
        known = sum(each.known for each in snapshot.workloads.values())
        workloads.add_metric(["yes"], known)
        workloads.add_metric(["no"], len(snapshot.workloads) - known)
        yield workloads

    def _hosts(self) -> Iterator[Metric]:
        roster = self._controller.roster
        wanted = GaugeMetricFamily("stockade_wanted_version", "Version that a host should enforce", labels=["host"])
        realised = GaugeMetricFamily("stockade_realised_version", "Version in force at a host", labels=["host"])
        failing = GaugeMetricFamily("stockade_realise_failing", "1 while a host refuses its rules", labels=["host"])
        for host in sorted(roster.wanted):
            wanted.add_metric([host], roster.wanted[host].version)
            if (known := roster.realised.get(host)) is not None:
                failing.add_metric([host], int(bool(known.error)))
                if known.version is not None:
                    realised.add_metric([host], known.version)
        yield from (wanted, realised, failing)

    def _findings(self) -> Iterator[Metric]:
        board = self._controller.findings
        by = ["host", "check", "severity"]
        open_ = GaugeMetricFamily("stockade_findings", "Open findings that nobody accepts", labels=by)
        accepted = GaugeMetricFamily("stockade_findings_accepted", "Open findings that somebody accepts", labels=by)
        unknown = GaugeMetricFamily("stockade_checks_unassessed", "Checks that could not judge", labels=["host"])
        for host in sorted(board.by_host):
            said = board.by_host[host]
            every, left = _counted(said.findings), _counted(board.unaccepted(said))
            for family, counted in ((open_, left), (accepted, every - left)):
                for (check, severity), count in sorted(counted.items()):
                    family.add_metric([host, check, severity], count)
            unknown.add_metric([host], len(said.unassessed))
        took = GaugeMetricFamily("stockade_anomaly_look_seconds", "What the last look at flows for anomalies took")
        took.add_metric([], self._controller.alarms.took)
        yield from (open_, accepted, unknown, took)

    def _births(self) -> Iterator[Metric]:
        count = CounterMetricFamily("stockade_births", "Births recorded since the start", labels=["runtime"])
        leaked = CounterMetricFamily(
            "stockade_births_leaked", "Births that were not isolated from the start", labels=["runtime"]
        )
        dead = HistogramMetricFamily(
            "stockade_birth_dead_seconds",
            "From creation to the first moment at which policy's allows held",
            labels=["runtime"],
        )
        for runtime, births in sorted(self._controller.births.of.items()):
            count.add_metric([runtime], births.count)
            leaked.add_metric([runtime], births.leaked)
            dead.add_metric([runtime], births.buckets(), births.dead_seconds)
        yield from (count, leaked, dead)

    def _completeness(self) -> Iterator[Metric]:
        controller = self._controller
        found = audited(controller.snapshot, controller.roster, controller.clock.now())
        dark = GaugeMetricFamily(
            "stockade_dark_workloads", "What the kernel shows and no source tells of", labels=["host", "why"]
        )
        refused = GaugeMetricFamily(
            "stockade_completeness_not_assessed", "What a completeness audit could not look at", labels=["host"]
        )
        for host in sorted(controller.snapshot.hosts):
            for why in Off:
                dark.add_metric([host, why.value], sum((each.host, each.why) == (host, why) for each in found.dark))
            refused.add_metric([host], sum(each == host for each, _ in found.not_assessed))
        yield from (dark, refused, _delays(found))


def _counted(found: Iterable[Finding]) -> Counter[tuple[str, str]]:
    return Counter((str(each.check), each.severity.value) for each in found)


def _delays(found: Completeness) -> HistogramMetricFamily:
    delays = HistogramMetricFamily(
        "stockade_discovery_seconds",
        "From when a source says that a workload came to be until the agent heard of it",
        labels=["host", "source"],
    )
    bounds = (*map(str, DELAY_BOUNDS), "+Inf")
    for each in found.sources:
        counts = accumulate(each.tally.buckets or (0,) * len(bounds))
        buckets = list(zip(bounds, map(float, counts), strict=True))
        delays.add_metric([each.host, each.tally.source], buckets, each.tally.delay_sum)
    return delays


def _families(counted: Iterable[Counters]) -> Iterator[Metric]:
    packets = CounterMetricFamily(
        "stockade_rule_packets", "Packets that a rule decided", labels=["host", "rule", "verdict"]
    )
    volume = CounterMetricFamily("stockade_rule_bytes", "Bytes that a rule decided", labels=["host", "rule", "verdict"])
    lost = CounterMetricFamily("stockade_lost_events", "Events lost on the way, by source", labels=["host", "source"])
    tracked = GaugeMetricFamily("stockade_conntrack_entries", "Tracked connections", labels=["host"])
    limit = GaugeMetricFamily("stockade_conntrack_limit", "Most connections that can be tracked", labels=["host"])
    for host in sorted(counted, key=lambda each: each.host):
        for rule in host.rules:
            packets.add_metric([host.host, rule.rule, rule.verdict], rule.packets)
            volume.add_metric([host.host, rule.rule, rule.verdict], rule.bytes)
        for source, count in host.lost:
            lost.add_metric([host.host, source], count)
        tracked.add_metric([host.host], host.tracked)
        limit.add_metric([host.host], host.tracked_limit)
    yield from (packets, volume, lost, tracked, limit)
