"""Births in a lab: a real ``stockade up`` on the lab's host, told of each newborn as soon as its link is laid."""

import asyncio
import time
from pathlib import Path

import msgspec

from bench.cradle import ADDRESSES, births, calm_of, control, figures_of, figures_of_records, without_targets
from bench.figures import Figure
from bench.newborns import DENIED, Place, Watch
from bench.relabelling import applied
from stockade.cli.demo_stage import Stage, stage
from stockade.cli.shop_lab import SHOP
from stockade.core.model.ids import Version
from stockade.testing.lab import bridged
from stockade.wire.api import BirthsReply, RollbackRequest, VersionReply

KIND = "lab"
FORGED_WAY = f"""
apiVersion: stockade.dev/v1
kind: Policy
metadata: {{name: api-may}}
spec:
  rules:
    - name: what-a-forged-sender-would-use
      allow: {{from: app = shop and role = api, to: app = shop and role = db, on: [udp/{DENIED + 2}]}}
"""


async def lab_births(program: Path, count: int) -> list[Figure]:
    """Let so many workloads be born; return what came of them, and of one more without policy."""
    async with stage(SHOP) as on:
        on.tell_all()
        await on.settled(0, sum(not node.outside for node in SHOP.nodes) + 1)
        await applied(on, FORGED_WAY)
        cradle = LabCradle(on)
        with _watch(on) as watch:
            calm = calm_of(count)
            found = await births(cradle, watch, str(program), calm, alive=1, pause=0.5)
            figures = [*figures_of(KIND, found, watch.scans)]
            records = await asyncio.to_thread(on.client.call, "births", BirthsReply, last=calm)
            figures += figures_of_records(KIND, records.births)
            crowd = await births(cradle, watch, str(program), count - calm, first=calm + 1)
            figures += without_targets(figures_of(f"{KIND}, several alive", crowd, watch.scans))
            request = RollbackRequest(version=Version(0), note="the benchmark ends")
            back = await asyncio.to_thread(on.client.call, "rollback", VersionReply, request)
            await on.settled(back.version.number, 0)
            return [*figures, *control(KIND, await births(cradle, watch, str(program), 1, first=count + 1))]


class LabCradle:
    """Nodes of the lab's shop, born as web servers."""

    def __init__(self, on: Stage) -> None:
        self._on = on

    async def bear(self, number: int, argv: list[str]) -> None:
        """Add a node whose program runs before it has a link, then tell of it."""
        name, created = _name(number), time.time()
        own = (self.address(number), f"fd20::{100 + number % ADDRESSES:x}")
        node = bridged(name, "shop", *own, app="shop", env="prod", role="web")
        await self._on.lab.add(
            node,
            before_links=lambda name: self._on.lab.start(name, argv),
            once_laid=lambda name: self._tell(name, created),
        )

    def _tell(self, name: str, created: float) -> None:
        self._on.teller.tell(msgspec.structs.replace(self._on.lab.sighting(name), created=created))

    async def bury(self, number: int) -> None:
        """Remove a node, then tell that it is gone."""
        gone = self._on.lab.sighting(_name(number)).id
        await self._on.lab.remove(_name(number))
        self._on.teller.gone(gone)

    def address(self, number: int) -> str:
        """Return an address of the shop's bridge; it is used again much later."""
        return f"10.20.0.{100 + number % ADDRESSES}"


def _name(number: int) -> str:
    return f"born-{number}"


def _watch(on: Stage) -> Watch:
    def place(name: str) -> Place:
        plug = on.lab.plugs(name)[0]
        return Place(on.lab.netns(name), on.lab.address(name), on.lab.address(name, 6), plug.mac)

    return Watch(place("api-1"), place("db-1"), [place("intruder")], [place("web-1"), place("intruder")])
