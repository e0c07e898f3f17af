"""What is known of one containerd's containers → sightings. Pure: values in, values out.

Who shares a network namespace with whom is seen, not told: the host's own makes the host the owner, another one belongs
to the pod's sandbox in it, else to the container in it that was created first.
"""

from collections.abc import Iterable, Iterator
from typing import TypeVar

import msgspec

from stockade.adapters.containerd.wire import Container, Key, Status, Task
from stockade.core.model.ids import HostId, WorkloadId
from stockade.core.model.inventory import Endpoint, Facts, Sighting, WorkloadKind, WorkloadState
from stockade.seams.places import Place
from stockade.seams.runtime import Seen

STATES = {Status.CREATED: WorkloadState.CREATED, Status.STOPPED: WorkloadState.STOPPED}
"""All others run: one that is paused keeps its place."""

KIND = "io.cri-containerd.kind"
SANDBOX = "sandbox"
POD_NAME = "io.kubernetes.pod.name"
POD_NAMESPACE = "io.kubernetes.pod.namespace"
NAMES = ("nerdctl/name", "io.kubernetes.container.name")
"""Labels that carry the name of a container which is no pod's sandbox; containerd itself knows ids alone."""


_Group = TypeVar("_Group")


class Site(msgspec.Struct, frozen=True):
    """Whose containerd this is: the host, its name as a fact, and the workload that it is itself."""

    host: HostId
    name: str
    workload: WorkloadId


class Network(msgspec.Struct, frozen=True):
    """The network namespace of a process. ``inode`` tells it from all others that are there at the same time."""

    inode: int
    is_host: bool = False
    place: Place = Place("")
    """Without a mark where it could not be looked into."""


class Known(msgspec.Struct, frozen=True):
    """One container, as far as it is known. ``network`` while its first process is there."""

    container: Container
    state: WorkloadState
    at: float
    pid: int = 0
    network: Network | None = None


def state_of(task: Task | None, *, lived: bool) -> WorkloadState:
    """Return what a container is by its task; ``lived``: that it had one before."""
    if task is None:
        return WorkloadState.STOPPED if lived else WorkloadState.CREATED
    return STATES.get(task.status, WorkloadState.RUNNING)


def workload_id(site: Site, key: Key) -> WorkloadId:
    """Return the id under which a container is a workload: ids are unique within a containerd namespace."""
    return WorkloadId(f"containerd:{site.host}:{key.namespace}/{key.id}")


class Ledger:
    """Every container that is known, and who shares whose network namespace."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._known: dict[Key, Known] = {}
        self._sharing: dict[int, set[Key]] = {}
        self._in_pod: dict[Key, set[Key]] = {}
        """By its sandbox, known or not: who is its pod's where it has no process."""

    def __contains__(self, key: Key) -> bool:
        return key in self._known

    def __iter__(self) -> Iterator[Key]:
        return iter(sorted(self._known))

    def get(self, key: Key) -> Known | None:
        """Return what is known of a container."""
        return self._known.get(key)

    def put(self, known: Known) -> set[Key]:
        """Take in what is known now; return whose sighting that may change."""
        key = known.container.key
        touched = self._part(key) | {key} | self._in_pod.get(key, set())
        self._known[key] = known
        if (sandbox := _sandbox(known.container)) is not None:
            self._in_pod.setdefault(sandbox, set()).add(key)
        if known.network is not None and not known.network.is_host:
            sharing = self._sharing.setdefault(known.network.inode, set())
            sharing.add(key)
            touched |= sharing
        return touched

    def drop(self, key: Key) -> set[Key]:
        """Forget a container; return whose sighting that may change."""
        touched = self._part(key) | self._in_pod.get(key, set())
        self._known.pop(key, None)
        return touched - {key}

    def seen(self, key: Key) -> Seen:
        """Return a container as it is told."""
        known = self._known[key]
        owner = self._owner(known)
        network = known.network if owner is None else None
        marks = [f"container:{key.id}"]
        if network is not None and network.place.mark:
            marks.append(network.place.mark)
        endpoints = network.place.endpoints if network is not None else ()
        return Seen(self._sighting(known, owner, endpoints), known.at, marks=tuple(marks))

    def is_placeless(self, key: Key) -> bool:
        """Tell whether a container lives and should have a place on the network, of which not all is known."""
        known = self._known[key]
        if known.network is None or self._owner(known) is not None:
            return known.pid > 0 and known.network is None
        endpoints = known.network.place.endpoints
        return not endpoints or any(not each.addresses for each in endpoints)

    def _part(self, key: Key) -> set[Key]:
        """Take a container out of its pod and of those it shares a namespace with; return the latter."""
        if (before := self._known.get(key)) is None:
            return set()
        if (sandbox := _sandbox(before.container)) is not None:
            _without(self._in_pod, sandbox, key)
        return set() if before.network is None else _without(self._sharing, before.network.inode, key)

    def _owner(self, known: Known) -> WorkloadId | None:
        """Return whose network namespace it uses; None where it is its own."""
        if known.network is None:
            return self._owner_by_sandbox(known.container)
        if known.network.is_host:
            return self._site.workload
        first = min((self._known[key] for key in self._sharing[known.network.inode]), key=_seniority)
        return None if first is known else workload_id(self._site, first.container.key)

    def _owner_by_sandbox(self, container: Container) -> WorkloadId | None:
        """Of one that has no process: it will use, or has used, its sandbox's."""
        key = _sandbox(container)
        if key is None or key == container.key or (sandbox := self._known.get(key)) is None:
            return None
        if sandbox.network is not None and sandbox.network.is_host:
            return self._site.workload
        return workload_id(self._site, sandbox.container.key)

    def _sighting(self, known: Known, owner: WorkloadId | None, endpoints: Iterable[Endpoint]) -> Sighting:
        container = known.container
        return Sighting(
            id=workload_id(self._site, container.key),
            name=name_of(container),
            kind=WorkloadKind.POD if is_sandbox(container) else WorkloadKind.CONTAINER,
            host=self._site.host,
            state=known.state,
            endpoints=tuple(endpoints),
            owner=owner,
            facts=Facts(
                runtime="containerd",
                image=container.image,
                namespace=container.label(POD_NAMESPACE) or container.key.namespace,
                host_name=self._site.name,
                labels=container.labels,
            ),
            created=container.created or None,
        )


def name_of(container: Container) -> str:
    """Return what people call it: the pod's name, the container's by its labels, else its id."""
    if is_sandbox(container):
        return container.label(POD_NAME) or container.key.id
    return next(filter(None, map(container.label, NAMES)), container.key.id)


def is_sandbox(container: Container) -> bool:
    """Tell whether it is what holds a pod's namespaces."""
    return container.label(KIND) == SANDBOX


def _without(groups: dict[_Group, set[Key]], group: _Group, key: Key) -> set[Key]:
    """Take a container out of a group; return who is left there."""
    left = groups.get(group, set())
    left.discard(key)
    if not left:
        groups.pop(group, None)
    return set(left)


def _sandbox(container: Container) -> Key | None:
    """Return the sandbox that a container is said to be in."""
    return Key(container.key.namespace, container.sandbox) if container.sandbox else None


def _seniority(known: Known) -> tuple[bool, float, Key]:
    return not is_sandbox(known.container), known.container.created, known.container.key
