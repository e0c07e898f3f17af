"""``Runtime`` over a containerd: connect, follow until it breaks, say so, wait, and begin again."""

from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor

from stockade.adapters.containerd.api import DEFAULT_SOCKET, ContainerdApi, ContainerdSettings
from stockade.adapters.containerd.session import Session
from stockade.adapters.containerd.sight import Known, Site
from stockade.adapters.containerd.wire import Key
from stockade.core.model.ids import HostId, WorkloadId
from stockade.seams.clock import Clock
from stockade.seams.following import Backoff, Outbox, follow_aside
from stockade.seams.places import Places
from stockade.seams.runtime import RuntimeEvent

THREADS = 4
"""For what blocks: entering a network namespace."""


class ContainerdRuntime:
    """The containers of one containerd, of all its namespaces, pods among them.

    ``places`` runs in a thread. ``jitter`` returns a number in [0, 1). ``host_network`` is the path of the network
    namespace in which this host is met.
    """

    name = "containerd"

    def __init__(
        self,
        host: HostId,
        *,
        places: Places,
        clock: Clock,
        jitter: Callable[[], float],
        socket: str = DEFAULT_SOCKET,
        host_name: str = "",
        host_workload: WorkloadId | None = None,
        host_network: str = "/proc/self/ns/net",
        settings: ContainerdSettings = ContainerdSettings(),  # noqa: B008 - frozen
    ) -> None:
        self.socket = socket
        self._site = Site(host, host_name or host, host_workload or WorkloadId(f"host:{host}"))
        self._places = places
        self._clock = clock
        self._jitter = jitter
        self._host_network = host_network
        self._settings = settings
        self._memory: dict[Key, Known] = {}

    def events(self) -> AsyncIterator[RuntimeEvent]:
        """Yield ``Listed`` first (or ``Lost``, until containerd answers), then changes, for ever.

        Closing the iterator ends everything it started.
        """
        backoff = Backoff(self._settings.first_retry, self._settings.last_retry, self._jitter)
        return follow_aside(self._session, backoff, threads=THREADS, name=self.name)

    def _session(self, outbox: Outbox, threads: Executor) -> Session:
        return Session(
            ContainerdApi(self.socket, self._settings),
            self._site,
            outbox,
            clock=self._clock,
            places=self._places,
            threads=threads,
            memory=self._memory,
            host_network=self._host_network,
            settings=self._settings,
        )
