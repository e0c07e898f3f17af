"""Ordinary traffic of a made-up estate, hour by hour and seeded, and attacks to put into it.

Ordinary is: requests between tiers in proportions that hardly change; names asked for; machines scraped at regular
intervals, and asking a time server; jobs now and then; browsing many addresses; replicas that are replaced under new
ids; connections that fail now and then, and services that are down for a while, so that everyone who needs them fails.
"""

from collections.abc import Iterator
from itertools import pairwise
from random import Random

from stockade.core.model.flow import FlowEnd, FlowKey, StoredFlow, Tally, Verdict
from stockade.core.model.ids import Address, HostId, RuleId, WorkloadId
from stockade.core.model.packet import Direction

HOUR = 3600.0
APPS = {
    "shop": ("web", "api", "db", "cache"),
    "mail": ("web", "api", "db"),
    "wiki": ("web", "db"),
    "bank": ("web", "api", "db", "queue"),
}
PORTS = {"web": 443, "api": 8080, "db": 5432, "cache": 6379, "queue": 5672}
RARE = (
    (("bank", "queue"), ("mail", "api"), 0.2),
    (("wiki", "db"), ("shop", "db"), 0.01),
    (("mail", "db"), ("bank", "api"), 0.01),
    (("shop", "api"), ("mail", "api"), 0.01),
    (("bank", "api"), ("wiki", "web"), 0.01),
)
"""Jobs that run now and then, each with how often an hour: some will not have been seen before."""
REPLICAS = {"web": 4, "api": 3, "db": 2, "cache": 2, "queue": 1}


class Estate:
    """Everybody who is there now; replicas change as the hours pass.

    ``steady``: nothing happens now and then: no job, no browsing, no replica that is replaced, no service down.
    """

    def __init__(self, seed: int, *, steady: bool = False) -> None:
        self.random = Random(seed)
        self.steady = steady
        self.born = 0
        self.replicas = {
            (app, role): [self.new(app, role) for _ in range(REPLICAS[role])]
            for app, roles in APPS.items()
            for role in roles
        }
        self.dns = [self.new("infra", "dns") for _ in range(2)]
        self.prometheus = self.new("infra", "metrics")
        self.hosts = [self.new("infra", "host") for _ in range(3)]

    def new(self, app: str, role: str) -> FlowEnd:
        self.born += 1
        number = self.born
        name = f"{app}-{role}-{number}"
        address = Address(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
        labels = (("app", app), ("env", "prod"), ("name", name), ("role", role))
        return FlowEnd(address, WorkloadId(f"id-{number}"), labels)

    def everyone(self) -> list[FlowEnd]:
        return [*(each for some in self.replicas.values() for each in some), *self.dns, *self.hosts]

    def pick(self, app: str, role: str) -> FlowEnd:
        return self.random.choice(self.replicas[app, role])

    def hour(self, number: int) -> list[StoredFlow]:
        """All flows of one hour, after some replicas were replaced."""
        for (app, role), some in self.replicas.items():
            if not self.steady and self.random.random() < 0.1:
                some[self.random.randrange(len(some))] = self.new(app, role)
        return list(self._hour(number * HOUR))

    def _hour(self, since: float) -> Iterator[StoredFlow]:
        yield from self._tiers(since)
        yield from self._everybody(since)
        yield from self._regular(since)

    def _tiers(self, since: float) -> Iterator[StoredFlow]:
        random = self.random
        down = {each for each in self.replicas if not self.steady and random.random() < 0.02}
        for app, roles in APPS.items():
            for client, server in pairwise(roles):
                for source in self.replicas[app, client]:
                    for _ in range(4):
                        broken = (app, server) in down or random.random() < 0.01
                        at, count = since + random.uniform(0, HOUR), random.randrange(3, 40)
                        yield from seen(source, self.pick(app, server), PORTS[server], at, count, answered=not broken)
            for _ in range(12):
                visitor = FlowEnd(
                    Address(f"{random.randrange(11, 99)}.{random.randrange(256)}.7.7"), network="internet"
                )
                yield from seen(visitor, self.pick(app, "web"), 443, since + random.uniform(0, HOUR), 3)
        for one, other, chance in RARE:
            if not self.steady and random.random() < chance:
                yield from seen(self.pick(*one), self.pick(*other), PORTS[other[1]], since + 5, 2)

    def _everybody(self, since: float) -> Iterator[StoredFlow]:
        random = self.random
        for each in self.everyone():
            for _ in range(2):
                yield from seen(each, random.choice(self.dns), 53, since + random.uniform(0, HOUR), 9, protocol=17)
            if not self.steady and random.random() < 0.3:
                far = FlowEnd(Address(f"151.101.{random.randrange(64)}.{random.randrange(250)}"), network="internet")
                yield from seen(each, far, 443, since + random.uniform(0, HOUR), random.randrange(1, 6))

    def _regular(self, since: float) -> Iterator[StoredFlow]:
        clock = FlowEnd(Address("192.53.103.108"), network="internet")
        for each in self.hosts:
            yield from regularly(self.random, each, clock, 123, since, 240.0, protocol=17)
        for each in self.everyone():
            yield from regularly(self.random, self.prometheus, each, 9100, since, 300.0)
        if not self.steady and self.random.random() < 0.3:
            for each in self.replicas["shop", "db"]:
                yield from regularly(self.random, each, self.hosts[0], 22, since, 360.0)


def regularly(
    random: Random, source: FlowEnd, to: FlowEnd, port: int, since: float, every: float, protocol: int = 6
) -> Iterator[StoredFlow]:
    """One connection at each beat of an hour, a little early or late."""
    at = since + random.uniform(0, every)
    while at < since + HOUR:
        yield from seen(source, to, port, at + random.uniform(-0.02, 0.02) * every, 1, protocol)
        at += every


def seen(
    source: FlowEnd, to: FlowEnd, port: int, at: float, count: int, protocol: int = 6, *, answered: bool = True
) -> Iterator[StoredFlow]:
    """What the points at both ends tell of some connections."""
    tally = Tally(at, at + 1, count, count)
    for end, mine in ((Direction.EGRESS, source), (Direction.INGRESS, to)):
        if mine.workload is not None:
            own = [each.workload if each is mine else None for each in (source, to)]
            key = FlowKey(
                source.address, to.address, protocol, port, end, Verdict.ALLOWED, RuleId("default"), own[0], own[1]
            )
            yield StoredFlow(HostId(f"host-{end.value}"), source, to, key, tally)
    key = FlowKey(source.address, to.address, protocol, port, Direction.EGRESS, Verdict.CARRIED)
    back = 3000 if answered else (40 if protocol == 6 else 0)
    yield StoredFlow(HostId("host-egress"), source, to, key, Tally(at, at + 2, 0, 9, 600 * count, back * count, count))


# Attacks


def port_scan(random: Random, source: FlowEnd, to: FlowEnd, since: float) -> Iterator[StoredFlow]:
    """Forty ports of one destination, of which one answers."""
    for number, port in enumerate(random.sample(range(1, 10000), 40)):
        yield from seen(source, to, port, since + number, 1, answered=number == 25)


def sweep(random: Random, source: FlowEnd, among: list[FlowEnd], since: float) -> Iterator[StoredFlow]:
    """One port of many destinations; nobody answers."""
    for number, to in enumerate(random.sample(among, 25)):
        yield from seen(source, to, 445, since + 2 * number, 1, answered=False)


def beacon(random: Random, source: FlowEnd, since: float) -> Iterator[StoredFlow]:
    """Once a minute or two to an address that nobody met before, on a port that everybody uses."""
    home = FlowEnd(Address("185.220.101.9"), network="internet")
    yield from regularly(random, source, home, 443, since, random.choice((60.0, 90.0, 120.0)))


def spread(random: Random, source: FlowEnd, among: list[FlowEnd], since: float) -> Iterator[StoredFlow]:
    """One talks to nearly everybody, and is answered."""
    for to in random.sample([each for each in among if each is not source], 30):
        yield from seen(source, to, 22, since + random.uniform(0, 600), 1)


def walk(chain: list[FlowEnd], since: float) -> Iterator[StoredFlow]:
    """From one to the next, some minutes apart."""
    for number, (one, other) in enumerate(pairwise(chain)):
        yield from seen(one, other, 22, since + 300 * number, 2)
