"""What a host's kernel shows of who is there, whether or not anybody tells of them: the facts of a completeness audit.

Nothing here is judged. What could not be looked at is said, with the reason.
"""

import msgspec

from stockade.core.model.ids import Address, HostId, WorkloadId
from stockade.core.model.net import Protocol


class Process(msgspec.Struct, frozen=True, order=True):
    """A process: its id, its name as the kernel has it, and the service manager's unit that it belongs to."""

    pid: int
    name: str
    unit: str = ""


class Listening(msgspec.Struct, frozen=True):
    """A socket that takes what strangers send. ``address`` empty: every address of its network namespace.

    ``process`` is None where no process is seen to hold it.
    """

    protocol: Protocol
    port: int
    address: str = ""
    process: Process | None = None


class Interface(msgspec.Struct, frozen=True):
    """A link of a network namespace. ``addresses`` with prefix lengths; ``master`` is the bridge that it belongs to."""

    name: str
    kind: str = ""
    mac: str = ""
    running: bool = False
    addresses: tuple[str, ...] = ()
    master: str = ""


class Route(msgspec.Struct, frozen=True, order=True):
    """A way out of a network namespace. ``to`` is a prefix, ``default`` for all others; ``via`` empty: on the link."""

    to: str
    via: str = ""
    interface: str = ""
    metric: int = 0


class Neighbour(msgspec.Struct, frozen=True, order=True):
    """A link address that is met on an interface of the host, and the addresses that answer there.

    ``port`` is the port of the bridge ``interface`` behind which it was last heard; empty where that is not known.
    """

    interface: str
    mac: str
    port: str = ""
    addresses: tuple[Address, ...] = ()


class NotAssessed(msgspec.Struct, frozen=True, order=True):
    """Something that could not be looked at, and why."""

    what: str
    why: str


class Within(msgspec.Struct, frozen=True):
    """What is seen in the network namespace of one workload. ``process`` is its first; None where it has none.

    ``heard``: how many seconds after it happened each source told of it; None where that cannot be told.
    """

    workload: WorkloadId
    process: Process | None = None
    listening: tuple[Listening, ...] = ()
    heard: tuple[tuple[str, float | None], ...] = ()


class SourceTally(msgspec.Struct, frozen=True):
    """How one source did since the agent's start: discovery delays in seconds, as a histogram and of the newest.

    ``buckets`` counts delays up to each of ``DELAY_BOUNDS``, and beyond; ``lost`` is why it cannot be reached now.
    """

    source: str
    discovered: int = 0
    delay_sum: float = 0.0
    buckets: tuple[int, ...] = ()
    p50: float | None = None
    p99: float | None = None
    interrupted: int = 0
    """How often it could not be reached."""
    lost: str = ""


DELAY_BOUNDS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the histogram of discovery delays, in seconds."""


class Around(msgspec.Struct, frozen=True):
    """The host's own network: its links, its ways out, and whom it meets on its links."""

    interfaces: tuple[Interface, ...] = ()
    routes: tuple[Route, ...] = ()
    neighbours: tuple[Neighbour, ...] = ()


class Census(msgspec.Struct, frozen=True):
    """All that was seen of one host at one time (seconds since the epoch)."""

    host: HostId
    at: float
    around: Around = Around()
    within: tuple[Within, ...] = ()
    """By workload."""
    sources: tuple[SourceTally, ...] = ()
    not_assessed: tuple[NotAssessed, ...] = ()
