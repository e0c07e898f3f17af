"""Where ``up`` learns what runs here: container engines, a lab, the kernel's own network namespaces and links."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import NamedTuple

from stockade.adapters.docker import DockerRuntime
from stockade.adapters.lab import LabRuntime
from stockade.adapters.namespaces import KnownPrograms, MachinesRuntime, NamespacesRuntime
from stockade.adapters.namespaces import Settings as CensusSettings
from stockade.adapters.netlink import HostWatch, LinkPlaces, LinkTaps, stirs
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


class Wanted(NamedTuple):
    """What ``up`` was told to follow; None: where it is there. Beside a lab nothing is looked for."""

    docker: bool | None = None
    podman: bool | None = None
    containerd: bool | None = None
    lab: Path | None = None
    uplinks: tuple[str, ...] = ()

    def follows(self, named: bool | None, *, there: bool) -> bool:
        """Tell whether an engine is followed that was or was not named."""
        return there and self.lab is None if named is None else named


class Sources:
    """The sources of one host, and the host itself as the kernel and they together show it."""

    def __init__(self, host: HostId, settings: Settings, wanted: Wanted) -> None:
        self._host = host
        self._settings = settings
        self._wanted = wanted
        self._clock = SystemClock()
        self._places = LinkPlaces(host)
        self._bridges: tuple[Bridge, ...] = ()
        self._moved = asyncio.Event()
        engines = tuple(self._engines())
        # Where no engine is about to tell of a namespace, and to know more of it, nothing is waited for.
        census = CensusSettings() if engines else CensusSettings(together=0.002, patience=0.0)
        self._namespaces = NamespacesRuntime(
            host, places=self._places, stirs=stirs, clock=self._clock, uplinks=wanted.uplinks, settings=census
        )
        self._machines = QemuRuntime(host, taps=LinkTaps(host), clock=self._clock)
        self._watch = HostWatch(host, uplinks=wanted.uplinks, heard=self._namespaces.heed)
        self.surveys = Surveyor(self._namespaces, lambda: self._watch.links).surveys
        self.programs = KnownPrograms(self._namespaces)
        self.runtimes: tuple[Runtime, ...] = (*engines, *self._others())

    async def looks(self) -> AsyncIterator[HostObserved]:
        """Yield the host whenever something about it changed; the first time at once."""
        async for host, itself in self._watch.looks(lambda: self._bridges, self._moved):
            strangers = [each.port for each in host.unknown]
            self._namespaces.heed_strangers(strangers)
            self._machines.heed_strangers(strangers)
            yield HostObserved(host, itself)

    def losses(self) -> tuple[tuple[str, int], ...]:
        """Return how often the kernel dropped what it had to tell of links; each time all were listed again."""
        return (("links", self._watch.lost),)

    def _engines(self) -> Iterator[Runtime]:
        if self._wanted.lab is not None:
            yield LabRuntime(self._wanted.lab)
        yield from self._docker()
        yield from self._podman()
        yield from self._containerd()

    def _others(self) -> Iterator[Runtime]:
        yield self._machines
        yield MachinesRuntime(self._host, places=self._places, clock=self._clock)
        yield self._namespaces

    def _docker(self) -> Iterator[Runtime]:
        path = Path(self._settings.docker_host.removeprefix("unix://"))
        if self._wanted.follows(self._wanted.docker, there=path.is_socket()):
            _required("Docker engine", path, "DOCKER_HOST", "--docker")
            yield DockerRuntime(
                self._host,
                places=self._places,
                clock=self._clock,
                jitter=random.random,
                socket=str(path),
                bridges_changed=self._learn,
            )

    def _podman(self) -> Iterator[Runtime]:
        if self._wanted.follows(self._wanted.podman, there=used()):
            if not program():
                raise StockadeError(
                    "podman is not installed", kept="nothing was started", remedy="install it, or leave --podman out"
                )
            yield PodmanRuntime(self._host, places=self._places, clock=self._clock, jitter=random.random)

    def _containerd(self) -> Iterator[Runtime]:
        path = Path(self._settings.containerd_address.removeprefix("unix://"))
        if self._wanted.follows(self._wanted.containerd, there=path.is_socket()):
            from stockade.adapters.containerd import ContainerdRuntime  # HTTP/2 takes 8 MB: only where it is spoken

            _required("containerd", path, "CONTAINERD_ADDRESS", "--containerd")
            yield ContainerdRuntime(
                self._host, places=self._places, clock=self._clock, jitter=random.random, socket=str(path)
            )

    def _learn(self, bridges: tuple[Bridge, ...]) -> None:
        self._bridges = bridges
        self._moved.set()


def _required(what: str, path: Path, variable: str, flag: str) -> None:
    """Refuse to start without an engine that was asked for by name."""
    if not path.is_socket():
        raise StockadeError(
            f"there is no {what} at {path}",
            kept="nothing was started",
            remedy=f"start it, name it with {variable}, or leave {flag} out",
        )


def doctor(settings: Settings) -> tuple[Check, ...]:
    """Look at this machine."""
    return checks(collect(settings.docker_host, settings.state, settings.socket, settings.containerd_address))
