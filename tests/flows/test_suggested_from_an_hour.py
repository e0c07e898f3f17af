"""A policy that is suggested from an hour of a shop lets the next hour pass, and none of an attacker's walk.

The hours are accelerated: the shop's seeded schedule of real connections is kept to, 240 times as fast as it says.
Stockade's own clocks are the machine's; it takes for 15 seconds what the shop takes for an hour.
"""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from pathlib import Path

import pytest

from stockade.cli.demo import shop_files
from stockade.cli.demo_stage import Stage, stage
from stockade.core.model.net import Protocol
from stockade.testing.lab import Node, Topology, bridged, enter, lab_bridge, outside
from stockade.testing.probe.values import Probe, Result
from stockade.testing.shop_day import HOUR, NIGHT, Person, Shop, Sizes, Visit
from stockade.wire.api import ApplyRequest, File, VersionReply
from stockade.wire.flows import FlowGroupsReply

pytestmark = [pytest.mark.real, pytest.mark.timeout(280)]
FASTER = 240.0
SEED = 7
SMALL = Sizes(
    web=2, api=2, db=2, office=0, customers=150.0, scrape=300.0, health=300.0, deploys=0.5, fails=0, releases=0
)
PATIENCE = 60.0
METADATA, HOME = "169.254.169.254", "198.51.100.66"


def node(person: Person) -> Node:
    bridge = "shop" if person.app == "shop" else "ops"
    return bridged(person.name, bridge, app=person.app, env="prod", role=person.role)


def topology(shop: Shop) -> Topology:
    return Topology(
        host="lab",
        bridges=(
            lab_bridge("shop", "10.20.0.0/24", "fd20::/64"),
            lab_bridge("ops", "10.21.0.0/24", "fd21::/64"),
        ),
        nodes=(
            *map(node, shop.everybody()),
            bridged("intruder", "ops", app="intruder"),
            outside("payments", shop.payments.address),
            outside("customers", "203.0.113.50"),
            outside("metadata", METADATA),
            outside("home", HOME),
        ),
    )


def probe(visit: Visit) -> Probe:
    return Probe(_name(visit.source), _name(visit.destination), visit.protocol, visit.port)


def _name(person: Person) -> str:
    return "customers" if person.address.startswith("203.0.113.") and person.name != "payments" else person.name


async def accelerated(on: Stage, visits: Iterable[Visit], since: float) -> list[Result]:
    """Make the connections of an hour at their moments, 240 times as fast; a machine that is slow makes them later."""
    began, waiting, found = time.monotonic(), list(visits), []
    while waiting:
        now = since + (time.monotonic() - began) * FASTER
        due = [each for each in waiting if each.at <= now]
        waiting = waiting[len(due) :]
        found += await on.lab.probe([probe(each) for each in due])
        await asyncio.sleep(0.1)
    return found


def walk(shop: Shop) -> Iterator[Probe]:
    """From a web server: the database, a scan, another's shell, the cloud's metadata, home; and a stranger's way in."""
    web, db = shop.tiers["web"][0].name, shop.tiers["db"][0].name
    yield Probe(web, db, Protocol.TCP, 5432)
    yield from (Probe(web, db, Protocol.TCP, port) for port in range(6000, 6020))
    yield Probe(web, shop.tiers["api"][0].name, Protocol.TCP, 22)
    yield Probe(web, "metadata", Protocol.TCP, 80)
    yield Probe(web, "home", Protocol.TCP, 443)
    yield Probe(db, "home", Protocol.UDP, 53)
    yield Probe("intruder", db, Protocol.TCP, 5432)
    yield Probe("intruder", web, Protocol.TCP, 80)


async def recorded(on: Stage, wanted: int) -> None:
    """Wait until so many connections were told of by the end at which they arrived or from which they left."""
    deadline = time.monotonic() + PATIENCE
    while True:
        reply = await asyncio.to_thread(
            on.client.call, "flow-groups", FlowGroupsReply, by="destination.address,end,verdict", limit=1000
        )
        payments = on.lab.address("payments")
        told = sum(
            each.connections
            for each in reply.groups
            if each.values[1] == ("egress" if each.values[0] == payments else "ingress")
        )
        if told >= wanted:
            return
        assert time.monotonic() < deadline, f"{told} of {wanted} connections were recorded"
        await asyncio.sleep(0.3)


def stockade(on: Stage, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "stockade", *words, "--state", str(on.state)],
        capture_output=True, text=True, timeout=120, check=False, env={**os.environ, "NO_COLOR": "1"},
    )  # fmt: skip


async def apply(on: Stage, *files: File) -> None:
    request = ApplyRequest(files=files, note="learnt", yes=True)
    reply = await asyncio.to_thread(on.client.call, "apply", VersionReply, request)
    await on.settled(reply.version.number, 0)


def on_the_stage(shop: Shop, scenario: Callable[[Stage], Awaitable[None]]) -> None:
    async def run() -> None:
        async with stage(topology(shop)) as on:
            on.tell_all()
            await on.settled(0, len(on.lab.topology.nodes) - 4)
            await scenario(on)

    enter()
    asyncio.run(run())


def test_what_is_learnt_of_an_hour_allows_the_next_and_no_attack(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("STOCKADE_FLOWS")
    shop = Shop(SEED, SMALL)
    learnt = shop.hour(NIGHT)
    before = {each.name for each in shop.everybody()}

    async def scenario(on: Stage) -> None:
        networks = next(each for each in shop_files() if each.name.endswith("networks.yaml"))
        await apply(on, networks)
        assert all(each.reached for each in await accelerated(on, learnt, NIGHT * HOUR)), "nothing is enforced yet"
        await recorded(on, len(learnt))

        draft = tmp_path / "learnt.yaml"
        said = await asyncio.to_thread(stockade, on, "suggest", "app = shop", "--enforce", "--write", str(draft))
        assert said.returncode == 0, said.stderr
        attempted = await on.lab.probe(walk(shop))
        assert all(each.delivered for each in attempted), "the walk must be possible, or not to be denied means nothing"

        await apply(on, networks, File("learnt.yaml", draft.read_text(encoding="utf-8")))
        held_back = shop.hour(NIGHT + 1)
        born = [each for each in shop.everybody() if each.name not in before]
        assert born, "a tier is deployed meanwhile: who serves the second hour was not there in the first"
        for each in born:
            await on.add(node(each))
        await on.settled(0, len(on.lab.topology.nodes) - 4)
        results = await accelerated(on, held_back, (NIGHT + 1) * HOUR)
        denied = sorted({f"{r.probe.source} → {r.probe.destination} {r.probe.port}" for r in results if not r.reached})
        assert not denied, f"{said.stdout}\nwrongly denied: {denied}"
        assert len(results) > 200
        arrived = [each.probe for each in await on.lab.probe(walk(shop)) if each.delivered]
        assert not arrived, f"{said.stdout}\narrived: {arrived}"

    on_the_stage(shop, scenario)
