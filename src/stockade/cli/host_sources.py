"""Where ``up`` learns what runs here: container engines, a lab, the kernel's own network namespaces and links."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from stockade.adapters.containerd import ContainerdRuntime
from stockade.adapters.docker import DockerRuntime
from stockade.adapters.lab import LabRuntime
from stockade.adapters.namespaces import MachinesRuntime, NamespacesRuntime
from stockade.adapters.netlink import HostWatch, LinkPlaces, LinkTaps
from stockade.adapters.podman import PodmanRuntime, program, used
from stockade.adapters.qemu import QemuRuntime
from stockade.agent.values import HostObserved
from stockade.cli.host_survey import Surveyor
from stockade.cli.machine_checks import checks
from stockade.cli.machine_facts import collect
from stockade.cli.settings import Settings
from stockade.controller.clock import SystemClock
from stockade.core.model.ids import HostId
from stockade.core.model.inventory import Bridge
from stockade.errors import StockadeError
from stockade.seams.runtime import Runtime
from stockade.wire.api import Check


class Sources:
    """The sources of one host, and the host itself as the kernel and they together show it."""

    def __init__(
        self,
        host: HostId,
        settings: Settings,
        *,
        docker: bool | None,
        podman: bool | None,
        containerd: bool | None,
        lab: Path | None,
        uplinks: tuple[str, ...],
    ) -> None:
        self._host = host
        self._namespaces = NamespacesRuntime(host, places=LinkPlaces(host), clock=SystemClock(), uplinks=uplinks)
        self._watch = HostWatch(host, uplinks=uplinks, heard=self._namespaces.heed)
        self.surveys = Surveyor(self._namespaces).surveys
        self._bridges: tuple[Bridge, ...] = ()
        self._moved = asyncio.Event()
        self.runtimes: tuple[Runtime, ...] = (
            *self._runtimes(settings, docker=docker, lab=lab),
            *self._podman(podman),
            *self._containerd(settings, wanted=containerd),
        )

    async def looks(self) -> AsyncIterator[HostObserved]:
        """Yield the host whenever something about it changed; the first time at once."""
        async for host, itself in self._watch.looks(lambda: self._bridges, self._moved):
            self._namespaces.heed_strangers(each.port for each in host.unknown)
            yield HostObserved(host, itself)

    def losses(self) -> tuple[tuple[str, int], ...]:
        """Return how often the kernel dropped what it had to tell of links; each time all were listed again."""
        return (("links", self._watch.lost),)

    def _runtimes(self, settings: Settings, *, docker: bool | None, lab: Path | None) -> Sequence[Runtime]:
        found: list[Runtime] = []
        if lab is not None:
            found.append(LabRuntime(lab))
        path = Path(settings.docker_host.removeprefix("unix://"))
        if docker is True and not path.is_socket():
            raise StockadeError(
                f"there is no Docker engine at {settings.docker_host}",
                kept="nothing was started",
                remedy="start it, name it with DOCKER_HOST, or leave --docker out",
            )
        if docker or (docker is None and path.is_socket()):
            found.append(
                DockerRuntime(
                    self._host,
                    places=LinkPlaces(self._host),
                    clock=SystemClock(),
                    jitter=random.random,
                    socket=str(path),
                    bridges_changed=self._learn,
                )
            )
        found.append(QemuRuntime(self._host, taps=LinkTaps(self._host), clock=SystemClock()))
        found.append(MachinesRuntime(self._host, places=LinkPlaces(self._host), clock=SystemClock()))
        found.append(self._namespaces)
        return found

    def _podman(self, wanted: bool | None) -> Sequence[Runtime]:
        if wanted is True and not program():
            raise StockadeError(
                "podman is not installed",
                kept="nothing was started",
                remedy="install it, or leave --podman out",
            )
        if not (wanted or (wanted is None and used())):
            return ()
        places = LinkPlaces(self._host)
        return (PodmanRuntime(self._host, places=places, clock=SystemClock(), jitter=random.random),)

    def _containerd(self, settings: Settings, *, wanted: bool | None) -> Sequence[Runtime]:
        path = Path(settings.containerd_address.removeprefix("unix://"))
        if wanted is True and not path.is_socket():
            raise StockadeError(
                f"there is no containerd at {settings.containerd_address}",
                kept="nothing was started",
                remedy="start it, name it with CONTAINERD_ADDRESS, or leave --containerd out",
            )
        if wanted is False or not path.is_socket():
            return ()
        places = LinkPlaces(self._host)
        return (
            ContainerdRuntime(self._host, places=places, clock=SystemClock(), jitter=random.random, socket=str(path)),
        )

    def _learn(self, bridges: tuple[Bridge, ...]) -> None:
        self._bridges = bridges
        self._moved.set()


def doctor(settings: Settings) -> tuple[Check, ...]:
    """Look at this machine."""
    return checks(collect(settings.docker_host, settings.state, settings.socket, settings.containerd_address))
