"""Compares what kernels show with the inventory.

A workload is accounted for where a source other than the kernel's census tells of it and can be reached, or where
somebody has labelled it. A namespace without any link can neither send nor receive: it is counted, and is not dark.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping

from stockade.core.completeness.values import Completeness, Dark, Off, SourceView
from stockade.core.model.census import Census, Neighbour, NotAssessed, SourceTally, Within
from stockade.core.model.ids import Address, HostId, WorkloadId
from stockade.core.model.inventory import Endpoint, Host, Workload, WorkloadKind, WorkloadState
from stockade.core.model.snapshot import Snapshot

KERNEL = "namespaces"
"""The source that is the kernel's census."""
NO_LINK = ("network", "none")
"""The fact of a namespace that has no link at all."""
STALE = 120.0
"""Seconds after which a census says nothing of now."""
LINK_LOCAL = ("169.254.", "fe8", "fe9", "fea", "feb")


def assess(
    snapshot: Snapshot, censuses: Mapping[HostId, Census], *, holding: Collection[HostId], now: float
) -> Completeness:
    """Audit every host. ``holding``: hosts on which unknown workloads are held; ``now``: seconds since the epoch."""
    carried = _carried(snapshot)
    hosts = [
        _Host(snapshot.hosts[each], carried.get(each, []), censuses.get(each), each in holding)
        for each in sorted(snapshot.hosts)
    ]
    return Completeness(
        sources=tuple(found for host in hosts for found in host.sources()),
        dark=tuple(found for host in hosts for found in host.dark()),
        cut_off=tuple(sorted(found for host in hosts for found in host.cut_off())),
        not_assessed=tuple((host.host.id, found) for host in hosts for found in host.not_assessed(now)),
    )


def _carried(snapshot: Snapshot) -> dict[HostId, list[Workload]]:
    """Return each host's workloads but itself, by id."""
    found: dict[HostId, list[Workload]] = {}
    for each in sorted(snapshot.workloads):
        workload = snapshot.workloads[each]
        if workload.seen.host is not None and workload.seen.kind is not WorkloadKind.HOST:
            found.setdefault(workload.seen.host, []).append(workload)
    return found


class _Host:
    def __init__(self, host: Host, workloads: list[Workload], census: Census | None, holds: bool) -> None:
        self.host = host
        self.workloads = workloads
        self.census = census or Census(host.id, 0.0)
        self.looked = census is not None
        self.holds = holds
        self.lost = {each.source: each.lost for each in self.census.sources if each.lost}
        self.within = {each.workload: each for each in self.census.within}

    # Sources

    def sources(self) -> Iterator[SourceView]:
        """Yield every source, by name."""
        seen = Counter(source for each in self.workloads for source in each.seen.sources)
        only = Counter(each.seen.sources[0] for each in self.workloads if len(each.seen.sources) == 1)
        tallies = {each.source: each for each in self.census.sources}
        for source in sorted(seen.keys() | tallies.keys()):
            yield SourceView(self.host.id, seen[source], only[source], tallies.get(source) or SourceTally(source))

    # What is dark

    def dark(self) -> Iterator[Dark]:
        """Yield what is dark: workloads by name, then ports, then neighbours."""
        found = [dark for each in self.workloads if (dark := self._workload(each)) is not None]
        yield from sorted(found, key=lambda each: (each.name, each.workload or ""))
        yield from (self._port(each) for each in sorted(self.host.unknown, key=lambda each: each.port))
        yield from self._neighbours()

    def cut_off(self) -> Iterator[WorkloadId]:
        """Yield what the kernel alone shows, and what can reach nobody."""
        return (each.id for each in self.workloads if self._only_kernel(each) and _has_no_link(each))

    def _workload(self, workload: Workload) -> Dark | None:
        seen = workload.seen
        if seen.state is WorkloadState.STOPPED:
            return None
        if self._only_kernel(workload):
            return None if _has_no_link(workload) else self._described(workload, Off.UNREPORTED, "")
        away = [each for each in seen.sources if each in self.lost]
        if away and not set(seen.sources) - set(away) - {KERNEL}:
            return self._described(workload, Off.LOST, f"{away[0]}: {self.lost[away[0]]}")
        return None

    def _only_kernel(self, workload: Workload) -> bool:
        return workload.seen.sources == (KERNEL,) and not workload.known

    def _described(self, workload: Workload, why: Off, detail: str) -> Dark:
        seen, ends = workload.seen, workload.seen.endpoints
        within = self.within.get(workload.id) or Within(workload.id)
        nested = not ends and why is Off.UNREPORTED
        return Dark(
            self.host.id,
            seen.name,
            why,
            "its links do not end on this host" if nested else detail,
            workload.id,
            within.process,
            ", ".join(each.port for each in ends if each.port),
            ", ".join(dict.fromkeys(each.bridge for each in ends if each.bridge)),
            tuple(sorted({each.mac for each in ends if each.mac})),
            self._addresses(ends),
            within.listening,
            seen.created,
            held=self.holds and not workload.known,
        )

    def _addresses(self, ends: Iterable[Endpoint]) -> tuple[Address, ...]:
        """Return what endpoints are known to have, and what answers with their link addresses."""
        own = {address for each in ends for address in each.addresses}
        for end in ends:
            own.update(address for each in self._behind(end.port) if each.mac == end.mac for address in each.addresses)
        return tuple(sorted(own))

    def _behind(self, port: str) -> Iterator[Neighbour]:
        """Yield whom the host has met behind one of its ports."""
        return (each for each in self.census.around.neighbours if port and port in (each.port, each.interface))

    def _port(self, end: Endpoint) -> Dark:
        met = list(self._behind(end.port))
        return Dark(
            self.host.id,
            end.port,
            Off.PORT,
            port=end.port,
            bridge=end.bridge,
            macs=tuple(sorted({each.mac for each in met} | ({end.mac} if end.mac else set()))),
            addresses=tuple(sorted({address for each in met for address in each.addresses})),
            held=self.holds,
        )

    # Who answers behind a port that is somebody's

    def _neighbours(self) -> Iterator[Dark]:
        ends = {(end.port, end.mac): (each, end) for each in self.workloads for end in each.seen.endpoints if end.port}
        owners = {port: each for (port, _), (each, _) in ends.items()}
        for met in sorted(self.census.around.neighbours):
            port = met.port or met.interface
            if port not in owners:
                continue  # the outside, the host's own, or a port that is dark itself
            if (port, met.mac) not in ends:
                yield self._stranger(met, port, owners[port], met.addresses)
            elif not self._only_kernel(owners[port]) and (others := _not_own(met, ends[port, met.mac][1])):
                yield self._stranger(met, port, owners[port], others)

    def _stranger(self, met: Neighbour, port: str, owner: Workload, addresses: tuple[Address, ...]) -> Dark:
        """What an owner's port lets in that is not its own is dropped there, wherever anything is enforced."""
        name = owner.seen.name
        detail = f"behind the port of {name}, whose link address it is not"
        if any(end.mac == met.mac for end in owner.seen.endpoints):
            detail = f"{name} answers for what nobody says is its own"
        bridge = met.interface if met.port else ""
        return Dark(self.host.id, met.mac, Off.NEIGHBOUR, detail, port=port, bridge=bridge, macs=(met.mac,),
                    addresses=addresses, held=self.holds)  # fmt: skip

    # What could not be looked at

    def not_assessed(self, now: float) -> Iterator[NotAssessed]:
        """Yield what this audit cannot speak of."""
        if not self.looked:
            yield NotAssessed("the kernel's census", "the host's agent has not sent one yet")
            return
        if now - self.census.at > STALE:
            age = f"the newest is {now - self.census.at:.0f} s old: the agent is not heard"
            yield NotAssessed("the kernel's census", age)
        for source, why in sorted(self.lost.items()):
            yield NotAssessed(f"source {source}", f"it cannot be reached: {why}")
        yield from self.census.not_assessed


def _has_no_link(workload: Workload) -> bool:
    return NO_LINK in workload.seen.facts.labels


def _not_own(met: Neighbour, end: Endpoint) -> tuple[Address, ...]:
    """Return the addresses with which an endpoint answers and that nobody reported; link-local ones apart."""
    return tuple(each for each in met.addresses if each not in end.addresses and not each.startswith(LINK_LOCAL))
