"""A whole controller behind its real socket, in a thread of its own."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
from controlled import HOST, TIERS, host_seen, looked

from stockade.controller.clock import SystemClock
from stockade.controller.http.peers import Access
from stockade.controller.installation import Installation
from stockade.controller.links import LinkBook
from stockade.controller.run import running_controller
from stockade.core.model.event import Event
from stockade.seams.flow_store import FlowStore
from stockade.wire import AgentMessage, Assignment, Outcome, Report
from stockade.wire.api import Message, ReportRequest, Setting

LINKS = LinkBook("http://127.0.0.1:7472", SystemClock())
SETTINGS = (Setting("state", "/var/lib/stockade", "default"),)


class Served:
    """The socket, and the installation behind it for what no request can do."""

    def __init__(self, socket: Path, folder: Path) -> None:
        self.socket = socket
        self.folder = folder
        self.installation: Installation
        self.loop: asyncio.AbstractEventLoop
        self.http = httpx.Client(
            transport=httpx.HTTPTransport(uds=str(socket)), base_url="http://stockade", timeout=30, trust_env=False
        )

    def get(self, path: str, **query: Any) -> httpx.Response:
        return self.http.get(path, params=query or None)

    def send(self, method: str, path: str, body: Message) -> httpx.Response:
        return self.http.request(method, path, content=msgspec.json.encode(body))

    def say(self, message: AgentMessage) -> httpx.Response:
        return self.send("POST", "/v1/agent/report", ReportRequest(message=message))

    def report(self, generation: int, *events: Event) -> httpx.Response:
        return self.say(Report(HOST, generation, events))

    def furnish(self) -> None:
        """Report a host and three tiers, and enforce what follows."""
        assert self.report(1, *host_seen(), *TIERS).status_code == 200
        self.obey("")

    def obey(self, since: str) -> str:
        """Wait for another assignment than ``since`` and say that it is in force; return its fingerprint."""
        reply = self.get("/v1/agent/assignment", host=HOST, since=since, wait=20).json()["assignment"]
        intent = msgspec.convert(reply, Assignment).intent
        self.say(Outcome(HOST, intent.revision, intent.version, intent.fingerprint))
        return intent.fingerprint


@contextmanager
def served(folder: Path, access: Access, flows: FlowStore | None = None) -> Iterator[Served]:
    """Run a controller until the block ends, and see it end."""
    server = Served(folder / "api.sock", folder)
    started, stop = threading.Event(), asyncio.Event()
    failures: list[BaseException] = []

    async def main() -> None:
        server.loop = asyncio.get_running_loop()
        running = running_controller(
            f"sqlite:///{folder}/state.db",
            server.socket,
            access,
            doctor=looked,
            settings=SETTINGS,
            links=LINKS,
            flows=flows,
        )
        async with running as server.installation:
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
        server.http.close()
        if not failures:
            server.loop.call_soon_threadsafe(stop.set)
        thread.join(30)
        assert not thread.is_alive()
        assert not failures, failures
