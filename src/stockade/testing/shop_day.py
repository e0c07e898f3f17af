"""The days of a shop: who connects to whom and when, in a seeded rhythm, and an attacker's walk to put into them.

Ordinary is: customers by the time of day, and what they cause behind the shop; names asked for; everybody scraped and
asked for their health at regular intervals; jobs by the hour and by the night; deploys that replace replicas, one after
the other, under new names and addresses; desks that browse; connections that fail now and then; and what is
new and meant: somebody's errand, a release that needs a service which nobody needed before. The same seed makes the
same days.
"""

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from random import Random

import msgspec

from stockade.core.model.flow import FlowEnd, FlowKey, StoredFlow, Tally, Verdict
from stockade.core.model.ids import Address, HostId, RuleId, WorkloadId
from stockade.core.model.net import Protocol
from stockade.core.model.packet import Direction

HOUR, DAY = 3600.0, 86400.0
TCP, UDP = Protocol.TCP, Protocol.UDP


class Person(msgspec.Struct, frozen=True):
    """Somebody of the shop's, or (without an app) an address outside."""

    name: str
    address: str
    app: str = ""
    role: str = ""

    @property
    def end(self) -> FlowEnd:
        """As a flow store knows them."""
        if not self.app:
            return FlowEnd(Address(self.address), network="internet")
        labels = (("app", self.app), ("env", "prod"), ("name", self.name), ("role", self.role))
        return FlowEnd(Address(self.address), WorkloadId(f"lab:{self.name}"), labels)


class Visit(msgspec.Struct, frozen=True):
    """Some connections at a moment, in seconds since the first day began."""

    at: float
    source: Person
    destination: Person
    port: int
    protocol: Protocol = TCP
    count: int = 1
    answered: bool = True


class Sizes(msgspec.Struct, frozen=True):
    """How big the shop is, and how much goes on."""

    web: int = 4
    api: int = 3
    db: int = 2
    office: int = 20
    """Other workloads, which are watched, ask for names, and use the shop's web now and then."""
    customers: float = 120.0
    """Customers an hour at the busiest time."""
    scrape: float = 30.0
    """Seconds between two looks at each workload,"""
    health: float = 20.0
    """and between two questions for its health."""
    deploys: float = 0.15
    """How often an hour each tier is deployed."""
    fails: float = 0.01
    errands: float = 0.03
    """How often an hour somebody at a desk does by hand what nobody does every day,"""
    releases: float = 0.01
    """and how often a release begins to use a service of its own."""


class Shop:
    """Everybody who is there now. Hours are asked for in order: replicas change as they pass."""

    def __init__(self, seed: int, sizes: Sizes | None = None) -> None:
        self.random = Random(seed)
        self.sizes = sizes or Sizes()
        self._born = 0
        self.tiers = {role: [self.new("shop", role) for _ in range(getattr(self.sizes, role))] for role in TIERS}
        self.office = [self.new(f"office-{number % 5}", "desk") for number in range(self.sizes.office)]
        self.dns = [self.new("infra", "dns") for _ in range(2)]
        self.prometheus, self.balancer = self.new("prometheus", "monitoring"), self.new("infra", "balancer")
        self.cron, self.backup = self.new("shop", "cron"), self.new("infra", "backup")
        self.payments = Person("payments", "203.0.113.10")
        self.released: list[Person] = []

    def new(self, app: str, role: str) -> Person:
        """Return somebody who was never there before."""
        self._born += 1
        return Person(f"{role}-{self._born}", f"10.20.{self._born >> 8}.{self._born & 255}", app, role)

    def everybody(self) -> list[Person]:
        """Everybody who is a workload."""
        tiers = [each for some in self.tiers.values() for each in some]
        others = (self.prometheus, self.balancer, self.cron, self.backup)
        return [*tiers, *self.office, *self.dns, *others, *self.released]

    def hour(self, number: int) -> list[Visit]:
        """Return what happens in an hour (0 is the first of the first day), in order."""
        for role in DEPLOYED:
            if self.random.random() < self.sizes.deploys:
                self.tiers[role] = [self.new("shop", role) for _ in self.tiers[role]]
        if self.random.random() < self.sizes.releases:
            self.released.append(self.new("shop", f"service-{len(self.released)}"))
        return sorted(self._hour(number), key=lambda each: each.at)

    def _hour(self, number: int) -> Iterator[Visit]:
        since = number * HOUR
        yield from self._customers(since, number % 24)
        yield from self._regular(since)
        yield from self._names(since)
        yield from self._jobs(since, number)
        yield from self._desks(since)

    def _customers(self, since: float, of_day: int) -> Iterator[Visit]:
        """Customers, and what each causes."""
        busy = 0.55 - 0.45 * math.cos(2 * math.pi * (of_day - 3) / 24)
        for _ in range(max(1, round(self.sizes.customers * busy))):
            at, random = since + self.random.uniform(0, HOUR - 10), self.random
            web, api = random.choice(self.tiers["web"]), random.choice(self.tiers["api"])
            yield self._visit(at, self._customer(), web, 80, random.randrange(1, 6))
            yield self._visit(at + 0.2, web, api, 8080, random.randrange(1, 12))
            yield self._visit(at + 0.4, api, random.choice(self.tiers["db"]), 5432, random.randrange(1, 4))
            if random.random() < 0.1:
                yield self._visit(at + 2, api, self.payments, 443)

    def _customer(self) -> Person:
        address = f"203.0.113.{self.random.randrange(20, 250)}"
        return Person(address, address)

    def _regular(self, since: float) -> Iterator[Visit]:
        for each in self.everybody():
            if each is not self.prometheus:
                yield from self._every(self.sizes.scrape, since, self.prometheus, each, 9100)
        for role, port in (("web", 80), ("api", 8080)):
            for each in self.tiers[role]:
                yield from self._every(self.sizes.health, since, self.balancer, each, port)
        for one, other in pairwise(self.tiers["db"]):
            yield from self._every(self.sizes.health, since, other, one, 5432)  # replication

    def _every(self, seconds: float, since: float, one: Person, other: Person, port: int) -> Iterator[Visit]:
        at = since + self.random.uniform(0, seconds)
        while at < since + HOUR:
            yield self._visit(at + self.random.uniform(0, 0.03) * seconds, one, other, port)
            at += seconds

    def _names(self, since: float) -> Iterator[Visit]:
        for each in (every for every in self.everybody() if every not in self.dns):
            for _ in range(3):
                at = since + self.random.uniform(0, HOUR)
                yield Visit(at, each, self.random.choice(self.dns), 53, UDP, self.random.randrange(1, 9))

    def _jobs(self, since: float, number: int) -> Iterator[Visit]:
        yield self._visit(since + 60, self.cron, self.random.choice(self.tiers["api"]), 8080, 3)
        if number % 24 == NIGHT:
            yield self._visit(since + 600, self.backup, self.tiers["db"][0], 5432, 40)
            yield self._visit(since + 900, self.cron, self.tiers["db"][0], 5432, 5)

    def _desks(self, since: float) -> Iterator[Visit]:
        for each in self.office:
            if self.random.random() < 0.2:
                at = since + self.random.uniform(0, HOUR)
                yield self._visit(at, each, self.random.choice(self.tiers["web"]), 80, self.random.randrange(1, 9))
            for _ in range(self.random.randrange(4)):
                far = f"151.101.{self.random.randrange(64)}.{self.random.randrange(250)}"
                at = since + self.random.uniform(0, HOUR)
                yield self._visit(at, each, Person(far, far), 443, self.random.randrange(1, 30))
        yield from self._news(since)

    def _news(self, since: float) -> Iterator[Visit]:
        """What is new and meant."""
        for each in self.released:
            for api in self.tiers["api"]:
                yield self._visit(since + self.random.uniform(0, HOUR), api, each, 6379, self.random.randrange(1, 20))
        if self.office and self.random.random() < self.sizes.errands:
            to = self.random.choice([*self.tiers["db"], *self.tiers["web"], self.cron])
            at, port = since + self.random.uniform(0, HOUR), self.random.choice((22, 5432, 8081))
            yield self._visit(at, self.random.choice(self.office), to, port, 2)

    def _visit(self, at: float, one: Person, other: Person, port: int, count: int = 1) -> Visit:
        return Visit(at, one, other, port, TCP, count, self.random.random() >= self.sizes.fails)

    # An attacker

    def scan(self, at: float) -> Iterator[Visit]:
        """A web server tries ports of a database, one in four seconds; its own answers."""
        source, to = self.tiers["web"][0], self.tiers["db"][0]
        for number, port in enumerate((*self.random.sample(range(1, 10000), 30), 5432)):
            yield Visit(at + 4 * number, source, to, port, answered=port == 5432)

    def beacon(self, at: float, every: float = 45.0) -> Iterator[Visit]:
        """The web server calls somebody outside."""
        home = Person("198.51.100.66", "198.51.100.66")
        for number in range(30):
            yield Visit(at + every * number * self.random.uniform(0.995, 1.005), self.tiers["web"][0], home, 443)

    def movement(self, at: float) -> Iterator[Visit]:
        """From the web server to a desk, from there to the backup's, from there to the database."""
        steps = (self.tiers["web"][0], self.office[0], self.backup, self.tiers["db"][1])
        for number, (one, other) in enumerate(pairwise(steps)):
            yield Visit(at + 200 * number, one, other, 22, count=2)

    def spread(self, at: float) -> Iterator[Visit]:
        """The web server meets everybody on a port that all of them answer."""
        for number, each in enumerate(self.random.sample([*self.office, *self.dns, self.cron, self.backup], 24)):
            yield Visit(at + 20 * number, self.tiers["web"][0], each, 9100)


TIERS = ("web", "api", "db")
DEPLOYED = ("web", "api")
NIGHT = 2


def recorded(visits: Sequence[Visit], began: float) -> Iterator[StoredFlow]:
    """Yield what points at both ends tell of visits, and of what they carried; the first day began at ``began``."""
    for each in visits:
        one, other = each.source.end, each.destination.end
        at = began + each.at
        tally = Tally(at, at + 1, each.count, each.count)
        for end, mine in ((Direction.EGRESS, one), (Direction.INGRESS, other)):
            if mine.workload is not None:
                own = (one.workload, None) if end is Direction.EGRESS else (None, other.workload)
                key = FlowKey(
                    one.address, other.address, each.protocol, each.port, end, Verdict.ALLOWED, RuleId("default"), *own
                )
                yield StoredFlow(POINT, one, other, key, tally)
        key = FlowKey(one.address, other.address, each.protocol, each.port, Direction.INGRESS, Verdict.CARRIED)
        back = 2000 if each.answered else (40 if each.protocol == TCP else 0)
        ended = Tally(at, at + 1.5, 0, 9, 600 * each.count, back * each.count, each.count, 0.5 * each.count)
        yield StoredFlow(POINT, one, other, key, ended)


POINT = HostId("shop-host")
