"""Anomalies in recorded flows are findings with evidence: one while it lasts, gone an hour later, not learnt from."""

import asyncio
from collections.abc import Coroutine, Iterable, Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import pytest
from controlled import ADA, HOST, StandingClock, furnished, opened
from tests.adapters.flow_worlds import ALWAYS

from ordinary import HOUR, Estate, port_scan, seen, walk
from stockade.adapters.clickhouse.apart import FlowStoreApart
from stockade.controller.accepting import accept
from stockade.controller.anomalies import AnomalyWatch, pause
from stockade.controller.finding_views import every_finding
from stockade.controller.findings import CLEARED, EVERYWHERE, RAISED
from stockade.controller.flows import FlowIntake
from stockade.controller.installation import Installation, status
from stockade.controller.metrics import exposition
from stockade.controller.suggesting import suggested
from stockade.controller.whose import Whose
from stockade.core.graph.anomaly import AnomalyKind
from stockade.core.model.flow import FlowEnd, StoredFlow
from stockade.core.model.flow_table import kept
from stockade.core.model.ids import Address, WorkloadId
from stockade.seams.flow_store import FlowStore, StoredBatch
from stockade.wire.api import AcceptRequest, Caller, HostFinding, Role
from stockade.wire.suggestions import SuggestRequest

pytestmark = [pytest.mark.real, pytest.mark.timeout(280), pytest.mark.long]
"""A real ClickHouse, in a process of its own."""

FIRST = 472_222
"""The number of the first hour that is recorded."""
DAYS = 30
"""Hours of ordinary traffic: six of them old enough to be ordinary."""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FlowStore]:
    with closing(FlowStoreApart(tmp_path / "flows", retention=ALWAYS)) as opened_store:
        yield opened_store


def run(scenario: Coroutine[Any, Any, None]) -> None:
    """Run one scenario, bounded by what the whole test is: a busy machine's store takes its time."""
    asyncio.run(scenario)


class Recording:
    """Puts flows, as hosts would."""

    def __init__(self, store: FlowStore) -> None:
        self.store = store
        self.number = 0

    def put(self, flows: Iterable[StoredFlow]) -> None:
        by_host: dict[str, list[StoredFlow]] = {}
        for each in flows:
            by_host.setdefault(each.host, []).append(each)
        for some in by_host.values():
            self.number += 1
            until = max(each.tally.last for each in some)
            self.store.put([StoredBatch(some[0].host, "test", self.number, until, kept(some))])


def watching(installation: Installation, store: FlowStore) -> AnomalyWatch:
    installation.controller.flows = FlowIntake(store, installation.controller.clock)
    return AnomalyWatch(installation.controller, store)


def at(hour: float) -> float:
    return (FIRST + hour) * HOUR


def of_traffic(installation: Installation) -> dict[str, HostFinding]:
    found = every_finding(installation.controller).findings
    return {f"{each.check}: {each.object}": each for each in found if each.host == EVERYWHERE}


def logged(installation: Installation) -> list[tuple[str, str]]:
    entries = [each.entry for each in installation.controller.store.audit(1000)[::-1]]
    return [(each.action, each.target.removeprefix("*: ")) for each in entries if each.action in (RAISED, CLEARED)]


def unassessed(installation: Installation) -> dict[str, str]:
    every = every_finding(installation.controller).unassessed
    return {each.check: each.why for each in every if each.host == EVERYWHERE}


def test_an_attackers_walk_is_a_finding_for_as_long_as_it_lasts(tmp_path: Path, store: FlowStore) -> None:
    estate, recording, clock = Estate(1, steady=True), Recording(store), StandingClock()
    recording.put(each for number in range(DAYS) for each in estate.hour(FIRST + number))
    chain = [estate.pick("wiki", "web"), estate.pick("mail", "api"), estate.pick("bank", "db")]
    moved = f"movement: {chain[0].workload}"

    async def scenario() -> None:
        async with opened(tmp_path, clock) as installation:
            await furnished(installation.controller)
            watch = watching(installation, store)
            clock.wall = at(DAYS)
            assert set(unassessed(installation)) == {"beacon", "fan-out", "first-seen-edge", "movement", "scan"}
            await watch.catch_up()
            await watch.look()
            assert (of_traffic(installation), unassessed(installation)) == ({}, {})

            recording.put([*estate.hour(FIRST + DAYS), *walk(chain, at(DAYS) + 60)])
            clock.wall = at(DAYS) + 600
            await watch.catch_up()
            await watch.look()
            found = of_traffic(installation)
            assert [each.severity.value for each in found.values()] == ["high", "low", "low"]
            assert moved in found
            evidence = found[moved].evidence
            assert evidence is not None
            assert (evidence.since, evidence.until, evidence.total) == (at(DAYS) + 60, at(DAYS) + 362, 2)
            names = [(each.source_name, each.destination_name, each.on) for each in evidence.flows]
            assert names == [
                (dict(one.labels)["name"], dict(other.labels)["name"], "tcp/22") for one, other in pairwise(chain)
            ]
            assert [target for action, target in logged(installation) if action == RAISED].count(moved) == 1
            text = exposition(installation.controller).decode()
            assert 'stockade_findings{check="movement",host="*",severity="high"} 1.0' in text
            told = await status(installation, Caller(name="ada", uid=1000, role=Role.READ))
            assert dict(told.findings)

            for later in (60, 1800, 3700):  # the first step is too old to be seen by then, and it is the same finding
                clock.wall = at(DAYS) + later + 200
                await watch.catch_up()
                await watch.look()
                assert moved in of_traffic(installation), later
            clock.wall = at(DAYS) + 362 + HOUR
            await watch.catch_up()
            await watch.look()
            assert moved not in of_traffic(installation)
            history = [action for action, target in logged(installation) if target == moved]
            assert history == [RAISED, CLEARED]
            assert {each.kind for each in watch.suspicious(at(DAYS), at(DAYS + 1))} >= {AnomalyKind.MOVEMENT}

    run(scenario())


def test_a_restart_finds_the_same_and_raises_nothing_twice(tmp_path: Path, store: FlowStore) -> None:
    estate, recording, clock = Estate(2, steady=True), Recording(store), StandingClock()
    recording.put(each for number in range(DAYS) for each in estate.hour(FIRST + number))
    source, to, random = estate.pick("wiki", "web"), estate.pick("bank", "db"), Random(3)
    beats = [
        row
        for second in range(0, 600, 5)
        for row in seen(source, to, 8443, at(DAYS) + second + random.uniform(-0.2, 0.2), 1)
    ]
    earlier = list(port_scan(random, estate.pick("mail", "web"), to, at(DAYS - 2) + 60))
    infected, home = estate.pick("mail", "web"), estate.pick("shop", "cache")
    resolved = [
        row
        for second in range(0, 600, 5)
        for row in seen(infected, home, 8444, at(DAYS - 2) + second + random.uniform(-0.2, 0.2), 1)
    ]
    recording.put([*estate.hour(FIRST + DAYS), *beats, *earlier, *resolved])
    seen_by: list[tuple[dict[str, HostFinding], list[tuple[str, str]], int]] = []

    async def scenario() -> None:
        async with opened(tmp_path, clock) as installation:
            if not installation.controller.snapshot.hosts:
                await furnished(installation.controller)
            clock.wall = at(DAYS) + 900
            watch = watching(installation, store)
            await watch.catch_up()
            await watch.look()
            past = watch.suspicious(at(0), at(DAYS - 1))
            kinds = {each.kind for each in past}
            assert kinds >= {AnomalyKind.SCAN, AnomalyKind.BEACON}, "what was found before the start is known again"
            seen_by.append((of_traffic(installation), logged(installation), len(past)))

    run(scenario())
    run(scenario())
    assert seen_by[0] == seen_by[1]
    found, history, _ = seen_by[0]
    assert f"beacon: {source.workload}" in found, "read singly: a minute holds twelve of its connections"
    assert {action for action, _ in history} == {RAISED}
    assert "scan" not in " ".join(found), "it ended hours ago"


@pytest.mark.parametrize(
    ("took", "learnt", "seconds"),
    [
        (0.0, False, 10),
        (0.1, False, 10),
        (0.3, False, 30),
        (2.0, False, 60),
        (10.0, False, 90),
        (0.0, True, 0),
        (1, True, 9),
    ],
)
def test_what_takes_little_is_done_sooner_again(took: float, learnt: bool, seconds: float) -> None:
    """A hundredth of the time, down to each minute; never more than a tenth."""
    assert pause(took, learnt=learnt) == pytest.approx(seconds)


def test_what_cannot_be_looked_for_is_not_assessed(tmp_path: Path, store: FlowStore) -> None:
    estate, recording, clock = Estate(1, steady=True), Recording(store), StandingClock()
    recording.put(each for number in range(5) for each in estate.hour(FIRST + number))
    scanned = list(port_scan(Random(1), estate.pick("wiki", "web"), estate.pick("bank", "db"), at(5) - 600))
    recording.put(scanned)

    async def scenario() -> None:
        async with opened(tmp_path, clock) as installation:
            await furnished(installation.controller)
            clock.wall = at(5)
            watch = watching(installation, store)
            await watch.catch_up()
            await watch.look()
            assert [each.partition(":")[0] for each in of_traffic(installation)] == ["scan"]
            told = unassessed(installation)
            assert set(told) == {"beacon", "fan-out", "first-seen-edge", "movement"}
            assert all("older than 24 h" in why for why in told.values())

    run(scenario())


def test_nothing_is_read_from_a_store_that_nothing_was_put_into(tmp_path: Path, store: FlowStore) -> None:
    """It starts with the first flow, and what was never looked at is not assessed."""

    async def scenario() -> None:
        async with opened(tmp_path) as installation:
            await furnished(installation.controller)
            watch = watching(installation, store)
            assert await watch.round() is False
            assert len(unassessed(installation)) == 5

    run(scenario())
    assert not (tmp_path / "flows").exists()


def test_a_suggestion_does_not_learn_from_an_anomaly(tmp_path: Path, store: FlowStore) -> None:
    recording, clock = Recording(store), StandingClock()

    async def scenario() -> None:
        async with opened(tmp_path, clock) as installation:
            controller = installation.controller
            await furnished(controller)
            whose = Whose(controller.snapshot)
            web, api, db = (
                whose.end(Address(f"10.1.0.{number}"), WorkloadId(f"docker:host-a:{name}"))
                for name, number in (("web-1", 11), ("api-1", 12), ("db-1", 13))
            )
            usual = [
                row
                for number in range(DAYS + 1)
                for row in (*told(web, api, 8080, at(number) + 7), *told(api, db, 5432, at(number) + 8))
            ]
            recording.put([*usual, *told(web, db, 5432, at(DAYS) + 300)])
            clock.wall = at(DAYS) + 600
            watch = watching(installation, store)
            request = SuggestRequest(selector="app = shop", name="learnt", since=at(0))
            trusting = suggested(store, controller.snapshot, request, clock.wall)
            assert not trusting.left_out
            await watch.catch_up()
            await watch.look()
            wary = suggested(store, controller.snapshot, request, clock.wall, watch.suspicious(at(0), clock.wall))
            assert [(each.source, each.destination, each.reason) for each in wary.left_out] == [
                ("web-1", "db-1", "part of an anomaly")
            ]
            assert "not seen in" in wary.left_out[0].detail
            assert not wary.left_out[0].open
            new = next(each for each in every_finding(controller).findings if each.check == "first-seen-edge")
            await accept(controller, AcceptRequest(id=new.id, why="it is meant"), ADA)
            assert not any(each.host == EVERYWHERE for each in every_finding(controller).findings)
            after = suggested(store, controller.snapshot, request, clock.wall, watch.suspicious(at(0), clock.wall))
            assert after == wary, "who accepts a finding has allowed nothing"
            opened_to_db = [each.text for each in trusting.rules if "db" in each.text]
            assert opened_to_db == ["role in (api, web) → role = db  postgres"]
            assert [each.text for each in wary.rules if "db" in each.text] == ["role = api → role = db  postgres"]

    run(scenario())


def told(one: FlowEnd, other: FlowEnd, port: int, when: float) -> list[StoredFlow]:
    """What the one host tells of a few connections."""
    return [
        StoredFlow(HOST, each.source, each.destination, each.key, each.tally)
        for each in seen(one, other, port, when, 3)
    ]
