"""What a completeness audit finds."""

import enum

import msgspec

from stockade.core.model.census import Listening, NotAssessed, Process, SourceTally
from stockade.core.model.ids import Address, HostId, WorkloadId


class Off(str, enum.Enum):
    """Why something counts as dark."""

    UNREPORTED = "unreported"
    """A network namespace that the kernel alone shows, and that nobody has labelled."""
    PORT = "port"
    """A port of the host whose other end was not found."""
    NEIGHBOUR = "neighbour"
    """A link address, or an address, that is met behind a port and is not that port's endpoint's own."""
    LOST = "lost"
    """A workload whose sources cannot be reached, so that nobody says what it is now."""


class Dark(msgspec.Struct, frozen=True):
    """A dark workload, with all that is known of it. ``since``: seconds since the epoch; ``held``: by the base drop."""

    host: HostId
    name: str
    why: Off
    detail: str = ""
    workload: WorkloadId | None = None
    process: Process | None = None
    port: str = ""
    bridge: str = ""
    macs: tuple[str, ...] = ()
    addresses: tuple[Address, ...] = ()
    listening: tuple[Listening, ...] = ()
    since: float | None = None
    held: bool = False


class SourceView(msgspec.Struct, frozen=True):
    """One source on one host: how many workloads it sees, how many it alone sees, and how it did."""

    host: HostId
    workloads: int
    only: int
    tally: SourceTally


class Completeness(msgspec.Struct, frozen=True):
    """The audit of every host. ``cut_off``: namespaces that the kernel alone shows and that have no link at all."""

    sources: tuple[SourceView, ...] = ()
    dark: tuple[Dark, ...] = ()
    cut_off: tuple[WorkloadId, ...] = ()
    not_assessed: tuple[tuple[HostId, NotAssessed], ...] = ()
