"""A controller over a real SQLite file and the real core, a clock that stands still, and a host that obeys."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from stockade.adapters.sql import SqlStore, open_store
from stockade.controller.installation import Installation
from stockade.controller.lifecycle import Lifecycle
from stockade.controller.loop import Controller, open_controller
from stockade.controller.wiring import standard_parts
from stockade.core.model.event import Event, HostSeen, WorkloadSeen
from stockade.core.model.ids import Address, HostId, Realm, WorkloadId
from stockade.core.model.inventory import (
    Attachment,
    Bridge,
    Endpoint,
    Facts,
    Host,
    Sighting,
    WorkloadKind,
    WorkloadState,
)
from stockade.core.model.net import canonical_prefix
from stockade.wire import Outcome, Report
from stockade.wire.api import ApplyRequest, Caller, Check, File, Judged, Role, VersionReply

HOST = HostId("host-a")
ADA = Caller(name="ada", uid=1000, role=Role.APPLY)

SHOP = """\
apiVersion: stockade.dev/v1
kind: Policy
metadata: {name: shop}
spec:
  scope: app = shop
  rules:
    - name: web-to-api
      allow: {from: role = web, to: role = api, on: [tcp/8080]}
    - name: api-to-db
      allow: {from: role = api, to: role = db, on: [postgres]}
  tests:
    - {from: {app: shop, role: web}, to: {app: shop, role: db}, on: tcp/5432, expect: deny}
"""
MODES = """\
apiVersion: stockade.dev/v1
kind: EnforcementMode
metadata: {name: shop}
spec: {select: app = shop, mode: full, priority: 10}
"""
FILES = (File("modes.yaml", MODES), File("shop.yaml", SHOP))

T = TypeVar("T")


def run(scenario: Coroutine[Any, Any, T]) -> T:
    """Run one scenario, bounded."""
    return asyncio.run(asyncio.wait_for(scenario, 60))


class StandingClock:
    """A clock that moves only when told to; wall and monotonic time can be moved apart."""

    def __init__(self) -> None:
        self.wall = 1_700_000_000.0
        self.steady = 1000.0

    def now(self) -> float:
        return self.wall

    def monotonic(self) -> float:
        return self.steady

    def pass_(self, seconds: float) -> None:
        self.wall += seconds
        self.steady += seconds


def looked() -> tuple[Check, ...]:
    return (Check("kernel", Judged.GOOD, "6.18"),)


def parts(store: SqlStore) -> Any:
    return standard_parts(store.secret(), looked)


@asynccontextmanager
async def opened(folder: Path, clock: StandingClock | None = None) -> AsyncIterator[Installation]:
    """Open an installation whose store is in ``folder``; nothing runs in the background."""
    store = open_store(f"sqlite:///{folder}/state.db")
    try:
        controller = await open_controller(store, clock or StandingClock(), parts(store))
        yield Installation(controller, Lifecycle(controller))
    finally:
        store.close()


def host_seen() -> tuple[Event, ...]:
    """A host with one bridge, and itself as a workload."""
    itself = Endpoint(Attachment.HOST, (Address("10.1.0.1"), Address("192.0.2.10")))
    bridge = Bridge("br0", Realm("host-a/br0"), (canonical_prefix("10.1.0.0/24"),))
    return (
        WorkloadSeen(Sighting(WorkloadId("host-a"), "host-a", WorkloadKind.HOST, HOST, endpoints=(itself,))),
        HostSeen(
            Host(HOST, WorkloadId("host-a"), ("br0", "eth0", "lo"), (bridge,), resolvers=(Address("192.0.2.53"),))
        ),
    )


def container(name: str, number: int, role: str = "", state: WorkloadState = WorkloadState.RUNNING) -> WorkloadSeen:
    """A container on the bridge; with a role it is Compose's and so gets labels."""
    endpoint = Endpoint(
        Attachment.BRIDGED,
        (Address(f"10.1.0.{number}"),),
        f"veth{number}",
        "br0",
        f"02:00:00:00:00:{number:02x}",
        Realm("host-a/br0"),
    )
    labels = (("com.docker.compose.project", "shop"), ("com.docker.compose.service", role)) if role else ()
    facts = Facts(runtime="docker", image="shop/web", labels=labels)
    id_ = WorkloadId(f"docker:host-a:{name}")
    return WorkloadSeen(Sighting(id_, name, WorkloadKind.CONTAINER, HOST, state, (endpoint,), None, facts, 1.0))


TIERS = (container("web-1", 11, "web"), container("api-1", 12, "api"), container("db-1", 13, "db"))


async def report(controller: Controller, *events: Event) -> int:
    """Report as the host's agent would, with its next generation."""
    done = await controller.submit(Report(HOST, controller.generation(HOST) + 1, events))
    await controller.publish()
    return done


async def furnished(controller: Controller) -> None:
    """Report the host and three tiers, and have the host enforce what follows."""
    await report(controller, *host_seen(), *TIERS)
    await obey(controller)


async def obey(controller: Controller, error: str = "") -> None:
    """Say that the host enforces what it is assigned, or why not."""
    intent = controller.roster.wanted[HOST]
    await controller.note(Outcome(HOST, intent.revision, intent.version, intent.fingerprint, error))


async def applied(installation: Installation, files: tuple[File, ...] = FILES, **more: Any) -> VersionReply:
    """Apply without looking, and without waiting for hosts."""
    request = ApplyRequest(files=files, **{"yes": True, "wait": 0.0, "note": "why", **more})
    return await installation.lifecycle.apply(request, ADA)
