"""An agent and its controller as two processes, over the HTTP API: what an agent alone costs.

``up`` runs both in one process, with a direct link between them. Here the agent has the same parts, and a link of one
call after the other over the controller's socket.
"""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from stockade.core.model.ids import HostId
from stockade.wire import AgentMessage, Assignment, Counters

WAIT = 30.0
"""Seconds that one question for an assignment stays open."""


def main() -> None:
    """Be the ``controller`` or the ``agent`` of a state folder (the words of the command line), until ended."""
    part, state, *rest = sys.argv[1:]
    asyncio.run(_controller(Path(state)) if part == "controller" else _agent(Path(state), *rest))


async def _controller(state: Path) -> None:
    from stockade.controller.http.server import access_for
    from stockade.controller.run import running_controller
    from stockade.logs import log_to

    log_to()
    state.mkdir(exist_ok=True)
    async with running_controller(
        f"sqlite:///{state / 'stockade.db'}", state / "api.sock", access_for((), ()), doctor=lambda: (), settings=()
    ):
        await _told()


async def _agent(state: Path, name: str, *uplinks: str) -> None:
    from stockade.adapters.gate import GateSocket
    from stockade.adapters.neighbours import LinkNeighbours
    from stockade.adapters.netfilter.conntrack import Conntrack
    from stockade.adapters.netlink import LinkPlaces, stirs
    from stockade.adapters.nft import NftKernel
    from stockade.agent.run import Agent
    from stockade.agent.state import AssignmentFile
    from stockade.cli.host_sources import Sources, Wanted
    from stockade.cli.inspection import HostInspection
    from stockade.cli.settings import NO_FLAGS, resolve
    from stockade.controller.clock import SystemClock
    from stockade.logs import log_to
    from stockade.memory import keep_little, look_rarely

    keep_little()
    look_rarely()
    log_to()
    host, settings, clock = HostId(name), resolve(NO_FLAGS), SystemClock()
    settings.run.mkdir(parents=True, exist_ok=True)
    sources = Sources(host, settings, Wanted(docker=False, podman=False, containerd=False, uplinks=uplinks))
    tracking = Conntrack()
    kernel = NftKernel(state / "nft.sock", tracking)
    agent = Agent(
        host,
        runtimes=sources.runtimes,
        looks=sources.looks,
        kernel=kernel,
        link=ApiLink(host, state / "api.sock"),
        state=AssignmentFile(state),
        clock=clock,
        changes=kernel.ruleset_changes,
        holder=kernel.holder,
        losses=sources.losses,
        neighbours=LinkNeighbours(),
        gate=GateSocket(host, settings.run, state, places=LinkPlaces(host), stirs=stirs, clock=clock),
        surveys=sources.surveys,
        inspection=HostInspection(state, state / "api.sock"),
    )
    running = asyncio.create_task(agent.run())
    await _told()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    kernel.helper.close()
    tracking.close()


class ApiLink:
    """Implements ``seams.link.ControllerLink`` over the HTTP API."""

    def __init__(self, host: str, socket: Path) -> None:
        from stockade.cli.client import Client
        from stockade.wire.api import AssignmentReply, ReportReply, ReportRequest

        self._host = HostId(host)
        self._asks, self._says = Client(socket), Client(socket)
        self._request, self._reply, self._assigned = ReportRequest, ReportReply, AssignmentReply

    async def generation(self) -> int:
        """Return the last generation of this host's reports that the controller has stored."""
        return await self.say(Counters(self._host))

    async def say(self, message: AgentMessage) -> int:
        """Deliver a message."""
        reply = await asyncio.to_thread(self._says.call, "report", self._reply, self._request(message=message))
        return reply.generation

    async def assignments(self, since: str) -> AsyncIterator[Assignment]:
        """Yield what this host shall enforce."""
        while True:
            reply = await asyncio.to_thread(
                self._asks.call, "assignment", self._assigned, host=self._host, since=since, wait=WAIT
            )
            if reply.assignment is not None:
                since = reply.assignment.intent.fingerprint
                yield reply.assignment


async def _told() -> None:
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    await ended.wait()
