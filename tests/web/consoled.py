"""A console over a whole controller with a shop in it, on a real loopback port, in a thread of its own."""

import asyncio
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from html import unescape
from pathlib import Path
from typing import Any, TypeVar

import httpx
from tests.controller.controlled import FILES, HOST, TIERS, container, host_seen, report

from stockade.controller.clock import SystemClock
from stockade.controller.http.peers import Access
from stockade.controller.installation import Installation
from stockade.controller.links import LinkBook
from stockade.controller.run import running_controller
from stockade.core.model.finding import Finding, Severity
from stockade.core.model.ids import CheckId, WorkloadId
from stockade.seams.clock import Clock
from stockade.seams.flow_store import FlowStore
from stockade.web.listening import bound_console, origin, serving_console
from stockade.wire import BirthRecord, Findings, Outcome
from stockade.wire.api import ApplyRequest, Caller, Check, File, Judged, Role, Setting

ADMIN = Caller(name="admin", uid=1000, role=Role.APPLY)
READER = Caller(name="reader", uid=1001, role=Role.READ)
T = TypeVar("T")

CHECKS = (
    Check("kernel", Judged.GOOD, "Linux 6.18, nftables 1.0.6"),
    Check("bridge filter", Judged.WARNING, "br_netfilter is not loaded", "modprobe br_netfilter"),
    Check("containerd", Judged.NOT_ASSESSED, "there is no socket", "start containerd, or do without"),
    Check("conntrack", Judged.PROBLEM, "the table is nearly full", "sysctl net.netfilter.nf_conntrack_max"),
)
HELD = container("batch-91", 21)
SHOP = (
    *(container(f"web-{number}", 30 + number, "web") for number in range(2, 6)),
    *(container(f"api-{number}", 40 + number, "api") for number in range(2, 4)),
    container("cache-1", 50, "cache"),
    HELD,
)


class Consoled:
    """Where the console is, and the installation behind it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.origin = ""
        self.installation: Installation
        self.links: LinkBook
        self.loop: asyncio.AbstractEventLoop

    def do(self, job: Any) -> Any:
        """Run a coroutine in the controller's thread."""
        return asyncio.run_coroutine_threadsafe(job, self.loop).result(30)

    def link(self, caller: Caller = ADMIN, *, read_only: bool = False) -> str:
        async def made() -> str:
            return self.links.issue(caller, read_only=read_only)[0]

        return str(self.do(made()))

    def browser(self) -> httpx.Client:
        """A client that keeps cookies, as a browser does, and follows no redirect."""
        return httpx.Client(base_url=self.origin, timeout=30, trust_env=False)

    def signed_in(self, caller: Caller = ADMIN, *, read_only: bool = False) -> "Person":
        person = Person(self.browser(), self.origin)
        token = self.link(caller, read_only=read_only).partition("token=")[2]
        reply = person.post("/sign-in", token=token)
        assert reply.status_code == 303, reply.text
        return person

    def furnish(self, *, applied: bool = True) -> None:
        self.do(_furnished(self.installation, applied=applied))

    def obey(self) -> None:
        """Let the host say that it enforces what it is assigned."""
        self.do(_obeyed(self.installation))

    def audited(self) -> list[tuple[str, str, str]]:
        entries = self.installation.controller.store.audit(50)
        return [(each.entry.who, each.entry.action, each.entry.outcome) for each in entries]


class Person:
    """Somebody with a browser without scripts: pages by GET, forms with the token of the page."""

    def __init__(self, http: httpx.Client, origin: str) -> None:
        self.http = http
        self.origin = origin

    def get(self, path: str, **headers: str) -> httpx.Response:
        return self.http.get(path, headers=headers)

    def page(self, path: str) -> str:
        reply = self.get(path)
        assert reply.status_code == 200, (path, reply.status_code, reply.text[-2000:])
        return reply.text

    def token(self) -> str:
        found = re.search(r'name="csrf" value="([^"]+)"', self.page("/settings"))
        assert found
        return unescape(found[1])

    def post(self, path: str, headers: dict[str, str] | None = None, **fields: Any) -> httpx.Response:
        return self.http.post(path, data=fields, headers={"origin": self.origin, **(headers or {})})

    def submit(self, path: str, **fields: Any) -> httpx.Response:
        return self.post(path, csrf=self.token(), **fields)


@contextmanager
def consoled(folder: Path, clock: Clock | None = None, flows: FlowStore | None = None) -> Iterator[Consoled]:
    """Run a controller and its console until the block ends, and see both end."""
    server = Consoled(folder)
    started, stop = threading.Event(), asyncio.Event()
    failures: list[BaseException] = []

    async def main() -> None:
        server.loop = asyncio.get_running_loop()
        bound = bound_console("127.0.0.1:0")
        assert bound is not None
        server.origin = origin(bound)
        server.links = LinkBook(server.origin, clock or SystemClock())
        running = running_controller(
            f"sqlite:///{folder}/state.db",
            folder / "api.sock",
            Access(os.geteuid()),
            doctor=lambda: CHECKS,
            settings=(
                Setting("state", "/var/lib/stockade", "default"),
                Setting("socket", "/run/stockade/api.sock", "default"),
                Setting("console", "127.0.0.1", "variable STOCKADE_CONSOLE"),
            ),
            links=server.links,
            clock=clock,
            flows=flows,
        )
        async with running as server.installation, serving_console(server.installation, bound):
            started.set()
            await stop.wait()

    def work() -> None:
        try:
            asyncio.run(main())
        except BaseException as problem:  # noqa: BLE001 - handed to the thread that waits
            failures.append(problem)
        finally:
            started.set()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        assert started.wait(30)
        if failures:
            raise failures[0]
        yield server
    finally:
        if not failures:
            server.loop.call_soon_threadsafe(stop.set)
        thread.join(30)
        assert not thread.is_alive()
        assert not failures, failures


async def _furnished(installation: Installation, *, applied: bool) -> None:
    controller = installation.controller
    await report(controller, *host_seen(), *TIERS, *SHOP)
    await _obeyed(installation, births=True)
    if applied:
        request = ApplyRequest(files=FILES, yes=True, wait=0.0, note="the shop, contained")
        await installation.lifecycle.apply(request, ADMIN)
        await _obeyed(installation)
    await controller.take(
        Findings(
            HOST,
            (
                Finding(
                    CheckId("br-netfilter"),
                    "br0",
                    Severity.HIGH,
                    "frames pass the bridge unjudged",
                    "modprobe it",
                    1.7e9,
                ),
                Finding(
                    CheckId("foreign-table"), "ip nat", Severity.LOW, "another table rewrites", "look at it", 1.7e9
                ),
            ),
            (),
        )
    )


async def _obeyed(installation: Installation, *, births: bool = False) -> None:
    controller = installation.controller
    await controller.publish()
    intent = controller.roster.wanted[HOST]
    born = tuple(_born(number, each.sighting) for number, each in enumerate((*TIERS, *SHOP))) if births else ()
    await controller.note(Outcome(HOST, intent.revision, intent.version, intent.fingerprint, "", born))


def _born(number: int, seen: Any) -> BirthRecord:
    start = 1.7e9 + number
    leak = 0.004 if number == 4 else 0.0
    allowed = None if seen.name == "batch-91" else start + 0.009 + number * 0.003
    return BirthRecord(
        WorkloadId(seen.id), seen.name, start, start + 0.003, start + leak, allowed, allowed, runtime="docker"
    )


def one_file(text: str, name: str = "shop.yaml") -> tuple[File, ...]:
    return (File(name, text),)
