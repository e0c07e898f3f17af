"""``stockade up``: controller and agent of this host, in one process. Ctrl-C ends the process, not the enforcement."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from stockade.cli.exits import Exit
from stockade.cli.output import remark
from stockade.cli.settings import NO_FLAGS, Common, Settings, resolve
from stockade.errors import StockadeError

if TYPE_CHECKING:
    from stockade.adapters.nft import NftKernel
    from stockade.agent.run import Agent
    from stockade.cli.host_sources import Sources, Wanted
    from stockade.controller.installation import Installation
    from stockade.controller.links import LinkBook
    from stockade.core.model.ids import HostId


def up(
    *,
    docker: Annotated[bool | None, Parameter(help="Follow the Docker engine; by default where its socket is.")] = None,
    podman: Annotated[
        bool | None, Parameter(help="Follow Podman, root's and users'; by default where it has containers.")
    ] = None,
    containerd: Annotated[
        bool | None, Parameter(help="Follow containerd, pods included; by default where its socket is.")
    ] = None,
    lab: Annotated[Path | None, Parameter(help="Follow a lab that tells on this socket.", show=False)] = None,
    host: Annotated[str | None, Parameter(help="This host's name in the inventory; by default the machine's.")] = None,
    uplink: Annotated[
        tuple[str, ...], Parameter(help="Interfaces that lead outside and look like an endpoint's: a veth, a tap.")
    ] = (),
    readers: Annotated[tuple[str, ...], Parameter(help="Groups that may read over the API.")] = (),
    appliers: Annotated[tuple[str, ...], Parameter(help="Groups that may apply over the API.")] = (),
    common: Common = NO_FLAGS,
) -> int:
    """Run Stockade on this host: discover what runs here, label it, enforce what was applied.

    A new installation denies nothing: its mode is visibility. Ctrl-C leaves in force what is in force.
    """
    from stockade.cli.host_sources import Wanted

    settings = resolve(common)
    _able()
    wanted = Wanted(docker, podman, containerd, lab, uplink)
    return asyncio.run(_live(settings, wanted, host=host, readers=readers, appliers=appliers))


def _able() -> None:
    """Refuse at once where nothing could ever be enforced."""
    if os.geteuid() != 0:
        raise StockadeError(
            "stockade up needs root: it reads network namespaces and writes the kernel's packet filter",
            kept="nothing was started or changed",
            remedy="sudo stockade up, or try the lab without root: stockade demo",
        )


async def _live(
    settings: Settings, wanted: "Wanted", *, host: str | None, readers: Sequence[str], appliers: Sequence[str]
) -> Exit:
    from stockade.adapters.netfilter.conntrack import Conntrack
    from stockade.adapters.nft import NftKernel
    from stockade.cli import flow_keeping
    from stockade.cli.host_sources import Sources, doctor
    from stockade.controller.clock import SystemClock
    from stockade.controller.http.server import access_for
    from stockade.controller.links import LinkBook
    from stockade.controller.run import running_controller
    from stockade.core.model.ids import HostId
    from stockade.web.listening import origin, serving_console
    from stockade.wire.api import Setting

    _settle()
    ended = _until_told()
    name = HostId(host or socket.gethostname())
    _make_folders(settings)
    sources = Sources(name, settings, wanted)
    shown = tuple(Setting(each.name, each.value, each.origin) for each in settings.values)
    tracking = Conntrack()
    kernel = NftKernel(settings.state / "nft.sock", tracking)
    flows = flow_keeping.store(settings)
    console = _console_socket(settings)
    links = LinkBook(origin(console), SystemClock()) if console else None
    async with (
        running_controller(
            f"sqlite:///{settings.state / 'stockade.db'}",
            settings.socket,
            access_for(appliers, readers),
            doctor=lambda: doctor(settings),
            settings=shown,
            links=links,
            flows=flows,
            devices=flow_keeping.devices(settings),
        ) as installation,
        serving_console(installation, console),
    ):
        await _own_up(settings, installation)
        running = asyncio.create_task(_agent(name, settings, sources, kernel, installation).run())
        if why := flow_keeping.why_not(settings):
            remark(f"No flows are kept: {why}")
        remark(f"Stockade is up on {name}. In another terminal: stockade status")
        if links is not None:
            _show_console(links)
        await _until_over(running, ended)
    if flows is not None:
        await asyncio.to_thread(flows.close)
    kernel.helper.close()
    tracking.close()
    remark("Stockade has stopped. What was enforced stays in force; to open everything: stockade off")
    return Exit.DONE


def _settle() -> None:
    """Have this process take little, go first, and say what it does; most that it consists of is loaded by now."""
    from stockade.adapters.priority import go_first
    from stockade.logs import log_to
    from stockade.memory import keep_little, look_rarely

    keep_little()
    look_rarely()
    go_first()
    log_to()


def _agent(
    name: "HostId", settings: Settings, sources: "Sources", kernel: "NftKernel", installation: "Installation"
) -> "Agent":
    """Return this host's agent, with a link to the controller in the same process."""
    from stockade.adapters.gate import GateSocket
    from stockade.adapters.neighbours import LinkNeighbours
    from stockade.adapters.netlink import LinkPlaces, stirs
    from stockade.agent.run import Agent
    from stockade.agent.state import AssignmentFile
    from stockade.cli import flow_keeping
    from stockade.cli.inspection import HostInspection
    from stockade.controller.clock import SystemClock
    from stockade.controller.link import DirectLink

    link = DirectLink(installation.controller, name)
    return Agent(
        name,
        runtimes=sources.runtimes,
        looks=sources.looks,
        kernel=kernel,
        link=link,
        state=AssignmentFile(settings.state),
        clock=SystemClock(),
        changes=kernel.ruleset_changes,
        holder=kernel.holder,
        losses=sources.losses,
        neighbours=LinkNeighbours(),
        gate=GateSocket(name, settings.run, settings.state, places=LinkPlaces(name), stirs=stirs, clock=SystemClock()),
        surveys=sources.surveys,
        inspection=HostInspection(settings.state, settings.socket),
        recorder=flow_keeping.recorder(settings, name, link, sources.programs),
    )


def _console_socket(settings: Settings) -> socket.socket | None:
    """Listen for the console; where the machine refuses that, say so and contain all the same."""
    from stockade.web.listening import Unbound, bound_console

    try:
        return bound_console(settings.console)
    except Unbound as problem:
        remark(f"{problem.message}. {problem.kept} {problem.remedy}")
        return None


def _show_console(links: "LinkBook") -> None:
    """Print a link for whoever started this, where a person reads it: a log is read by others, and keeps it."""
    from stockade.controller.http.peers import user_name
    from stockade.wire.api import Caller, Role

    if not sys.stderr.isatty():
        remark(f"The web console is at {links.origin}. A link that signs you in: stockade console")
        return
    link, _ = links.issue(Caller(name=user_name(os.geteuid()), uid=os.geteuid(), role=Role.APPLY))
    remark(f"The web console, once and within ten minutes: {link}")


def _make_folders(settings: Settings) -> None:
    """Make what is not there. What is made from here on is ours alone; the API's socket is opened to whom it is for."""
    from stockade.adapters.own_files import tighten

    settings.state.mkdir(parents=True, exist_ok=True, mode=0o700)
    settings.socket.parent.mkdir(parents=True, exist_ok=True)
    settings.run.mkdir(parents=True, exist_ok=True)
    tighten(settings.state)
    os.umask(0o077)


async def _until_over(running: "asyncio.Task[None]", ended: asyncio.Event) -> None:
    """Wait until somebody ends it, or it fails, and tell the service manager."""
    from stockade.cli.notifying import tell_manager

    tell_manager("READY=1")
    await asyncio.wait((running, asyncio.create_task(ended.wait())), return_when=asyncio.FIRST_COMPLETED)
    tell_manager("STOPPING=1")
    running.cancel()
    (came_of_it,) = await asyncio.gather(running, return_exceptions=True)
    if isinstance(came_of_it, Exception):
        raise came_of_it


def _until_told() -> asyncio.Event:
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    return ended


async def _own_up(settings: Settings, installation: "Installation") -> None:
    """Write emergency openings into the audit log and stay open, as was promised when they were made."""
    from stockade.cli import emergency
    from stockade.wire.api import Caller, OffRequest, Role

    for opened in emergency.written_down(settings.state):
        by = Caller(name=opened.who, uid=opened.uid, role=Role.APPLY)
        note = opened.note or "opened while no server was running"
        await installation.lifecycle.off(OffRequest(note=note, wait=0), by)
    emergency.forget(settings.state)
