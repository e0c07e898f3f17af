"""Points that tell of known connections as real ones do: at each end that they judge, in batches, in any order."""

from collections.abc import Iterator
from random import Random
from typing import NamedTuple

from stockade.core.model.flow import FlowEnd, FlowKey, StoredFlow, Tally, Verdict
from stockade.core.model.ids import Address, HostId, RuleId, WorkloadId
from stockade.core.model.packet import Direction

POINTS = ("host-a", "host-b", "host-c")
BATCH = 10.0


class Place(NamedTuple):
    """An end of the simulated world; ``point`` None: no point judges there."""

    end: FlowEnd
    point: str | None


class Connection(NamedTuple):
    """One connection that was tried, what each end said of it, and what it carried if it arrived."""

    source: Place
    destination: Place
    port: int
    at: float
    said: tuple[Verdict | None, Verdict | None]
    out: int = 0
    back: int = 0

    @property
    def dropped_leaving(self) -> bool:
        return self.said[0] is Verdict.DENIED

    @property
    def denied(self) -> bool:
        return Verdict.DENIED in self.said

    @property
    def would(self) -> bool:
        return not self.denied and Verdict.WOULD_DENY in self.said


def places(random: Random, count: int = 6) -> list[Place]:
    """Workloads on three points, one without a point, two addresses outside."""
    found = []
    for number in range(count):
        point = random.choice((*POINTS, None))
        labels = (("app", random.choice("ab")), ("name", f"w{number}"))
        found.append(Place(FlowEnd(Address(f"10.0.0.{number}"), WorkloadId(f"w{number}"), labels), point))
    outside = [Place(FlowEnd(Address(f"198.51.100.{n}"), network="internet"), None) for n in (1, 2)]
    return [*found, *outside]


def connections(random: Random, among: list[Place], count: int, steady: bool) -> Iterator[Connection]:
    """Connections between any two of which some point judges one; ``steady``: an end never changes its mind."""
    mind: dict[tuple[Address, Address, int, int], Verdict] = {}
    made = 0
    while made < count:
        source, destination = random.sample(among, 2)
        if source.point is None and destination.point is None:
            continue
        port, made = random.choice((80, 443, 5432)), made + 1
        said: list[Verdict | None] = [None, None]
        for number, place in enumerate((source, destination)):
            if place.point is not None and not (number and said[0] is Verdict.DENIED):
                verdict = random.choice((Verdict.ALLOWED, Verdict.ALLOWED, Verdict.WOULD_DENY, Verdict.DENIED))
                key = (source.end.address, destination.end.address, port, number)
                said[number] = mind.setdefault(key, verdict) if steady else verdict
        at = random.uniform(0, 600)
        carried = (0, 0) if Verdict.DENIED in said else (random.randrange(40, 9000), random.randrange(40, 90000))
        yield Connection(source, destination, port, at, (said[0], said[1]), *carried)


def told(random: Random, made: list[Connection], onlookers: bool) -> list[StoredFlow]:
    """What the points tell, in no order. ``onlookers``: a point on the way tells of what it carried too."""
    rows: dict[tuple[HostId, FlowEnd, FlowEnd, FlowKey, int], list[Tally]] = {}
    for each in made:
        for host, key, tally in _reports(each, onlookers):
            slot = (host, each.source.end, each.destination.end, key, int(each.at // BATCH))
            rows.setdefault(slot, []).append(tally)
    flows = [StoredFlow(host, one, other, key, _sum(all_)) for (host, one, other, key, _), all_ in rows.items()]
    random.shuffle(flows)
    return flows


def _reports(each: Connection, onlookers: bool) -> Iterator[tuple[HostId, FlowKey, Tally]]:
    ends = ((Direction.EGRESS, each.source), (Direction.INGRESS, each.destination))
    for (direction, place), verdict in zip(ends, each.said, strict=True):
        if place.point is not None and verdict is not None:
            rule = RuleId(f"{direction.value}/{verdict.name.lower()}")
            yield HostId(place.point), _key(each, place.point, direction, verdict, rule), Tally(each.at, each.at, 1, 1)
    if each.dropped_leaving:
        return
    points = {each.source.point, each.destination.point} - {None}
    if each.denied:
        points -= {each.destination.point}  # dropped before it was tracked there
    for point in sorted(points | ({"router"} if onlookers else set())):
        key = _key(each, point, Direction.EGRESS, Verdict.CARRIED, RuleId(""))
        ended = Tally(each.at, each.at + 1, 0, 9, each.out or 60, each.back, 1, 1.0)
        yield HostId(point), key, ended


def _key(each: Connection, point: str, direction: Direction, verdict: Verdict, rule: RuleId) -> FlowKey:
    own = [place.end.workload if place.point == point else None for place in (each.source, each.destination)]
    return FlowKey(
        each.source.end.address, each.destination.end.address, 6, each.port, direction, verdict, rule, own[0], own[1]
    )


def _sum(found: list[Tally]) -> Tally:
    return Tally(
        min(each.first for each in found),
        max(each.last for each in found),
        *(
            sum(getattr(each, name) for each in found)
            for name in ("connections", "packets", "bytes_out", "bytes_in", "ended", "seconds")
        ),
    )
