"""``Runtime`` over a Docker engine: connect, follow until it breaks, say so, wait, and begin again."""

import os
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import Executor

from stockade.adapters.docker import proxies
from stockade.adapters.docker.api import EngineApi, EngineSettings, engine_socket
from stockade.adapters.docker.session import Session
from stockade.adapters.docker.sight import Site
from stockade.core.model.ids import HostId, WorkloadId
from stockade.core.model.inventory import Bridge
from stockade.seams.clock import Clock
from stockade.seams.following import Backoff, Outbox, follow_aside
from stockade.seams.places import Places
from stockade.seams.runtime import RuntimeEvent

THREADS = 4
"""For what blocks: entering a network namespace, reading ``/proc``."""


class DockerRuntime:
    """The containers of one Docker engine, and the bridges that its networks are.

    ``places`` runs in a thread. ``jitter`` returns a number in [0, 1). ``bridges_changed`` is called, on the loop,
    whenever ``bridges()`` returns something new.
    """

    name = "docker"

    def __init__(
        self,
        host: HostId,
        *,
        places: Places,
        clock: Clock,
        jitter: Callable[[], float],
        socket: str = "",
        host_name: str = "",
        host_workload: WorkloadId | None = None,
        bridges_changed: Callable[[tuple[Bridge, ...]], None] | None = None,
        running_proxies: Callable[[], Mapping[tuple[str, str, int], proxies.Proxy]] = proxies.running,
        settings: EngineSettings = EngineSettings(),  # noqa: B008 - frozen
    ) -> None:
        self.socket = socket or engine_socket(os.environ)
        self._site = Site(host, host_name or host, host_workload or WorkloadId(f"host:{host}"))
        self._places = places
        self._clock = clock
        self._jitter = jitter
        self._bridges: tuple[Bridge, ...] = ()
        self._bridges_changed = bridges_changed
        self._running_proxies = running_proxies
        self._settings = settings

    def bridges(self) -> tuple[Bridge, ...]:
        """Return the bridges of Docker's networks as last seen, by name; empty before the first listing."""
        return self._bridges

    def events(self) -> AsyncIterator[RuntimeEvent]:
        """Yield ``Listed`` first (or ``Lost``, until the engine answers), then changes, for ever.

        Closing the iterator ends everything it started.
        """
        backoff = Backoff(self._settings.first_retry, self._settings.last_retry, self._jitter)
        return follow_aside(self._session, backoff, threads=THREADS, name=self.name)

    def _session(self, outbox: Outbox, threads: Executor) -> Session:
        return Session(
            EngineApi(self.socket, self._settings),
            self._site,
            outbox,
            clock=self._clock,
            places=self._places,
            running_proxies=self._running_proxies,
            threads=threads,
            bridges_seen=self._learn_bridges,
            settings=self._settings,
        )

    def _learn_bridges(self, found: tuple[Bridge, ...]) -> None:
        if found == self._bridges:
            return
        self._bridges = found
        if self._bridges_changed is not None:
            self._bridges_changed(found)
